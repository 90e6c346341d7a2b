"""Memories whose state grows, in blocks of tokens: every block sees all slots up to its end, so that any read energy serves.

    u_t = a_t v_t − b_t Σ_{j<t} κ₁(w_t, k_j) u_j            written: a triangular system, solved block by block
    o_t = Σ_{j≤t} κ₂(q_t, k_j) u_j                          read

F of slot j is multiplied by ``exp(G_t − G_j)``, what is left of it. Only the weights of one block, (block, slots), are alive at once: forward they are
used up, backward they are made again (DeltaFormer's chunkwise algorithm, arXiv 2505.19488 appendix D.3, for any weights).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...energies import Dot, Exp, Log
from ...energies.registry import Factors
from ...energies.scalings.scaling import has_null_slot
from ...energies.separations.derivative import vjp
from ..rows import fitting
from .reference import solve
from .weights import weighed

ROWS = 128  # tokens of a block
ELEMENTS = 2**22  # weights alive at once

Gradients = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor]  # of x, keys, level of rows, level of slots, β


@dataclass(frozen=True)
class Slots:
    """The slots of some memories: keys (m, 1, n, d), levels and presence (m, n); and how rows weigh them, β (m, g)."""

    factors: Factors
    divides: bool
    keys: Tensor
    level: Tensor | None
    presence: Tensor | None
    beta: Tensor

    def weights(self, x: Tensor, first: int, strict: bool) -> Tensor:
        """Weights (m, g, rows, end) for x (m, g, rows, d) of the slots up to each row's own, or before it if ``strict``. The first row's own is ``first``."""
        keys, seen, levels = self._up_to(first, first + x.shape[2], strict)
        return self._soft(x, keys, levels, seen) if self._softmax else self._weighed(seen, x, keys, self.beta, *levels)

    def pulled(self, x: Tensor, first: int, strict: bool, weights: Tensor, grad: Tensor) -> Gradients:
        """Gradients of x, keys, levels and β from that of the weights."""
        keys, seen, levels = self._up_to(first, first + x.shape[2], strict)
        if not self._softmax:
            d_x, d_keys, d_beta, *d_levels = vjp(partial(self._weighed, seen), x, keys, self.beta, *levels)[1](grad)
            return d_x, d_keys, *(d_levels or (None, None)), d_beta  # type: ignore[return-value]
        beta = self.beta[..., None, None]
        d_score = grad.sub_((weights * grad).sum(-1, keepdim=True)).mul_(weights)  # dS = P ∘ (dP − Σ P dP)
        d_x, d_keys = d_score @ keys, (d_score.mT @ (beta * x)).sum(1, keepdim=True)
        moved = [d_score.sum((1, 3)).to(levels[0].dtype), -d_score.sum((1, 2)).to(levels[0].dtype)] if levels else [None, None]
        return beta * d_x, d_keys, *moved, (d_x * x).sum((2, 3))  # type: ignore[return-value]

    def _up_to(self, first: int, end: int, strict: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Keys of the slots up to the last row's own, which of them each row sees, and the levels of rows and slots, where there are."""
        row = torch.arange(first, end, device=self.keys.device).unsqueeze(-1)
        slot = torch.arange(end, device=self.keys.device)
        seen = slot < row if strict else slot <= row
        seen = seen if self.presence is None else seen & self.presence[:, None, None, :end]
        return self.keys[:, :, :end], seen, [] if self.level is None else [self.level[:, first:end], self.level[:, :end]]

    def _weighed(self, seen: Tensor, x: Tensor, keys: Tensor, beta: Tensor, *levels: Tensor) -> Tensor:
        return weighed(self.factors, self.divides, beta[..., None, None] * self.factors.similarity(x, keys), seen, _fall(*levels) if levels else None)

    @property
    def _softmax(self) -> bool:
        similarity, separation, scaling = self.factors
        return similarity == Dot() and isinstance(separation, Exp) and isinstance(scaling, Log)

    def _soft(self, x: Tensor, keys: Tensor, levels: list[Tensor], seen: Tensor) -> Tensor:
        """Softmax in place: a block of weights is large."""
        weights = torch.matmul(self.beta[..., None, None] * x, keys.mT)
        if levels:
            weights = weights.add_(_fall(*levels).to(weights.dtype))
        weights = weights.masked_fill_(~seen, -math.inf)
        null = has_null_slot(self.factors.scaling)
        top = weights.amax(-1, keepdim=True)
        top = top.clamp_min_(0.0) if null else top.masked_fill_(top == -math.inf, 0.0)
        weights = weights.sub_(top).exp_()
        total = weights.sum(-1, keepdim=True)
        return weights.div_(total.add_(torch.exp(-top)) if null else total.masked_fill_(total == 0, 1.0))


def _fall(here: Tensor, there: Tensor) -> Tensor:
    """``G_i − G_j``, (m, 1, rows, end)"""
    return (here.unsqueeze(-1) - there.unsqueeze(-2)).unsqueeze(1)


