"""What is known of a memory's capacity: theorems, registered by the types of an energy's factors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from ...energies import Confinement, Hypercube, ReadEnergy, Scaling, Separation, Similarity
from ...energies.separations.separation import require
from ..estimate import SUCCESSES, Estimate
from .ensembles import Ensemble
from .given import as_ensemble

LARGEST = 700.0  # logarithm of the largest number that is written out
ASYMPTOTIC = "asymptotic, d → ∞"  # of laws that say nothing of how large d must be: heuristics at any d that is given


class NoKnownBound(ValueError):
    """No theorem speaks of this energy in this setting. Prints the reason and the two other routes.

    Args:
        reason: why, in words.
        dim: the width that was asked for.
    """

    def __init__(self, reason: str, dim: int):
        super().__init__(reason, dim)
        self.reason, self.dim = reason, dim

    def __str__(self) -> str:
        return (
            f"No known bound: {self.reason}. Two other routes: crosstalk(energy, {self.dim}) estimates the capacity of any energy made of factors, "
            f"and measure(energy, {self.dim}) measures that of anything that retrieves."
        )


class Unmet(ValueError):
    """Raised by a theorem whose conditions do not hold, with the reason."""


@dataclass(frozen=True)
class Setting:
    """What theorems ask for, beside an energy and a dimension.

    Args:
        patterns: "binary", "spherical", "gaussian", or an ``Ensemble``. None: bits on the hypercube, unit vectors elsewhere.
        bit_error: tolerated share of wrong bits, in (0, ½), for success "one bit".
        failure: tolerated probability that the theorem's statement fails, in (0, 1).
        closeness: tolerated distance of a recalled state, in units of the pattern's length.
        flips: share of bits that a query has wrong, in [0, ½). Statements about stored patterns alone say nothing above 0.
        heads, head_dim: of an attention layer; width: hidden units of a feed-forward block. None where there is none.

    Raises:
        ValueError: numbers out of range.
    """

    patterns: Ensemble | str | None = None
    bit_error: float = 0.01
    failure: float = 0.001
    closeness: float = 0.1
    _: KW_ONLY
    flips: float = 0.0
    heads: int | None = None
    head_dim: int | None = None
    width: int | None = None

    def __post_init__(self):
        if self.patterns is not None:
            object.__setattr__(self, "patterns", as_ensemble(self.patterns))
        require(0 < self.bit_error < 0.5, f"bit_error must lie in (0, ½), got {self.bit_error!r}.")
        require(0 < self.failure < 1, f"failure must lie in (0, 1), got {self.failure!r}.")
        require(0 < self.closeness < math.inf, f"closeness must be positive and finite, got {self.closeness!r}.")
        require(0 <= self.flips < 0.5, f"flips must lie in [0, ½), got {self.flips!r}.")
        for name in ("heads", "head_dim", "width"):
            count = getattr(self, name)
            require(count is None or (isinstance(count, int) and count >= 1), f"{name} must be an integer of at least 1, or None; got {count!r}.")

    def ensemble(self, energy: ReadEnergy) -> Ensemble:
        """The patterns meant, for this energy."""
        natural = "binary" if isinstance(energy.confinement, Hypercube) else "spherical"
        return as_ensemble(natural if self.patterns is None else self.patterns)


Statement = Callable[[ReadEnergy, int, Setting], Iterable[Estimate]]
Types = type | tuple[type, ...]


@dataclass(frozen=True)
class Theorem:
    """A statement, and the types of the factors S, F, Q and C that it is about."""

    factors: tuple[Types, Types, Types, Types]
    statement: Statement

    def concerns(self, energy: ReadEnergy) -> bool:
        """Whether the energy's factors are of these types."""
        given = (energy.similarity, energy.separation, energy.scaling, energy.confinement)
        return all(isinstance(factor, kind) for factor, kind in zip(given, self.factors, strict=True))


THEOREMS: list[Theorem] = []


def theorem(
    *, similarity: Types = Similarity, separation: Types = Separation, scaling: Types = Scaling, confinement: Types = Confinement
) -> Callable[[Statement], Statement]:
    """Register ``statement(energy, dim, setting) -> Estimates`` for energies whose factors are of these types.

    The statement checks what types do not say (degrees, null slots, patterns, dimensions), and raises ``Unmet`` with the reason where a condition fails.
    """

    def registered(statement: Statement) -> Statement:
        THEOREMS.append(Theorem((similarity, separation, scaling, confinement), statement))
        return statement

    return registered


def bound(energy: ReadEnergy, dim: int, *, success: str | None = None, setting: Setting | None = None) -> list[Estimate]:
    """What theorems and laws say of how many patterns of width ``dim`` a memory with this energy holds.

    Args:
        energy: S, F, Q and C, β included.
        dim: width of the patterns.
        success: one of ``SUCCESSES``; None returns what is known of any.
        setting: patterns, tolerances, and the shape of a layer.

    Returns:
        Every ``Estimate`` that holds, of kind "theorem" where it is proved with its constants and "heuristic" where it is a law of statistical physics, or
        asymptotic. More than one may hold.

    Raises:
        NoKnownBound: there is none; says why, and names the other two routes.
        ValueError, TypeError: a success that there is not, a width below 1, more than one β, a setting that is no ``Setting``.
    """
    if success is not None and success not in SUCCESSES:
        raise ValueError(f"success is one of {', '.join(map(repr, SUCCESSES))} or None, got {success!r}.")
    if not isinstance(dim, int) or dim < 1:
        raise ValueError(f"dim is the width of the patterns, an integer of at least 1, got {dim!r}.")
    if not isinstance(energy, ReadEnergy):
        raise NoKnownBound(f"theorems are registered by the factors of a ReadEnergy, and this is {energy!r}", dim)
    if isinstance(energy.beta, Tensor) and energy.beta.numel() != 1:
        raise ValueError(f"Bounds are for one inverse temperature, got {tuple(energy.beta.shape)} of them. Take one: energy.at(float(beta[0])).")
    setting = Setting() if setting is None else setting
    if not isinstance(setting, Setting):
        raise TypeError(f"A setting is Setting(patterns, bit_error, …), or None; got {setting!r}.")
    found, reasons = [], []
    for known in THEOREMS:
        if known.concerns(energy):
            try:
                found += known.statement(energy, dim, setting)
            except Unmet as reason:
                reasons.append(str(reason))
    wanted = [estimate for estimate in found if success in (None, estimate.success)]
    if wanted:
        return wanted
    if found:
        reasons.append(f"what is known is of {', '.join(sorted({repr(e.success) for e in found}))}, not of {success!r}")
    raise NoKnownBound("; ".join(dict.fromkeys(reasons)) or f"no theorem is registered for these factors ({energy})", dim)


def undamaged(setting: Setting) -> None:
    """Raise ``Unmet`` where the query has wrong bits: for statements about stored patterns that are asked for themselves."""
    if setting.flips > 0:
        raise Unmet(f"this is known of stored patterns that are asked for themselves, and {setting.flips:.3g} of the query's bits are wrong")


def grown(log_value: float, assumption: str, *, kind: str, success: str, reference: str) -> Estimate:
    """An estimate from its logarithm; inf where the number itself is too large for a float."""
    value = math.exp(log_value) if log_value < LARGEST else math.inf
    return Estimate(value, None, assumption, kind, success, reference, log_value)
