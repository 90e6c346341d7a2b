"""Runs, where they are done: claimed, done, and what became of each kept."""

from __future__ import annotations

import json
import pickle
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from ..result import plain
from .environment import environment
from .folder import RunFolder, flat, told
from .identity import Record, canonical, provenance
from .tasks import Outcome, Task, Together


def perform(task: Task) -> list[Outcome]:
    """Do the runs of one stack, but for those that are done or that somebody else is at, and keep what became of each. All are claimed until the last ends."""
    if task.folder is None:
        return [outcome for outcome, _ in _worked(task)]
    folder = RunFolder(task.folder)
    outcomes: list[Outcome] = []
    try:
        with folder.claim(task.runs, task.asker) as held:
            mine = []
            for run in task.runs:
                kept = folder.read(run)  # finished by somebody else, since it was asked for
                if run in held and kept is None:
                    mine.append(run)
                else:
                    outcomes.append(Outcome(run, "busy") if kept is None else Outcome(run, "done", kept))
            for outcome, record in _worked(task.only(mine)):
                (folder.keep if outcome.state == "done" else folder.fail)(outcome.run, record)
                outcomes.append(outcome)
    except OSError as error:
        ended = {outcome.run for outcome in outcomes}
        outcomes += [Outcome(run, "unkept", reason=told(error, task.folder)) for run in task.runs if run not in ended]
    return outcomes


def perform_alone(task: Task) -> list[Outcome]:
    """The same in a process of its own, on one thread of torch's: several processes share the machine."""
    import torch

    torch.set_num_threads(1)
    return perform(task)


def perform_share(paths: list[str], pickled: bytes) -> list[Outcome]:
    """Several stacks, one after the other, until the disk refuses a record. ``paths`` are where the modules of their works were found."""
    sys.path.extend(path for path in paths if path not in sys.path)
    outcomes: list[Outcome] = []
    for task in pickle.loads(pickled):
        outcomes += perform_alone(task)
        if any(outcome.state == "unkept" for outcome in outcomes):
            break
    return outcomes


def failed(task: Task, run: str, reason: str, trace: str = "") -> tuple[Outcome, Record]:
    """That a run failed, and its file."""
    config = task.runs[run]
    record = {"reason": reason, "traceback": trace, "environment": environment(task.work), "provenance": provenance(run, task.name, config)}
    return Outcome(run, "failed", reason=f"{config}: {reason}\n{trace}"), record


def _worked(task: Task) -> Iterator[tuple[Outcome, Record]]:
    """What became of each run, and what to write. Runs that cannot be done together are done one by one, so that none takes the others with it."""
    together, remark = _together(task) if len(task.runs) > 1 else ({}, "")
    for run, config in task.runs.items():
        found, seconds = together[run] if run in together else _by_itself(task, config)
        outcome, record = _ended(task, run, found, seconds)
        yield replace(outcome, remark=remark), record


def _together(task: Task) -> tuple[dict[str, tuple[Any, float]], str]:
    """Findings of each run or why it failed, and its share of the time; where all of it raised nothing, and what to say of that."""
    begun = time.perf_counter()
    try:
        found = cast(Together, task.work).together([dict(config) for config in task.runs.values()])
        each = dict(zip(task.runs, found, strict=True))
    except Exception as error:
        why = "".join(traceback.format_exception_only(error)).strip()
        return {}, f"{len(task.runs)} runs are done one by one, because together they raise {why}"
    seconds = (time.perf_counter() - begun) / len(each)
    return {run: (findings, seconds) for run, findings in each.items()}, ""


def _by_itself(task: Task, config: Record) -> tuple[Any, float]:
    """Findings of a run or why it failed, and its time."""
    begun = time.perf_counter()
    try:
        found: Any = task.work(dict(config))
    except Exception as error:
        found = error
    return found, time.perf_counter() - begun


def _ended(task: Task, run: str, found: Any, seconds: float) -> tuple[Outcome, Record]:
    """What became of a run, and what to write."""
    try:
        if isinstance(found, Exception):
            raise found
        both = _findings(task.runs[run], found)
    except Exception as error:
        return failed(task, run, "".join(traceback.format_exception_only(error)).strip(), "".join(traceback.format_exception(error)))
    own = both.get("environment")
    added = {
        "seconds": both.get("seconds", round(seconds, 3)),
        "environment": environment(task.work) | (own if isinstance(own, dict) else {}),
    }
    record = both | added | {"provenance": provenance(run, task.name, task.runs[run])}
    return Outcome(run, "done", flat(record)), record


def _findings(config: Record, found: Any) -> Record:
    """``config | findings``, as JSON holds them."""
    if not isinstance(found, dict):
        raise TypeError(f"work returns its findings as a dict, got {type(found).__name__}")
    both = canonical(config) | plain(found)
    if "provenance" in both:
        raise ValueError("a record has a provenance of its own: name that of the config or the findings otherwise")
    json.dumps(both, allow_nan=False)  # raises for what JSON cannot hold
    return both
