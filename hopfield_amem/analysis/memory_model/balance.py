"""Parameters against data: what ``Z_t = 1`` predicts, for which quantities held fixed, and what was found."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..power_laws import PowerLaw, power_law
from ..result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELD = {
    2: "T_max and A·l·d_emb (the paper: deeper models would have to be narrower)",
    4: "T_max, l and A, while d_emb grows (true of the paper's Table 3)",
    1: "d_emb/T_max, l and A, while both grow",
}
"""The exponents k of N ∝ D^k that follow from d = √(πn) patterns of n = T_max·d_emb numbers, and what each holds fixed."""

MANY, STARTS = 16, 64  # rows up to which every combination of their roundings is tried; so many of the best are climbed from
LARGEST = 690.0  # of the logarithm of a ratio that a float holds


@dataclass(frozen=True)
class Architecture:
    """A stack of transformer blocks, as counted in arXiv 2405.08707, eq. 2.

    Args:
        layers: l.
        width: d_emb.
        context: T_max, tokens of a sequence.
        per_block: A, parameters of a block in units of d_emb². 12 for a standard block (four projections, a feed-forward block of four times the width); the
            paper adds up 10.006 for GPT-2 medium, whose feed-forward blocks it takes for three times as wide.

    Raises:
        ValueError: a number that is not positive and finite.
    """

    layers: float
    width: float
    context: float
    per_block: float = 12.0

    def __post_init__(self):
        numbers = (self.layers, self.width, self.context, self.per_block)
        if not all(0 < number < math.inf for number in numbers):
            raise ValueError(f"layers, width, context and per_block are positive numbers, got {numbers}.")

    @property
    def parameters(self) -> float:
        """``N = A l d_emb²``."""
        return self.per_block * self.layers * self.width**2

    @property
    def pattern_dim(self) -> float:
        """``n = T_max d_emb``."""
        return self.context * self.width

    @property
    def patterns(self) -> float:
        """``d* = √(πn)``, sequences at which the upper bound of Z_t is one."""
        return math.sqrt(math.pi * self.pattern_dim)

    @property
    def data(self) -> float:
        """``D* = T_max d*`` in tokens. For the paper's models 120 to 140 times less than what it reports."""
        return self.context * self.patterns

    def widened(self, factor: float, exponent: int) -> Architecture:
        """The architecture with ``factor`` times the width, other numbers changed so that N ∝ D^exponent: see ``HELD``."""
        if exponent not in HELD:
            raise ValueError(f"The exponents that follow are {', '.join(map(str, HELD))}; got {exponent!r}.")
        layers = self.layers / factor if exponent == 2 else self.layers
        context = self.context * factor if exponent == 1 else self.context
        return Architecture(layers, self.width * factor, context, self.per_block)


def parameters_per_block(layers: int, width: int, parameters: float) -> float:
    """``A = N/(l d_emb²)`` from a count of the parameters of all blocks."""
    return parameters / Architecture(layers, width, 1).width ** 2 / layers


@dataclass(frozen=True)
class Balance(Result):
    """Parameters N and best data sizes D*: the ratio ``N/D^k`` for a k, and the exponent that fits.

    Attributes:
        parameters: N of every model.
        data: D* of every model, in tokens.
        exponent: k of the ratio.
        fit: ``N = factor · D^k``, its interval by bootstrap over models; None for fewer than three.
        rounding: least and largest exponent when every D* may be off by up to half a step of the grid it was found on, ±inf where they may all be the same;
            None without a step.
    """

    parameters: tuple[float, ...]
    data: tuple[float, ...]
    exponent: float
    fit: PowerLaw | None
    rounding: tuple[float, float] | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        """``N/D^k``."""
        return tuple(math.exp(math.log(n) - self.exponent * math.log(d)) for n, d in zip(self.parameters, self.data, strict=True))

    def rows(self) -> list[dict[str, Any]]:
        name = f"N/D^{self.exponent:g}"
        return [{"N": n, "D": d, name: ratio} for n, d, ratio in zip(self.parameters, self.data, self.ratios, strict=True)]

    def plot(self) -> Figure:
        from ..plots.memory_model import balance

        return balance(self)

    def __str__(self) -> str:
        lines = [self.table()]
        if self.fit is not None:
            lines.append(f"fitted k = {self.fit.exponent:.3f} [{self.fit.interval[0]:.3f}, {self.fit.interval[1]:.3f}]")
        if self.rounding is not None:
            lines.append(f"k from {self.rounding[0]:.2f} to {self.rounding[1]:.2f} when every D may be off by up to half a step")
        return "\n".join(lines)


