"""Gradients of streaming reads, a tile of scores at a time, from what ``tiles.forward`` keeps of every query.

All tensors are (batch, rows, columns). With scores s, z = s − τ, per query a mass m, a baseline u and an offset δ, one backward formula serves every scaling:

    p  = a F′(z)/m          ds = a F″(z) (g − ⟨dO, u⟩)/m − p δ          g = dO vᵀ

    Sum       τ = 0    m = 1      u = 0                      δ = −dQ
    Log       τ = 0    m = Σ a F  u = 0                      δ = ⟨dO, o⟩ − dQ
    Exp · Log τ = Q    m = 1      u = o                      δ = −dQ
    Simplex   τ        m = 1      u = Σ a F″ v / Σ a F″      δ = −dQ

where o is the output, Q the value and dO, dQ their cotangents. FlashAttention's backward is the third row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..energies.separations.derivative import vjp
from . import sparse
from .cut import Cut, Rows, warmed
from .rule import Rule
from .sharing import Sharing
from .tiles import above, dropped, gated


def backward(memory: Cut, rows: Rows, cotangent: Tensor, pulled: Tensor | None):
    """Gradients of states, keys, values (added to those of the keys when tied), presence and bias, from dO and dQ."""
    d_state, d_keys = torch.zeros_like(memory.state), _zeros(memory.keys)
    d_values = None if memory.values is None else _zeros(memory.values)
    d_presence = None if memory.presence is None or memory.presence.dtype == torch.bool else _zeros(memory.presence)
    d_bias = None if memory.bias is None else _zeros(memory.bias)
    tile = _whole_tile if memory.rule.whole else _tile
    few = d_presence is None and d_bias is None and memory.seed is None and memory.rule.similarity.inner and not memory.rule.whole
    for b, i in memory.blocks():
        rated, share = _statistics(memory.rule, rows, cotangent, pulled, b, i), memory.sharing(memory.keys, b)
        own = share.each == 1  # gradients are summed where they belong
        for j in memory.tiles(b, i):
            lifted, values = memory.slots(b, j)
            d_lifted = d_keys[b, j] if own and memory.identity else _zeros(lifted)
            d_read = d_lifted[..., : memory.width] if d_values is None else d_values[b, j] if own else _zeros(values)
            z, gate = memory.score(b, i, j, lifted), memory.gate(b, i, j)
            z = z if rated.tau is None else above(rated.tau, z)
            hits = sparse.hits(memory.rule, z, gate) if few else None
            if hits is not None:
                sparse.backward(memory.rule, (z, gate, memory.state[b, i], lifted, values), (d_state[b, i], d_lifted, d_read), rated, hits)
            else:
                d_score, weight, amount = tile(memory.rule, z, gate, values, rated, memory.kept(b, i, j))
                if d_presence is not None and gate is not None:
                    _add(d_presence, memory.sharing(d_presence, b), torch.where(gate > 0, amount, 0.0), (i, j))
                if d_bias is not None:
                    d_bias[b, :, j] += d_score.sum(1, keepdim=True)
                d_read.baddbmm_(weight.mT, rated.grad)
                _pull_back(memory, d_score, (b, i), lifted, (d_state[b, i], d_lifted))
            if not (own and memory.identity):
                memory.lower((share.entries, j), share.gather(d_lifted), d_keys)
            if not own and d_values is not None:
                d_values[share.entries, j] += share.gather(d_read)
    return d_state, d_keys, d_values, d_presence, d_bias


def _tile(rule: Rule, z: Tensor, gate: Tensor | None, values: Tensor, rated: Rated, keep: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """ds, κ a F′ and the gradient of a presence, (b, i, j)."""
    lean = dropped(torch.bmm(rated.grad, values.mT), keep)
    lean = lean if rated.base is None else lean.sub_(rated.base)
    slope = rule.leaf.slope(z)
    amount = slope
    if gate is not None and gate.dtype != torch.bool:
        amount = slope * lean - (0.0 if rated.offset is None else rule.leaf.value(z) * rated.offset)
    weight = gated(slope, gate)
    d_score = lean.mul_(gated(rule.leaf.curvature(z), gate))
    return d_score if rated.offset is None else d_score.addcmul_(weight, rated.offset, value=-1), dropped(weight, keep), amount


def _whole_tile(rule: Rule, s: Tensor, gate: Tensor | None, values: Tensor, rated: Rated, keep: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The same of full rows, through the scaling's own derivatives."""
    amount = None if gate is None or gate.dtype == torch.bool else gate.expand(s.shape)

    def read(s: Tensor, *amounts: Tensor) -> tuple[Tensor, Tensor]:
        presence = amounts[0] if amounts else gate
        return rule.scaling.weights(rule.separation, s, presence), rule.scaling.value(rule.separation, s, presence)

    lean = dropped(torch.bmm(rated.grad, values.mT), keep)
    with torch.enable_grad():  # scalings refine their levels only where a gradient is wanted
        (weights, value), pullback = vjp(read, s, *([] if amount is None else [amount]))
    d_score, *d_amount = pullback((lean, torch.zeros_like(value) if rated.offset is None else -rated.offset.squeeze(-1)))
    return d_score, dropped(weights.detach(), keep), d_amount[0] if d_amount else d_score


