"""Scalings over subsets of the slots: the k largest scores alone, and all subsets of size k with transitions between neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..separations.separation import require
from .presence import has_slot, kept
from .scaling import Log, Scaling, is_exponential

_NEVER = -1e30  # log-weight of what cannot be; finite, so that no difference of infinities arises


@dataclass(frozen=True)
class TopK(Scaling):
    """Q of the k largest scores alone: top-k attention, with weights 0 elsewhere. Of equal scores the earlier slot is taken. An amount of presence
    weighs a slot that is chosen, and does not choose.

    ``TopK(1)`` with ``Exp`` is the hard maximum, ``Q = max s``, which every normalised scaling approaches as β → ∞. Of slots that are all there Q is the
    largest that any subset of k has, so that it is convex where ``within`` is. The selection itself is piecewise constant: gradients flow through the
    scores selected.

    Args:
        count: k, at least 1.
        within: the scaling of the k scores.
    """

    count: int = 1
    within: Scaling = Log()

    @property
    def weights_formula(self) -> str:  # type: ignore[override]
        return f"{self.within.weights_formula} among the {self.count} largest"

    def __post_init__(self):
        require(isinstance(self.count, int) and self.count >= 1, f"TopK needs a number of slots ≥ 1, got {self.count!r}.")
        require(isinstance(self.within, Scaling) and not self.within.ordered, f"TopK needs a scaling of scores in any order, got {self.within!r}.")

    def value(self, separation, score, presence=None):
        return self.within.value(separation, *self._selected(score, presence)[1:])

    def weights(self, separation, score, presence=None):
        index, picked, gate = self._selected(score, presence)
        return torch.zeros_like(score).scatter_add(-1, index, self.within.weights(separation, picked, gate))

    def _selected(self, score: Tensor, presence: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Index, scores and presence of the k largest scores of every row."""
        rank = kept(score.detach(), presence, -math.inf)
        index = rank.argsort(dim=-1, descending=True, stable=True)[..., : self.count]  # topk leaves open which of equal scores it takes
        return index, score.gather(-1, index), None if presence is None else presence.expand(score.shape).gather(-1, index)

    def normalised(self, separation):
        return self.within.normalised(separation)

    def inherits(self, separation, scale_free):
        return self.within.inherits(separation, scale_free)

    def margin(self, separation):
        return 0.0 if self.count == 1 and self.normalised(separation) else self.within.margin(separation)

    def patterns(self, separation):
        return self.within.patterns(separation)

    def check(self, separation, highest):
        self.within.check(separation, highest)
        slope = separation.slope(torch.linspace(-30, min(30.0, highest), 601, dtype=torch.float64))
        require(
            bool((slope >= 0).all()),
            f"TopK needs an increasing F, so that the largest scores are the largest terms, but {separation} falls somewhere. "
            "Use Exp(), RectifiedPower(n), Epanechnikov() or an odd Power(n).",
        )

    def formula(self, term: Callable[[str], str], score: str) -> str:
        return self.within.formula(term, score).replace("Σ_μ", f"Σ_(μ in top {self.count})")


