"""The search for a capacity: looks at loads, what they decide, and the bisection between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...energies.separations.separation import require
from ..runs import take
from .identity import Keep, identity
from .task import Retrieve, Task
from .trials import Sizes, rate_interval, successes

QUERIES, MEMORIES, ASKED = 128, 16, 64  # queries of the first look at a load, fewest independent memories, most queries to one of them
BRIEF = 4096  # queries after which a load is left for others that may be easier to decide
LOOKS = 100  # between which the error probability is shared, and after which the search ends

Verdict = Callable[[int, int | None], int]  # of a load, after so many queries at most


@dataclass(frozen=True)
class Search:
    """How a capacity is searched.

    Args:
        precision: half the relative width of the interval that is asked for, > 0.
        confidence: with which all decisions of the search are right, in (0, 1).
        largest: the largest load that is tried.
        queries: after so many queries at one load it is left undecided.

    Raises:
        ValueError: numbers out of range.
    """

    precision: float = 0.05
    confidence: float = 0.95
    largest: int = 10**6
    queries: int = 2**16

    def __post_init__(self):
        require(0 < self.precision < math.inf, f"precision is half the relative width of the interval, above 0; got {self.precision!r}.")
        require(0 < self.confidence < 1, f"confidence must lie in (0, 1), got {self.confidence!r}.")
        require(isinstance(self.largest, int) and self.largest >= 1, f"largest counts stored patterns, an integer of at least 1; got {self.largest!r}.")
        require(isinstance(self.queries, int) and self.queries >= 1, f"queries is an integer of at least 1, got {self.queries!r}.")


@dataclass(frozen=True)
class Keeping:
    """Where looks are kept, the seed, and what is told of each."""

    keep: Keep | None
    seed: int
    advance: Callable[[], None]


class Looks:
    """All looks at all loads so far, and what they decide."""

    def __init__(self, retrieve: Retrieve, dim: int, task: Task, search: Search, *, keeping: Keeping):
        self.retrieve, self.dim, self.task, self.search, self.keeping = retrieve, dim, task, search, keeping
        self.means: dict[int, Tensor] = {}
        self.taken = 0
        self.memory = "" if keeping.keep is None else identity(retrieve, task, key=keeping.keep.key)
        self.shared = 1 - (1 - search.confidence) / LOOKS

    def verdict(self, load: int, most: int | None = None) -> int:
        """1 where the rate at this load is above what is asked for, −1 where it is below, 0 where that is undecided after so many queries."""
        most = self.search.queries if most is None else min(most, self.search.queries)
        while True:
            if load in self.means:
                low, high = self.interval(load, self.shared)
                if low >= self.task.required or high < self.task.required:
                    return 1 if low >= self.task.required else -1
                if self.queries(load) >= most or self.taken >= LOOKS:
                    return 0
            self._look(load)

    def queries(self, load: int) -> int:
        """How many have been asked at a load."""
        return len(self.means[load]) * self._asked(load)

    def interval(self, load: int, confidence: float) -> tuple[float, float]:
        """Interval of the rate at a load."""
        together = self.task.success == "all patterns"
        return rate_interval(self.means[load], 1 if together else self._asked(load), confidence, parts=self.dim if self.task.success == "one bit" else 1)

    def _asked(self, load: int) -> int:
        """Queries to one memory: to know that all patterns are recalled, all."""
        return load if self.task.success == "all patterns" else min(load, ASKED)

    def _look(self, load: int) -> None:
        """Look at a load once more, as long as at all looks before."""
        before = self.means.get(load, torch.zeros(0))
        memories = len(before) or max(MEMORIES, -(-QUERIES // self._asked(load)))
        config = {
            "memory": self.memory, "task": str(self.task), "dim": self.dim, "load": load, "memories": memories, "queries": self._asked(load),
            "seed": self.keeping.seed, "before": len(before),
        }  # fmt: skip
        record = self._taken(config)
        self.means[load] = torch.cat([before, torch.tensor(record["successes"], dtype=torch.float32)])
        self.taken += 1
        self.keeping.advance()

    def _taken(self, config: dict) -> dict:
        """A look, from its file where there is one. What retrieve or the patterns raise is raised as it is; ``take`` would gather it with other runs'."""
        if self.keeping.keep is None:
            return self._work(config)
        failures = []

        def look(config: dict) -> dict:
            try:
                return self._work(config)
            except Exception as error:
                failures.append(error)
                raise

        try:
            (record,) = take(look, [config], folder=self.keeping.keep.folder, title=None)
        except RuntimeError:
            if failures:
                raise failures[0] from None
            raise
        return record

    def _work(self, config: dict) -> dict:
        sizes = Sizes(config["dim"], config["load"], config["memories"], config["queries"])
        seed = hash((config["seed"], config["load"], config["before"])) % 2**63  # of integers: the same in every process
        return {"successes": successes(self.retrieve, self.task, sizes, seed).tolist()}


def bracketed(verdict: Verdict, largest: int) -> tuple[int, float]:
    """The first load, from one pattern on by factors of four, that is not recalled often enough (inf where the largest is), and the last before that is."""
    low, load = 0, 1
    while (found := verdict(load, BRIEF)) >= 0:
        low = load if found > 0 else low
        if load == largest:
            return low, math.inf
        load = min(4 * load, largest)
    return low, load


def narrowed(verdict: Verdict, low: int, high: float, precision: float) -> tuple[int, float]:
    """The decided loads next to the crossing: bisection of log N until the precision is reached, or until looks no longer decide."""
    while high - low > 1 and high > low * (1 + 2 * precision) and high < math.inf:
        middle = _between(low, int(high))
        found, before = verdict(middle, BRIEF), (low, high)
        if found == 0:
            low, high = _around(verdict, middle, before, precision)
            if (low, high) == before:
                break
        else:
            low, high = (middle, high) if found > 0 else (low, middle)
    return low, high


def _around(verdict: Verdict, middle: int, bracket: tuple[int, float], precision: float) -> tuple[int, float]:
    """The bracket drawn together around a load so near to the crossing that a brief look does not decide: loads at the precision's distance are looked at for
    long, and further ones where those stay undecided."""
    low, high = bracket
    for factor in (1 / (1 + precision), 1 + precision):
        for power in (1, 2, 4):
            load = round(middle * factor**power)
            if not low < load < high or load == middle:
                break
            found = verdict(load, None)
            low, high = (load, high) if found > 0 else (low, load) if found < 0 else (low, high)
            if found == (1 if factor < 1 else -1):
                break
    return low, high


def _between(low: int, high: int) -> int:
    """The integer nearest to the geometric mean, strictly between where there is one."""
    return min(max(round(math.sqrt(max(low, 1) * high)), low + 1), high - 1) if high - low > 1 else low
