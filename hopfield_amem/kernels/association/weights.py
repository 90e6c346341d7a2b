"""How tokens weigh the slots they see, each multiplied by what is left of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...energies import ReadEnergy, Sum
from ...energies.registry import Factors
from ...energies.scalings.presence import largest
from ...energies.scalings.scaling import is_exponential, normal


def left(now: Tensor, then: Tensor, seen: Tensor) -> Tensor:
    """``exp(G_i − G_j)`` where slot j is seen, else 0; masked before the exponential, which would overflow."""
    return torch.where(seen, now - then, -math.inf).exp()


def weighed(factors: Factors, divides: bool, score: Tensor, seen: Tensor | None, fall: Tensor | None = None) -> Tensor:
    """Weights of scores, F of a slot multiplied by what is left of it, ``exp(fall)``; where the state is free they are divided by their sum,
    and any normaliser before that cancels.

    Falls of exponentials join the scores: weights that are normalised see ratios, and those have no smallest number.
    """
    if fall is not None and seen is not None:
        if is_exponential(factors.separation):
            score = score + torch.where(seen, fall, 0.0).to(score.dtype)
        else:
            seen = torch.where(seen, fall, -math.inf).exp().to(score.dtype)
    if not divides:
        return factors.scaling.weights(factors.separation, score, seen)
    slope = Sum().weights(factors.separation, score - largest(score, seen).unsqueeze(-1) if is_exponential(factors.separation) else score, seen)
    mass = normal(slope.sum(-1, keepdim=True))
    return slope / torch.where(mass == 0, math.inf, mass)


def weights(energy: ReadEnergy, query: Tensor, keys: Tensor, seen: Tensor | None, fall: Tensor | None = None) -> Tensor:
    """The same for an energy. (..., q, d), (..., n, d), (..., q, n) -> (..., q, n)"""
    return weighed(Factors(energy.similarity, energy.separation, energy.scaling), energy.divides, energy.scores(query, keys), seen, fall)
