"""Closed forms: ``log E[κ²]/κ_ii²`` by the type of the separation and the law of the score, and the formulas that are printed for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ...energies import Epanechnikov, Exp, Gelu, Power, RectifiedPower, Separation, Silu
from ..density import von_mises_fisher_log_constant
from .averaged import AveragedDistanceScores, AveragedNormalScores, LengthAveraged
from .laws import CosineScores, DistanceScores, NormalScores, ScoreLaw

Law = ScoreLaw | LengthAveraged
Closed = Callable[[Separation, Any], float | None]  # None: not for these parameters; inf: the mean diverges


class Printed(NamedTuple):
    """A formula as the literature prints it: ``log (SNR⁻¹/N)``, and when it is meant to hold."""

    log_per_key: float
    condition: str


CLOSED: dict[tuple[type, type], Closed] = {}
PRINTED: dict[tuple[type, type], Callable[[Separation, Any], Printed | None]] = {}


def closed(separation: type, law: type) -> Callable[[Closed], Closed]:
    """Register the closed form of a separation under a law, your own included."""

    def registered(formula: Closed) -> Closed:
        CLOSED[separation, law] = formula
        return formula

    return registered


def closed_form(separation: Separation, law: Law) -> float | None:
    """``log E[κ²/κ_ii²]`` where a closed form is known; inf where the mean diverges."""
    formula = CLOSED.get((type(separation), type(law)))
    return None if formula is None else formula(separation, law)


def printed_form(separation: Separation, law: Law) -> Printed | None:
    """The formula that is printed, where one is; closed forms that are not in print are none."""
    formula = PRINTED.get((type(separation), type(law)))
    return None if formula is None else formula(separation, law)


def _odd_factorial(n: int) -> float:
    """``log (2n − 1)!!`` = log E z^(2n) of a normal number."""
    return math.lgamma(2 * n + 1) - n * math.log(2) - math.lgamma(n + 1)


def _moment(n: int, law: NormalScores) -> float:
    """κ = sⁿ, s ~ N(0, β²‖k_i‖²): ``(2n − 1)!!/‖k_i‖^(2n)``."""
    return _odd_factorial(n) - n * math.log(law.square)


def _exponential_moment(law: NormalScores) -> float:
    """κ = eˢ: ``E e^(2s) = e^(2β²‖k_i‖²)``, and κ_ii = e^(β‖k_i‖²)."""
    return 2 * law.spread * law.spread - 2 * law.own


def _cosine_moment(n: int, law: CosineScores) -> float | None:
    """``E cos^(2n) t = (2n − 1)!!/(d (d + 2) … (d + 2n − 2))``, of scores that are not shifted."""
    half = 0.5 * law.dim
    return None if law.shift else _odd_factorial(n) - n * math.log(2) + math.lgamma(half) - math.lgamma(half + n)


@closed(Exp, NormalScores)
def _exponential(separation, law):
    return _exponential_moment(law)


@closed(Epanechnikov, NormalScores)
def _step(separation, law):
    return math.log(0.5 * math.erfc(-1 / (law.spread * math.sqrt(2))))  # κ = 1 where s > −1


@closed(Exp, CosineScores)
def _cosine_exponential(separation, law):
    """``e^(−2β) 0F1(; d/2; β²)``; ``0F1(; d/2; β²) = Γ(d/2) β^(1−d/2) I_{d/2−1}(2β)``, and the Bessel function from the density of von Mises and Fisher."""
    half = 0.5 * law.dim
    series = math.lgamma(half) + (half - 1) * math.log(2) - half * math.log(2 * math.pi) - von_mises_fisher_log_constant(law.dim, 2 * law.beta)
    return series - 2 * law.beta


@closed(Exp, DistanceScores)
def _distance_exponential(separation, law):
    wide = 1 + 2 * law.beta  # the moment generating function of the non-central χ² at −β
    return -0.5 * law.dim * math.log(wide) - law.beta * law.square / wide


def _inverse_length(n: int, law: AveragedNormalScores) -> float:
    """``(2n − 1)!! E‖k_i‖^(−2n) = (2n − 1)!!/((d − 2) (d − 4) … (d − 2n))``, which diverges for d ≤ 2n: short keys drown."""
    half = 0.5 * law.dim
    return _odd_factorial(n) - n * math.log(2) + math.lgamma(half - n) - math.lgamma(half) if half > n else math.inf


@closed(Exp, AveragedNormalScores)
def _averaged_exponential(separation, law):
    """``E e^(2(β² − β) x) = (1 + 4β − 4β²)^(−d/2)``, x = ‖k_i‖² of χ²_d: it diverges from β = (1 + √2)/2 on, where long keys meet nearer ones."""
    rate = 1 + 4 * law.beta * (1 - law.beta)
    return -0.5 * law.dim * math.log(rate) if rate > 0 else math.inf


@closed(Exp, AveragedDistanceScores)
def _averaged_distance(separation, law):
    return -0.5 * law.dim * math.log1p(4 * law.beta)  # E exp(−β‖k − k_i‖²), k − k_i ~ N(0, 2I)


def _powers(law: type, moment: Callable[[int, Any], float | None]) -> None:
    """Register powers sⁿ under a law, and rectified ones, of which every other score is 0."""

    def power(separation: Any, scores: Any) -> float | None:
        return moment(separation.degree - 1, scores)

    def rectified(separation: Any, scores: Any) -> float | None:
        whole = power(separation, scores)
        return None if whole is None else whole - math.log(2)

    closed(Power, law)(power)
    closed(RectifiedPower, law)(rectified)


_powers(NormalScores, _moment)
_powers(CosineScores, _cosine_moment)
_powers(AveragedNormalScores, _inverse_length)


def _printed_power(half: bool):
    """``(2n − 1)!! N/dⁿ``, half of it where negative scores have no weight."""

    def formula(separation, law):
        return Printed(_moment(separation.degree - 1, law) - half * math.log(2), "exact but for N in place of N − 1")

    return formula


def _printed_exponential(separation, law):
    """``N exp(2(1 − τ) d/τ²)`` (arXiv 2505.19488, §2.1)."""
    return Printed(_exponential_moment(law), "typical while βn ≤ √(2 ln N)/2; below that temperature the mean is made by keys that do not occur")


def _printed_cosine_exponential(separation, law):
    """``N exp(−2/τ + 2/(d τ²))``."""
    return Printed(2 * law.beta * law.beta / law.dim - 2 * law.beta, "cosines taken for normal numbers of variance 1/d, while 1/τ ≪ d/2")


def _printed_activation(constant: float):
    """``c N/d`` for an activation of ``x·k/√d``."""

    def formula(separation, law):
        if not math.isclose(law.spread, 1.0, rel_tol=1e-9):
            return None
        return Printed(math.log(constant) - math.log(law.square), "β = 1/√d, and κ(k_i, k_i) taken for √d")

    return formula


PRINTED[Power, NormalScores] = _printed_power(half=False)
PRINTED[RectifiedPower, NormalScores] = _printed_power(half=True)
PRINTED[Exp, NormalScores] = _printed_exponential
PRINTED[Exp, CosineScores] = _printed_cosine_exponential
PRINTED[Silu, NormalScores] = _printed_activation(0.3558)
PRINTED[Gelu, NormalScores] = _printed_activation(0.4252)
