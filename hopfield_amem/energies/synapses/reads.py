"""Synapses whose energy is a read energy without its confinement: a dense memory in one group, attention between the rows of groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..read import ReadEnergy, as_amount
from ..scalings.level import Level
from ..scalings.presence import has_slot
from ..scalings.scaling import Log, Sum, homogeneity, is_exponential
from ..scalings.simplex import Simplex
from ..scalings.subsets import TopK
from ..separations.separation import Power
from ..similarities.similarity import Dot
from ..spec import scaled
from .base import Synapse, held, met, sized


@dataclass(frozen=True, eq=False)
class Dense(Synapse):
    """``E = −Σ_rows Q[Σ_μ F(β S(g, ξ_μ))]/β``: a memory of the rows of a group, its hidden neurons left out (Krotov & Hopfield 2021, arXiv 2008.06996).

    Args:
        keys: ξ (slots, d).
        energy: S, F, Q and β; its confinement is not used, because the neurons confine.

    Shapes: (..., d) -> (...), one energy per row.
    """

    keys: Tensor
    energy: ReadEnergy

    def __post_init__(self):
        held(self.keys, "Dense(keys)")
        _reads(self.energy, "Dense")
        if self.keys.ndim != 2:
            raise ValueError(f"The memories of a dense synapse have the shape (slots, d), got {sized(self.keys)}.")

    def __call__(self, activation):
        return interaction(self.energy, activation.unsqueeze(-2), self.keys.to(activation.dtype)).squeeze(-1)

    def energy_and_currents(self, activation):
        if not self.energy.similarity.inner:
            return super().energy_and_currents(activation)
        row, keys = activation.unsqueeze(-2), self.keys.to(activation.dtype)
        degree = homogeneity(self.energy.scaling, self.energy.separation) if self.energy.similarity == Dot() else None
        if degree is not None:  # g·∂E/∂g = n E (Euler)
            weights = self.energy.scaling.weights(self.energy.separation, self.energy.scores(row, keys), None)
            current = (weights @ keys).squeeze(-2)
            return met(current, activation, 1) / -degree, (current,)
        energy, weights = interaction_and_weights(self.energy, row, keys)
        force = self.energy.similarity.force(row, *self.energy.similarity.pull(weights, keys))
        return energy.squeeze(-1), (force.squeeze(-2),)

    def check(self, *shapes):
        if len(shapes) != 1 or shapes[0][-1] != self.keys.shape[-1]:
            raise ValueError(f"Dense acts on one group whose rows are as wide as its memories {sized(self.keys)}; got {shapes}.")
        if isinstance(self.energy.beta, Tensor) and self.energy.beta.numel() != 1:
            raise ValueError(f"The β of a dense synapse is one number, got a tensor {sized(self.energy.beta)}.")

    def degree(self, moving):
        return growth(self.energy, 1) if any(moving) else 0

    @property
    def quadratic(self) -> bool:
        return self.energy.similarity == Dot() and isinstance(self.energy.scaling, Sum) and self.energy.separation == Power(2)

    def __str__(self) -> str:
        return f"{_formula(self.energy)}, x = a, ξ {sized(self.keys)}"


@dataclass(frozen=True, eq=False)
class Attention(Synapse):
    """``E = −Σ_h Σ_i Q[Σ_j F(β_h S(W_q a_i, W_k b_j))]/β_h``: every row of one group among the rows of another, or of its own.

    The attention of the Energy Transformer (Hoover et al. 2023, arXiv 2302.07253, eq. 3), with any read energy. Queries feel a pull, and so do keys.

    Args:
        query: W_q (heads, e, d of a).
        keys: W_k (heads, e, d of b).
        energy: S, F, Q and β (a number, or one per head); its confinement is not used, because the neurons confine.
        presence: which rows j a row i sees, True or an amount in [0, 1], broadcastable to (..., heads, rows of a, rows of b). None: all of them. In the paper
            no row sees itself: ``~torch.eye(rows, dtype=torch.bool)``. A row that sees nothing has no energy.

    Shapes: (..., n, d) and optionally (..., m, d) -> (...). Of one group alone, its rows attend to each other.
    """

    query: Tensor
    keys: Tensor
    energy: ReadEnergy
    presence: Tensor | None = None

    def __post_init__(self):
        held(self.query, "Attention(query)")
        held(self.keys, "Attention(keys)")
        _reads(self.energy, "Attention")
        beta = self.energy.beta
        if isinstance(beta, Tensor) and beta.numel() != 1 and tuple(beta.shape) != tuple(self.query.shape[:1]):
            raise ValueError(f"The β of attention is one number, or one per head ({len(self.query)},), got a tensor {sized(beta)}.")
        if self.query.ndim != 3 or self.keys.ndim != 3 or self.query.shape[:2] != self.keys.shape[:2]:
            raise ValueError(f"Attention takes weights (heads, e, d) of one number of heads and width e, got {sized(self.query)} and {sized(self.keys)}.")

    def __call__(self, *activations):
        _, query, keys = self._headed(activations)
        return interaction(self.energy, query, keys, self.presence).sum((-2, -1))

    def energy_and_currents(self, *activations):
        if self.energy.similarity != Dot():
            return super().energy_and_currents(*activations)
        weights, query, keys = self._headed(activations)
        energy, seen = interaction_and_weights(self.energy, query, keys, self.presence)
        currents = [pulled.transpose(-3, -2).flatten(-2) @ weight for pulled, weight in zip((seen @ keys, seen.mT @ query), weights, strict=True)]
        return energy.sum((-2, -1)), tuple(currents) if len(activations) == 2 else (currents[0] + currents[1],)

    def _headed(self, activations: tuple[Tensor, ...]) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Both weights as matrices, queries and keys of every head (..., heads, n, e)."""
        dtype, heads = activations[0].dtype, len(self.query)
        weights = self.query.to(dtype).flatten(0, 1), self.keys.to(dtype).flatten(0, 1)
        parts = [(g @ w.mT).unflatten(-1, (heads, -1)).transpose(-3, -2) for g, w in zip((activations[0], activations[-1]), weights, strict=True)]
        return weights, parts[0], parts[1]

    def check(self, *shapes):
        widths = self.query.shape[-1], self.keys.shape[-1]
        groups = (shapes[0], shapes[-1])
        if len(shapes) not in (1, 2) or any(len(shape) != 2 for shape in shapes) or any(s[-1] != w for s, w in zip(groups, widths, strict=True)):
            raise ValueError(f"Attention connects one or two groups of rows (n, {widths[0]}) and (m, {widths[1]}), as wide as its weights; got {shapes}.")
        scores = (len(self.query), groups[0][0], groups[1][0])
        if self.presence is not None and any(p not in (1, s) for p, s in zip(self.presence.shape[::-1], scores[::-1], strict=False)):
            raise ValueError(f"The presence of attention broadcasts to (..., heads, rows, rows) = (..., {str(scores)[1:]}, got {sized(self.presence)}.")

    def degree(self, moving):
        return growth(self.energy, 2 * any(moving) if len(moving) == 1 else sum(moving))

    def __str__(self) -> str:
        return f"{_formula(self.energy)}, x = W_q a, ξ = W_k b, {len(self.query)} heads"


