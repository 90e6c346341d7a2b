"""Networks of ±1: linear, polynomial and exponential capacity, and the probability of a wrong bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

from ...energies import Dot, Exp, Hypercube, Log, Power, ReadEnergy, RectifiedPower, Sum
from ...energies.scalings.scaling import has_null_slot
from ...energies.separations.separation import require
from ..estimate import Estimate
from .ensembles import Binary
from .theorems import ASYMPTOTIC, Setting, Unmet, grown, theorem

CRITICAL_LOAD = 0.138  # of the network of 1982 (Amit, Gutfreund & Sompolinsky 1985)


class BitError(NamedTuple):
    """Probability that a bit of a stored pattern is unstable: by the Gaussian crosstalk, and its asymptotic form for small ones."""

    gaussian: float
    asymptotic: float


def bit_error_probability(dim: int, patterns: float, degree: int = 2) -> BitError:
    """How often a bit of a stored pattern is unstable among K random ones, for an energy of n-th powers.

    ``Q(√(N^(n−1)/((2n−3)!! K)))``, for n = 2 ``Q(1/√α)`` with α = K/N; and for large arguments ``√((2n−3)!! K/(2π N^(n−1))) exp(−N^(n−1)/(2K(2n−3)!!))``
    (Krotov & Hopfield 2016, arXiv 1606.01164). Q is the normal tail. No self-coupling; N and K large.

    Args:
        dim: N, the number of bits.
        patterns: K > 0.
        degree: n ≥ 2.

    Raises:
        ValueError: numbers out of range.
    """
    require(dim >= 1 and patterns > 0 and degree >= 2, f"A bit error is of N ≥ 1 bits, K > 0 patterns, degree ≥ 2; got {dim!r}, {patterns!r}, {degree!r}.")
    log_ratio = (degree - 1) * math.log(dim) - log_double_factorial(degree) - math.log(patterns)
    ratio = math.exp(min(log_ratio, 300.0))
    return BitError(0.5 * math.erfc(math.sqrt(0.5 * ratio)), math.exp(-0.5 * ratio) / math.sqrt(2 * math.pi * ratio))


def log_double_factorial(degree: int) -> float:
    """``ln (2n − 3)!!``"""
    return sum(math.log(k) for k in range(3, 2 * degree - 2, 2))


@theorem(similarity=Dot, separation=Power, scaling=Sum, confinement=Hypercube)
def classical(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """Hopfield's network of 1982. A share ρ of wrong bits leaves the own pattern the field (1 − 2ρ)N, and (1 − 2ρ)² of the load without errors."""
    assert isinstance(energy.separation, Power)
    if energy.separation.degree != 2:
        raise Unmet(f"the laws of 0.138 N and N/ln N are for squares, and the degree is {energy.separation.degree}")
    _of_bits(energy, dim, setting)
    spins = f"{ASYMPTOTIC}; random bits, no self-coupling"
    if setting.flips == 0:
        words = f"{spins}; spin by spin from the pattern, 1.6 % of the bits wrong; replica theory"
        yield Estimate(CRITICAL_LOAD * dim, None, words, "heuristic", "one bit", "Amit, Gutfreund & Sompolinsky 1985")
    exact = (1 - 2 * setting.flips) ** 2 * dim / (2 * math.log(dim))
    yield Estimate(exact, None, f"{spins}{_damage(setting)}; almost every pattern exact", "heuristic", "one pattern", "McEliece et al. 1987")
    yield Estimate(0.5 * exact, None, f"{spins}{_damage(setting)}; every pattern exact", "heuristic", "all patterns", "McEliece et al. 1987")


@theorem(similarity=Dot, separation=(Power, RectifiedPower), scaling=Sum, confinement=Hypercube)
def polynomial(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """Powers of overlaps: the load at a given bit error, and those without errors. Rectified, half of the crosstalk is gone, and twice the load holds.

    A share ρ of wrong bits leaves the own pattern an overlap of (1 − 2ρ)N, whose (n − 1)th power is its field, and the crosstalk of independent patterns as it
    was: after one step loads are ``(1 − 2ρ)^(2(n−1))`` times those from the pattern itself.
    """
    degree, rectified = energy.separation.degree, isinstance(energy.separation, RectifiedPower)  # type: ignore[attr-defined]
    if degree < 2:
        raise Unmet("a sum of first powers stores nothing")
    _of_bits(energy, dim, setting)
    overlap = dim * (1 - 2 * setting.flips)
    size = 2 * (degree - 1) * math.log(overlap) - (degree - 1) * math.log(dim) - log_double_factorial(degree) + (math.log(2) if rectified else 0.0)
    words = f"{ASYMPTOTIC}; random bits, no self-coupling{_damage(setting)}"
    words += "; half of the crosstalk variance of the power that is not rectified" if rectified else ""
    at_error = size - 2 * math.log(NormalDist().inv_cdf(1 - setting.bit_error))
    krotov = "Krotov & Hopfield 2016, arXiv 1606.01164"
    yield grown(at_error, f"{words}; one step, bit error {setting.bit_error:g}", kind="heuristic", success="one bit", reference=krotov)
    if degree == 2 and not rectified:
        return  # the classical laws
    source = krotov if rectified else f"Demircigil et al. 2017, arXiv 1702.01929; {krotov}"
    without = size - math.log(2 * math.log(dim))
    yield grown(without, f"{words}; almost every pattern exact", kind="heuristic", success="one pattern", reference=source)
    every = without - math.log(degree)
    yield grown(every, f"{words}; every pattern exact", kind="heuristic", success="all patterns", reference=source)


@theorem(similarity=Dot, separation=Exp, scaling=(Log, Sum), confinement=Hypercube)
def exponential(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """``M = exp(αN) + 1`` with ``α < I(1 − 2ρ)/2``, ``I(x) = ½[(1 + x) ln(1 + x) + (1 − x) ln(1 − x)]``: up to ρN wrong bits are corrected in one step."""
    if float(energy.beta) != 1.0 or has_null_slot(energy.scaling):
        raise Unmet(f"the theorem on exponential networks is for exp(x·ξ), β = 1, without a null slot; here β is {float(energy.beta):g}")
    _of_bits(energy, dim, setting)
    overlap = 1 - 2 * setting.flips
    rate = 0.25 * ((1 + overlap) * math.log1p(overlap) + (1 - overlap) * math.log1p(-overlap) if overlap < 1 else 2 * math.log(2))
    words = f"{ASYMPTOTIC}; random bits{_damage(setting)}"
    log_value = rate * dim + math.log1p(math.exp(-rate * dim))
    source = "Demircigil et al. 2017, arXiv 1702.01929"
    yield grown(log_value, words, kind="heuristic", success="one pattern", reference=source)


def _damage(setting: Setting) -> str:
    return f", {setting.flips:.3g} of them wrong in the query, after one step" if setting.flips else ""


def _of_bits(energy: ReadEnergy, dim: int, setting: Setting) -> None:
    if not isinstance(setting.ensemble(energy), Binary):
        raise Unmet(f"networks of ±1 are known to store random bits, not {setting.ensemble(energy)}")
    if dim < 3:
        raise Unmet(f"laws with ln N need more than {dim} bits")
