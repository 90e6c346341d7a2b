"""Capacity measured: Monte Carlo trials at loads that a bisection chooses, with an interval."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...descent import Descent
from ...energies import ReadEnergy
from .. import seeds
from ..estimate import Estimate
from ..result import Result, plain
from ..runs import progress
from .identity import Keep
from .search import Keeping, Looks, Search, bracketed, narrowed
from .task import Reading, Retrieve, Task, asked

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Measurement(Result):
    """A measured capacity and the rates it was found from.

    Attributes:
        estimate: the capacity, with its interval.
        loads, rates: every load that was tried, ascending, and the share of queries that succeeded.
        intervals: of the rates, each at the search's confidence, (low, high).
        queries: how many were asked at each load.
        required: the rate that is asked for.
    """

    estimate: Estimate
    loads: tuple[int, ...]
    rates: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    queries: tuple[int, ...]
    required: float

    def rows(self) -> list[dict]:
        columns = zip(self.loads, self.rates, self.intervals, self.queries, strict=True)
        return [{"load": load, "rate": rate, "low": low, "high": high, "queries": queries} for load, rate, (low, high), queries in columns]

    def to_json(self) -> dict:
        return {**super().to_json(), "estimate": plain(self.estimate.row()), "required": self.required}

    def plot(self) -> Figure:
        from ..plots.capacity import measurement

        return measurement(self)

    def __str__(self) -> str:
        return str(self.estimate)


def measure(
    retrieve: ReadEnergy | Retrieve,
    dim: int,
    task: Task | None = None,
    *,
    descent: Descent | None = None,
    search: Search | None = None,
    folder: str | os.PathLike[str] | Keep | None = None,
    seed: int = 0,
) -> Measurement:
    """The largest number of patterns that are recalled at the task's rate, found by trials.

    Loads are chosen by bisection; at each of them queries are asked until its rate is above or below what the task asks for, at a
    confidence that all looks share, or the search's queries are used up. Memories are drawn afresh for every look. What is found is the first crossing, seen in
    steps of a factor of four; beyond it success must fall with the load.

    Args:
        retrieve: a ``ReadEnergy``, or anything that retrieves: ``retrieve(query, patterns) -> state`` of shapes (memories, q, d), (memories, n, d) ->
            (memories, q, d). Wrap a function of one memory with ``each_memory``.
        dim: width d of the patterns.
        task: patterns, damage and success. None: for energies on the hypercube bits, recalled whole; else unit vectors, recalled up to a tenth.
        descent: how an energy is descended; None: spin by spin on the hypercube, else ``FixedPoint`` of at most 50 steps.
        search: precision, confidence, largest load, queries per load.
        folder: keeps every finished look in a file, so that a search cut short goes on where it stopped. One folder serves many memories and tasks, which are
            told apart by what they hold: types, numbers, the bytes of tensors, the names and code of functions. What hides what it holds (lambdas, closures,
            partials) needs a name: ``Keep(folder, key)``.
        seed: of all randomness.

    Returns:
        A ``Measurement`` whose estimate holds value and interval; the interval is open above, (…, inf), where ``largest`` patterns, or all rows, are recalled.

    Raises:
        ValueError, TypeError: a retrieve that returns a wrong shape, complex numbers, NaN or Inf, a width below 1, patterns that do not fit, a descent for a
            function, a folder for what cannot be told from others, a seed that is no whole number ≥ 0.
    """
    if not isinstance(dim, int) or dim < 1:
        raise ValueError(f"dim is the width of the patterns, an integer of at least 1, got {dim!r}.")
    if not isinstance(retrieve, ReadEnergy) and (descent is not None or not callable(retrieve)):
        raise TypeError(f"measure takes a ReadEnergy and a descent, or a function retrieve(query, patterns) -> state alone; got {retrieve!r}, {descent!r}.")
    if search is not None and not isinstance(search, Search):
        raise TypeError(f"A search is Search(precision, confidence, largest, queries), or None; got {search!r}.")
    seeds.check(seed)
    task, search = asked(retrieve, task), Search() if search is None else search
    read = Reading(retrieve, descent) if isinstance(retrieve, ReadEnergy) else retrieve
    keep = Keep(folder) if folder is not None and not isinstance(folder, Keep) else folder
    with progress(f"capacity at d = {dim}", None) as advance:
        looks = Looks(read, dim, task, search, keeping=Keeping(keep, seed, advance))
        low, high = narrowed(looks.verdict, *bracketed(looks.verdict, int(min(search.largest, task.ensemble.most))), search.precision)
    return _measured(looks, low, high)


def _measured(looks: Looks, low: int, high: float) -> Measurement:
    task, search = looks.task, looks.search
    loads = sorted(looks.means)
    rates = {load: float(looks.means[load].double().mean()) for load in loads}
    value = _crossing(rates, task.required, low, high)
    words = f"{task}; rates compared at a joint confidence of {search.confidence:g}, falling with the load"
    estimate = Estimate(value, (float(low), float(high)), words, "measured", task.success, f"hopfield_amem.analysis.measure, {looks.taken} looks")
    intervals = tuple(looks.interval(load, search.confidence) for load in loads)
    return Measurement(estimate, tuple(loads), tuple(rates.values()), intervals, tuple(looks.queries(load) for load in loads), task.required)


def _crossing(rates: dict[int, float], required: float, low: int, high: float) -> float:
    """Where the rate crosses what is asked for, between decided loads: a straight line over log N through all rates in between."""
    if high == math.inf or low == 0 or high - low <= 1:
        return float(low)
    inside = [load for load in rates if low <= load <= high]
    above = max(load for load in inside if rates[load] >= required)
    below = min((load for load in inside if load > above), default=above)
    if below == above:
        return float(above)
    share = (rates[above] - required) / (rates[above] - rates[below])
    return math.exp(math.log(above) + share * (math.log(below) - math.log(above)))
