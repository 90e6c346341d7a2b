"""Tiles in which few slots carry weight: separations of finite reach touch only those, one gather each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..energies.separation import Tsallis
from ..energies.threshold import amount, anchor, newton

if TYPE_CHECKING:
    from .tiles import Memory, Rows, Rule


def candidates(rule: Rule, memory: Memory, b: slice, i: slice) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Slot, score and presence (rows, width) of all that carry weight under ``Simplex``, and τ (rows).

    One pass. The τ of the slots seen so far bounds the final one from below, so a slot whose score lies a reach below
    it can be dropped for good. None when F has no finite reach or when too many slots remain (the caller then works
    densely).
    """
    if not isinstance(rule.separation, Tsallis) or not math.isfinite(rule.separation.reach):
        return None
    batch, queries = memory.state[b, i].shape[:2]
    low = memory.state.new_full((batch, queries), -math.inf)
    found, solved_at = _nothing(memory), 0
    for j in memory.tiles(b, i):
        score, gate = memory.score(rule, b, i, j), memory.gate(b, i, j)
        present = amount(score, gate)
        low = torch.maximum(low, anchor(rule.separation, score, present).amax(-1))
        keep = score > low.unsqueeze(-1) - rule.separation.reach
        keep = keep if gate is None else keep & (gate > 0)
        where = keep.nonzero(as_tuple=True)
        fresh = where[0] * queries + where[1], where[2] + j.start, score[where], torch.ones_like(score[where]) if present is None else present[where]
        found = tuple(torch.cat(pair) for pair in zip(found, fresh, strict=True))
        if len(found[0]) > 2 * solved_at + 8 * batch * queries:
            found, low = _pruned(rule, found, low)
            solved_at = len(found[0])
            if solved_at > memory.budget:
                return None
    found, low = _pruned(rule, found, low)
    slot, score, present = _packed(found[0], low.numel(), found[1:])
    return None if slot.numel() > 2 * memory.budget else (slot, score, present, low.flatten())


def _pruned(rule: Rule, found: tuple[Tensor, ...], low: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The slots that carry weight among those found, and their τ: a lower bound of the τ of all slots."""
    _, score, present = _packed(found[0], low.numel(), found[1:])
    bound = torch.where(low == -math.inf, 0.0, low).flatten()
    high = score.amax(-1).clamp_min(-torch.finfo(score.dtype).max) if score.shape[-1] else bound
    held = present.sum(-1) > 0
    tau = newton(rule.separation, score, present, bound, torch.where(held, high + rule.separation.reach, bound))
    near = found[2] > tau[found[0]] - rule.separation.reach
    return tuple(column[near] for column in found), torch.where(held.view_as(low), tau.view_as(low), low)


def forward(rule: Rule, memory: Memory, rows: Rows, found: tuple[Tensor, ...], b: slice, i: slice) -> None:
    """Read from the slots that carry weight alone."""
    slot, score, present, tau = found
    held, shape = present.sum(-1) > 0, rows.value[b, i].shape
    tau = torch.where(held, tau, 0.0)
    z = score - tau.unsqueeze(-1)
    rows.tau[b, i] = tau.view(shape)
    rows.value[b, i] = torch.where(held, tau + (present * rule.separation(z)).sum(-1), -math.inf).view(shape)
    _gather(rows.output[b, i], present * rule.separation.slope(z), slot, memory.values[b], memory.budget)
    if rows.baseline.numel():
        bend = present * rule.separation.curvature(z)
        total = bend.sum(-1, keepdim=True)
        _gather(rows.baseline[b, i], bend / torch.where(total > 0, total, 1.0), slot, memory.values[b], memory.budget)


def hits(rule: Rule, z: Tensor, gate: Tensor | None) -> tuple[Tensor, ...] | None:
    """Indices of the slots of a tile that carry weight, or None when they are more than one in sixteen."""
    if not math.isfinite(rule.separation.reach):
        return None
    near = z > -rule.separation.reach
    near = near if gate is None else near & (gate > 0)
    return near.nonzero(as_tuple=True) if int(near.sum()) * 16 < z.numel() else None


def backward(rule: Rule, memory: Memory, grads, rows, where: tuple[Tensor, ...], tile: tuple[slice, slice, slice]) -> None:
    """The formula of ``tiles.backward`` on the slots that carry weight, added to the gradients of states, keys and values."""
    (d_state, d_keys, d_values), (z, gate, grad, mass, base, offset), (b, i, j) = grads, rows, tile
    batch, query, slot = where
    row = (batch, query)
    z = z[where]
    present = 1.0 if gate is None else gate.expand(grad.shape[0], grad.shape[1], -1)[where].to(z.dtype)
    share = present if isinstance(mass, float) else present * mass[row].squeeze(-1)
    lean = (grad[row] * memory.values[b, j][batch, slot]).sum(-1)
    lean = lean if base is None else lean - base[row].squeeze(-1)
    weight = rule.separation.slope(z) * share
    d_score = rule.separation.curvature(z) * lean * share
    d_score = d_score if offset is None else d_score - weight * offset[row].squeeze(-1)
    d_values[b, j].index_put_((batch, slot), weight.unsqueeze(-1) * grad[row], accumulate=True)
    d_state[b, i].index_put_(row, d_score.unsqueeze(-1) * memory.keys[b, j][batch, slot], accumulate=True)
    d_keys[b, j].index_put_((batch, slot), d_score.unsqueeze(-1) * memory.state[b, i][row], accumulate=True)


def _packed(row: Tensor, rows: int, columns: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Columns sorted by row and packed to the left of (rows, width) matrices; padding has score −∞ and presence 0."""
    order = row.argsort(stable=True)
    row = row[order]
    counts = torch.bincount(row, minlength=rows)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    width = int(counts.max()) if rows else 0
    packed = []
    for column, fill in zip(columns, (0, -math.inf, 0.0), strict=True):
        narrow = column.new_full((rows, width), fill)
        narrow[row, place] = column[order]
        packed.append(narrow)
    return tuple(packed)


def _gather(output: Tensor, weights: Tensor, slot: Tensor, values: Tensor, budget: int) -> None:
    """``output = Σ weights · values[slot]``, (b, q, v) from (b·q, width), a few rows at a time."""
    batch, queries, width = output.shape
    sample = torch.arange(batch, device=slot.device).repeat_interleave(queries)
    together = max(1, budget // max(1, slot.shape[1] * width))
    flat = output.new_empty(batch * queries, width)
    for r in range(0, batch * queries, together):
        part = slice(r, r + together)
        flat[part] = torch.bmm(weights[part].unsqueeze(1), values[sample[part].unsqueeze(-1), slot[part]]).squeeze(1)
    output.copy_(flat.view_as(output))


def _nothing(memory: Memory) -> tuple[Tensor, ...]:
    index, number = torch.zeros(0, dtype=torch.long, device=memory.state.device), memory.state.new_zeros(0)
    return index, index, number, number
