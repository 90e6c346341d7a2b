"""Scalings Q: many slots, one number. The retrieval weights are its derivative, ``p = ∂Q/∂score``.

Every method takes the scores (..., q, n) and the presence (broadcastable to them, values in [0, 1], or None).
A slot with presence 0 is deleted: it has weight 0 and receives no gradient. A row with no slot at all has weights 0;
its value is 0 under ``Sum`` and −∞ under all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..separations.separation import Exp, Power, RectifiedPower, Separation
from ..separations.tsallis import Tsallis
from ..truth import settled
from .presence import has_slot, kept, largest, masked


class Scaling:
    """Base of all scalings."""

    weights_formula = "∂Q/∂s_μ"  # the weights as a paper writes them
    ordered = False  # whether the order of the slots matters

    def value(self, separation: Separation, score: Tensor, presence: Tensor | None = None) -> Tensor:
        """``Q`` of every query, (..., q)."""
        raise NotImplementedError

    def weights(self, separation: Separation, score: Tensor, presence: Tensor | None = None) -> Tensor:
        """``∂Q/∂score``, (..., q, n)."""
        raise NotImplementedError

    def value_and_weights(self, separation: Separation, score: Tensor, presence: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both at once, for what they share."""
        return self.value(separation, score, presence), self.weights(separation, score, presence)

    def normalised(self, separation: Separation) -> bool:
        """Whether the weights of every row that holds a slot sum to exactly one."""
        return False

    def streams(self, separation: Separation) -> bool:
        """Whether tiles of scores and generated kernels know this Q; any other is computed from the full rows of a few queries at a time."""
        return False

    def inherits(self, separation: Separation, scale_free: bool) -> bool:
        """Whether settling never raises the energy when F is convex and increasing; ``scale_free``: the scale of the weights does not matter."""
        return False

    def margin(self, separation: Separation) -> float:
        """The score gap from which on the winning slots hold all weight, so that retrieval is exact; inf where there always is some weight elsewhere."""
        return math.inf

    def patterns(self, separation: Separation) -> float:
        """How many patterns a read is made of where retrieval succeeds: one, or the k of a subset."""
        return 1.0

    def formula(self, term: Callable[[str], str], score: str) -> str:
        """Q written out around ``term(score)``, the formula of F."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.formula("F({})".format, "s")

    def check(self, separation: Separation, highest: float) -> None:
        """Raise ValueError when Q is not defined for this separation on scores up to ``highest``."""


@dataclass(frozen=True)
class Sum(Scaling):
    """``Q = Σ F(s)``, weights ``F′(s)``: feed-forward blocks, linear attention, polynomial memories."""

    weights_formula = "F′(s_μ)"

    def value(self, separation, score, presence=None):
        return masked(separation, score, presence).sum(-1)

    def weights(self, separation, score, presence=None):
        return masked(separation.slope, score, presence)

    def streams(self, separation):
        return type(self) is Sum  # a subclass may mean something else

    def inherits(self, separation, scale_free):
        return True

    def value_and_weights(self, separation, score, presence=None):
        weights, degree = self.weights(separation, score, presence), homogeneity(self, separation)
        if degree is not None:  # s F′ = n F (Euler)
            return (kept(score, presence, 0.0) * weights).sum(-1) / degree, weights
        return self.value(separation, score, presence), weights

    def formula(self, term, score):
        return f"Σ_μ {term(score)}"


@dataclass(frozen=True)
class Log(Scaling):
    """``Q = log Σ F(s)``, weights ``F′(s)/Σ F(s)``: softmax for ``Exp``, and every kernel density.

    ``null_slot=True`` adds an empty memory with F = 1: ``Q = log(1 + Σ F)``, softmax₁ (Hu et al. 2024, OutEffHop,
    arXiv 2404.03828), so that a query near nothing reads nothing.
    """

    null_slot: bool = False

    @property
    def weights_formula(self) -> str:  # type: ignore[override]
        return f"F′(s_μ) / {'(1 + Σ_ν F(s_ν))' if self.null_slot else 'Σ_ν F(s_ν)'}"

    def value(self, separation, score, presence=None):
        shift, _, total = self._terms(separation, score, presence)
        return _logarithm(shift, total)

    def weights(self, separation, score, presence=None):
        _, terms, total = self._terms(separation, score, presence)
        return self._shares(separation, score, presence, terms=terms, total=total)

    def value_and_weights(self, separation, score, presence=None):
        if is_exponential(separation) and not self.null_slot and score.shape[-1] and (presence is None or presence.dtype == torch.bool):
            return _softmax(score, presence)
        shift, terms, total = self._terms(separation, score, presence)
        return _logarithm(shift, total), self._shares(separation, score, presence, terms=terms, total=total)

    def _shares(self, separation, score, presence, *, terms, total):
        slope = terms if is_exponential(separation) else masked(separation.slope, score, presence)
        return slope / torch.where(total == 0, math.inf, total).unsqueeze(-1)

    def _terms(self, separation, score, presence):
        """``shift, F e^(−shift), Σ F e^(−shift)``: only exponentials need (and get) a shift, by the row's largest score."""
        shift = torch.zeros_like(score[..., :0].sum(-1))
        if is_exponential(separation):
            shift = largest(score, presence).clamp_min(0.0) if self.null_slot else largest(score, presence)
            terms = masked(torch.exp, score - shift.unsqueeze(-1), presence)
        else:
            terms = masked(separation, score, presence)
        return shift, terms, normal(terms.sum(-1) + (torch.exp(-shift) if self.null_slot else 0.0))

    def normalised(self, separation):
        return is_exponential(separation) and not self.null_slot

    def streams(self, separation):
        return type(self) is Log

    def inherits(self, separation, scale_free):
        return is_exponential(separation) or scale_free

    def check(self, separation, highest):
        probe = torch.linspace(-30, min(30.0, highest), 601, dtype=torch.float64)
        value = separation(probe)
        if bool((value < 0).any()):
            worst = float(probe[int(value.argmin())])
            raise ValueError(
                f"Log needs F ≥ 0 (it takes the logarithm of Σ F), but {separation} is negative at s = {worst:g}. "
                "Use Sum(), or a non-negative separation such as Exp(), Power(2), RectifiedPower(n) or Epanechnikov()."
            )

    def formula(self, term, score):
        return f"log(1 + Σ_μ {term(score)})" if self.null_slot else f"log Σ_μ {term(score)}"


