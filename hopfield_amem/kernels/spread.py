"""``Simplex`` reads whose slots lie in several places (ranks, pieces of a file): one threshold τ for all of them.

``Σ p v`` with ``p = F′(s − τ)`` is a ``Sum`` read of shifted scores. So every place reads its own slots in bounded memory, and places only ever exchange
sums: the largest score once, ``Σ F′`` and ``Σ F″`` at every step of the search for τ, and at last what is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..energies import ReadEnergy, Sum
from ..energies.confinement import Quadratic
from ..energies.read import as_amount
from ..energies.scalings.presence import kept
from ..energies.scalings.threshold import anchor, doubled, root
from ..energies.separations.separation import Separation
from ..energies.separations.tsallis import Tsallis
from ..energies.similarities.similarity import Similarity
from .chunked import Chunked
from .gates import Gates
from .rows import fitting


@dataclass(frozen=True)
class Part:
    """The slots of one place: keys (..., n, d), values (..., n, v) or none, and what stands before them."""

    keys: Tensor
    values: Tensor | None = None
    gates: Gates = Gates()


class Spread:
    """Slots in several places. A subclass says which parts there are, and how what is measured of them comes together."""

    def highest(self, measure: Callable[[Part], Tensor]) -> Tensor:
        """The elementwise largest of a measure over all parts."""
        raise NotImplementedError

    def total(self, measure: Callable[..., Tensor], *given: Tensor) -> Tensor:
        """The sum over all parts of ``measure(part, *given)``; gradients reach what is given, and the parts."""
        raise NotImplementedError


@dataclass(frozen=True)
class Lowered(Similarity):
    """``S(x, ξ) − t − u`` for states (x, t, u)."""

    within: Similarity

    @property
    def inner(self) -> bool:  # type: ignore[override]
        return self.within.inner

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        return self.within(state[..., :-2], keys) - state[..., -2:-1] - state[..., -1:]

    def lift_state(self, state: Tensor) -> Tensor:
        return torch.cat([self.within.lift_state(state[..., :-2]), -state[..., -2:]], -1)

    def lift_keys(self, keys: Tensor) -> Tensor:
        ones = torch.ones_like(keys[..., :1])
        return torch.cat([self.within.lift_keys(keys), ones, ones], -1)

    def origin(self, keys: Tensor) -> Tensor | None:
        return self.within.origin(keys)


@dataclass(frozen=True)
class Slope(Separation):
    """F′ as a separation: its sum is ``Σ F′``, its weights are F″."""

    of: Separation

    def __call__(self, score: Tensor) -> Tensor:
        return self.of.slope(score)

    def slope(self, score: Tensor) -> Tensor:
        return self.of.curvature(score)


class _Below(Chunked):
    """``Sum`` reads of one part, of scores above τ = top + distance. States come as (x, top/β, distance/β)."""

    def __init__(self, energy: ReadEnergy, separation: Separation, part: Part, beta: Tensor | None = None):
        lowered = ReadEnergy(Lowered(energy.similarity), separation, Sum(), Quadratic(), energy.beta if beta is None else beta)
        super().__init__(lowered, part.keys, part.gates)
        self.dim = part.keys.shape[-1] + (0 if energy.similarity.inner else 2)  # of states, where they are not lifted

    def centred(self, state: Tensor) -> Tensor:
        return state if self.origin is None else torch.cat([state[..., :-2] - self.origin, state[..., -2:]], -1)


def threshold(energy: ReadEnergy, state: Tensor, spread: Spread) -> tuple[Tensor, Tensor]:
    """τ of every query as a top score and the distance from it (..., q, 2), and which queries have a slot (..., q).

    The distance carries the derivative of τ, by one differentiable Newton step at the solution.
    """
    separation = energy.separation
    with torch.no_grad():
        edge = spread.highest(lambda part: _edges(energy, state, part))
        alive = edge[..., 0] > -math.inf
        top, lone = torch.where(alive.unsqueeze(-1), edge, 0.0).unbind(-1)
        bend = torch.zeros_like(top)

        def sums(distance: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal bend
            both = spread.total(partial(_mass_and_bend, energy), *_lowered(energy, state, torch.stack([top, distance], -1)))
            mass, bend = torch.where(alive.unsqueeze(-1), both, 0.0).unbind(-1)
            return mass, bend

        if isinstance(separation, Tsallis):
            slack = torch.where(lone < top, 4 * torch.finfo(top.dtype).eps * (1 + top.abs() + lone.abs()), 0.0)  # differences of large scores are rounded
            low, high = lone - top - slack, torch.where(alive, separation.reach, 0.0)
        else:
            low, high = (doubled(sums, ~alive, torch.zeros_like(top), direction=direction) for direction in (-1.0, 1.0))
        distance = root(separation, sums, torch.where(alive, low, 0.0), high)
    if torch.is_grad_enabled():
        with torch.no_grad():
            sums(distance)  # F″ at the root itself
        mass = spread.total(partial(_mass, energy), *_lowered(energy, state, torch.stack([top, distance], -1)))
        curved = alive & (bend > 0)
        distance = distance + torch.where(curved, (mass.squeeze(-1) - 1) / torch.where(curved, bend, 1.0), 0.0)
    return torch.stack([top, distance], -1), alive


def averages(energy: ReadEnergy, state: Tensor, tau: Tensor, spread: Spread) -> Tensor:
    """``Σ p v`` over all parts, ``Σ p ξ`` where they have no values. -> (..., q, v) or (..., q, d)"""

    return spread.total(partial(_averages, energy), *_lowered(energy, state, tau))


def value(energy: ReadEnergy, state: Tensor, tau: Tensor, spread: Spread) -> Tensor:
    """``Q = τ + Σ F(s − τ)`` of every query that has a slot; by the envelope theorem its gradient needs none of τ."""
    tau = tau.detach()
    return tau.sum(-1) + spread.total(partial(_value, energy), *_lowered(energy, state, tau)).squeeze(-1)


def _lowered(energy: ReadEnergy, state: Tensor, tau: Tensor) -> tuple[Tensor, ...]:
    """States beside their τ in units of the similarity, (..., q, d + 2), and β where it is a tensor: what every part is given."""
    tau = tau / energy.inverse_temperature(2, state)
    lead = torch.broadcast_shapes(state.shape[:-2], tau.shape[:-2])
    at = torch.cat([state.expand(*lead, *state.shape[-2:]), tau.expand(*lead, *tau.shape[-2:])], -1)
    return (at, energy.beta) if isinstance(energy.beta, Tensor) else (at,)


def _averages(energy: ReadEnergy, part: Part, at: Tensor, *beta: Tensor) -> Tensor:
    values = part.values
    if values is None:
        values = part.keys if energy.similarity.massive else energy.similarity.lift_keys(part.keys)[..., : part.keys.shape[-1]]
    return _Below(energy, energy.separation, part, *beta).stream(at, values)[0]


def _value(energy: ReadEnergy, part: Part, at: Tensor, *beta: Tensor) -> Tensor:
    return _Below(energy, energy.separation, part, *beta).stream(at, torch.zeros_like(part.keys[..., :1]), value=True)[1].unsqueeze(-1)


def _mass(energy: ReadEnergy, part: Part, at: Tensor, *beta: Tensor) -> Tensor:
    return _Below(energy, energy.separation, part, *beta).stream(at, torch.ones_like(part.keys[..., :1]))[0]


def _mass_and_bend(energy: ReadEnergy, part: Part, at: Tensor, *beta: Tensor) -> Tensor:
    """``Σ F′`` and ``Σ F″`` of a part, (..., q, 2)"""
    bend, mass, _ = _Below(energy, Slope(energy.separation), part, *beta).stream(at, torch.ones_like(part.keys[..., :1]), value=True)
    return torch.cat([mass.unsqueeze(-1), bend], -1)


def _edges(energy: ReadEnergy, state: Tensor, part: Part) -> Tensor:
    """Per query the largest score of a part, and the largest τ that one slot alone would have: (..., q, 2), −∞ without a slot."""
    keys, gates, slots = part.keys, part.gates, part.keys.shape[-2]
    lead = torch.broadcast_shapes(state.shape[:-2], keys.shape[:-2])
    best = state.new_full((*lead, state.shape[-2], 2), -math.inf)
    presence = as_amount(gates.presence, state)
    width = fitting(math.prod(lead) * state.shape[-2] * (1 if energy.similarity.inner else state.shape[-1]))
    for j in range(0, slots, width):
        score = energy.scores(state, keys[..., j : j + width, :], None if gates.bias is None else gates.bias[..., j : j + width])
        gate = presence if presence is None or presence.shape[-1] == 1 else presence[..., j : j + width]
        present = None if gate is None else gate.to(score.dtype).expand(score.shape)
        lone = anchor(energy.separation, score, present) if isinstance(energy.separation, Tsallis) else score
        found = torch.stack([kept(score, present, -math.inf).amax(-1), kept(lone, present, -math.inf).amax(-1)], -1)
        best = torch.maximum(best, found)
    return best


def searched(energy: ReadEnergy) -> bool:
    """Whether an energy's weights need a threshold that depends on all slots, and this search finds it."""
    from .rule import Rule

    return Rule(energy.similarity, energy.separation, energy.scaling).thresholded
