"""Streaming reads over tiles of scores: the numbers of ``reference``, never more than one tile of the association matrix.

All tensors are (batch, rows, columns). Gradients of the same tiles: ``tile_gradients``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..energies.scalings.presence import has_slot, largest
from ..energies.scalings.scaling import normal
from ..energies.scalings.threshold import threshold
from . import sparse
from .cut import BASELINE, VALUE, Cut, Rows


def forward(memory: Cut, needs: int) -> Rows:
    """Output, value and threshold of every query; the baseline, and the value under ``Sum``, where they are needed."""
    rule, state = memory.rule, memory.state
    batch, queries = state.shape[:2]
    rows = Rows(
        state.new_zeros(batch, queries, memory.columns),
        state.new_zeros(batch, queries),
        state.new_zeros((batch, queries, 2) if rule.thresholded else (0,)),
        state.new_zeros((batch, queries, memory.columns) if rule.thresholded and needs & BASELINE else (0,)),
    )
    for b, i in memory.blocks():
        if rule.whole:
            _whole(memory, rows, b, i)
        elif rule.exponential:
            _softmax(memory, rows, b, i)
        elif rule.thresholded:
            _threshold(memory, rows, b, i)
        else:
            _plain(memory, rows, b, i, needs)
    return rows


def _whole(memory: Cut, rows: Rows, b: slice, i: slice) -> None:
    """By the scaling's own definition, from full rows."""
    scaling, separation = memory.rule.scaling, memory.rule.separation
    rows.value[b, i] = scaling.value(separation, rows.value[b, i].unsqueeze(-1)[..., :0])  # without slots
    for j in memory.tiles(b, i):
        lifted, values = memory.slots(b, j)
        s, gate = memory.score(b, i, j, lifted), memory.gate(b, i, j)
        rows.value[b, i] = scaling.value(separation, s, gate)
        rows.output[b, i] = torch.bmm(dropped(scaling.weights(separation, s, gate), memory.kept(b, i, j)), values)


def _plain(memory: Cut, rows: Rows, b: slice, i: slice, needs: int) -> None:
    rule, output, total = memory.rule, rows.output[b, i], rows.value[b, i]
    valued = rule.logarithmic or bool(needs & VALUE)
    for j in memory.tiles(b, i):
        lifted, values = memory.slots(b, j)
        s, gate = memory.score(b, i, j, lifted), memory.gate(b, i, j)
        if valued:
            total += gated(rule.leaf.value(s), gate).sum(-1)
        output.baddbmm_(dropped(gated(rule.leaf.slope(s), gate), memory.kept(b, i, j)), values)
    if rule.logarithmic:
        total.copy_(normal(total.add_(rule.null)))
        output /= torch.where(total == 0, math.inf, total).unsqueeze(-1)
        total.log_()  # an empty row holds −∞


def _softmax(memory: Cut, rows: Rows, b: slice, i: slice) -> None:
    rule, output = memory.rule, rows.output[b, i]
    top = torch.full_like(rows.value[b, i].unsqueeze(-1), 0.0 if rule.null else -math.inf)
    total = torch.full_like(top, rule.null)
    for j in memory.tiles(b, i):
        lifted, values = memory.slots(b, j)
        s, gate = memory.score(b, i, j, lifted), memory.gate(b, i, j)
        if gate is not None:
            s.masked_fill_(gate == 0, -math.inf)
        higher = torch.maximum(top, s.amax(-1, keepdim=True))
        level = torch.where(higher == -math.inf, 0.0, higher)
        fade = torch.exp(top - level)
        terms = s.sub_(level).exp_()
        terms = terms if gate is None or gate.dtype == torch.bool else terms.mul_(gate)
        total.mul_(fade).add_(terms.sum(-1, keepdim=True))
        output.mul_(fade).baddbmm_(dropped(terms, memory.kept(b, i, j)), values)
        top = higher
    output /= torch.where(total == 0, 1.0, total)
    rows.value[b, i] = (torch.where(total == 0, 0.0, top) + total.log() + rule.constant).squeeze(-1)


def _threshold(memory: Cut, rows: Rows, b: slice, i: slice) -> None:
    rule = memory.rule
    found = sparse.candidates(memory, b, i)
    if found is not None:
        return sparse.forward(memory, rows, found, b, i)
    tau, alive = _dense_threshold(memory, b, i)
    bend = torch.zeros_like(alive, dtype=tau.dtype)
    for j in memory.tiles(b, i):
        lifted, values = memory.slots(b, j)
        z, gate = above(tau, memory.score(b, i, j, lifted)), memory.gate(b, i, j)
        rows.value[b, i] += gated(rule.leaf.value(z), gate).sum(-1)
        keep = memory.kept(b, i, j)
        rows.output[b, i].baddbmm_(dropped(gated(rule.leaf.slope(z), gate), keep), values)
        if rows.baseline.numel():
            curvature = gated(rule.leaf.curvature(z), gate)
            bend += curvature.sum(-1)
            rows.baseline[b, i].baddbmm_(dropped(curvature, keep), values)
    rows.tau[b, i] = tau
    rows.value[b, i] = torch.where(alive, rows.value[b, i] + tau.sum(-1), -math.inf)
    if rows.baseline.numel():
        rows.baseline[b, i] /= torch.where(bend > 0, bend, 1.0).unsqueeze(-1)


def _dense_threshold(memory: Cut, b: slice, i: slice) -> tuple[Tensor, Tensor]:
    """τ, and which queries have a slot, from the full rows of a few queries at a time: at most 16 tiles, or one row."""
    batch, queries = memory.state[b, i].shape[:2]
    together = max(1, 16 * memory.budget // max(1, batch * memory.keys.shape[1]))
    every, taus, alive = slice(0, memory.keys.shape[1]), [], []
    lifted, _ = memory.slots(b, every)
    for start in range(i.start, i.start + queries, together):
        part = slice(start, min(start + together, i.start + queries))
        scores, gate = memory.score(b, part, every, lifted), memory.gate(b, part, every)
        top = largest(scores, gate)
        taus.append(torch.stack([top, threshold(memory.rule.separation, scores.sub_(top.unsqueeze(-1)), gate)], -1))
        alive.append(has_slot(scores, gate))
    return torch.cat(taus, 1), torch.cat(alive, 1)


def above(tau: Tensor, score: Tensor) -> Tensor:
    """``z = s − τ`` of a tile, in place. (b, i, 2), (b, i, j) -> (b, i, j)"""
    return score.sub_(tau[..., :1]).sub_(tau[..., 1:])


def gated(term: Tensor, gate: Tensor | None) -> Tensor:
    """``a · term``; exactly 0 for a deleted slot, whatever its term."""
    if gate is None:
        return term
    term = term.masked_fill(gate == 0, 0.0)
    return term if gate.dtype == torch.bool else term.mul_(gate)


def dropped(term: Tensor, keep: Tensor | None) -> Tensor:
    """``κ · term``."""
    return term if keep is None else term * keep