def homogeneity(scaling: Scaling, separation: Separation) -> float | None:
    """The degree n of ``Σ F(cs) = cⁿ Σ F(s)`` for c > 0; None where there is none."""
    return separation.degree if type(scaling) is Sum and isinstance(separation, (Power, RectifiedPower)) else None


def is_exponential(separation: Separation) -> bool:
    """Whether F is eˢ, whose weights only depend on score differences and are computed relative to the largest score."""
    return isinstance(separation, Exp) or (isinstance(separation, Tsallis) and separation.alpha == 1)


def _softmax(score: Tensor, presence: Tensor | None) -> tuple[Tensor, Tensor]:
    """``log Σ exp`` and softmax over the slots that are there: the largest score and its weight give the sum, in few passes over the scores."""
    held = kept(score, presence, -math.inf)
    if presence is None:
        weights = held.softmax(-1)
        return held.amax(-1) - weights.amax(-1).log(), weights
    alive = has_slot(score, presence)
    if settled(alive):  # weights of slots that are not there are exactly 0
        weights = held.softmax(-1)
        return held.amax(-1) - weights.amax(-1).log(), weights
    weights = torch.where(alive.unsqueeze(-1), held, 0.0).softmax(-1)
    value = torch.where(alive, held.amax(-1) - weights.amax(-1).log(), -math.inf)
    return value, torch.where(presence, weights, 0.0)


def _logarithm(shift: Tensor, total: Tensor) -> Tensor:
    """``log Σ F`` from ``Σ F e^(−shift)``; −∞ where there is no slot."""
    return torch.where(total == 0, -math.inf, shift + torch.where(total == 0, 1.0, total).log())


def normal(total: Tensor) -> Tensor:
    """A sum of F that can be divided by: 0 where it is less than the least that counts, and NaN where it overflowed, so that a read says so instead of
    finding nothing.
    """
    found = torch.where(total.abs() < least(total.dtype), 0.0, total)
    return torch.where(total.isinf(), math.nan, found)


def least(dtype: torch.dtype) -> float:
    """The least sum of F that counts as one, 2¹⁰ times the smallest normal number (e⁻⁸⁰ in float32): its reciprocal, times gradients up to some thousands,
    is a number. Half precision has no such room: all sums but 0 count.
    """
    return 0.0 if dtype == torch.float16 else 2**10 * torch.finfo(dtype).tiny


def has_null_slot(scaling: Scaling) -> bool:
    """Whether an empty memory with F = 1 stands beside the slots."""
    return isinstance(scaling, Log) and scaling.null_slot
