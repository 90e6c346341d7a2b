"""Who does the runs: this process, processes beside it, a Dask cluster, Slurm. An executor takes stacks of runs (``Task``) and yields what becomes of each run,
in any order.

What a worker that died had under way is yielded as "lost", a run that is known to kill its workers as "fatal". Every run is claimed and its record written
where it is done, so that the same code serves them all.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from .folder import RunFolder
from .perform import perform, perform_alone, perform_share
from .tasks import Outcome, Task

Outcomes = Generator[Outcome, None, None]
Executor = Callable[[Sequence[Task]], Outcomes]


@dataclass(frozen=True)
class Here:
    """This process, one stack after the other, on all of torch's threads."""

    def __call__(self, tasks: Sequence[Task]) -> Outcomes:
        for task in tasks:
            yield from perform(task)


@dataclass(frozen=True)
class Processes:
    """So many processes on this machine, each on one of torch's threads (joblib). One is this process, as ``Here``."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"At least one process must work, got {self.count!r}.")

    def __call__(self, tasks: Sequence[Task]) -> Outcomes:
        if self.count == 1:
            yield from Here()(tasks)
            return
        from concurrent.futures.process import BrokenProcessPool

        from joblib import Parallel, delayed  # comes with scikit-learn

        left = {run for task in tasks for run in task.runs}
        few = max(2, min(self.count, len(tasks)))  # joblib's one would be this process, which a run must not take down
        try:
            ended: Any = Parallel(n_jobs=few, return_as="generator_unordered")(delayed(perform_alone)(task) for task in tasks)
            for outcomes in ended:
                left.difference_update(outcome.run for outcome in outcomes)
                yield from outcomes
        except BrokenProcessPool as error:  # one killed worker takes the pool with it
            yield from (Outcome(run, "lost", reason=f"a process died: {error}") for run in sorted(left))


@dataclass(frozen=True)
class Dask:
    """A Dask cluster: a ``distributed.Client``, or a scheduler's address. Its workers have one thread each, because a process's runs share its random numbers.

    Runs of a worker that dies are done by another one. Raises ImportError without Dask, ValueError for workers of several threads, TimeoutError without any.
    """

    client: Any
    patience: float = 60.0  # seconds without any worker, after which nothing is waited for

    def __call__(self, tasks: Sequence[Task]) -> Outcomes:
        distributed = _library("distributed", "Dask")
        if not isinstance(self.client, str):
            yield from self._through(distributed, self.client, tasks)
            return
        with distributed.Client(self.client) as client:
            yield from self._through(distributed, client, tasks)

    def _through(self, distributed: Any, client: Any, tasks: Sequence[Task]) -> Outcomes:
        client.wait_for_workers(1, timeout=self.patience)
        crowded = [worker for worker, threads in client.nthreads().items() if threads > 1]
        if crowded:
            raise ValueError(f"Dask workers need one thread each (threads_per_worker=1), because runs share a process's random numbers; got {crowded}.")
        futures = {client.submit(perform_alone, task, pure=False): task for task in tasks}
        completed = distributed.as_completed(list(futures))
        seen = time.monotonic()
        try:
            while futures:
                for future in completed.next_batch(block=False):
                    seen = time.monotonic()
                    yield from _of_future(future, futures.pop(future))
                if time.monotonic() - seen > self.patience:
                    client.wait_for_workers(1, timeout=self.patience)
                    seen = time.monotonic()
                time.sleep(0.02)
        finally:
            if futures:
                client.cancel(list(futures))


@dataclass(frozen=True)
class Submitit:
    """A ``submitit.Executor``: so many jobs, each of which does its share of the runs one after the other."""

    executor: Any
    jobs: int = 16
    every: float = 5.0  # seconds between looks at the jobs

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"At least one job must work, got {self.jobs!r}.")

    def __call__(self, tasks: Sequence[Task]) -> Outcomes:
        helpers = _library("submitit.helpers", "Slurm")
        shares = [list(tasks[first :: self.jobs]) for first in range(min(self.jobs, len(tasks)))]
        pickle = _library("cloudpickle", "Slurm")  # submitit's own: it holds functions of scripts, too
        with self.executor.batch():  # one array of jobs
            submitted = [self.executor.submit(perform_share, sys.path, pickle.dumps(share)) for share in shares]
        of = dict(zip([job.job_id for job in submitted], shares, strict=True))
        try:
            for job in helpers.as_completed(submitted, poll_frequency=self.every):
                yield from _told(job, of.pop(job.job_id))
        finally:
            for job in submitted:
                if job.job_id in of:
                    with suppress(Exception):  # one that cannot be cancelled does its runs and keeps them
                        job.cancel()


def slurm(logs: str | os.PathLike[str], jobs: int = 16, *, cluster: str | None = None, **parameters: Any) -> Submitit:
    """Jobs on Slurm, by submitit.

    Args:
        logs: the folder of submitit's own files, which every node can reach.
        jobs: how many, in one array; each does its share of the runs.
        cluster: None finds Slurm; "local" takes processes of this machine instead.
        parameters: of ``submitit.AutoExecutor.update_parameters``: timeout_min, cpus_per_task, gpus_per_node, slurm_partition, …

    Raises ImportError without submitit.
    """
    executor = _library("submitit", "Slurm").AutoExecutor(folder=os.fspath(logs), cluster=cluster)
    executor.update_parameters(**parameters)
    return Submitit(executor, jobs)


def executor_of(given: Any, processes: int) -> Executor:
    """What ``take`` was given: one of these, a Dask client or address, a submitit executor; else so many processes."""
    here = Processes(processes)
    if given is None:
        return here
    origin = {base.__module__.partition(".")[0] for base in type(given).__mro__}
    if isinstance(given, str) or "distributed" in origin:
        return Dask(given)
    if "submitit" in origin:
        return Submitit(given)
    if not callable(given):
        raise TypeError(f"An executor is Here(), Processes(n), Dask(client), slurm(logs), a Dask client or a submitit executor, got {given!r}.")
    return cast(Executor, given)


def _of_future(future: Any, task: Task) -> list[Outcome]:
    """Dask blames all that a dying worker had before it. What the worker was at has left its claim; all else is tried again, as are several runs together."""
    if future.status == "cancelled":
        return [Outcome(run, "lost", reason="the cluster cancelled it") for run in task.runs]
    error = future.exception()
    if error is None:
        return future.result()
    killed = type(error).__name__ == "KilledWorker"
    begun = task.folder is not None and any(RunFolder(task.folder).file(run, "claim").exists() for run in task.runs)
    blamed = not killed or (begun and len(task.runs) == 1)
    return [Outcome(run, "fatal" if blamed else "lost", reason=f"workers died over it: {error!r}") for run in task.runs]


def _told(job: Any, share: list[Task]) -> list[Outcome]:
    """What a job says of its share; that it is lost where the job was killed, or ran out of its time."""
    try:
        return job.result()
    except Exception as error:
        return [Outcome(run, "lost", reason=f"its job {job.job_id} died: {error!r}") for task in share for run in task.runs]


def _library(name: str, what: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ImportError(f'{what} needs {name.partition(".")[0]}: pip install "hopfield_amem[cluster]". Processes(n) need nothing more.') from None
