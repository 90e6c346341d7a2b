"""What guards each stored pattern: how far it is from the others, and how much damage it bears."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...descent import Descent
from ...descent.certificate import softmax_error
from ...descent.loop import Energy
from ...energies import checks, presets
from ...energies.separations.separation import require
from ...kernels import nearest
from ..result import Result
from ..seeds import seeded
from .exponential import storing_separation
from .task import Reading, of_bits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALVINGS = 12  # of a distance, which leaves one part in four thousand


@dataclass(frozen=True, eq=False)
class Separation(Result):
    """How well every pattern is separated from the others, for log-sum-exp.

    Attributes:
        delta: ``Δ_i = min_j (ξ_i·ξ_i − ξ_i·ξ_j)``, (n,); inf for a single pattern.
        threshold: Δ from which on a pattern is stored, ``2/(βN) + ln(2(N − 1)NβM²)/β`` with M the largest length.
        stored: Δ_i ≥ threshold, and no pattern as near as 2/(βNM), boolean (n,): then a fixed point lies in the ball of radius 1/(βNM) around the pattern,
            which meets no other pattern's (Ramsauer et al. 2020, arXiv 2008.02217, Definition 1 and Theorem 4).
        error: bound on how far one step moves a state from its pattern, (n,): at most ``2M(N − 1) exp(−βΔ_i)``.
    """

    delta: Tensor
    threshold: float
    stored: Tensor
    error: Tensor

    def rows(self) -> list[dict]:
        columns = zip(self.delta.tolist(), self.stored.tolist(), self.error.tolist(), strict=True)
        return [{"pattern": i, "separation": d, "threshold": self.threshold, "stored": s, "error bound": e} for i, (d, s, e) in enumerate(columns)]

    def plot(self) -> Figure:
        from ..plots.capacity import separation as drawn

        return drawn(self)

    def __str__(self) -> str:
        worst, share = float(self.delta.min()), float(self.stored.double().mean())
        return f"{share:.0%} of {len(self.delta)} patterns certainly stored; least separation {worst:.4g}, threshold {self.threshold:.4g}"


@torch.no_grad()
def separation(patterns: Tensor, beta: float) -> Separation:
    """How well patterns (n, d) are separated, and which of them ``log_sum_exp(beta)`` certainly stores. Memory grows with n, not with n².

    Raises:
        ValueError, TypeError: no patterns, NaN or Inf in them, β that is not positive.
    """
    check_patterns(patterns)
    checks.inverse_temperature(beta)
    count = len(patterns)
    square = patterns.square().sum(-1)
    radius = square.max().sqrt()
    best, index = nearest(presets.log_sum_exp(beta), patterns, patterns, count=2)
    if count == 1:
        none = torch.zeros_like(square)
        return Separation(none + math.inf, -math.inf, none == 0, none)
    other = torch.where(index[:, 0] == torch.arange(count, device=index.device), best[:, 1], best[:, 0])
    delta = square - other
    threshold = storing_separation(beta, math.log(count), float(radius))
    apart = _nearest_other(patterns) > 2 / (beta * count * max(float(radius), 1e-300))
    return Separation(delta, threshold, (delta >= threshold) & apart, softmax_error(beta * delta, count - 1, radius))


def _nearest_other(patterns: Tensor) -> Tensor:
    """The distance of every pattern to the nearest other. (n, d) -> (n,)"""
    index = nearest(presets.distance(), patterns, patterns, count=2)[1]
    own = torch.arange(len(patterns), device=index.device)
    other = torch.where(index[:, 0] == own, index[:, 1], index[:, 0])
    return (patterns - patterns[other]).norm(dim=-1)


@dataclass(frozen=True, eq=False)
class Basins(Result):
    """How much damage each stored pattern bears.

    Attributes:
        radius: the largest damage that is recovered, (n, directions), by bisection: 0 where not even the pattern itself comes back, ``largest`` where all that
            was tried does.
        unit: what damage is counted in.
        largest: the largest damage that was tried.
    """

    radius: Tensor
    unit: str
    largest: float

    def rows(self) -> list[dict]:
        found = zip(self.radius.mean(-1).tolist(), self.radius.amin(-1).tolist(), self.radius.amax(-1).tolist(), strict=True)
        return [{"pattern": i, "mean radius": mean, "least": low, "greatest": high} for i, (mean, low, high) in enumerate(found)]

    def plot(self) -> Figure:
        from ..plots.capacity import basins

        return basins(self)

    def __str__(self) -> str:
        mean, least = float(self.radius.mean()), float(self.radius.min())
        return f"{len(self.radius)} patterns, {self.radius.shape[1]} directions each: radius {mean:.3g} on average, {least:.3g} at least ({self.unit})"


@torch.no_grad()
def basin_radius(energy: Energy, patterns: Tensor, *, descent: Descent | None = None, directions: int = 8, tolerance: float = 0.1, seed: int = 0) -> Basins:
    """The largest damage from which a descent brings every stored pattern back, along random directions.

    On the hypercube damage is the share of bits that are wrong, along a random order of the bits, up to ½. Elsewhere it is a shift along a random unit vector,
    in units of the pattern's length, up to 2. Bisected under the assumption that along a direction less damage is recovered where more is.

    Args:
        energy: what is descended; any ``E(state, memories)`` with a descent that follows it.
        patterns: stored (n, d); ±1 on the hypercube.
        descent: None: spin by spin on the hypercube, elsewhere ``FixedPoint`` of at most 50 steps.
        directions: random ones per pattern.
        tolerance: ``‖x − ξ‖ ≤ tolerance · ‖ξ‖`` counts as back.
        seed: of the directions.

    Raises:
        ValueError, TypeError: no patterns, NaN or Inf in them, numbers out of range.
    """
    check_patterns(patterns)
    require(isinstance(directions, int) and directions >= 1, f"directions counts random directions, at least 1; got {directions!r}.")
    require(0 < tolerance < math.inf, f"The tolerance must be positive and finite, got {tolerance!r}.")
    generator = seeded(seed, "directions of damage")
    shape = (len(patterns), directions, patterns.shape[1])
    binary = of_bits(energy)
    damaged = _flipped(patterns, shape, generator) if binary else _shifted(patterns, shape, generator)
    read, length = Reading(energy, descent), patterns.norm(dim=-1).unsqueeze(-1)

    def back(amount: Tensor) -> Tensor:
        state = read(damaged(amount).reshape(1, -1, shape[-1]), patterns.unsqueeze(0)).reshape(shape)
        return (state - patterns.unsqueeze(1)).norm(dim=-1) <= tolerance * length

    largest, unit = (0.5, "share of wrong bits") if binary else (2.0, "distance / length of the pattern")
    radius = _bisected(back, patterns.new_zeros(shape[:2]), largest)
    if binary:  # what so many whole bits are
        radius = (radius * shape[-1] + 1e-6).floor() / shape[-1]
    return Basins(radius, unit, largest)


def _bisected(back: Callable[[Tensor], Tensor], none: Tensor, largest: float) -> Tensor:
    """The largest amount that is borne, each entry on its own."""
    alive, all_of_it = back(none), back(none + largest)
    low, high = none, none + largest
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        borne = back(middle)
        low, high = torch.where(borne, middle, low), torch.where(borne, high, middle)
    return torch.where(alive, torch.where(all_of_it, none + largest, low), 0.0)


def _flipped(patterns: Tensor, shape: tuple[int, int, int], generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Patterns whose first bits, in a random order, are turned: as many as a share of all comes to."""
    place = torch.rand(shape, generator=generator).argsort(-1).argsort(-1).to(patterns.device)
    return lambda share: torch.where(place < (share * shape[-1] + 1e-6).floor().unsqueeze(-1), -patterns.unsqueeze(1), patterns.unsqueeze(1))


def _shifted(patterns: Tensor, shape: tuple[int, int, int], generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Patterns shifted by so many of their lengths."""
    way = normalize(torch.randn(shape, generator=generator), dim=-1).to(patterns) * patterns.norm(dim=-1)[:, None, None]
    return lambda amount: patterns.unsqueeze(1) + amount.unsqueeze(-1) * way


def check_patterns(patterns: Tensor) -> None:
    """Raise unless these are stored patterns (n, d)."""
    checks.floating("patterns", patterns)
    if patterns.ndim != 2 or len(patterns) == 0:
        raise ValueError(f"Stored patterns are rows (n, d), at least one; got shape {tuple(patterns.shape)}.")
    if not bool(patterns.isfinite().all()):
        raise ValueError("The patterns hold NaN or Inf. Remove or repair such rows first.")
