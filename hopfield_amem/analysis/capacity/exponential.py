"""Log-sum-exp memories: Ramsauer's theorem, the thresholds of the random energy model, and the best placed patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ...energies import Cosine, Dot, Euclidean, Exp, Free, Hypercube, Log, Quadratic, ReadEnergy, Sphere
from ...energies.scalings.scaling import has_null_slot
from ...energies.separations.separation import require
from ..estimate import Estimate
from ..spherical_codes import separating_beta, spherical_code_bounds
from .ensembles import Binary, Ensemble, Gaussian, Spherical
from .given import as_ensemble
from .theorems import ASYMPTOTIC, LARGEST, Setting, Unmet, grown, theorem, undamaged

DOUBLINGS = 1000  # of a code's size, at most


@dataclass(frozen=True)
class StorageBound:
    """Theorem 3 of Ramsauer et al. 2020 at given numbers.

    Attributes:
        a, b, c: of the theorem.
        least: what c must reach, ``(2/√p)^(4/(d−1))``.
        disjoint: whether the balls of Definition 1, of radius 1/(βNM), are disjoint around N patterns that are no better separated than the theorem needs.
        log_value: ``ln(√p c^((d−1)/4))``.
    """

    a: float
    b: float
    c: float
    least: float
    disjoint: bool
    log_value: float

    @property
    def holds(self) -> bool:
        """Whether the theorem's condition on c is met, and a stored pattern is one that can be told from the others."""
        return self.c >= self.least and self.disjoint

    @property
    def value(self) -> float:
        """How many patterns are stored, inf above e⁷⁰⁰."""
        return math.exp(self.log_value) if self.log_value < LARGEST else math.inf


def exponential_storage_bound(dim: int, radius: float, beta: float, failure: float) -> StorageBound:
    """``N ≥ √p c^((d−1)/4)`` random patterns on the sphere of radius ``K√(d − 1)`` are stored by log-sum-exp with probability 1 − p.

    ``a = 2/(d−1) (1 + ln(2βK²p(d−1)))``, ``b = 2K²β/5``, ``c = b/W₀(exp(a + ln b))``, provided that ``c ≥ (2/√p)^(4/(d−1))``
    (Ramsauer et al. 2020, arXiv 2008.02217, Theorem 3). Stored (Definition 1): a fixed point in the ball of radius ``1/(βNM)`` around the pattern,
    ``M = K√(d − 1)``, that attracts all of the ball, which meets no other pattern's. Hot memories, β‖ξ‖² ≪ 1, meet the condition on c with balls that hold
    all patterns.

    Args:
        dim: d ≥ 2.
        radius: K > 0, the sphere's radius divided by √(d − 1).
        beta: β > 0.
        failure: p in (0, 1).

    Raises:
        ValueError: numbers out of range.
    """
    from scipy.special import wrightomega  # W₀(exp(z))

    require(dim >= 2 and radius > 0 and beta > 0 and 0 < failure < 1, f"Theorem 3 is for d ≥ 2, K, β > 0, 0 < p < 1; got {(dim, radius, beta, failure)}.")
    a = 2 / (dim - 1) * (1 + math.log(2 * beta * radius**2 * failure * (dim - 1)))
    b = 0.4 * radius**2 * beta
    c = b / float(wrightomega(a + math.log(b)))
    least = math.exp(4 / (dim - 1) * math.log(2 / math.sqrt(failure)))
    log_value = 0.5 * math.log(failure) + 0.25 * (dim - 1) * math.log(c)
    square = radius**2 * (dim - 1)
    scaled = beta * storing_separation(beta, log_value, math.sqrt(square)) if log_value > 0 else 0.0
    disjoint = scaled > 0 and math.log(scaled) + math.log(beta * square) + 2 * log_value > math.log(2)  # √(2Δ) > 2/(βNM)
    return StorageBound(a, b, c, least, disjoint, log_value)


def storing_separation(beta: float, log_count: float, length: float) -> float:
    """``2/(βN) + ln(2(N − 1)NβM²)/β``: Δ from which on a pattern of N > 1 is stored, none longer than M (Ramsauer et al. 2020, Theorem 4)."""
    pairs = 2 * log_count + math.log(-math.expm1(-log_count))  # ln N(N − 1)
    return 2 / beta * math.exp(-log_count) + (pairs + math.log(max(2 * beta * length**2, 1e-300))) / beta


class Threshold(NamedTuple):
    """``alpha``: e^(αd) patterns can be told apart at this temperature. ``condensed``: few patterns decide the crosstalk, so that finite sizes deviate much."""

    alpha: float
    condensed: bool


def retrieval_threshold(lam: float, ensemble: Ensemble | str) -> Threshold:
    """The load ``ln N/d`` at which a typical pattern's own term no longer outweighs the others' in ``Σ exp(λ x·ξ)``, ‖ξ‖² ≈ d: the threshold α₁(λ).

    Gaussian ``λ − λ²/2`` (½ from λ = 1 on, condensed), spherical ``λ(1 − u) − ½ ln(1 − u²)`` with ``u = (√(1 + 4λ²) − 1)/(2λ)``, binary ``λ − ln cosh λ``
    (random energy model; Lucibello & Mézard 2024, arXiv 2304.14964). Patterns of another length: λ is β times ‖ξ‖²/d.

    Raises:
        ValueError: λ ≤ 0, another ensemble.
    """
    require(0 < lam < math.inf, f"λ must be positive and finite, got {lam!r}.")
    kind = as_ensemble(ensemble)
    if isinstance(kind, Gaussian):
        return Threshold(lam - 0.5 * lam**2 if lam < 1 else 0.5, lam >= 1)
    if isinstance(kind, Spherical):
        overlap = 2 * lam / (math.hypot(1, 2 * lam) + 1)
        return Threshold(lam * (1 - overlap) - 0.5 * math.log(overlap / lam), False)  # 1 − u² = u/λ
    if isinstance(kind, Binary):
        return Threshold(math.log(2) - math.log1p(math.exp(-2 * lam)), False)  # λ − ln cosh λ
    raise ValueError(f"The thresholds are known for binary, spherical and gaussian patterns, got {kind}.")