def model_data_balance(parameters: Sequence[float], data: Sequence[float], *, exponent: float = 2.0, step: float | None = None) -> Balance:
    """Whether N/D^k is a constant over models at their best data sizes, and which exponent fits.

    Niu et al. 2024 (arXiv 2405.08707, §6.3) find N/D*² of 8.71, 8.79 and 8.38·10⁻¹⁰ for three models: a fit of k = 1.90. Theory gives k = 2, 4 or 1 by what
    is held fixed (``HELD``), and only from an upper bound on Z (``unit_partition``); three points do not tell.

    Args:
        parameters: N of every model.
        data: D* of every model.
        exponent: k of the ratio.
        step: of the grid on which D* was searched: the exponents that rounding to it allows are found by bounded optimisation (scipy) from the ends of the
            ranges; the largest may well lie between them.

    Raises:
        ValueError: no model, numbers that are not positive and finite, as many N as D not given, a step so large that a D could be 0, an exponent at which
            N/D^k is no floating-point number.
    """
    n, d = np.asarray(parameters, dtype=float), np.asarray(data, dtype=float)
    if n.ndim != 1 or n.shape != d.shape or not len(n) or not all(np.isfinite(x).all() and (x > 0).all() for x in (n, d)):
        raise ValueError(f"One positive number of parameters and one of tokens per model, at least one model; got {parameters!r} and {data!r}.")
    if not np.isfinite(exponent) or (abs(np.log(n) - exponent * np.log(d)) > LARGEST).any():
        raise ValueError(f"N/D^k must be a floating-point number; at k = {exponent!r} it under- or overflows.")
    if step is not None and not 0 < step < 2 * d.min():
        raise ValueError(f"The step of the grid of data sizes is positive and below twice the least of them, got {step!r}.")
    enough = len(np.unique(d)) > 2
    fit = power_law(d, n) if enough else None
    rounding = _rounding(n, d, step) if step is not None and enough else None
    return Balance(tuple(n.tolist()), tuple(d.tolist()), exponent, fit, rounding)


def _rounding(n: np.ndarray, d: np.ndarray, step: float) -> tuple[float, float]:
    """Least and largest slope of log N against log D within what rounding allows. The slope is not monotone in each D, so corners are but starts."""
    from scipy.optimize import minimize

    if len(d) > MANY:
        raise ValueError(f"Every combination of roundings is tried, for up to {MANY} models; got {len(d)}.")
    low, high = np.log(d - 0.5 * step), np.log(d + 0.5 * step)
    if low.max() <= high.min():
        return -math.inf, math.inf  # all D may be one, and then no exponent is excluded
    corners = np.where(list(itertools.product((False, True), repeat=len(d))), high, low)
    slopes = np.array([_slope(corner, np.log(n))[0] for corner in corners])
    ends = []
    for sign in (1.0, -1.0):
        starts = corners[np.argsort(sign * slopes)[:STARTS]]
        climb = lambda logs, sign=sign: tuple(sign * part for part in _slope(logs, np.log(n)))
        found = [minimize(climb, start, jac=True, bounds=list(zip(low, high, strict=True)), method="L-BFGS-B", options={"ftol": 1e-14}).fun for start in starts]
        ends.append(sign * float(min(found)))
    return ends[0], ends[1]


def _slope(logs: np.ndarray, of: np.ndarray) -> tuple[float, np.ndarray]:
    """The slope of least squares of ``of`` against ``logs``, and its gradient in ``logs``."""
    x, y = logs - logs.mean(), of - of.mean()
    square = float(x @ x)
    slope = float(x @ y) / square
    return slope, (y - 2 * slope * x) / square
