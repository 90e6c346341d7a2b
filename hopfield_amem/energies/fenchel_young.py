"""Hopfield–Fenchel–Young energies with their constants (Santos et al. 2024, arXiv 2402.13725 and 2411.08590).

A scaling whose weights lie in a polytope is a conjugate, ``Q(s) = max_y s·y − Ω(y)``, and its Fenchel–Young loss against the weights ``u`` of equal
scores (1/N each for softmax, entmax and normmax, k/N for k-subsets) is ``L_Ω(s; u) = Q(s) + Ω(u) − s·u`` with ``Ω(u) = −Q(0)``. Then

    E(x) = −L_Ω(βΞx; u)/β + ½‖x − μ‖² + ½(M² − ‖μ‖²) = ½‖x‖² − Q(βΞx)/β + ½M² + Q(0)/β,    μ = Σ u ξ,

which is the energy of this library plus a constant, and never negative. For softmax the constant is Ramsauer et al.'s ``log N/β + ½M²``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .confinement import Quadratic
from .read import ReadEnergy, as_amount
from .scalings.level import Level
from .scalings.presence import has_slot
from .scalings.scaling import Log
from .scalings.simplex import Simplex
from .scalings.subsets import SequentialSubsets
from .separations.separation import require
from .similarities.similarity import Dot


def fenchel_young_loss(energy: ReadEnergy, state: Tensor, keys: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """``L_Ω(βS; u) = Q(βS) − Q(0) − βS·u``: how far the scores are from saying nothing. ≥ 0, and 0 at equal scores. (..., q, d), (..., n, d) -> (..., q)

    Raises:
        ValueError: an energy whose weights do not lie in a polytope (``Sum``, an empty slot, ``Log`` of anything but ``Exp``).
    """
    _check(energy)
    score, gate = energy.scores(state, keys), as_amount(presence, state)
    level, uniform = _indifferent(energy, score, gate)
    gained = energy.scaling.value(energy.separation, score, gate) - level - (score * uniform).sum(-1)
    return torch.where(has_slot(score, gate), gained, 0.0)  # without a slot there is nothing to say


def fenchel_young_energy(energy: ReadEnergy, state: Tensor, keys: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """``E(x) + ½M² + Q(0)/β ≥ 0``, with M the largest norm that the weights can read, at most ``Σp · max ‖ξ‖``. (..., q, d), (..., n, d) -> (..., q)

    Raises:
        ValueError: as for ``fenchel_young_loss``; a similarity other than ``Dot`` or a confinement other than ``Quadratic``.
    """
    _check(energy)
    require(
        isinstance(energy.similarity, Dot) and isinstance(energy.confinement, Quadratic),
        f"The constants of Hopfield–Fenchel–Young energies belong to Dot with Quadratic, got {energy}. The loss alone is fenchel_young_loss.",
    )
    require(keys.shape[-2] > 0, "A memory without slots has no Fenchel–Young energy.")
    gate = as_amount(presence, state)
    level, uniform = _indifferent(energy, energy.scores(state, keys), gate)
    norm = keys.norm(dim=-1).unsqueeze(-2).expand(uniform.shape)
    norm = norm if gate is None else torch.where(gate > 0, norm, 0.0)
    longest = uniform.sum(-1) * norm.amax(-1)
    value = energy(state, keys, presence=presence) + 0.5 * longest.square() + level / energy.inverse_temperature(1, state)
    return torch.where(has_slot(uniform, gate), value, energy.confinement(state))


def _indifferent(energy: ReadEnergy, score: Tensor, gate: Tensor | None) -> tuple[Tensor, Tensor]:
    """Q and the weights at scores that are all zero."""
    zero = torch.zeros_like(score)
    return energy.scaling.value(energy.separation, zero, gate), energy.scaling.weights(energy.separation, zero, gate)


def _check(energy: ReadEnergy) -> None:
    scaling = energy.scaling
    softmax = isinstance(scaling, Log) and scaling.normalised(energy.separation)
    require(
        softmax or isinstance(scaling, (Simplex, Level, SequentialSubsets)),
        f"A Fenchel–Young loss needs weights in a polytope: Simplex(k), Level(), SequentialSubsets(k), or Log() with Exp(); got {energy}.",
    )
