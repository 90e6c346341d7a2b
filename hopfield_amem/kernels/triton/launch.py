"""Forward and backward of a read: which kernels run, on which tiles, and what torch adds per query before and after."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from . import configs
from .backward import backward_queries, backward_slots
from .forward import forward as _forward
from .machine import processors
from .merge import merge as _merge
from .prepare import BASELINE, KINDS, LOG2E, Operands
from .spec import Give, Want
from .threshold import threshold as _threshold

SOFTMAX, SUM, RATIO, THRESHOLD = KINDS.values()
PASSES = 40  # Newton passes at most; those after the last row has settled cost nothing


class Results:
    """Output (b, h, q, v), value Q and mass Σ p (b, h, q), and for ``Simplex`` level, τ (b, h, q) and baseline (b, h, q, v)."""

    def __init__(self, read: Operands, output: torch.dtype):
        shape, empty = (read.batch, read.heads, read.queries), read.state.new_empty(0, dtype=torch.float32)
        self.output = read.state.new_empty(*shape, read.columns, dtype=output)
        self.value = empty.new_empty(shape)
        self.mass, self.level, self.tau, self.baseline = empty, empty.clone(), empty.clone(), empty.clone()

    def tensors(self) -> tuple[Tensor, ...]:
        return self.output, self.value, self.mass, self.level, self.tau, self.baseline


def forward(read: Operands, wants_value: bool, wants_mass: bool, wants_baseline: bool, output: torch.dtype) -> Results:
    """All that one read of a memory gives."""
    results = Results(read, output)
    if wants_mass:
        results.mass = torch.empty_like(results.value)
    with _on(read.state):
        if read.kind == THRESHOLD:
            _find_thresholds(read, results)
        if read.empty:
            _nothing(read, results)
        else:
            sweep(read, read.kind, results, results.output, results.value, results.mass, wants_value or read.kind != SUM)
        if read.kind == THRESHOLD:
            alive = results.level > -math.inf
            results.value = torch.where(alive, results.level + results.tau + results.value, -math.inf)
            if wants_baseline:
                results.baseline = torch.zeros_like(results.output)
                if not read.empty:
                    sweep(read, BASELINE, results, results.baseline, torch.empty_like(results.value), results.value.new_empty(0), False)
        elif read.row_term is not None and read.fold.affine and not read.fold.row_term:
            results.value += read.row_term  # dropped from the scores
    if read.kind == SOFTMAX:
        results.value += float(read.compiled.constant)
    return results


def sweep(read: Operands, kind: int, at: Results, output: Tensor, value: Tensor, mass: Tensor, wants_value: bool) -> None:
    """One sweep over the slots, split where there are too few queries to fill the machine."""
    wants_mass = mass.numel() > 0
    config = configs.choose("forward", read)
    blocks = -(-read.queries // config.shape.queries)
    splits = _splits(read, config.shape.slots, blocks)
    gained = read.gained and kind != BASELINE
    want = Want(read.values is None, wants_value, wants_mass, kind in (THRESHOLD, BASELINE), gained, read.compiled.null)
    arguments = (*read.views(), *read.vectors(), at.level, at.tau, read.flat(read.gain))
    sizes = (read.queries, read.slots, read.width, read.columns, read.heads, read.group, splits, blocks)
    constants = dict(KIND=kind, LEAF=read.leaf, FOLD=read.fold, SIGHT=read.sight, WANT=want, MODE=read.mode, SHAPE=config.shape)
    grid = (read.members * blocks, splits)
    if splits == 1:
        carry = None, value, mass, None
        configs.run(_forward, grid, config, *arguments, *carry, output, sizes, read.options(), **constants, CARRY=False, FINISH=True)
        return
    lead = (splits, read.members, read.queries)
    top, total, heavy = (value.new_empty(lead) for _ in range(3))
    sums = value.new_empty(*lead, read.columns)
    configs.run(_forward, grid, config, *arguments, top, total, heavy, sums, None, sizes, read.options(), **constants, CARRY=False, FINISH=False)
    merged(read, kind, want, (top, total, heavy, sums), value, mass if wants_mass else torch.empty_like(value), output)


def merged(read: Operands, kind: int, want: Want, parts: tuple[Tensor, ...], value: Tensor, mass: Tensor, output: Tensor) -> None:
    """The finished read from carried states (parts, members, q, ·)."""
    config = configs.choose("merge", read)
    blocks = -(-read.queries // config.shape.queries)
    sizes = (parts[0].shape[0], read.members, read.queries, read.columns, blocks)
    scale, gain = read.flat(read.row_scale), read.flat(read.gain)
    constants = dict(KIND=kind, WANT=want, SHAPE=config.shape, FINISH=True)
    configs.run(_merge, (read.members * blocks,), config, *parts, scale, gain, None, value, mass, output, sizes, **constants)


def backward(read: Operands, cotangents: tuple[Tensor, Tensor | None, Tensor | None], results: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Gradients of state, keys, values, presence, β and bias."""
    output, value, mass, level, tau, baseline = results
    grad, pulled, heavier = cotangents
    if read.empty:
        return tuple(None if t is None else torch.zeros_like(t) for t in (read.state, read.keys, read.values, read.presence, read.beta, read.bias))
    grad = grad if grad.stride(-1) == 1 or grad.shape[-1] == 1 else grad.contiguous()
    levels, taus, inverse, base, offset = _per_query(read, (grad, pulled, heavier), (output, value, mass, level, tau, baseline))
    with _on(read.state):
        return _swept_back(read, grad, heavier is not None, levels, taus, inverse, base, offset)


