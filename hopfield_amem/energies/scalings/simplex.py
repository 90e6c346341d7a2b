"""The scaling with a budget: the slots share weights that sum to k, and slots below a threshold τ get none or little.

τ is solved for in every row (Newton, safeguarded by bisection; ``threshold.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..separations.separation import require
from ..separations.tsallis import Tsallis
from .presence import has_slot, kept, largest, masked
from .scaling import Scaling
from .threshold import newton, polished, ranked, support, threshold


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
        """A score near τ, the scores relative to it, their τ, and the sum of the weights."""
        top = self._near(separation, score, presence)
        score = kept(score, presence, 0.0) - top.unsqueeze(-1)
        total, full = self._held(separation, score, presence)
        solvable = has_slot(score, presence) if full is None else has_slot(score, presence) & ~full
        with torch.no_grad():
            if full is None and presence is None and separation.reach < math.inf and separation.saturation < math.inf:
                # the (k+1)-th score lies at 0: were it full, k + 1 slots would be, and were it out of reach of τ, no more than k would bear weight
                tau = newton(separation, score, None, torch.full_like(top, -separation.saturation), torch.full_like(top, separation.reach), total=total)
            elif full is None:
                tau = threshold(separation, score, presence, total=total)
            else:  # where every slot has its full weight, any τ more than a saturation below them all will do
                tau = threshold(separation, score, presence, total=torch.where(full, 0.5 * total, total).clamp_min(1e-6))
                tau = torch.where(full, -largest(-score, presence) - separation.saturation - 1, tau)
        return top, score, polished(tau, separation.slope, separation.curvature, (score, presence, solvable, total)), total

    def _near(self, separation, score, presence):
        """The row's largest score; of weights that saturate the largest that need not have any, the (k+1)-th, so that τ is found among numbers near 0, which
        floats tell apart however large the scores.
        """
        top = largest(score, presence)
        if separation.saturation == math.inf or score.shape[-1] == 0:
            return top
        edge = ranked(kept(score.detach(), presence, -math.inf), min(math.floor(self.total) + 1, score.shape[-1]))
        return torch.where(edge == -math.inf, top, edge)  # no more than k slots

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

    @torch.no_grad()
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