@theorem(similarity=Dot, separation=Exp, scaling=Log, confinement=Quadratic)
def ramsauer(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """``exponential_storage_bound`` at the energy's β."""
    patterns = setting.ensemble(energy)
    _plain(energy, setting)
    if not isinstance(patterns, Spherical) or dim < 2:
        raise Unmet(f"Ramsauer's Theorem 3 is for patterns on a sphere in two dimensions at least, not {patterns} in {dim}")
    found = exponential_storage_bound(dim, patterns.radius / math.sqrt(dim - 1), float(energy.beta), setting.failure)
    if found.c >= found.least and not found.disjoint:
        raise Unmet(
            f"Ramsauer's Theorem 3 at β‖ξ‖² = {float(energy.beta) * patterns.radius**2:.4g} speaks of patterns that share one ball of Definition 1: "
            "a larger β or radius tells them apart"
        )
    if not found.holds:
        raise Unmet(f"Ramsauer's Theorem 3 needs c ≥ {found.least:.4g}, and here c is {found.c:.4g}: a larger β, radius or dimension meets it")
    words = f"random patterns of length {patterns.radius:g}, all stored with probability {1 - setting.failure:g}"
    source = "Ramsauer et al. 2020, arXiv 2008.02217, Theorem 3"
    yield grown(found.log_value, words, kind="theorem", success="ε-close", reference=source)


@theorem(similarity=(Dot, Euclidean, Cosine), separation=Exp, scaling=Log, confinement=(Quadratic, Sphere, Free, Hypercube))
def random_energy(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """``exp(α₁(λ) d)``."""
    patterns = setting.ensemble(energy)
    _plain(energy, setting)
    if not isinstance(patterns, (Binary, Spherical, Gaussian)):
        raise Unmet(f"thresholds of the random energy model are known for binary, spherical and gaussian patterns, not {patterns}")
    if isinstance(energy.confinement, Hypercube) and not isinstance(patterns, Binary):
        raise Unmet(f"on the hypercube patterns are ±1, not {patterns}")
    if isinstance(energy.similarity, Euclidean) and isinstance(patterns, Gaussian):
        raise Unmet("distances between gaussian patterns vary with their lengths, which the random energy model does not know")
    lam = float(energy.beta) * (1 / dim if isinstance(energy.similarity, Cosine) else patterns.square(dim) / dim)
    directions = Spherical() if isinstance(energy.similarity, Cosine) and isinstance(patterns, Gaussian) else patterns
    found = retrieval_threshold(lam, directions)
    slow = ", condensed: slow to be reached" if found.condensed else ""
    words = f"{ASYMPTOTIC} at fixed λ; random {patterns}, λ = {lam:.4g}{slow}; at the pattern its own term outweighs the others' sum"
    success = "one pattern" if isinstance(energy.confinement, Hypercube) else "ε-close"
    source = "random energy model; Lucibello & Mézard 2024, arXiv 2304.14964"
    yield grown(found.alpha * dim, words, kind="heuristic", success=success, reference=source)


@theorem(similarity=Dot, separation=Exp, scaling=Log, confinement=(Quadratic, Sphere))
def spherical_codes(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """The best placed patterns, ``Δ_min ≥ ln(2(M − 1)/R)/β``: so many at least, by the lower bound on Δ_min. How many at most is not known by this:
    nearer patterns may be stored too."""
    patterns = setting.ensemble(energy)
    _plain(energy, setting)
    if not isinstance(patterns, Spherical) or dim < 2:
        raise Unmet(f"spherical codes are patterns on a sphere in two dimensions at least, not {patterns} in {dim}")
    cold = float(energy.beta) * patterns.radius**2

    def met(count: int) -> bool:
        return separating_beta(min(2.0, spherical_code_bounds(count, dim)[0]), count, setting.closeness) <= cold

    fewest = _largest(met)
    if fewest < 2:
        raise Unmet(f"the theorem on spherical codes guarantees no two patterns at β‖ξ‖² = {cold:.4g}")
    words = f"the best placed patterns, not random ones; at least so many within {setting.closeness:g} of their length after a step"
    yield grown(math.log(fewest), words, kind="theorem", success="ε-close", reference="Hu et al. 2024, arXiv 2410.23126")


def _largest(met: Callable[[int], bool]) -> int:
    """The largest count that meets a condition which more meet less: 1 where two do not."""
    low, high = 1, 2
    while met(high):
        if high >= 2**DOUBLINGS:
            return high
        low, high = high, 2 * high
    while high - low > max(1, low >> 40):
        middle = (low + high) // 2
        low, high = (middle, high) if met(middle) else (low, middle)
    return low


def _plain(energy: ReadEnergy, setting: Setting) -> None:
    """No null slot, no wrong bits in the query."""
    undamaged(setting)
    if has_null_slot(energy.scaling):
        raise Unmet("no theorem speaks of a null slot beside the patterns")