def _per_query(read: Operands, cotangents: tuple, results: tuple) -> tuple[Tensor | None, ...]:
    """Level, τ, 1/m, base and δ of every query: the table in ``tiles`` in the units of the kernels."""
    (grad, pulled, heavier), (output, value, mass, level, tau, baseline) = cotangents, results
    shown = baseline if read.kind == THRESHOLD else output
    through = (grad.float() * shown.float()).sum(-1)
    inverse = None
    if heavier is not None:  # a cotangent of Σ p adds the same to every ⟨dO, v⟩
        heavier = heavier.float()
        through = through + heavier * mass
    offset = None if pulled is None else -pulled.float()
    if read.kind == SOFTMAX:
        dropped = read.row_term if read.row_term is not None and read.fold.affine and not read.fold.row_term else 0.0
        level = value - float(read.compiled.constant) - dropped
        level = torch.where(value == -math.inf, 0.0, level) * LOG2E
        base = through if offset is None else through + offset
        offset = None
    elif read.kind == RATIO:
        inverse = torch.where(value == -math.inf, 0.0, torch.exp(-value))
        base, offset = torch.zeros_like(through), through if offset is None else through + offset
    elif read.kind == SUM:
        base = torch.zeros_like(through)
    else:
        base = through
        level = torch.where(level == -math.inf, 0.0, level)
    if heavier is not None:
        base = base - heavier
    if read.gain is not None:
        inverse = read.gain if inverse is None else inverse * read.gain
        offset = None if offset is None else offset * read.row_scale
    return level, tau, inverse, base, offset


