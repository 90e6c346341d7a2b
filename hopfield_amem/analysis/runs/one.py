"""One run, where it is done."""

from __future__ import annotations

import json
import pickle
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from ..result import plain
from .environment import environment
from .folder import RunFolder, flat, told
from .identity import Record, Work, canonical, provenance


@dataclass(frozen=True)
class Task:
    """One run to be done: the work and its name (which a worker could not tell: scripts have other names there), the config, the id, the folder, if any."""

    work: Work
    name: str
    config: Record
    run: str
    folder: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    state: "done" (its flat record is there), "failed" (why), "busy" (somebody else is at it), "unkept" (why the disk refused), "lost" (its worker died) or
    "fatal" (its workers died over it).
    """

    run: str
    state: str
    record: Record = field(default_factory=dict)
    reason: str = ""


def perform(task: Task) -> Outcome:
    """Do a run unless it is done or somebody is at it, and keep what became of it."""
    if task.folder is None:
        return _worked(task)[0]
    runs = RunFolder(task.folder)
    try:
        with runs.claim(task.run) as held:
            kept = runs.read(task.run)  # finished by somebody else, since it was asked for
            if kept is not None:
                return Outcome(task.run, "done", kept)
            if not held:
                return Outcome(task.run, "busy")
            outcome, record = _worked(task)
            (runs.keep if outcome.state == "done" else runs.fail)(task.run, record)
            return outcome
    except OSError as error:
        return Outcome(task.run, "unkept", reason=told(error, task.folder))


def perform_alone(task: Task) -> Outcome:
    """The same in a process of its own, on one thread of torch's: several processes share the machine."""
    import torch

    torch.set_num_threads(1)
    return perform(task)


def perform_share(paths: list[str], pickled: bytes) -> list[Outcome]:
    """Several runs, one after the other, until the disk refuses one. ``paths`` are where the modules of their works were found."""
    sys.path.extend(path for path in paths if path not in sys.path)
    outcomes: list[Outcome] = []
    for task in pickle.loads(pickled):
        outcomes.append(perform_alone(task))
        if outcomes[-1].state == "unkept":
            break
    return outcomes


def failed(task: Task, reason: str, trace: str = "") -> tuple[Outcome, Record]:
    """That a run failed, and its file."""
    record = {"reason": reason, "traceback": trace, "environment": environment(task.work), "provenance": provenance(task.run, task.name, task.config)}
    return Outcome(task.run, "failed", reason=f"{task.config}: {reason}\n{trace}"), record


def _worked(task: Task) -> tuple[Outcome, Record]:
    """-> what became of it, what to write"""
    begun = time.perf_counter()
    try:
        both = _findings(task)
    except Exception as error:
        return failed(task, "".join(traceback.format_exception_only(error)).strip(), traceback.format_exc())
    own = both.get("environment")
    added = {
        "seconds": both.get("seconds", round(time.perf_counter() - begun, 3)),
        "environment": environment(task.work) | (own if isinstance(own, dict) else {}),
    }
    record = both | added | {"provenance": provenance(task.run, task.name, task.config)}
    return Outcome(task.run, "done", flat(record)), record


def _findings(task: Task) -> Record:
    """``config | findings``, as JSON holds them."""
    found = task.work(dict(task.config))
    if not isinstance(found, dict):
        raise TypeError(f"work returns its findings as a dict, got {type(found).__name__}")
    both = canonical(task.config) | plain(found)
    if "provenance" in both:
        raise ValueError("a record has a provenance of its own: name that of the config or the findings otherwise")
    json.dumps(both, allow_nan=False)  # raises for what JSON cannot hold
    return both