def blocks(members: int, groups: int, first: int, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Memories and tokens whose weights fit the budget."""
    together = fitting(groups * ROWS * (first + tokens), ELEMENTS)
    for m in range(0, members, together):
        for i in range(0, tokens, ROWS):
            yield slice(m, min(m + together, members)), slice(i, min(i + ROWS, tokens))


def write(x: Tensor, slots: Slots, target: Tensor, rate: Tensor | None, cached: Tensor | None) -> Tensor:
    """``u`` of the tokens: x (m, 1, t, d), target a v (m, t, v), rate b (m, t, 1), cached u (m, c, v)."""
    first = 0 if cached is None else cached.shape[1]
    held = target.new_empty(target.shape[0], first + target.shape[1], target.shape[2])
    if cached is not None:
        held[:, :first] = cached
    for m, i in blocks(target.shape[0], 1, first, target.shape[1]):
        begin, end = first + i.start, first + i.stop
        weights = _some(slots, m).weights(x[m, :, i], begin, True)[:, 0]
        known = weights[..., :begin] @ held[m, :begin]
        known, system = (known, weights[..., begin:]) if rate is None else (rate[m, i] * known, rate[m, i] * weights[..., begin:])
        held[m, begin:end] = solve(system, target[m, i] - known)
    return held[:, first:].clone()


def write_backward(x: Tensor, slots: Slots, held: Tensor, rate: Tensor | None, d_written: Tensor):
    """Gradients of x, slots (keys, levels, β), target, rate and cached u; ``held`` is u of all slots."""
    first = held.shape[1] - d_written.shape[1]
    d_held = torch.cat([d_written.new_zeros(held.shape[0], first, held.shape[2]), d_written], 1)
    grads = _Gradients(x, slots)
    d_rate = None if rate is None else torch.zeros_like(rate)
    for m, i in reversed(list(blocks(d_written.shape[0], 1, first, d_written.shape[1]))):
        begin, end = first + i.start, first + i.stop
        some, rows = _some(slots, m), x[m, :, i]
        weights = some.weights(rows, begin, True)[:, 0]
        system = weights[..., begin:] if rate is None else rate[m, i] * weights[..., begin:]
        eye = torch.eye(end - begin, dtype=system.dtype, device=system.device)
        pull = torch.linalg.solve_triangular((eye + system.tril(-1)).mT, d_held[m, begin:end], upper=True, unitriangular=True)
        d_held[m, begin:end] = pull
        if d_rate is not None:
            d_rate[m, i] = -(pull * (weights @ held[m, :end])).sum(-1, keepdim=True)
        pull = pull if rate is None else rate[m, i] * pull
        d_held[m, :begin] -= weights[..., :begin].mT @ pull
        grads.add(m, i, begin, some.pulled(rows, begin, True, weights.unsqueeze(1), (-pull @ held[m, :end].mT).unsqueeze(1)))
    return grads, d_held[:, first:].clone(), d_rate, d_held[:, :first].clone()


def read(x: Tensor, slots: Slots, held: Tensor) -> Tensor:
    """``o`` of the tokens: x (m, g, t, d), u of all slots (m, n, v) -> (m, g, t, v)"""
    first = held.shape[1] - x.shape[2]
    output = held.new_empty(*x.shape[:3], held.shape[2])
    for m, i in blocks(x.shape[0], x.shape[1], first, x.shape[2]):
        output[m, :, i] = _some(slots, m).weights(x[m, :, i], first + i.start, False) @ held[m, None, : first + i.stop]
    return output


def read_backward(x: Tensor, slots: Slots, held: Tensor, d_output: Tensor):
    """Gradients of x, slots (keys, levels, β) and u."""
    first = held.shape[1] - x.shape[2]
    grads, d_held = _Gradients(x, slots), torch.zeros_like(held)
    for m, i in blocks(x.shape[0], x.shape[1], first, x.shape[2]):
        some, rows, begin, end = _some(slots, m), x[m, :, i], first + i.start, first + i.stop
        weights = some.weights(rows, begin, False)
        d_held[m, :end] += (weights.mT @ d_output[m, :, i]).sum(1)
        grads.add(m, i, begin, some.pulled(rows, begin, False, weights, d_output[m, :, i] @ held[m, None, :end].mT))
    return grads, d_held


class _Gradients:
    """Sums of what the blocks give."""

    def __init__(self, x: Tensor, slots: Slots):
        self.x, self.keys, self.beta = torch.zeros_like(x), torch.zeros_like(slots.keys), torch.zeros_like(slots.beta)
        self.level = None if slots.level is None else torch.zeros_like(slots.level)

    def add(self, m: slice, i: slice, begin: int, grads: Gradients) -> None:
        d_x, d_keys, d_here, d_there, d_beta = grads
        end = begin + d_x.shape[2]
        self.x[m, :, i] += d_x
        self.keys[m, :, :end] += d_keys
        self.beta[m] += d_beta
        if self.level is not None and d_here is not None and d_there is not None:
            self.level[m, begin:end] += d_here
            self.level[m, :end] += d_there


def _some(slots: Slots, m: slice) -> Slots:
    def some(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[m]

    return Slots(slots.factors, slots.divides, slots.keys[m], some(slots.level), some(slots.presence), slots.beta[m])