def interaction(energy: ReadEnergy, state: Tensor, keys: Tensor, presence: Tensor | None = None) -> Tensor:
    """``−Q[Σ F(β S)]/β`` of every query, the energy without its confinement; 0 where there is no slot. (..., q, d), (..., n, d) -> (..., q)"""
    score, presence = energy.scores(state, keys), as_amount(presence, state)
    return _per_query(energy, energy.scaling.value(energy.separation, score, presence), score, presence)


def interaction_and_weights(energy: ReadEnergy, state: Tensor, keys: Tensor, presence: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``−Q[Σ F(β S)]/β`` of every query, and the weights ``p = ∂Q/∂score``. -> (..., q), (..., q, n)"""
    score, presence = energy.scores(state, keys), as_amount(presence, state)
    value, weights = energy.scaling.value_and_weights(energy.separation, score, presence)
    return _per_query(energy, value, score, presence), weights


def growth(energy: ReadEnergy, roles: int) -> float | None:
    """The power of the norm of a state with which ``Q[ΣF(βS)]/β`` grows at most, where scores are products of so many states; None: not known."""
    if energy.similarity.highest < math.inf or not roles:
        return 0.0  # distances: F rises with the score, which has a highest value
    if not isinstance(energy.similarity, Dot):
        return None
    scaling = energy.scaling.within if isinstance(energy.scaling, TopK) else energy.scaling
    order = checks.growth(energy)[0]
    if isinstance(scaling, Sum):
        return roles * max(1.0, order)
    linear = is_exponential(energy.separation) or isinstance(scaling, (Simplex, Level)) or (isinstance(scaling, Log) and order < math.inf)
    return float(roles) if linear else None


def _per_query(energy: ReadEnergy, value: Tensor, score: Tensor, presence: Tensor | None) -> Tensor:
    value = value if presence is None else torch.where(has_slot(score, presence), value, 0.0)
    return -value / energy.inverse_temperature(1, score)


def _reads(energy: ReadEnergy, name: str) -> None:
    if not isinstance(energy, ReadEnergy):
        raise ValueError(f"{name} takes a ReadEnergy, for example presets.log_sum_exp(beta), got {energy!r}.")


def _formula(energy: ReadEnergy) -> str:
    scale, over = scaled(energy.beta)
    return f"−{energy.scaling.formula(energy.separation.formula, energy.similarity.formula(scale))}{over}"
