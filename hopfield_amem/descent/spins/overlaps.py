"""Flips among stored patterns of ±1: differences of ``Dot`` energies from the overlaps of states and patterns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...energies import ReadEnergy
from ...energies.scalings.scaling import Log, has_null_slot
from .flips import Flips, at, rounded

HOTTEST = 1e-3  # β from which on float32 tells apart what two patterns pull against each other
WARM = 30.0  # β up to which float32 holds every weight that e^(2β) could lift
COLDEST = 300.0  # the same for float64


@dataclass(frozen=True, eq=False)
class Slots:
    """The one memory that all queries share: patterns (n, d), presence (n,) or one row per query (q, n), and bias (n,)."""

    keys: Tensor
    presence: Tensor | None
    bias: Tensor | None

    @cached_property
    def spins(self) -> Tensor:
        """A spin of all patterns in one piece, (d, n), in an eighth to a quarter of the memory."""
        return self.keys.to(torch.int8).mT.contiguous()

    def present(self, queries: slice) -> Tensor | None:
        """The presence that some of the queries see."""
        return self.presence if self.presence is None or self.presence.ndim == 1 else self.presence[queries]


class OverlapFlips(Flips):
    """``Dot`` energies of patterns of ±1, from the overlaps ``s_μ = x·ξ_μ``, which a flip of spin i moves by ``−2 xᵢ ξ_μi``.

    The flipped F is ``F(s_μ ∓ 2)``, by the sign of ``xᵢ ξ_μi``, and hence ``½(F₊ + F₋) − xᵢ ξ_μi ½(F₊ − F₋)`` with ``F± = F(β(s_μ ± 2) + b_μ)``. Summed over
    the slots that is one number per state and one matrix product for all its spins: the differences of Krotov & Hopfield (2016), exactly, without
    evaluating F at every pair of spin and slot.
    """

    def __init__(self, energy: ReadEnergy, state: Tensor, slots: Slots, presence: Tensor | None):
        super().__init__(state)
        self._energy, self._beta, self._slots = energy, float(energy.beta), slots
        self._presence, self._bias = presence, slots.bias
        self._scores = state @ slots.keys.mT
        self._watch()

    def prepared(self, spins):
        return self._slots.keys.mT if spins is None else at(self._slots.spins, spins).to(self.state.dtype)  # (b, n)

    def flip(self, rows, spins):
        super().flip(rows, spins)
        self._scores.index_add_(0, rows, 2 * self.state[rows, spins].unsqueeze(-1) * at(self._slots.spins, spins))
        self._refresh(rows)

    def flip_all(self, rows, turned):
        super().flip_all(rows, turned)
        self._scores[rows] = self.state[rows] @ self._slots.keys.mT
        self._refresh(rows)

    def _watch(self) -> None:
        """Set up what is kept beside the scores."""
        self._slope = torch.empty_like(self._scores)  # ½(F₊ − F₋)
        self._total, self._bend, self._rounding = (self._scores.new_empty(len(self._scores)) for _ in range(3))
        self._refresh(torch.arange(len(self._scores), device=self._scores.device))

    def _refresh(self, rows: Tensor) -> None:
        here, above, below = (self._separated(rows, shift) for shift in (0.0, 2.0, -2.0))
        self._slope.index_copy_(0, rows, (above - below) / 2)
        self._bend[rows] = ((above + below) / 2 - here).sum(-1)
        self._total[rows] = here.sum(-1) + float(has_null_slot(self._energy.scaling))
        self._rounding[rows] = rounding = torch.finfo(here.dtype).eps * (above.abs() + below.abs()).sum(-1)
        if not rounding.isfinite().all():
            raise ValueError(
                f"F(β S) overflows {here.dtype} on these patterns, so that energies cannot be compared. Use a smaller beta (1/d keeps scores within [−1, 1]), "
                "Log() scaling, or float64."
            )

    def _separated(self, rows: Tensor, shift: float) -> Tensor:
        """``F(β(s + shift) + b)``, times presence. (r,) -> (r, n)"""
        score = self._beta * (at(self._scores, rows) + shift)
        value = self._energy.separation(score if self._bias is None else score + self._bias)
        presence = self._present(rows)
        return value if presence is None else torch.where(presence > 0, presence * value, 0.0)

    def _present(self, rows: Tensor) -> Tensor | None:
        return self._presence if self._presence is None or self._presence.ndim == 1 else at(self._presence, rows)

    def changes(self, rows, spins, prepared):
        growth = self._bend[rows].unsqueeze(-1) - self.state[rows.unsqueeze(-1), spins] * (at(self._slope, rows) @ prepared.mT)
        growth = rounded(growth, self._rounding[rows].unsqueeze(-1))
        if isinstance(self._energy.scaling, Log):
            total = self._total[rows].unsqueeze(-1)
            growth = torch.where(growth == 0, 0.0, torch.log1p((growth / total).clamp_min(-1)))
        return -growth / self._beta


class SoftmaxFlips(OverlapFlips):
    """``−log Σ exp(β s_μ)/β``: the weights that agree with spin i, A in all, fall by ``e^(−2β)``; those that disagree, D in all, rise by ``e^(2β)``.

    The sum grows by ``2 sinh β (e^β D − e^(−β) A)``, so that one difference decides. It is 0 at a tie and nowhere else, whatever β is: as β → 0 it becomes
    ``D − A``, how many patterns outvote the others. Both shares are summed on their own, so that the smallest disagreement counts at any β, and the logarithm
    is taken of the growth, not of the sum, so that the smallest growth does. What is within 16 roundings of the shares is a tie.
    """

    def _watch(self) -> None:
        self._dtype = self._scores.dtype if HOTTEST <= self._beta <= WARM else torch.float64
        self._weights = torch.empty_like(self._scores, dtype=self._dtype)
        self._idle = self._weights.new_zeros(len(self._scores), 1)  # weight of the empty slot
        largest = None if self._bias is None or not len(self._bias) else self._bias.to(self._dtype).amax()
        self._level = 0.0 if largest is None else largest.clamp_min(torch.finfo(self._dtype).min)  # of the biases, where any slot has a finite one
        self._refresh(torch.arange(len(self._scores), device=self._scores.device))

    def _refresh(self, rows):
        scores, empty = at(self._scores, rows).to(self._dtype), has_null_slot(self._energy.scaling)
        highest = scores.amax(-1, keepdim=True) if scores.shape[-1] else scores.sum(-1, keepdim=True)
        logit = self._beta * (scores - highest)  # overlaps are whole numbers: their differences do not round
        logit = logit if self._bias is None else logit + (self._bias.to(self._dtype) - self._level)
        presence = self._present(rows)
        logit = logit if presence is None else logit + presence.to(self._dtype).log()
        weights = torch.softmax(torch.cat([logit, -self._beta * highest - self._level], -1) if empty else logit, -1)
        weights = weights if presence is None else weights.nan_to_num(0.0)  # no slot is there
        self._weights.index_copy_(0, rows, weights[:, : logit.shape[1]])
        if empty:
            self._idle.index_copy_(0, rows, weights[:, logit.shape[1] :])

    def prepared(self, spins):
        signs = super().prepared(spins).to(self._dtype)
        return torch.cat([signs.clamp_min(0), (-signs).clamp_min(0)])  # (2b, n): where a spin is up, where it is down

    def changes(self, rows, spins, prepared):
        up, down = (at(self._weights, rows) @ prepared.mT).chunk(2, -1)
        lies_up = self.state[rows.unsqueeze(-1), spins] > 0
        agree, disagree = torch.where(lies_up, up, down), torch.where(lies_up, down, up)
        rising, falling = math.exp(self._beta) * disagree, math.exp(-self._beta) * agree
        excess = rounded(rising - falling, 16 * torch.finfo(self._dtype).eps * (1 + 2 * self._beta) * (rising + falling))
        idle = self._idle[rows]
        total = agree + disagree + idle
        total = torch.where(total == 0, 1.0, total)  # no slot is there
        growth = 2 * math.sinh(self._beta) * excess / total
        flipped = (math.exp(self._beta) * rising + math.exp(-self._beta) * falling + idle) / total
        logarithm = torch.where(growth > -0.5, growth.log1p(), flipped.log())  # a sum that nearly vanishes is not 1 less almost 1
        return (-logarithm / self._beta).to(self.state.dtype)
