"""The backward pass of a read: what torch computes per query, and the two sweeps, each only where one of its gradients is wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import configs
from .launch import on
from .operands import LOG2E, RATIO, SOFTMAX, SUM, THRESHOLD, Operands
from .spec import Give
from .templates.queries import backward_queries
from .templates.slots import backward_slots
from .tuning import launched

Gradients = tuple[Tensor | None, ...]  # of state, keys, values, presence, β, bias, levels


@dataclass
class PerQuery:
    """Level, τ, 1/m, base and δ of every query (b, h, q): the table in ``tiles`` in the units of the kernels. None where trivial."""

    level: Tensor
    tau: Tensor
    inverse: Tensor | None
    base: Tensor
    based: bool  # whether the base is anything but zero
    offset: Tensor | None


def backward(read: Operands, cotangents: tuple[Tensor, Tensor | None, Tensor | None], results: tuple[Tensor, ...], wanted: tuple[bool, ...]) -> Gradients:
    """Gradients of state, keys, values, presence, β, bias and levels, from those of output, Q and Σ p."""
    if read.empty:
        given = read.state, read.keys, read.values, read.presence, read.beta, read.bias, read.level
        return tuple(None if t is None else torch.zeros_like(t) for t in given)  # type: ignore[return-value]
    with on(read.state):
        return swept(read, cotangents[0], per_query(read, cotangents, results), wanted)


def swept(read: Operands, grad: Tensor, rows: PerQuery, wanted: tuple[bool, ...]) -> Gradients:
    """The same from the gradient of the output and what is known of every query."""
    grad = grad if grad.stride(-1) == 1 or grad.shape[-1] == 1 else grad.contiguous()
    wants_state, wants_keys, wants_values, wants_presence, wants_beta, wants_bias, wants_level = wanted
    d_state = twists = turns = d_keys = d_values = d_presence = d_terms = d_beta = d_level = row_levels = slot_levels = None
    wants_level = wants_level and read.level is not None
    if wants_state or wants_beta or wants_level:
        d_state, twists, turns, row_levels = _to_queries(read, grad, rows, wants_beta, wants_level)
    if wants_keys or wants_values or wants_presence or wants_bias or wants_level or (wants_beta and read.own_slot_term is not None):
        d_keys, d_values, d_presence, d_terms, slot_levels = _to_slots(read, grad, rows, wants_values, wants_level)
    if wants_beta and twists is not None and turns is not None:
        d_beta = _warmed(read, twists, turns, d_terms).to(read.beta.dtype)
    d_bias = None if read.bias is None or d_terms is None else d_terms.to(read.bias.dtype)
    if row_levels is not None and slot_levels is not None and read.level is not None:
        slot_levels[..., read.slots - read.queries :] += row_levels
        d_level = slot_levels.to(read.level.dtype)
    return d_state, d_keys, d_values, d_presence, d_beta, d_bias, d_level


def per_query(read: Operands, cotangents: tuple[Tensor, Tensor | None, Tensor | None], results: tuple[Tensor, ...]) -> PerQuery:
    output, value, mass, level, tau, baseline = results
    grad, pulled, heavier = cotangents
    offset = None if pulled is None else -pulled.float()
    inverse, base = None, torch.zeros_like(value)
    if read.kind != SUM:
        shown = baseline if read.kind == THRESHOLD else output
        through = (grad * shown).sum(-1, dtype=torch.float32) if grad.dtype == torch.float32 else torch.linalg.vecdot(grad.float(), shown.float())
        through = through if heavier is None else through + heavier * mass
        if read.kind == RATIO:
            inverse = torch.where(value == -math.inf, 0.0, torch.exp(-value))
            offset = through if offset is None else through + offset
        else:
            base = through
    if read.kind == SOFTMAX:
        level = value - read.compiled.constant if read.dropped is None else level
        level = torch.where(value == -math.inf, 0.0, level) * LOG2E
        base, offset = base if offset is None else base + offset, None
    elif read.kind == THRESHOLD:
        level = torch.where(level == -math.inf, 0.0, level)
    if heavier is not None:  # a cotangent of Σ p adds the same to every ⟨dO, v⟩
        base = base - heavier.float()
    if read.gain is not None:
        inverse = read.gain if inverse is None else inverse * read.gain
        offset = None if offset is None else offset * read.row_scale
    return PerQuery(level, tau, inverse, base, read.kind in (SOFTMAX, THRESHOLD) or heavier is not None, offset)


def _to_queries(read: Operands, grad: Tensor, rows: PerQuery, warm: bool, age: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The states' gradient, per query Σ ds t and Σ ds, and the gradient of the queries' levels."""
    d_state = torch.empty_like(read.state, memory_format=torch.contiguous_format)
    twists, turns = (rows.base.new_empty(rows.base.shape) for _ in range(2))
    d_levels = torch.empty_like(twists) if age else None
    bends, scores = read.bends(), read.compiled.scores
    turning = not scores.affine or scores.row_term != 0
    twisting = warm or (bends is not None and scores.affine and scores.row_scale != 1)
    give = Give(**given(read, rows), norms=bends is not None, twist=twisting, turn=turning, warm=warm, terms=False, presence=False, age=age)
    row_bends = (None, None) if bends is None else tuple(read.flat(b) for b in bends[:2])
    arguments = (*_operands(read, grad, rows), *row_bends, d_state, twists, turns, d_levels)

    def launch(config: configs.Config) -> None:
        blocks = -(-read.queries // config.shape.queries)
        sizes = (read.queries, read.slots, read.width, read.columns, read.heads, read.group, 1, blocks)
        constants = dict(**_constants(read), GIVE=give, SHAPE=config.shape)
        configs.run(backward_queries, (read.members * blocks,), config, *arguments, sizes, read.options(), **constants)

    launched("queries", read, launch)
    return d_state, twists, turns, d_levels


def _to_slots(
    read: Operands, grad: Tensor, rows: PerQuery, reads: bool, age: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of keys, values (None when tied), presence (where it is soft), slot terms (where there are any) and the slots' levels."""
    d_keys = read.keys.new_empty(read.batch, read.memories, read.slots, read.width)
    reads = reads or read.values is None
    d_values = None if read.values is None or not reads else read.values.new_empty(read.batch, read.memories, read.slots, read.columns)
    d_terms = rows.base.new_empty(read.batch, read.heads, read.slots) if read.fold.slot_term else None
    d_levels = rows.base.new_empty(read.batch, read.heads, read.slots) if age else None
    d_presence = None
    if read.presence is not None and read.presence.is_floating_point():
        d_presence = rows.base.new_zeros(read.batch, read.heads, read.queries if read.sight.per_query else 1, read.slots)
    bends, scores = read.bends(), read.compiled.scores
    twisting = not scores.affine or (bends is not None and read.fold.slot_factor)
    kinds = dict(norms=bends is not None, twist=twisting, turn=read.fold.slot_term, warm=False, terms=d_terms is not None)
    kinds |= dict(presence=d_presence is not None, age=age, values=reads)
    slot_bends = (None, None) if bends is None else tuple(read.flat(b) for b in bends[2:])
    arguments = (*_operands(read, grad, rows), *slot_bends, d_keys, d_values, d_terms, d_presence, d_levels)
    give = Give(**given(read, rows), **kinds)

    def launch(config: configs.Config) -> None:
        blocks = -(-read.slots // config.shape.slots)
        sizes = (read.queries, read.slots, read.width, read.columns, read.heads, read.group, read.memories, blocks)
        constants = dict(**_constants(read), GIVE=give, SHAPE=config.shape)
        configs.run(backward_slots, (read.batch * read.memories * blocks,), config, *arguments, sizes, read.options(), **constants)

    launched("slots", read, launch)
    if d_presence is not None and read.presence is not None:
        d_presence = d_presence.sum_to_size(read.presence.shape).to(read.presence.dtype)
    return d_keys, d_values, d_presence, d_terms, d_levels


def _operands(read: Operands, grad: Tensor, rows: PerQuery) -> tuple:
    vectors = (read.flat(v) for v in (rows.level, rows.tau, rows.inverse, rows.base, rows.offset))
    return (*read.views(), (grad, *grad.stride()[:3]), *read.vectors(), *vectors)


def given(read: Operands, rows: PerQuery) -> dict[str, bool]:
    return dict(
        tied=read.values is None,
        shifted=read.kind == THRESHOLD,
        massed=rows.inverse is not None,
        offset=rows.offset is not None,
        based=rows.based,
        curved=read.compiled.curved,
    )


def _constants(read: Operands) -> dict:
    return dict(KIND=read.kind, LEAF=read.leaf, FOLD=read.fold, SIGHT=read.sight, MODE=read.mode)


def _warmed(read: Operands, twists: Tensor, turns: Tensor, d_terms: Tensor | None) -> Tensor:
    """``dβ = Σ ds S``, from the sums over rows and slots: (b, h)"""
    total = twists.sum(-1)
    if read.compiled.scores.affine:
        if read.row_term is not None:
            total = total + (turns * read.row_term).sum(-1)
        if read.own_slot_term is not None and d_terms is not None:
            total = total + (d_terms * read.own_slot_term).sum(-1)
    return total / read.warmth.squeeze(-1)
