"""The table of exponents, each row measured afresh and fitted beside its theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..estimate import Estimate
from ..power_laws import PowerLaw, power_law
from ..result import Result
from .schemes import PowerScheme, Scheme, ThresholdScheme, scheme
from .study import Study
from .sweep import sweep
from .theory import scaling_exponent
from .zipf import ZipfTask, unseen_mass

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (100, 139, 193, 268, 373, 518, 720, 1000)
SQUARE = (40, 57, 80, 113, 160)  # wide enough for a margin, and d²/64 inputs fewer than classes
WIDE = (100, 200, 400, 800, 1600)
AMOUNTS = (100, 1000, 10_000, 100_000)


@dataclass(frozen=True)
class Finding:
    """A row of the table: points, the law fitted to them, and what theory says.

    Attributes:
        name: of the row.
        variable: "d" or "T".
        points: values of the variable and mean errors there.
        law: ``𝓔 = factor · variable^exponent``, with its interval.
        theory: s of ``𝓔 ∝ variable^−s``.
        setting: data and trials, in words.
    """

    name: str
    variable: str
    points: tuple[tuple[float, float], ...]
    law: PowerLaw
    theory: Estimate
    setting: str


@dataclass(frozen=True)
class Exponents(Result):
    """The rows that were asked for."""

    findings: tuple[Finding, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "row": found.name, "variable": found.variable, "exponent": -found.law.exponent, "low": -found.law.interval[1], "high": -found.law.interval[0],
                "theory": found.theory.value, "kind": found.theory.kind, "assumption": found.theory.assumption, "setting": found.setting,
            }
            for found in self.findings
        ]  # fmt: skip

    def plot(self) -> Figure:
        from ..plots.scaling import exponent_fits

        return exponent_fits(self)


class Row(Protocol):
    """Anything that can be measured and has a theory."""

    def measure(self, name: str, study: Study) -> Finding: ...


@dataclass(frozen=True)
class WidthRow:
    """Error against d: a scheme, on all data or on T tokens."""

    task: ZipfTask
    scheme: Scheme
    theory: Estimate
    trials: int = 30
    dims: tuple[int, ...] = WIDTHS
    tokens: int | None = None

    def measure(self, name: str, study: Study) -> Finding:
        trials = self.trials if study.trials is None else study.trials
        found = sweep(self.task, {name: self.scheme}, self.dims, (self.tokens,), trials=trials, seed=study.seed, folder=study.folder, processes=study.processes)
        points = tuple(zip(map(float, self.dims), found.mean(name, self.tokens).tolist(), strict=True))
        amount = "all data" if self.tokens is None else f"T = {self.tokens:,}"
        return Finding(name, "d", points, found.law(name, tokens=self.tokens), self.theory, f"{_setting(self.task)}, {amount}, {trials} trials")


@dataclass(frozen=True)
class DataRow:
    """Error against T at one width."""

    task: ZipfTask
    scheme: Scheme
    theory: Estimate
    dim: int
    trials: int = 100
    tokens: tuple[int, ...] = AMOUNTS

    def measure(self, name: str, study: Study) -> Finding:
        trials = self.trials if study.trials is None else study.trials
        found = sweep(self.task, {name: self.scheme}, (self.dim,), self.tokens, trials=trials, seed=study.seed, folder=study.folder, processes=study.processes)
        points = tuple((float(amount), float(found.mean(name, amount))) for amount in self.tokens)
        return Finding(name, "T", points, found.data_law(name, self.dim), self.theory, f"{_setting(self.task)}, d = {self.dim}, {trials} trials")


@dataclass(frozen=True)
class UnlimitedRow:
    """Error against T of a memory without limits on infinitely many inputs: exact sums, nothing is drawn."""

    alpha: float
    theory: Estimate

    def measure(self, name: str, study: Study) -> Finding:
        missed = [unseen_mass(self.alpha, amount) for amount in AMOUNTS]
        points = tuple(zip(map(float, AMOUNTS), missed, strict=True))
        return Finding(name, "T", points, power_law(AMOUNTS, np.array(missed)), self.theory, f"N = ∞, α = {self.alpha:g}, exact")


def exponents(names: Sequence[str] | None = None, *, study: Study | None = None) -> Exponents:
    """Rows of the table of exponents: errors measured anew, a power law fitted with its interval, theory beside it.

    Args:
        names: rows in ``ROWS``; None is all of them.
        study: trials, seed, folder, processes.

    Raises:
        ValueError: an unknown row.
    """
    chosen = list(ROWS) if names is None else list(names)
    unknown = [name for name in chosen if name not in ROWS]
    if unknown or not chosen:
        raise ValueError(f"Expected rows of the table of exponents, got {unknown or chosen}. There are {', '.join(map(repr, ROWS))}.")
    return Exponents(tuple(ROWS[name].measure(name, study or Study()) for name in chosen))


def _setting(task: ZipfTask) -> str:
    return f"N = {task.inputs:,}, M = {task.classes:,}, α = {task.alpha:g}"


def _without_margin() -> Estimate:
    return Estimate(0.0, assumption="P = d leaves no margin: an error floor", kind="heuristic", success="argmax", reference="signal d against noise P")


def _data(alpha: float) -> Estimate:
    return Estimate(1 - 1 / alpha, assumption="what is seen is recalled", kind="theorem", success="argmax", reference="arXiv 2310.02984, Proposition 4")


def _rows(alpha: float) -> dict[str, Row]:
    """The rows at one α."""
    large, middle = ZipfTask(100_000, 5, alpha), ZipfTask(10_000, 5, alpha)
    many, identity = ZipfTask(30_000, 2000, alpha), ZipfTask(2000, 2000, alpha)
    top = scaling_exponent(alpha, 0.0, True)
    rows: dict[str, Row] = {
        "equal": WidthRow(large, scheme("equal"), scaling_exponent(alpha, 0.0)),
        "frequency": WidthRow(large, scheme("frequency"), scaling_exponent(alpha, 1.0), 100),
        "root": WidthRow(large, scheme("root"), scaling_exponent(alpha, 0.5)),
        "fourth root": WidthRow(large, scheme("fourth root"), scaling_exponent(alpha, 0.25)),
        "top d/8": WidthRow(large, scheme("top d/8"), top),
        "fourth root, top d/8": WidthRow(large, scheme("fourth root, top d/8"), scaling_exponent(alpha, 0.25, True)),
        "best top": WidthRow(middle, scheme("best top"), top, 100),
        "top d": WidthRow(large, scheme("top d"), _without_margin()),
        "many classes: top d²/64": WidthRow(many, ThresholdScheme(0.0, 64.0, 2.0), scaling_exponent(alpha, 0.0, True, math.inf), 10, SQUARE),
        "many classes: frequency": WidthRow(identity, PowerScheme(1.0), scaling_exponent(alpha, 1.0, False, math.inf), 10, WIDE),
        "data": UnlimitedRow(alpha, _data(alpha)),
    }
    return {f"{name}, α = {alpha:g}": row for name, row in rows.items()}


_JOINT, _TOP = ZipfTask(1000, 5, 2.0), ThresholdScheme(per=12.0)
ROWS: dict[str, Row] = _rows(1.5) | _rows(2.0) | {
    "joint: d, T = 10,000": WidthRow(_JOINT, _TOP, scaling_exponent(2.0, 0.0, True), 100, (20, 50, 100, 200), 10_000),
    "joint: T, d = 1000": DataRow(_JOINT, _TOP, _data(2.0), 1000, tokens=(10, 100, 1000)),
}  # fmt: skip
"""Every row of the table, by name."""
