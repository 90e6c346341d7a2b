"""Scalings Q: many slots, one number. The retrieval weights are its derivative, ``p = ∂Q/∂score``.

Every method takes the scores (..., q, n) and the presence (broadcastable to them, values in [0, 1], or None).
A slot with presence 0 is deleted: it has weight 0 and receives no gradient. A row with no slot at all has weights 0;
its value is 0 under ``Sum`` and −∞ under ``Log`` and ``Simplex``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .separation import Exp, Separation, Tsallis
from .threshold import support, threshold


class Scaling:
    """Base of all scalings."""

    def value(self, separation: Separation, score: Tensor, presence: Tensor | None = None) -> Tensor:
        """``Q`` of every query, (..., q)."""
        raise NotImplementedError

    def weights(self, separation: Separation, score: Tensor, presence: Tensor | None = None) -> Tensor:
        """``∂Q/∂score``, (..., q, n)."""
        raise NotImplementedError

    def normalised(self, separation: Separation) -> bool:
        """Whether the weights of every row that holds a slot sum to exactly one."""
        return False

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

    def value(self, separation, score, presence=None):
        return _masked(separation, score, presence).sum(-1)

    def weights(self, separation, score, presence=None):
        return _masked(separation.slope, score, presence)

    def formula(self, term, score):
        return f"Σ_μ {term(score)}"


@dataclass(frozen=True)
class Log(Scaling):
    """``Q = log Σ F(s)``, weights ``F′(s)/Σ F(s)``: softmax for ``Exp``, and every kernel density.

    ``null_slot=True`` adds an empty memory with F = 1: ``Q = log(1 + Σ F)``, softmax₁ (Hu et al. 2024, OutEffHop,
    arXiv 2404.03828), so that a query near nothing reads nothing.
    """

    null_slot: bool = False

    def value(self, separation, score, presence=None):
        shift, _, total = self._terms(separation, score, presence)
        return torch.where(total == 0, -math.inf, shift + torch.where(total == 0, 1.0, total).log())

    def weights(self, separation, score, presence=None):
        _, terms, total = self._terms(separation, score, presence)
        slope = terms if is_exponential(separation) else _masked(separation.slope, score, presence)
        return slope / torch.where(total == 0, 1.0, total).unsqueeze(-1)

    def _terms(self, separation, score, presence):
        """``shift, F e^(−shift), Σ F e^(−shift)``: only exponentials need (and get) a shift, by the row's largest score."""
        shift = torch.zeros_like(score[..., :0].sum(-1))
        if is_exponential(separation):
            shift = largest(score, presence).clamp_min(0.0) if self.null_slot else largest(score, presence)
            terms = _masked(torch.exp, score - shift.unsqueeze(-1), presence)
        else:
            terms = _masked(separation, score, presence)
        return shift, terms, terms.sum(-1) + (torch.exp(-shift) if self.null_slot else 0.0)

    def normalised(self, separation):
        return is_exponential(separation) and not self.null_slot

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