@dataclass
class Rated:
    """dO/m of a block's queries, and their τ (b, i, 2), ⟨dO, u⟩/m and δ/m (b, i, 1), None where trivial."""

    grad: Tensor
    tau: Tensor | None
    base: Tensor | None
    offset: Tensor | None


def _statistics(rule: Rule, rows: Rows, cotangent: Tensor, pulled: Tensor | None, b: slice, i: slice) -> Rated:
    grad, tau, base = cotangent[b, i], None, None
    offset = None if pulled is None else -pulled[b, i].unsqueeze(-1)
    if rule.exponential:
        tau = rows.value[b, i].unsqueeze(-1) - rule.constant
        tau = torch.cat([torch.where(tau == -math.inf, 0.0, tau), torch.zeros_like(tau)], -1)
        base = (grad * rows.output[b, i]).sum(-1, keepdim=True)
    elif rule.thresholded:
        tau = rows.tau[b, i]
        base = (grad * rows.baseline[b, i]).sum(-1, keepdim=True)
    elif rule.logarithmic:
        value = rows.value[b, i].unsqueeze(-1)
        mass = torch.where(value == -math.inf, 0.0, torch.exp(-value))  # 1/m
        through = (grad * rows.output[b, i]).sum(-1, keepdim=True)
        grad, offset = grad * mass, (through if offset is None else through + offset) * mass
    return Rated(grad, tau, base, offset)


def _pull_back(memory: Cut, d_score: Tensor, block: tuple[slice, slice], lifted: Tensor, grads: tuple[Tensor, Tensor]) -> None:
    """Add a tile's score gradient to the gradients of its states and lifted keys."""
    state, (d_state, d_lifted) = memory.state[block], grads
    if memory.rule.similarity.inner:
        d_state.baddbmm_(d_score, lifted)
        d_lifted.baddbmm_(d_score.mT, state)
        return
    _, pullback = vjp(partial(warmed, memory.rule.similarity), state, lifted)
    to_state, to_lifted = pullback(d_score)
    d_state += to_state
    d_lifted += to_lifted


def _add(total: Tensor, share: Sharing, tile: Tensor, at: tuple[slice, slice]) -> None:
    """Sum a (b, i, j) tile into a tensor that may be broadcast along queries or slots, and shared."""
    i, j = at
    target = total[share.entries]
    target = target[:, i] if target.shape[1] > 1 else target
    target = target[:, :, j] if target.shape[2] > 1 else target
    tile = share.gather(tile.sum_to_size(tile.shape[0], *target.shape[1:]))
    target += tile


def _zeros(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
