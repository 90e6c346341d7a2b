"""Tiles in which few slots carry weight: separations of finite reach touch only those, one gather each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..energies.scalings.threshold import amount, anchor, newton, places
from ..energies.separations.tsallis import Tsallis

if TYPE_CHECKING:
    from .cut import Cut, Rows
    from .rule import Rule
    from .tile_gradients import Rated


def candidates(memory: Cut, b: slice, i: slice) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Slot, score and presence (rows, width) of all that carry weight under ``Simplex``, and τ (rows, 2).

    One pass. The τ of the slots seen so far bounds the final one from below, so a slot whose score lies a reach below
    it can be dropped for good. None when F has no finite reach or when too many slots remain (the caller then works
    densely).
    """
    rule = memory.rule
    if not isinstance(rule.separation, Tsallis) or not math.isfinite(rule.separation.reach) or memory.seed is not None:
        return None
    batch, queries = memory.state[b, i].shape[:2]
    tau = memory.state.new_zeros(batch, queries, 2)
    tau[..., 0] = -math.inf
    found, solved_at = _nothing(memory), 0
    for j in memory.tiles(b, i):
        score, gate = memory.score(b, i, j, memory.slots(b, j)[0]), memory.gate(b, i, j)
        score = score if gate is None else score.masked_fill_(gate == 0, -math.inf)
        present = None if gate is None or gate.dtype == torch.bool else amount(score, gate)
        peak = score.amax(-1)
        tau = _raised(rule, tau, peak, score, present)
        hot = _near(rule, tau, peak).nonzero(as_tuple=True)  # queries that this tile matters to
        score = score[hot]
        query, slot = _near(rule, tau[hot].unsqueeze(-2), score).nonzero(as_tuple=True)
        row, score = (hot[0] * queries + hot[1])[query], score[query, slot]
        fresh = row, slot + j.start, score, torch.ones_like(score) if present is None else present[hot][query, slot]
        found = tuple(torch.cat(pair) for pair in zip(found, fresh, strict=True))
        if len(found[0]) > 2 * solved_at + 8 * batch * queries:
            found, tau = _pruned(rule, found, tau)
            solved_at = len(found[0])
            if solved_at > memory.budget:
                return None
    found, tau = _pruned(rule, found, tau)
    slot, score, present = _packed(found[0], batch * queries, found[1:])
    return None if slot.numel() > 2 * memory.budget else (slot, score, present, tau.flatten(0, 1))


def _raised(rule: Rule, tau: Tensor, peak: Tensor, score: Tensor, present: Tensor | None) -> Tensor:
    """A lower bound of τ, raised by a tile: its largest score, and the largest weight that one slot alone must have."""
    top, distance = tau.unbind(-1)
    higher = torch.maximum(top, peak)
    known = torch.where(higher == -math.inf, 0.0, higher)
    single = peak - known if present is None else anchor(rule.separation, score - known.unsqueeze(-1), present).amax(-1)
    return torch.stack([higher, torch.maximum(distance + torch.where(top == -math.inf, -math.inf, top - known), single)], -1)


def _near(rule: Rule, tau: Tensor, score: Tensor) -> Tensor:
    """Whether scores lie within the reach of τ, elementwise with tau (..., 2)."""
    return (score - tau[..., 0]) > tau[..., 1] - rule.separation.reach


