"""Studies of many runs, taken by whoever can: what is finished is not done again, and what is missing is done exactly once."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from .executors import Executor, executor_of
from .folder import RunFolder, told
from .identity import Record, Work, identity, work_name
from .perform import failed
from .progress import progress
from .tasks import Outcome, Task

PATIENCE = (0.2, 5.0)  # seconds between looks at runs that somebody else is at: the first, the longest
Config = TypeVar("Config")


def take(
    work: Work,
    asked: Sequence[Mapping[str, Any]],
    *,
    folder: str | os.PathLike[str] | None = None,
    processes: int = 1,
    title: str | None = "",
    executor: Any = None,
) -> list[Record]:
    """Run ``work(config) -> findings`` for every config, and return ``config | findings | {"seconds", "environment"}`` in the order asked.

    Args:
        work: a function of one config, JSON-ready as its findings are (NaN and infinities are kept as None); with several processes one that can be imported.
            All that decides its findings is in the config, a seed and the version of a changed code included: runs are known by the work's name and the config.
            Work that is ``Together`` says which runs it does at once; each of them is claimed, kept and counted by itself all the same.
        asked: the configs, different from each other.
        folder: where each finished run is kept as a JSON file, named by its id. Runs that are there are not done again; those that failed are. Several
            processes and machines may share a folder: they divide the runs among themselves, and each returns all that it asked for. None keeps nothing.
        processes: how many work at once, each on one thread (joblib). 1 works here, in this process, on all of torch's threads.
        title: what the progress bar says; None draws none. It is drawn on a terminal only.
        executor: who works instead of processes: ``Dask(client)``, ``slurm(logs)``, a Dask client or its scheduler's address, a submitit executor.

    Raises:
        ValueError, TypeError: configs that are the same or that JSON cannot hold, work that has no lasting name, processes below 1, no executor, stacks
            that leave a run out.
        RuntimeError: some run failed, which one and why; all others are done and kept.
        OSError: the folder takes no records (a full disk, no permission). Nothing that is there is touched.
    """
    where, configs = None if folder is None else Path(folder), [dict(config) for config in asked]
    name = type(work).__qualname__ if where is None else work_name(work)
    task = Task(work, name, {identity(name, config): config for config in configs}, where)
    if len(task.runs) < len(configs):
        raise ValueError("Some configs are the same. Give each its own seed, or ask once.")
    chosen = executor_of(executor, processes)
    found = _finished(task)
    ended: list[Outcome] = []
    with progress(title if title is None else title or getattr(work, "__name__", "runs"), len(task.runs), len(found)) as advance:
        for outcome in _all(task.only(run for run in task.runs if run not in found), chosen):
            ended.append(outcome)
            found[outcome.run] = outcome.record
            advance()
    failures = [outcome.reason for outcome in ended if outcome.state == "failed"]
    try:
        for remark in dict.fromkeys(outcome.remark for outcome in ended if outcome.remark):
            warnings.warn(remark, RuntimeWarning, stacklevel=2)  # now that all is done: it may be an error
    finally:
        if failures:
            kept = "" if where is None else f" and kept in {where}"
            raise RuntimeError(f"{len(failures)} of {len(task.runs)} runs failed; the others are done{kept}. {failures[0]}")
    return [found[run] for run in task.runs]


def shard(asked: Sequence[Config], part: str) -> list[Config]:
    """Part ``"i/n"`` of the configs, i = 1, …, n: every n-th from the i-th on. The parts are disjoint and together all. For arrays of jobs.

    Raises ValueError for what is no such part.
    """
    first, _, count = part.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise ValueError(f"A shard is written i/n with 1 ≤ i ≤ n, for example 3/8, got {part!r}.")
    return list(asked[int(first) - 1 :: int(count)])


def _finished(task: Task) -> dict[str, Record]:
    """The runs whose records are there. Where some are missing, the folder is seen to take files."""
    if task.folder is None:
        return {}
    folder = RunFolder(task.folder)
    try:
        found = {run: record for run in task.runs if (record := folder.read(run)) is not None}
        if len(found) < len(task.runs):
            folder.prepare()
    except OSError as error:
        raise OSError(error.errno, told(error, task.folder)) from error
    return found


def _all(task: Task, execute: Executor) -> Iterator[Outcome]:
    """Every run's end, done or failed. Runs whose workers died are tried again, those that somebody else is at are waited for."""
    ready, waiting = task, dict(task.runs)
    alone: set[str] = set()  # runs whose stack was lost, and that are in none from then on
    while waiting:
        lost: dict[str, str] = {}
        ended = 0
        for outcome in _round(ready, execute, alone, lost):
            del waiting[outcome.run]
            ended += 1
            yield outcome
        if lost and not ended:  # the same would come of the same: less at a time tells which run kills its worker
            for outcome in _less_at_a_time(ready.only(lost), execute, alone):
                del waiting[outcome.run]
                yield outcome
        ready = task.only(waiting if lost else _freed(task.only(waiting)))


def _round(task: Task, execute: Executor, alone: set[str], lost: dict[str, str]) -> Iterator[Outcome]:
    """One pass of an executor over all stacks: what ended. ``lost`` takes the runs whose workers died, unless their records are there."""
    with closing(execute(task.stacks(alone))) as outcomes:  # where the disk refuses one record, no further stack begins
        for outcome in outcomes:
            if outcome.state == "unkept":
                raise OSError(outcome.reason)
            if outcome.state in ("done", "failed"):
                yield outcome
            elif outcome.state == "fatal":
                yield _failure(task, outcome.run, outcome.reason)
            elif outcome.state == "lost":
                lost[outcome.run] = outcome.reason
    if task.folder is None:
        return
    for run in list(lost):
        if (record := RunFolder(task.folder).read(run)) is not None:
            del lost[run]
            yield Outcome(run, "done", record)


def _less_at_a_time(task: Task, execute: Executor, alone: set[str]) -> Iterator[Outcome]:
    """Lost runs, tried stack by stack, those of a stack that is lost again one by one. A run that is lost again when it is alone has failed."""
    if len(task.stacks(alone)) == 1:
        alone.update(task.runs)
    for part in task.stacks(alone):
        lost: dict[str, str] = {}
        yield from _round(part, execute, alone, lost)
        if len(part.runs) == 1:
            yield from (_failure(part, run, reason) for run, reason in lost.items())
        elif lost:
            yield from _less_at_a_time(part.only(lost), execute, alone)


def _failure(task: Task, run: str, reason: str) -> Outcome:
    """A run that its worker could not report about any more has failed, and this process writes it down."""
    outcome, record = failed(task, run, reason)
    if task.folder is not None:
        try:
            RunFolder(task.folder).fail(run, record, task.asker)
        except OSError as error:
            raise OSError(error.errno, told(error, task.folder)) from error
    return outcome


def _freed(task: Task) -> list[str]:
    """Those of the runs that somebody else has done or left, as soon as there is one."""
    pause, longest = PATIENCE
    while task.runs:
        freed = [run for run in task.runs if task.folder is None or not RunFolder(task.folder).waits(run)]
        if freed:
            return freed
        time.sleep(pause)
        pause = min(1.5 * pause, longest)
    return []
