"""Scalings with a level τ below which slots count for little: the budget of ``Simplex`` and the norm of ``Level``.

Both solve for τ in every row (Newton, safeguarded by bisection). First and second derivatives follow from two further
differentiable Newton steps at the solution, which reproduce the implicit derivatives of τ up to second order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..separations.separation import Separation, Tsallis, require
from .scaling import Scaling, has_slot, kept, largest, masked
from .threshold import support, threshold


@dataclass(frozen=True)
class Simplex(Scaling):
    """``Q = min_τ kτ + Σ F(s − τ)``, weights ``F′(s − τ)`` that sum to k, ``total``: softmax, sparsemax and α-entmax by choice of F.

    With a slope that saturates at one (``Clipped``, ``Softplus``) no slot weighs more than once, and the weights are those of a k-subset of the slots:
    ``Clipped`` is SparseMAP's Euclidean projection onto the subsets of size k (Santos et al. 2024, arXiv 2411.08590), ``Softplus`` its entropic twin, the
    Fermi–Dirac occupation of the slots. A row with fewer than k slots (soft ones count with their presence) gives each its full weight.

    Args:
        total: the sum of the weights, k > 0.
    """

    total: float = 1.0

    @property
    def weights_formula(self) -> str:  # type: ignore[override]
        return f"F′(s_μ − τ), Σ p = {self.total:g}"

    def __post_init__(self):
        require(0 < self.total < math.inf, f"Simplex needs a positive, finite total (the sum of the weights), got {self.total!r}.")

    def value(self, separation, score, presence=None):
        if narrow := self._narrowed(separation, score, presence):
            return self.value(separation, *narrow[1:])
        top, score, tau, total = self._solved(separation, score, presence)
        value = total * (top + tau) + masked(separation, score - tau.unsqueeze(-1), presence).sum(-1)
        return torch.where(has_slot(score, presence), value, -math.inf)

    def weights(self, separation, score, presence=None):
        if narrow := self._narrowed(separation, score, presence):
            index, near, gate = narrow
            return torch.zeros_like(score).scatter_add(-1, index, self.weights(separation, near, gate))
        _, score, tau, _ = self._solved(separation, score, presence)
        return masked(separation.slope, score - tau.unsqueeze(-1), presence)

    def _narrowed(self, separation, score, presence):
        """Index, scores and presence of the few slots that can carry weight, or None when most of them can."""
        found = support(separation, score, presence, self.total)
        if found is None:
            return None
        index, held = found
        if separation.saturation < math.inf:  # without soft slots: padding by scores far below any τ is faster than a mask
            return index, torch.where(held, score.gather(-1, index), torch.finfo(score.dtype).min / 4), None
        if presence is not None and presence.is_floating_point():
            held = torch.where(held, presence.expand(score.shape).gather(-1, index), 0.0)
        return index, score.gather(-1, index), held

    def _solved(self, separation, score, presence):
        """The row's largest score, the scores relative to it, their τ, and the sum of the weights."""
        top = largest(score, presence)
        score = kept(score, presence, 0.0) - top.unsqueeze(-1)
        total, full = self._held(separation, score, presence)
        solvable = has_slot(score, presence) if full is None else has_slot(score, presence) & ~full
        with torch.no_grad():
            if full is None:
                tau = threshold(separation, score, presence, total=total)
            else:  # where every slot has its full weight, any τ more than a saturation below them all will do
                tau = threshold(separation, score, presence, total=torch.where(full, 0.5 * total, total).clamp_min(1e-6))
                tau = torch.where(full, -largest(-score, presence) - separation.saturation - 1, tau)
        return top, score, polished(tau, separation.slope, separation.curvature, (score, presence, solvable, total)), total

    def _held(self, separation, score, presence):
        """The sum of the weights, and which rows give every slot its full weight; None where F′ has no upper bound."""
        if separation.saturation == math.inf or (presence is None and score.shape[-1] > self.total):
            return self.total, None
        present = masked(torch.ones_like, score, presence).sum(-1)
        full = present <= self.total
        return torch.where(full, present, self.total), full

    def normalised(self, separation):
        return self.total == 1 and separation.saturation == math.inf

    def streams(self, separation):
        return type(self) is Simplex and self.normalised(separation)

    def inherits(self, separation, scale_free):
        return True

    def margin(self, separation):
        if separation.saturation < math.inf:
            return separation.saturation + separation.reach
        if not isinstance(separation, Tsallis):
            return math.inf
        return separation.reach * self.total ** (separation.alpha - 1) if separation.alpha > 1 else math.inf

    def patterns(self, separation):
        return self.total if separation.saturation < math.inf else 1.0

    def check(self, separation, highest):
        saturates = separation.saturation < math.inf
        probe = torch.linspace(-30, max(30.0, separation.saturation) if saturates else 30.0, 601, dtype=torch.float64)
        slope = separation.slope(probe)
        step, needed = slope.diff(), 1.0 if saturates else max(self.total, 1.0)
        rises = not bool((slope < -1e-9).any() | (step < -1e-9).any()) and float(slope[0]) < 0.1 * needed <= 0.1 * float(slope[-1])
        if not rises or (not isinstance(separation, Tsallis) and jump(separation.slope, probe) > 0.02):
            raise ValueError(
                f"Simplex needs a convex F whose slope rises continuously from 0 through {needed:g}, no steeper than float64 can tell (so that "
                f"Σ F′(s − τ) = k has a solution); {separation} is not one. Use Exp() (softmax), Tsallis(2) (sparsemax), Tsallis(α) (α-entmax), or for "
                "k-subsets Clipped() or Softplus()."
            )

    def formula(self, term, score):
        budget = "τ" if self.total == 1 else f"{self.total:g}τ"
        return f"min_τ [{budget} + Σ_μ {term(f'{score} − τ')}]"