def _pruned(rule: Rule, found: tuple[Tensor, ...], tau: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The slots that carry weight among those found, and their τ: a lower bound of the τ of all slots."""
    top, distance = (torch.where(t == -math.inf, 0.0, t) for t in tau.flatten(0, 1).unbind(-1))
    _, score, present = _packed(found[0], len(top), found[1:])
    held = present.sum(-1) > 0
    solved = newton(rule.separation, score - top.unsqueeze(-1), present, distance, torch.where(held, rule.separation.reach, distance))
    new = torch.stack([top, solved], -1)
    near = _near(rule, new[found[0]], found[2])
    return tuple(column[near] for column in found), torch.where(held.unsqueeze(-1), new, tau.flatten(0, 1)).view_as(tau)


def forward(memory: Cut, rows: Rows, found: tuple[Tensor, ...], b: slice, i: slice) -> None:
    """Read from the slots that carry weight alone."""
    separation = memory.rule.separation
    slot, score, present, tau = found
    held, shape = present.sum(-1) > 0, rows.value[b, i].shape
    tau = torch.where(held.unsqueeze(-1), tau, 0.0)
    z = (score - tau[:, :1]) - tau[:, 1:]
    rows.tau[b, i] = tau.view(*shape, 2)
    rows.value[b, i] = torch.where(held, tau.sum(-1) + (present * separation(z)).sum(-1), -math.inf).view(shape)
    _gather(rows.output[b, i], present * separation.slope(z), slot, memory, b)
    if rows.baseline.numel():
        bend = present * separation.curvature(z)
        total = bend.sum(-1, keepdim=True)
        _gather(rows.baseline[b, i], bend / torch.where(total > 0, total, 1.0), slot, memory, b)


def hits(rule: Rule, z: Tensor, gate: Tensor | None) -> tuple[Tensor, ...] | None:
    """Indices of the slots of a tile that carry weight, or None when they are more than one in sixteen: a sample of the queries tells most dense tiles."""
    if not math.isfinite(rule.separation.reach):
        return None
    sample = _reached(rule, z[:, ::16], None if gate is None else gate.expand(z.shape)[:, ::16])
    if int(sample.sum()) * 8 > sample.numel():
        return None
    where = _reached(rule, z, gate).nonzero(as_tuple=True)
    return where if len(where[0]) * 16 < z.numel() else None


def _reached(rule: Rule, z: Tensor, gate: Tensor | None) -> Tensor:
    """Whether slots of a tile are there and carry weight."""
    near = z > -rule.separation.reach
    return near if gate is None else near & (gate > 0)


def backward(rule: Rule, tile: tuple, grads: tuple[Tensor, Tensor, Tensor], rated: Rated, where: tuple[Tensor, ...]) -> None:
    """The formula of ``tiles`` on the slots that carry weight, added to the gradients of states, lifted keys and values."""
    (z, gate, state, lifted, values), (d_state, d_lifted, d_read) = tile, grads
    (batch, query, slot), shape = where, z.shape
    row, column, z = (batch, query), (batch, slot), z[where]
    share = 1.0 if gate is None else gate.expand(shape)[where].to(z.dtype)
    lean = (rated.grad[row] * values[column]).sum(-1)
    lean = lean if rated.base is None else lean - rated.base[row].squeeze(-1)
    weight = rule.separation.slope(z) * share
    d_score = rule.separation.curvature(z) * lean * share
    d_score = d_score if rated.offset is None else d_score - weight * rated.offset[row].squeeze(-1)
    d_read.index_put_(column, weight.unsqueeze(-1) * rated.grad[row], accumulate=True)
    d_state.index_put_(row, d_score.unsqueeze(-1) * lifted[column], accumulate=True)
    d_lifted.index_put_(column, d_score.unsqueeze(-1) * state[row], accumulate=True)


def _packed(row: Tensor, rows: int, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Columns sorted by row and packed to the left of (rows, width) matrices; padding has score −∞ and presence 0."""
    order = row.argsort(stable=True)
    row = row[order]
    counts = torch.bincount(row, minlength=rows)
    place = places(row, counts)
    width = int(counts.max()) if rows else 0
    packed = []
    for column, fill in zip(columns, (0, -math.inf, 0.0), strict=True):
        narrow = column.new_full((rows, width), fill)
        narrow[row, place] = column[order]
        packed.append(narrow)
    return tuple(packed)


def _gather(output: Tensor, weights: Tensor, slot: Tensor, memory: Cut, b: slice) -> None:
    """``output = Σ weights · values[slot]``, (b, q, v) from (b·q, width), a few rows at a time."""
    batch, queries, width = output.shape
    sample = torch.arange(b.start, b.start + batch, device=slot.device).repeat_interleave(queries)
    together = max(1, memory.budget // max(1, slot.shape[1] * width))
    flat = output.new_empty(batch * queries, width)
    for r in range(0, batch * queries, together):
        part = slice(r, r + together)
        values = memory.shown(sample[part].unsqueeze(-1), slot[part])
        flat[part] = torch.bmm(weights[part].unsqueeze(1), values).squeeze(1)
    output.copy_(flat.view_as(output))


def _nothing(memory: Cut) -> tuple[Tensor, ...]:
    index, number = torch.zeros(0, dtype=torch.long, device=memory.state.device), memory.state.new_zeros(0)
    return index, index, number, number