def _swept_back(read: Operands, grad: Tensor, heavier: bool, level, tau, inverse, base, offset) -> tuple[Tensor | None, ...]:
    state, keys, values, gate = read.views()
    vectors = read.vectors()
    rows = tuple(read.flat(v) for v in (level, tau, inverse, base, offset))
    bends = read.bends()
    warm = True
    soft = read.sight.soft
    affine, scores = read.fold.affine, read.compiled.scores
    common = dict(KIND=read.kind, LEAF=read.leaf, FOLD=read.fold, SIGHT=read.sight, MODE=read.mode)
    based = read.kind in (SOFTMAX, THRESHOLD) or heavier
    given = (read.values is None, read.kind == THRESHOLD, inverse is not None, offset is not None, based, read.compiled.curved)
    row_turn, slot_turn = scores.affine and scores.row_term != 0, read.fold.slot_term
    d_state = torch.empty_like(read.state, memory_format=torch.contiguous_format)
    twists, turns = (base.new_empty(base.shape) for _ in range(2))
    config = configs.choose("queries", read)
    blocks = -(-read.queries // config.shape.queries)
    sizes = (read.queries, read.slots, read.width, read.columns, read.heads, read.group, 1, blocks)
    give = Give(*given, norms=bends is not None, twist=warm, turn=row_turn or not affine, warm=warm, terms=False, presence=False)
    row_bends = (None, None) if bends is None else tuple(read.flat(b) for b in bends[:2])
    grads = (grad, *grad.stride()[:3])
    configs.run(
        backward_queries, (read.members * blocks,), config, state, keys, values, gate, grads, *vectors, *rows, *row_bends,
        d_state, twists, turns, sizes, read.options(), **common, GIVE=give, SHAPE=config.shape,
    )  # fmt: skip

    d_keys = read.keys.new_empty(read.batch, read.memories, read.slots, read.width)
    d_values = None if read.values is None else read.values.new_empty(read.batch, read.memories, read.slots, read.columns)
    d_terms = base.new_empty(read.batch, read.heads, read.slots) if read.fold.slot_term else None
    d_presence = None
    if soft:
        d_presence = base.new_zeros(read.batch, read.heads, read.queries if read.sight.per_query else 1, read.slots)
    config = configs.choose("slots", read)
    blocks = -(-read.slots // config.shape.slots)
    sizes = (read.queries, read.slots, read.width, read.columns, read.heads, read.group, read.memories, blocks)
    twist = (bends is not None and read.fold.slot_factor) or not affine
    give = Give(*given, norms=bends is not None, twist=twist, turn=slot_turn, warm=False, terms=d_terms is not None, presence=soft)
    slot_bends = (None, None) if bends is None else tuple(read.flat(b) for b in bends[2:])
    configs.run(
        backward_slots, (read.batch * read.memories * blocks,), config, state, keys, values, gate, grads, *vectors, *rows, *slot_bends,
        d_keys, d_values, d_terms, d_presence, sizes, read.options(), **common, GIVE=give, SHAPE=config.shape,
    )  # fmt: skip
    d_beta = _warmed(read, twists, turns, d_terms)
    if d_presence is not None and read.presence is not None:
        d_presence = d_presence.sum_to_size(read.presence.shape).to(read.presence.dtype)
    return d_state, d_keys, d_values, d_presence, d_beta.to(read.beta.dtype), None if read.bias is None or d_terms is None else d_terms.to(read.bias.dtype)


def _warmed(read: Operands, twists: Tensor, turns: Tensor, d_terms: Tensor | None) -> Tensor:
    """``dβ = Σ ds S``, from the sums over rows and slots: (b, h)"""
    total = twists.sum(-1)
    if read.compiled.scores.affine:
        if read.row_term is not None:
            total = total + (turns * read.row_term).sum(-1)
        if read.own_slot_term is not None and d_terms is not None:
            total = total + (d_terms * read.own_slot_term).sum(-1)
    return total / read.warmth.squeeze(-1)


def _find_thresholds(read: Operands, results: Results) -> None:
    shape = (read.batch, read.heads, read.queries)
    results.level, results.tau = results.value.new_full(shape, -math.inf), results.value.new_zeros(shape)
    if read.empty:
        return
    config = configs.choose("threshold", read)
    blocks = -(-read.queries // config.shape.queries)
    state, keys, _, gate = read.views()
    sizes = (read.queries, read.slots, read.width, read.heads, read.group, blocks)
    constants = dict(LEAF=read.leaf, FOLD=read.fold, SIGHT=read.sight, MODE=read.mode, SHAPE=config.shape, PASSES=PASSES)
    arguments = (state, keys, gate, *read.vectors(), results.level, results.tau, sizes, read.options()[0], read.compiled.power)
    configs.run(_threshold, (read.members * blocks,), config, *arguments, **constants)


def _nothing(read: Operands, results: Results) -> None:
    """A memory without slots reads zeros; its value is 0 under ``Sum``, and the empty slot's or −∞ under ``Log`` and ``Simplex``."""
    results.output.zero_()
    results.mass.zero_()
    results.value.fill_(0.0 if read.kind in (SUM, THRESHOLD) or read.compiled.null else -math.inf)


def _splits(read: Operands, slots: int, blocks: int) -> int:
    """Enough programs for two per processor, at least four tiles of slots each."""
    wanted = 2 * processors(read.state.device) // max(1, read.members * blocks)
    return max(1, min(wanted, read.slots // (4 * slots)))


def _on(tensor: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else nullcontext()