@dataclass(frozen=True)
class Level(Scaling):
    """``Q = τ`` with ``Σ F(s − τ) = 1``, weights ``F′(s − τ)/Σ F′(s − τ)``: log-sum-exp for ``Exp``, normmax for ``ConjugatePower(α)``.

    For ``F(s) = max(s, 0)^(α/(α−1))`` this is ``Q = max_p p·s − ‖p‖_α`` over the probability simplex, whose weights are normmax (Blondel et al. 2020,
    arXiv 1901.02324; Santos et al. 2024, arXiv 2411.08590). F is non-negative, increasing and convex; then Q is convex.
    """

    weights_formula = "F′(s_μ − τ) / Σ_ν F′(s_ν − τ)"

    def value(self, separation, score, presence=None):
        top, score, tau = self._solved(separation, score, presence)
        return torch.where(has_slot(score, presence), top + tau, -math.inf)

    def weights(self, separation, score, presence=None):
        _, score, tau = self._solved(separation, score, presence)
        slope = masked(separation.slope, score - tau.unsqueeze(-1), presence)
        total = slope.sum(-1, keepdim=True)
        return slope / torch.where(total == 0, 1.0, total)

    def _solved(self, separation, score, presence):
        """The row's largest score, the scores relative to it, and their τ."""
        top = largest(score, presence)
        score = kept(score, presence, 0.0) - top.unsqueeze(-1)
        with torch.no_grad():
            tau = threshold(_Antiderivative(separation), score, presence)
        return top, score, polished(tau, separation, separation.slope, (score, presence, has_slot(score, presence), 1.0))

    def normalised(self, separation):
        return True

    def inherits(self, separation, scale_free):
        return True

    def margin(self, separation):
        return separation.reach + 1.0 if float(separation(torch.ones((), dtype=torch.float64))) == 1.0 else math.inf

    def check(self, separation, highest):
        probe = torch.linspace(-30, 30, 601, dtype=torch.float64)
        value, slope = separation(probe), separation.slope(probe)
        if (
            bool((value < 0).any())
            or bool((slope < 0).any())
            or bool((slope.diff() < -1e-9 * slope.abs().max()).any())
            or float(value[0]) > 1e-3
            or float(value[-1]) < 1
        ):
            raise ValueError(
                f"Level needs a convex F that rises from 0 at −∞ through 1 (so that Σ F(s − τ) = 1 has a solution); {separation} is not one. "
                "Use ConjugatePower(α) (normmax), RectifiedPower(n) or Exp() (log-sum-exp)."
            )

    def formula(self, term, score):
        return f"[τ: Σ_μ {term(f'{score} − τ')} = 1]"


class _Antiderivative(Separation):
    """What has F for its slope: ``threshold`` finds the root of a sum of slopes."""

    def __init__(self, separation: Separation):
        self.slope, self.curvature = separation.__call__, separation.slope


def jump(slope: Callable[[Tensor], Tensor], probe: Tensor) -> float:
    """The largest step of a rising function over a distance that float64 scores do not resolve, relative to its value above 1.

    Intervals of a grid are halved, towards where it rises more, to 2⁻⁶⁰ of their length. ``s^0.05`` is continuous and rises by 0.1 over that: no τ of
    float64 makes its weights sum to k.
    """
    low, high = probe[:-1], probe[1:]
    for _ in range(60):
        middle = low + (high - low) / 2
        left = slope(middle) - slope(low) > slope(high) - slope(middle)
        low, high = torch.where(left, low, middle), torch.where(left, middle, high)
    return float(((slope(high) - slope(low)) / slope(low).clamp_min(1.0)).max())


def polished(tau: Tensor, rise: Callable, bend: Callable, row: tuple) -> Tensor:
    """The root τ of ``Σ a rise(s − τ) = total`` with its derivatives up to the second: two differentiable Newton steps at the solution.

    They move τ by roundings at most: where a slot enters steeper than a τ can tell, Newton's step leads away from the root, and gives its derivatives only.
    """
    score, presence, solvable, total = row
    for _ in range(2 if torch.is_grad_enabled() else 0):
        mass, slope = (masked(function, score - tau.unsqueeze(-1), presence).sum(-1) for function in (rise, bend))
        curved = solvable & (slope > 0)
        step = torch.where(curved, (mass - total) / torch.where(curved, slope, 1.0), 0.0)
        rounding = 8 * torch.finfo(tau.dtype).eps * tau.detach().abs().clamp_min(1.0)
        tau = tau + (step - torch.where(step.detach().abs() > rounding, step.detach(), 0.0))
    return tau