@dataclass(frozen=True)
class SequentialSubsets(Scaling):
    """``Q = log Σ_y exp(Σ_μ s_μ y_μ + t Σ_μ y_μ y_(μ+1))`` over all y ∈ {0, 1}ⁿ with ``Σ y = k``; weights are the marginals ``E[y_μ]``.

    The Gibbs twin of the sequential k-subsets of Santos et al. 2024 (arXiv 2411.08590): slots in their order, a transition bonus t for each pair of
    neighbours that are both in (t > 0 favours runs, t < 0 scattered slots). Exact by dynamic programming over (position, count, last), O(nk) per query.
    The weights sum to k; a row with fewer slots holds them all. A presence a multiplies ``eˢ``; deleted slots are skipped, so that their neighbours meet.

    Args:
        total: k, at least 1.
        transition: t.
    """

    total: int = 2
    transition: float = 0.0
    weights_formula = "E[y_μ]"

    def __post_init__(self):
        require(isinstance(self.total, int) and self.total >= 1, f"SequentialSubsets needs a subset size ≥ 1, got {self.total!r}.")
        require(math.isfinite(self.transition), f"SequentialSubsets needs a finite transition bonus, got {self.transition!r}.")

    @property
    def ordered(self) -> bool:  # type: ignore[override]
        return self.transition != 0

    def value(self, separation, score, presence=None):
        seen, there = _seen(score, presence)
        *_, last = self._before(seen, there)
        total = (last + self._goal(seen, there)).flatten(-2).logsumexp(-1)
        return torch.where(has_slot(score, presence), total, -math.inf).to(score.dtype)

    def weights(self, separation, score, presence=None):
        seen, there = _seen(score, presence)
        before, after, marginals = self._before(seen, there), self._goal(seen, there), [seen[..., :0]]
        total = (before[-1] + after).flatten(-2).logsumexp(-1)
        for slot in reversed(range(score.shape[-1])):
            into = seen[..., slot, None, None] + self._bonus(seen) + pad(after[..., 1:, 1:], (0, 0, 0, 1), value=_NEVER)
            share = ((before[slot] + into).flatten(-2).logsumexp(-1) - total).exp()
            marginals.append(torch.where(there[..., slot], share, 0.0).unsqueeze(-1))
            onward = torch.stack([after[..., :1].expand(into.shape), into], -1).logsumexp(-1)
            after = torch.where(there[..., slot, None, None], onward, after)
        return torch.cat(marginals[::-1], -1).to(score.dtype)

    def _before(self, score: Tensor, there: Tensor) -> list[Tensor]:
        """Log-weights of the slots before each one, and of all, by count and by whether the last slot is in: (..., q, k + 1, 2)"""
        start = torch.full((self.total + 1, 2), _NEVER, dtype=score.dtype, device=score.device)
        start[0, 0] = 0.0  # before the first slot none is in
        levels = [start.expand(*score.shape[:-1], self.total + 1, 2)]
        for slot in range(score.shape[-1]):
            before = levels[-1]
            into = score[..., slot, None] + (before[..., :-1, :] + self._bonus(score)).logsumexp(-1)
            after = torch.stack([before.logsumexp(-1), pad(into, (1, 0), value=_NEVER)], -1)
            levels.append(torch.where(there[..., slot, None, None], after, before))
        return levels

    def _goal(self, score: Tensor, there: Tensor) -> Tensor:
        """0 at the count to end with, k or all slots where there are fewer: (..., q, k + 1, 2)"""
        held = there.sum(-1).clamp_max(self.total)
        count = torch.arange(self.total + 1, device=score.device)
        return torch.where(count == held.unsqueeze(-1), 0.0, _NEVER).to(score.dtype).unsqueeze(-1).expand(*held.shape, -1, 2)

    def _bonus(self, score: Tensor) -> Tensor:
        """What one more slot brings after a slot that is out, and after one that is in."""
        return torch.tensor([0.0, self.transition], dtype=score.dtype, device=score.device)

    def inherits(self, separation, scale_free):
        return True

    def patterns(self, separation):
        return float(self.total)

    def check(self, separation, highest):
        require(
            is_exponential(separation),
            f"SequentialSubsets gives Gibbs marginals and needs Exp(), got {separation}. The sparse marginals of sequences (SparseMAP) need an active-set "
            "solver that no maintained package provides: take Exp() at a large β, or Simplex(k) with Clipped(), which is SparseMAP without transitions.",
        )

    def formula(self, term: Callable[[str], str], score: str) -> str:
        bonus = f" + {self.transition:g} Σ_μ y_μ y_(μ+1)" if self.transition else ""
        return f"log Σ_(|y| = {self.total}) exp(Σ_μ y_μ {score}{bonus})"


def _seen(score: Tensor, presence: Tensor | None) -> tuple[Tensor, Tensor]:
    """The scores of slots whose presence a multiplies ``eˢ``, at least in float32 (half types hold no ``_NEVER``), and which of them are there."""
    score = score.to(torch.promote_types(score.dtype, torch.float32))
    if presence is None:
        return score, torch.ones_like(score, dtype=torch.bool)
    there = (presence > 0).expand(score.shape)
    return score + torch.where(there, presence, 1.0).log() if presence.is_floating_point() else score, there
