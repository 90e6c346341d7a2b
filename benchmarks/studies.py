"""Studies of many runs: side by side in processes, each run kept as one JSON file, so that a study cut short goes on."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import results
import torch
from rich.progress import Progress


@dataclass(frozen=True)
class Job:
    """One run: the name of its file, what was asked for (JSON-ready), and the work, done in another process, whose findings join what was asked.

    An ``environment`` among the findings adds to that of the machine.
    """

    name: str
    asked: dict
    work: Callable[[], dict]


def finished(folder: Path) -> list[dict]:
    """All runs that are there."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def take(jobs: list[Job], folder: Path, processes: int, progress: Progress) -> None:
    """Take the runs whose result is not there yet; one that was asked for otherwise is taken again."""
    missing = [job for job in jobs if not _taken(job, folder)]
    bar = progress.add_task(f"{folder.name}: {len(jobs) - len(missing)} there", total=len(jobs), completed=len(jobs) - len(missing))
    for job, record in side_by_side(missing, processes):
        results.save(folder, job.name, record)
        progress.update(bar, advance=1, description=job.name)


def side_by_side(jobs: list[Job], processes: int) -> Iterator[tuple[Job, dict]]:
    """Every job with its record, as they are done."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_alone, job): job for job in jobs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def slug(text: str) -> str:
    """A text as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± standard error."""
    mean = statistics.mean(values)
    return f"{mean:.{digits}f} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


def _alone(job: Job) -> dict:
    torch.set_num_threads(1)
    found = job.work()
    return job.asked | found | {"environment": results.environment(1, quick=False) | found.get("environment", {})}


def _taken(job: Job, folder: Path) -> bool:
    path = folder / f"{job.name}.json"
    return path.exists() and json.loads(json.dumps(job.asked)).items() <= json.loads(path.read_text(encoding="utf-8")).items()
