"""Studies of many runs, taken by whoever can: what is finished is not done again, and what is missing is done exactly once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from .executors import Executor, executor_of
from .folder import RunFolder, told
from .identity import Record, Work, identity, work_name
from .one import Outcome, Task, failed
from .progress import progress

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
        asked: the configs, different from each other.
        folder: where each finished run is kept as a JSON file, named by its id. Runs that are there are not done again; those that failed are. Several
            processes and machines may share a folder: they divide the runs among themselves, and each returns all that it asked for. None keeps nothing.
        processes: how many work at once, each on one thread (joblib). 1 works here, in this process, on all of torch's threads.
        title: what the progress bar says; None draws none. It is drawn on a terminal only.
        executor: who works instead of processes: ``Dask(client)``, ``slurm(logs)``, a Dask client or its scheduler's address, a submitit executor.

    Raises:
        ValueError, TypeError: configs that are the same or that JSON cannot hold, work that has no lasting name, processes below 1, no executor.
        RuntimeError: some run failed, which one and why; all others are done and kept.
        OSError: the folder takes no records (a full disk, no permission). Nothing that is there is touched.
    """
    where, configs = None if folder is None else Path(folder), [dict(config) for config in asked]
    name = type(work).__qualname__ if where is None else work_name(work)
    tasks = {(run := identity(name, config)): Task(work, name, config, run, where) for config in configs}
    if len(tasks) < len(configs):
        raise ValueError("Some configs are the same. Give each its own seed, or ask once.")
    chosen = executor_of(executor, processes)
    found, missing = _looked_up(where, tasks)
    failures = []
    with progress(title if title is None else title or getattr(work, "__name__", "runs"), len(tasks), len(found)) as advance:
        for outcome in _all(missing, chosen):
            if outcome.state == "failed":
                failures.append(outcome.reason)
            found[outcome.run] = outcome.record
            advance()
    if failures:
        kept = "" if where is None else f" and kept in {where}"
        raise RuntimeError(f"{len(failures)} of {len(tasks)} runs failed; the others are done{kept}. {failures[0]}")
    return [found[run] for run in tasks]


def shard(asked: Sequence[Config], part: str) -> list[Config]:
    """Part ``"i/n"`` of the configs, i = 1, …, n: every n-th from the i-th on. The parts are disjoint and together all. For arrays of jobs.

    Raises ValueError for what is no such part.
    """
    first, _, count = part.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise ValueError(f"A shard is written i/n with 1 ≤ i ≤ n, for example 3/8, got {part!r}.")
    return list(asked[int(first) - 1 :: int(count)])


def _looked_up(where: Path | None, tasks: dict[str, Task]) -> tuple[dict[str, Record], list[Task]]:
    """What is finished and what is missing; the folder takes files if anything is."""
    if where is None:
        return {}, list(tasks.values())
    runs = RunFolder(where)
    try:
        found = {run: record for run in tasks if (record := runs.read(run)) is not None}
        missing = [task for run, task in tasks.items() if run not in found]
        if missing:
            runs.prepare()
    except OSError as error:
        raise OSError(error.errno, told(error, where)) from error
    return found, missing


def _all(tasks: Sequence[Task], execute: Executor) -> Iterator[Outcome]:
    """Every task's end, done or failed. Runs whose workers died are tried again, those that somebody else is at are waited for."""
    ready = list(tasks)
    waiting = {task.run: task for task in tasks}
    while waiting:
        lost: dict[str, str] = {}
        ended = 0
        for outcome in _round(ready, execute, lost):
            del waiting[outcome.run]
            ended += 1
            yield outcome
        if lost and not ended:  # the same would come of the same: one at a time tells which run kills its worker
            for run, reason in lost.items():
                outcome = _alone(waiting[run], execute) if len(ready) > 1 else _failure(waiting[run], reason)
                if outcome is not None:
                    del waiting[run]
                    yield outcome
        ready = list(waiting.values()) if lost else _freed(list(waiting.values()))


def _round(tasks: list[Task], execute: Executor, lost: dict[str, str]) -> Iterator[Outcome]:
    """One pass of an executor: what ended. ``lost`` takes those whose workers died, unless their records are there."""
    of = {task.run: task for task in tasks}
    with closing(execute(tasks)) as outcomes:  # where the disk refuses one record, no further run begins
        for outcome in outcomes:
            if outcome.state == "unkept":
                raise OSError(outcome.reason)
            if outcome.state in ("done", "failed"):
                yield outcome
            elif outcome.state == "fatal":
                yield _failure(of[outcome.run], outcome.reason)
            elif outcome.state == "lost":
                lost[outcome.run] = outcome.reason
    for task in tasks:
        if task.run in lost and task.folder is not None and (record := RunFolder(task.folder).read(task.run)) is not None:
            del lost[task.run]
            yield Outcome(task.run, "done", record)


def _alone(task: Task, execute: Executor) -> Outcome | None:
    """A run tried alone; it has failed if its worker dies again. None where somebody else is at it."""
    lost: dict[str, str] = {}
    for outcome in _round([task], execute, lost):
        return outcome
    return _failure(task, lost[task.run]) if lost else None


def _failure(task: Task, reason: str) -> Outcome:
    """A run that its worker could not report about any more has failed, and this process writes it down."""
    outcome, record = failed(task, reason)
    if task.folder is not None:
        try:
            RunFolder(task.folder).fail(task.run, record)
        except OSError as error:
            raise OSError(error.errno, told(error, task.folder)) from error
    return outcome


def _freed(tasks: list[Task]) -> list[Task]:
    """Those of the runs that nobody else is at any more, as soon as there is one."""
    pause, longest = PATIENCE
    while tasks:
        free = [task for task in tasks if task.folder is None or RunFolder(task.folder).free(task.run)]
        if free:
            return free
        time.sleep(pause)
        pause = min(1.5 * pause, longest)
    return []
