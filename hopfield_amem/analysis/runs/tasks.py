"""What is asked of a worker: runs of one work, and what became of each."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from .identity import Record, Work


@runtime_checkable
class Together(Protocol):
    """Work that does one run when it is called with a config, as any does, and several at once where that is cheaper: models trained as one stack."""

    def __call__(self, config: Record, /) -> Record:
        """The findings of one run."""
        ...

    def stacks(self, configs: Sequence[Record], /) -> list[list[int]]:
        """Which runs may be done together, as places in the list: every place in one stack. Stacks begin in the order given."""
        ...

    def together(self, configs: Sequence[Record], /) -> Sequence[Record | Exception]:
        """The findings of each run of a stack, or why it alone failed. Where this raises, the runs are done one by one."""
        ...


@dataclass(frozen=True)
class Task:
    """Runs to be done.

    Attributes:
        work: what does them.
        name: of the work, told here because a worker could not tell it: scripts have other names there.
        runs: their configs by id.
        folder: where records are kept, if anywhere.
        asker: for whom they are done: one call of ``take``, whose claims say so, that a worker may go on where another one of the same asker died.
    """

    work: Work
    name: str
    runs: dict[str, Record]
    folder: Path | None = None
    asker: str = field(default_factory=lambda: uuid.uuid4().hex)

    def only(self, runs: Iterable[str]) -> Task:
        """Some of its runs."""
        return replace(self, runs={run: self.runs[run] for run in runs})

    def stacks(self, alone: Collection[str] = ()) -> list[Task]:
        """The parts that are done at once: each run by itself, or those that the work does together, but for runs that are to be alone.

        Raises:
            ValueError: stacks of the work that leave a run out, or have one twice.
        """
        singles = [self.only([run]) for run in self.runs if run in alone or not isinstance(self.work, Together)]
        if len(singles) == len(self.runs):
            return singles
        runs = [run for run in self.runs if run not in alone]
        stacks = cast(Together, self.work).stacks([self.runs[run] for run in runs])
        if sorted(place for stack in stacks for place in stack) != list(range(len(runs))):
            raise ValueError(f"stacks() puts every one of {len(runs)} runs into one stack, by its place from 0; got {stacks!r}.")
        return [*(self.only(runs[place] for place in stack) for stack in stacks if stack), *singles]


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    state: "done" (its flat record is there), "failed" (why), "busy" (somebody else is at it), "unkept" (why the disk refused), "lost" (its worker died) or
    "fatal" (its workers died over it).
    remark: what whoever asked is to be warned of, when all is done.
    """

    run: str
    state: str
    record: Record = field(default_factory=dict)
    reason: str = ""
    remark: str = ""