@dataclass(frozen=True)
class Simplex(Scaling):
    """``Q = min_τ τ + Σ F(s − τ)``, weights ``F′(s − τ)`` that sum to one: softmax, sparsemax and α-entmax by choice of F.

    τ is solved exactly (Newton, safeguarded by bisection). First and second derivatives follow from two further
    differentiable Newton steps at the solution, which reproduce the implicit derivatives of τ up to second order.
    """

    def value(self, separation, score, presence=None):
        if narrow := self._narrowed(separation, score, presence):
            return self.value(separation, *narrow[1:])
        top, score, tau, alive = self._solved(separation, score, presence)
        return torch.where(alive, top + tau + _masked(separation, score - tau.unsqueeze(-1), presence).sum(-1), -math.inf)

    def weights(self, separation, score, presence=None):
        if narrow := self._narrowed(separation, score, presence):
            index, *narrowed = narrow
            return torch.zeros_like(score).scatter_add(-1, index, self.weights(separation, *narrowed))
        _, score, tau, _ = self._solved(separation, score, presence)
        return _masked(separation.slope, score - tau.unsqueeze(-1), presence)

    def _narrowed(self, separation, score, presence):
        """Index, scores and presence of the few slots that can carry weight, or None when most of them can."""
        found = support(separation, score, presence)
        if found is None:
            return None
        index, held = found
        if presence is not None and presence.is_floating_point():
            held = torch.where(held, presence.expand(score.shape).gather(-1, index), 0.0)
        return index, score.gather(-1, index), held

    def _solved(self, separation, score, presence):
        """The row's largest score, the scores relative to it, their τ, and whether the row holds a slot."""
        top = largest(score, presence)
        score = _kept(score, presence, 0.0) - top.unsqueeze(-1)
        alive = has_slot(score, presence)
        with torch.no_grad():
            tau = threshold(separation, score, presence)
        for _ in range(2 if torch.is_grad_enabled() else 0):
            mass = _masked(separation.slope, score - tau.unsqueeze(-1), presence).sum(-1)
            bend = _masked(separation.curvature, score - tau.unsqueeze(-1), presence).sum(-1)
            solvable = alive & (bend > 0)
            tau = tau + torch.where(solvable, (mass - 1) / torch.where(solvable, bend, 1.0), 0.0)
        return top, score, tau, alive

    def normalised(self, separation):
        return True

    def check(self, separation, highest):
        probe = torch.linspace(-30, 30, 601, dtype=torch.float64)
        slope = separation.slope(probe)
        step = slope.diff()
        if bool((step < -1e-9).any()) or float(slope[-1]) < 1 or float(step.max()) > 0.9 * float(slope[-1] - slope[0]):
            raise ValueError(
                f"Simplex needs a convex F whose slope rises continuously through 1 (so that Σ F′(s − τ) = 1 has a solution); {separation} is not one. "
                "Use Exp() (softmax), Tsallis(2) (sparsemax) or Tsallis(α) (α-entmax)."
            )

    def formula(self, term, score):
        return f"min_τ [τ + Σ_μ {term(f'{score} − τ')}]"


def is_exponential(separation: Separation) -> bool:
    """Whether F is eˢ, whose weights only depend on score differences and are computed relative to the largest score."""
    return isinstance(separation, Exp) or (isinstance(separation, Tsallis) and separation.alpha == 1)


def has_null_slot(scaling: Scaling) -> bool:
    """Whether an empty memory with F = 1 stands beside the slots."""
    return isinstance(scaling, Log) and scaling.null_slot


def has_slot(score: Tensor, presence: Tensor | None) -> Tensor:  # (..., q)
    if presence is None:
        return torch.full(score.shape[:-1], score.shape[-1] > 0, device=score.device)
    return (presence > 0).expand(score.shape).any(-1)


def largest(score: Tensor, presence: Tensor | None) -> Tensor:  # (..., q)
    """The largest score of a slot that is there, without gradient; 0 for rows that hold none."""
    if score.shape[-1] == 0:
        return score.detach().sum(-1)
    top = _kept(score.detach(), presence, -math.inf).amax(-1)
    return torch.where(top == -math.inf, 0.0, top)


def _kept(score: Tensor, presence: Tensor | None, fill: float) -> Tensor:
    """The scores, with ``fill`` in place of those of deleted slots."""
    return score if presence is None else torch.where(presence > 0, score, fill)


def _masked(function: Callable[[Tensor], Tensor], score: Tensor, presence: Tensor | None) -> Tensor:
    """``a · f(s)``, exactly 0 and without gradient where the presence a is 0, whatever f does to that score."""
    if presence is None:
        return function(score)
    term = function(_kept(score, presence, 0.0))
    return torch.where(presence > 0, term if presence.dtype == torch.bool else presence * term, 0.0)
