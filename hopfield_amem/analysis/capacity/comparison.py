"""Three routes to a capacity on one axis: what is proved, what is estimated, what is measured, against the dimension."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...descent import Descent
from ...energies import ReadEnergy
from ..estimate import Estimate
from ..power_laws import power_law
from ..result import Result
from .corruption import Flips
from .ensembles import NoOverlaps
from .identity import Keep
from .mean_field import crosstalk
from .measurement import measure
from .search import Search
from .task import Task, asked
from .theorems import NoKnownBound, Setting, bound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ESTIMATED, MEASURED = "crosstalk estimate", "measured"
FEWEST = 3  # points that a fit needs


@dataclass(frozen=True)
class Growth:
    """How a capacity grows with d: ``factor · d^rate`` ("power") or ``factor · exp(rate d)`` ("exponential"), whichever leaves the smaller residuals.

    Attributes:
        rate, interval: the exponent, and its bootstrap interval (``fits.power_law``).
        factor: of the law.
        kind: "power" or "exponential".
    """

    kind: str
    rate: float
    factor: float
    interval: tuple[float, float]

    def __call__(self, dims: Sequence[float] | np.ndarray) -> np.ndarray:
        dims = np.asarray(dims, dtype=np.float64)
        return self.factor * (dims**self.rate if self.kind == "power" else np.exp(self.rate * dims))

    def __str__(self) -> str:
        law = f"d^{self.rate:.3g}" if self.kind == "power" else f"exp({self.rate:.3g} d)"
        return f"{law} [{self.interval[0]:.3g}, {self.interval[1]:.3g}]"


@dataclass(frozen=True)
class Comparison(Result):
    """Capacities of one energy at several dimensions.

    Attributes:
        energy, task: what was asked, in words.
        dims: the dimensions.
        series: name -> one ``Estimate`` per dimension, None where there is none: every bound under its reference, "crosstalk estimate", "measured".
        growth: name -> the fitted law, for series with three positive, finite values at least.
        reasons: dimension -> why there is no bound, or no estimate.
    """

    energy: str
    task: str
    dims: tuple[int, ...]
    series: dict[str, tuple[Estimate | None, ...]]
    growth: dict[str, Growth]
    reasons: dict[int, str]

    def rows(self) -> list[dict]:
        found = []
        for name, estimates in self.series.items():
            for dim, estimate in zip(self.dims, estimates, strict=True):
                if estimate is not None:
                    row = estimate.row()
                    found.append({"dim": dim, "from": name, **{column: row[column] for column in ("value", "low", "high", "log value", "kind", "success")}})
        return found

    def to_json(self) -> dict:
        laws = {name: {"kind": g.kind, "rate": g.rate, "factor": g.factor, "interval": g.interval} for name, g in self.growth.items()}
        assumptions = {name: next(e.assumption for e in estimates if e is not None) for name, estimates in self.series.items()}
        return {**super().to_json(), "energy": self.energy, "task": self.task, "growth": laws, "assumptions": assumptions, "reasons": self.reasons}

    def plot(self) -> Figure:
        from ..plots.capacity import comparison

        return comparison(self)

    def __str__(self) -> str:
        laws = [f"{name} grows like {law}" for name, law in self.growth.items()]
        return "\n".join([f"{self.energy}: {self.task}", self.table(), *laws, *dict.fromkeys(self.reasons.values())])


def compare(
    energy: ReadEnergy,
    dims: Sequence[int],
    task: Task | None = None,
    *,
    setting: Setting | None = None,
    descent: Descent | None = None,
    search: Search | None = None,
    folder: str | os.PathLike[str] | Keep | None = None,
) -> Comparison:
    """Bound, estimate and measurement of a capacity against the dimension, with fitted exponents.

    Args:
        energy: S, F, Q and C, β included.
        dims: widths of the patterns, different from each other.
        task: as in ``measure``.
        setting: what theorems ask for; None: the task's patterns, 1 − rate as bit error, and the bits that it flips. Bounds are of the task's success; those
            that know nothing of the task's damage are left out, with the reason.
        descent, search, folder: as in ``measure``.

    Raises:
        ValueError, TypeError: as ``measure`` and ``crosstalk``; no dimension, or one twice.
    """
    if not isinstance(energy, ReadEnergy):
        raise TypeError(f"compare needs the factors of a ReadEnergy, got {type(energy).__name__}. measure(retrieve, dim) takes any function.")
    dims = _widths(dims)
    task = asked(energy, task)
    found: list[dict[str, Estimate]] = []
    reasons = {}
    for dim in dims:
        try:
            known = bound(energy, dim, success=task.success, setting=_implied(task, dim) if setting is None else setting)
            here = {e.reference: e for e in known}
        except NoKnownBound as reason:
            here, reasons[dim] = {}, f"No known bound: {reason.reason}."  # without the other two routes: both are taken here
        try:
            here[ESTIMATED] = crosstalk(energy, dim, task, descent=descent)
        except NoOverlaps as reason:
            reasons[dim] = " ".join(filter(None, (reasons.get(dim), f"No crosstalk estimate: {reason}.")))
        here[MEASURED] = measure(energy, dim, task, descent=descent, search=search, folder=folder).estimate
        found.append(here)
    names = dict.fromkeys(name for here in found for name in here)
    series = {name: tuple(here.get(name) for here in found) for name in names}
    laws = {name: law for name, estimates in series.items() if (law := growth(dims, estimates)) is not None}
    return Comparison(str(energy), str(task), dims, series, laws, reasons)


def _widths(dims: Sequence[int]) -> tuple[int, ...]:
    try:
        widths = tuple(operator.index(dim) for dim in dims)
    except TypeError:
        raise TypeError(f"dims are several widths of patterns, whole numbers, for example [16, 32]; got {dims!r}. measure(energy, 16) takes one.") from None
    if not widths or len(set(widths)) < len(widths):
        raise ValueError(f"dims are widths of patterns, at least one and none twice; got {list(widths)}.")
    return widths


def growth(dims: Sequence[int], estimates: Sequence[Estimate | None]) -> Growth | None:
    """The law, power or exponential, that fits log N against d better by least squares; None below three positive, finite values that are no lower limits."""
    pairs = [(d, e.log_value) for d, e in zip(dims, estimates, strict=True) if e is not None and e.log_value is not None and _settled(e)]
    if len(pairs) < FEWEST:
        return None
    d, log_value = (np.asarray(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    scale, top = np.ptp(d), log_value.max()
    shrunk = max(1.0, np.ptp(log_value) / 600)  # roots of numbers that leave the range of a float obey the same law, with exponents so much smaller
    laws = []
    for kind, x, unit in (("power", d, shrunk), ("exponential", np.exp(d / scale), shrunk / scale)):  # a power of exp(d/scale) is an exponential of d
        law = power_law(x, np.exp((log_value - top) / shrunk))
        left = log_value - shrunk * law.exponent * np.log(x)
        laws.append((float(left.var()), Growth(kind, law.exponent * unit, math.exp(min(left.mean(), 700.0)), (law.interval[0] * unit, law.interval[1] * unit))))
    return min(laws, key=lambda found: found[0])[1]


def _settled(estimate: Estimate) -> bool:
    """Whether this is a positive number, and no lower limit."""
    open_above = estimate.interval is not None and estimate.interval[1] == math.inf
    return estimate.log_value is not None and math.isfinite(estimate.log_value) and not (open_above and estimate.kind == "measured")


def _implied(task: Task, dim: int) -> Setting:
    """The setting of a task, where theorems know its damage."""
    own, across = task.start(dim)
    if task.corruption is not None and not isinstance(task.corruption, Flips) and (own, across) != (1.0, 0.0):
        raise NoKnownBound(f"no statement here is about queries damaged by {task.corruption}", dim)
    if own <= 0:
        raise NoKnownBound(f"no statement here is about queries of which half of the bits are wrong, or more: {task.corruption}", dim)
    error = min(0.49, 1 - task.required) if task.success == "one bit" else 0.01
    return Setting(task.ensemble, error, flips=0.5 * (1 - own))
