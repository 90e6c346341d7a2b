"""Where descents come to rest that is no stored pattern: metastable states that mix several, and spurious states."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...descent import Descent
from ...descent.loop import Energy
from ...energies import ReadEnergy, presets
from ...energies.separations.separation import require
from ...kernels import nearest
from ..association import CLASSES, metastable_class, metastable_size
from ..result import Result
from ..seeds import seeded
from .certificates import check_patterns
from .task import SCORES, Reading, of_bits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STARTS = 256
STORED, NEGATIVE, MIXTURE, OTHER = "a stored pattern", "the negative of one", "a mixture of three", "another state"


@dataclass(frozen=True, eq=False)
class Census(Result):
    """How many patterns are mixed where descents rest.

    Attributes:
        sizes: the fewest patterns that hold ``mass`` of the weight at every rest state, integer (starts,); 0 where none has weight.
        classes: of these sizes, 1 to 4 (``association.CLASSES``), 0 where none has weight.
        patterns: how many are stored.
        mass: share of the weight.
        states: where the descents rest, (starts, d).
    """

    sizes: Tensor
    classes: Tensor
    patterns: int
    mass: float
    states: Tensor

    def rows(self) -> list[dict]:
        sizes, counts = self.sizes.unique(return_counts=True)
        kinds = metastable_class(sizes, torch.full_like(sizes, self.patterns)).tolist()
        found = zip(sizes.tolist(), counts.tolist(), kinds, strict=True)
        return [{"mixed patterns": size, "descents": count, "class": CLASSES.get(kind, "no weight")} for size, count, kind in found]

    def plot(self) -> Figure:
        from ..plots.capacity import census

        return census(self)


@torch.no_grad()
def metastable_census(energy: ReadEnergy, patterns: Tensor, start: Tensor | None = None, *, descent: Descent | None = None, mass: float = 0.9) -> Census:
    """How many stored patterns the weights mix where descents from ``start`` come to rest (Ramsauer et al. 2020, arXiv 2008.02217, section 4).

    Args:
        energy: what is descended.
        patterns: stored (n, d).
        start: (starts, d); None: the stored patterns themselves. Random starts find what lies between them.
        descent: as in ``basin_radius``.
        mass: share of the weight that the mixed patterns hold together, in (0, 1].

    Raises:
        ValueError, TypeError: no patterns, NaN or Inf in them, shapes that do not fit, a mass out of range.
    """
    check_patterns(patterns)
    start = patterns if start is None else start
    check_patterns(start)
    require(start.shape[1] == patterns.shape[1], f"Starts and patterns must share their width, got {tuple(start.shape)} and {tuple(patterns.shape)}.")
    states = Reading(energy, descent)(start.unsqueeze(0), patterns.unsqueeze(0))[0]
    rows = max(1, SCORES // len(patterns))
    sizes = torch.cat([metastable_size(energy.weights(part, patterns), mass) for part in states.split(rows)])
    return Census(sizes, metastable_class(sizes, torch.full_like(sizes, len(patterns))), len(patterns), mass, states)


@dataclass(frozen=True, eq=False)
class SpuriousStates(Result):
    """Rest states that are no stored pattern, nor the negative of one.

    Attributes:
        states: distinct ones, most frequent first, (states, d).
        counts: how many descents rest at each, (states,).
        mixtures: for each the three patterns it is the classical mixture of, ``sign(±ξ_a ± ξ_b ± ξ_c)``, as (index, sign) pairs; None for others.
        shares: where descents rest, in words -> share of them.
    """

    states: Tensor
    counts: Tensor
    mixtures: tuple[tuple[tuple[int, int], ...] | None, ...]
    shares: dict[str, float]

    def rows(self) -> list[dict]:
        names = [" ".join(f"{'+' if sign > 0 else '−'}ξ{index}" for index, sign in mixture) if mixture else OTHER for mixture in self.mixtures]
        return [{"state": i, "descents": count, "kind": name} for i, (count, name) in enumerate(zip(self.counts.tolist(), names, strict=True))]

    def plot(self) -> Figure:
        from ..plots.capacity import spurious

        return spurious(self)

    def __str__(self) -> str:
        shares = ", ".join(f"{share:.1%} {name}" for name, share in self.shares.items())
        return f"{len(self.states)} distinct spurious states; descents rest at: {shares}"


@torch.no_grad()
def spurious_states(
    energy: Energy, patterns: Tensor, start: Tensor | int = STARTS, *, descent: Descent | None = None, tolerance: float = 0.05, seed: int = 0
) -> SpuriousStates:
    """The distinct states at which descents rest and that are no stored pattern nor its negative; the classical mixtures of three are named.

    ``sign(±ξ_a ± ξ_b ± ξ_c)`` are rest states of Hopfield's network at low loads (Amit, Gutfreund & Sompolinsky 1985).

    Args:
        energy: what is descended; any ``E(state, memories)`` with a descent that follows it.
        patterns: stored (n, d); ±1 on the hypercube.
        start: states (starts, d), or how many random ones: random bits on the hypercube, normal vectors of the patterns' mean length elsewhere.
        descent: as in ``basin_radius``.
        tolerance: states nearer than this times the patterns' mean length are one.
        seed: of the random starts.

    Raises:
        ValueError, TypeError: no patterns, NaN or Inf in them, shapes that do not fit, a tolerance below 0 or without end.
    """
    check_patterns(patterns)
    require(0 <= tolerance < math.inf, f"The tolerance must be finite and at least 0, got {tolerance!r}.")
    start = _random(energy, patterns, start, seed) if isinstance(start, int) else start
    check_patterns(start)
    require(start.shape[1] == patterns.shape[1], f"Starts and patterns must share their width, got {tuple(start.shape)} and {tuple(patterns.shape)}.")
    rest = Reading(energy, descent)(start.unsqueeze(0), patterns.unsqueeze(0))[0]
    near = tolerance * float(patterns.norm(dim=-1).mean())
    stored, negative = (_to_nearest(sign * rest, patterns) <= near for sign in (1, -1))
    negative = negative & ~stored
    states, counts = _distinct(rest[~(stored | negative)], near)
    mixtures = tuple(_mixture(state, patterns) for state in states)
    mixed = sum(int(count) for count, mixture in zip(counts, mixtures, strict=True) if mixture)
    found = {STORED: int(stored.sum()), NEGATIVE: int(negative.sum()), MIXTURE: mixed, OTHER: int(counts.sum()) - mixed}
    return SpuriousStates(states, counts, mixtures, {name: count / len(rest) for name, count in found.items()})


def _random(energy: Energy, patterns: Tensor, count: int, seed: int) -> Tensor:
    require(count >= 1, f"At least one start is needed, got {count!r}.")
    start = torch.randn(count, patterns.shape[1], generator=seeded(seed, "starts of descents")).to(patterns)
    if of_bits(energy):
        return torch.where(start < 0, -1.0, 1.0)
    return start * (patterns.norm(dim=-1).mean() / patterns.shape[1] ** 0.5)


def _to_nearest(states: Tensor, patterns: Tensor) -> Tensor:
    """The distance of every state to the nearest pattern, of which only tiles are compared at once. (q, d), (n, d) -> (q,)"""
    index = nearest(presets.distance(), states, patterns, count=1)[1][:, 0]
    return (states - patterns[index]).norm(dim=-1)


def _distinct(states: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """One of each group of states that lie near to its first, and the sizes of the groups, largest first."""
    kept, counts = [], []
    while len(states):
        same = (states - states[0]).norm(dim=-1) <= near
        kept.append(states[same].mean(0) if near > 0 else states[0])
        counts.append(int(same.sum()))
        states = states[~same]
    if not kept:
        return states, torch.zeros(0, dtype=torch.long)
    order = torch.tensor(counts).argsort(descending=True, stable=True)
    return torch.stack(kept)[order], torch.tensor(counts)[order]


def _mixture(state: Tensor, patterns: Tensor) -> tuple[tuple[int, int], ...] | None:
    """The three patterns, and their signs, of which the state's signs are the majority's; None where no three of the most similar ones are."""
    overlap = patterns @ state
    likely = overlap.abs().topk(min(5, len(patterns))).indices
    for three in itertools.combinations(likely.tolist(), 3):
        signs = overlap[list(three)].sign()
        if bool(((signs @ patterns[list(three)]).sign() == state.sign()).all()):
            return tuple(sorted((index, int(sign)) for index, sign in zip(three, signs.tolist(), strict=True)))
    return None
