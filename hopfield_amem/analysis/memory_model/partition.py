"""The partition function of a layer whose patterns lie in disjoint balls, in logarithms, and how many patterns make it one."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BallPartition:
    """``Z = ∫_{‖x−ρ‖≤r} exp(−‖x − ρ‖²) dx`` of one pattern in n dimensions, as natural logarithms, between its bounds.

    Attributes:
        dim: n.
        radius: r.
        log_value: ``log Z = (n/2) log π + log P(n/2, r²)``.
        log_lower: ``log V_n(r) − r²``; the paper prints ``− r``.
        log_volume: ``log V_n(r)``, the upper bound: the weight taken for flat.
    """

    dim: int
    radius: float
    log_value: float
    log_lower: float
    log_volume: float


def pattern_radius_reference(dim: int) -> float:
    """``√(n/2πe)``, the radius of a ball whose volume is of order one: ``V_n · √(πn) → 1`` (arXiv 2405.08707, §5.1)."""
    _check(dim, 1.0)
    return math.sqrt(dim / (2 * math.pi * math.e))


def ball_partition(dim: int, radius: float) -> BallPartition:
    """``Z_i = π^(n/2) P(n/2, r²)``, P the regularised lower incomplete gamma function, with ``e^(−r²) V_n(r) ≤ Z_i ≤ V_n(r)``.

    The integral of Niu et al. 2024 (arXiv 2405.08707, §5.1) as it is; they print ``2π^(n/2) γ(n, r)/Γ(n/2)`` (at n = 3, r = 2: 8.126 in place of 5.312).
    All d patterns of a layer have ``log Z = log d + log Z_i``. Logarithms throughout: tested up to n = 10⁵.

    Raises:
        ValueError: n < 1, r ≤ 0 or not finite, or so small or large that a float does not hold r².
    """
    _check(dim, radius)
    volume = 0.5 * dim * math.log(math.pi) + dim * math.log(radius) - math.lgamma(0.5 * dim + 1)
    value = 0.5 * dim * math.log(math.pi) + log_lower_gamma(0.5 * dim, radius**2)
    return BallPartition(dim, radius, value, volume - radius**2, volume)


def log_lower_gamma(shape: float, x: float) -> float:
    """``log P(a, x)``, P the regularised lower incomplete gamma function (scipy's; its power series in logarithms where that underflows)."""
    from scipy.special import gammainc, gammaincc

    value = float(gammainc(shape, x))
    if value > 0.5:
        return math.log1p(-float(gammaincc(shape, x)))
    return math.log(value) if value > 1e-250 else _log_series(shape, x)


def _log_series(shape: float, x: float) -> float:
    """``x^a e^(−x)/Γ(a + 1) · Σ_k x^k/((a + 1) ⋯ (a + k))``; where P underflows x is far below a, and few terms count."""
    import numpy as np

    terms = math.ceil(40 / math.log((shape + 1) / x))
    total = 1 + float(np.cumprod(x / (shape + np.arange(1, terms + 1))).sum())
    return shape * math.log(x) - x - math.lgamma(shape + 1) + math.log(total)


@dataclass(frozen=True)
class UnitPartition(Result):
    """How many patterns d make ``Z_t = d Z_i = 1``, the least of ``log Z + 1/Z``, in logarithms, one entry per dimension n.

    Attributes:
        dims: n.
        radii: r.
        log_exact: of the exact Z_i.
        log_upper: of the upper bound ``Z_i ≤ V_n(r)``: at ``r = √(n/2πe)`` d = √(πn), from which the paper has N = O(D²).
        log_lower: of the lower bound ``Z_i ≥ e^(−r²) V_n(r)``.
        log_printed: of the lower bound as printed, ``e^(−r) V_n(r)``.
    """

    dims: tuple[int, ...]
    radii: tuple[float, ...]
    log_exact: tuple[float, ...]
    log_upper: tuple[float, ...]
    log_lower: tuple[float, ...]
    log_printed: tuple[float, ...]

    def rows(self) -> list[dict[str, Any]]:
        columns = {"exact": self.log_exact, "upper bound": self.log_upper, "lower bound": self.log_lower, "printed lower bound": self.log_printed}
        return [
            {"n": n, "radius": r} | {f"log10 d, {name}": logs[i] / math.log(10) for name, logs in columns.items()}
            for i, (n, r) in enumerate(zip(self.dims, self.radii, strict=True))
        ]

    def plot(self) -> Figure:
        from ..plots.memory_model import patterns_needed

        return patterns_needed(self)


def unit_partition(dims: Sequence[int], radius: float | None = None) -> UnitPartition:
    """The number of patterns at which ``Z_t = 1``, for each dimension of a pattern; r = √(n/2πe) unless given.

    With the exact integral it is about ``√(πn) e^(n/(2πe))``, exponential in n: ``d = √(πn)``, hence N = O(D²), follows from the upper bound alone.

    Raises:
        ValueError: no dimension; as ``ball_partition``.
    """
    if not len(dims):
        raise ValueError("unit_partition needs at least one dimension n, for example [64, 256, 1024].")
    found = [ball_partition(n, pattern_radius_reference(n) if radius is None else radius) for n in dims]
    return UnitPartition(
        tuple(dims), tuple(ball.radius for ball in found), tuple(-ball.log_value for ball in found), tuple(-ball.log_volume for ball in found),
        tuple(-ball.log_lower for ball in found), tuple(ball.radius - ball.log_volume for ball in found),
    )  # fmt: skip


def _check(dim: int, radius: float) -> None:
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise ValueError(f"The dimension n of a pattern is an integer of at least 1, got {dim!r}.")
    if not sys.float_info.min <= radius * radius < math.inf or radius < 0:
        raise ValueError(f"The radius of a ball is positive and finite, and so is its square as a float; got {radius!r}.")
