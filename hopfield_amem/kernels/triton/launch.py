"""The forward pass of a read: which kernels run, on which tiles, and what torch adds per query."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from . import configs
from .machine import processors
from .operands import BASELINE, SUM, THRESHOLD, Operands
from .spec import Want
from .templates.forward import forward as _forward
from .templates.merge import merge as _merge
from .templates.threshold import threshold as _threshold
from .tuning import launched

Carry = tuple[Tensor, Tensor, Tensor, Tensor]  # top, total, mass, sums
PASSES = 40  # Newton passes at most; those after the last row has settled cost nothing


class Results:
    """Output (b, h, q, v), value Q and mass Σ p (b, h, q); for ``Simplex`` level, τ (b, h, q) and baseline (b, h, q, v).

    Level is the largest score there; where a row term was dropped, it is Q without that term.
    """

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
    with on(read.state):
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
        elif read.dropped is not None:
            results.level = results.value.clone()  # without the row term, which would drown it for a query far from every slot
            results.value += read.dropped
    if read.compiled.constant:
        results.value += read.compiled.constant
    return results


def sweep(read: Operands, kind: int, at: Results, output: Tensor, value: Tensor, mass: Tensor, wants_value: bool) -> None:
    """One sweep over the slots, split where there are too few queries to fill the machine."""
    wants_mass = mass.numel() > 0
    gained = read.gained and kind != BASELINE
    want = Want(read.values is None, wants_value, wants_mass, kind in (THRESHOLD, BASELINE), gained, read.compiled.null)
    arguments = (*read.views(), *read.vectors(), at.level, at.tau, read.flat(read.gain))

    def launch(config: configs.Config) -> None:
        splits = _splits(read, config)
        if splits == 1:
            swept(read, kind, want, arguments, (None, value, mass, None), output, config, 1, carry=False)
        else:
            parts = carried(read, splits)
            swept(read, kind, want, arguments, parts, None, config, splits, carry=False)
            merged(read, kind, want, parts, value, mass if wants_mass else torch.empty_like(value), output)

    launched("forward", read, launch)


def carried(read: Operands, parts: int) -> Carry:
    """Memory for carried states: top, total and mass (parts, members, q), sums (parts, members, q, v)."""
    lead = (parts, read.members, read.queries)
    top, total, mass = (read.state.new_empty(lead, dtype=torch.float32) for _ in range(3))
    return top, total, mass, top.new_empty(*lead, read.columns)


def partial(read: Operands, carry: Carry | None) -> Carry:
    """Carry in, sweep these slots, carry out: the state of a read whose slots arrive piece by piece. Not for ``Simplex``, whose τ needs all."""
    state = carried(read, 1) if carry is None else carry
    want = Want(read.values is None, True, True, False, False, read.compiled.null)
    arguments = (*read.views(), *read.vectors(), None, None, None)
    with on(read.state):
        swept(read, read.kind, want, arguments, state, None, configs.choose("forward", read), 1, carry=carry is not None)
    return state


def completed(read: Operands, carry: Carry) -> Results:
    """Output, Q and Σ p of a carried state."""
    results = Results(read, torch.float32)
    results.mass = torch.empty_like(results.value)
    with on(read.state):
        merged(read, read.kind, Want(False, True, True, False, read.gained, read.compiled.null), carry, results.value, results.mass, results.output)
    results.value += read.compiled.constant
    if read.dropped is not None:
        results.value += read.dropped
    return results


def swept(
    read: Operands, kind: int, want: Want, arguments: tuple, state: tuple, output: Tensor | None, config: configs.Config, splits: int, carry: bool
) -> None:
    blocks = -(-read.queries // config.shape.queries)
    sizes = (read.queries, read.slots, read.width, read.columns, read.heads, read.group, splits, blocks)
    constants = dict(KIND=kind, LEAF=read.leaf, FOLD=read.fold, SIGHT=read.sight, WANT=want, MODE=read.mode, SHAPE=config.shape)
    grid = (read.members * blocks, splits)
    configs.run(_forward, grid, config, *arguments, *state, output, sizes, read.options(), **constants, CARRY=carry, FINISH=output is not None)


def merged(read: Operands, kind: int, want: Want, parts: Carry, value: Tensor, mass: Tensor, output: Tensor) -> None:
    """The finished read from carried states."""
    config = configs.choose("merge", read)
    blocks = -(-read.queries // config.shape.queries)
    sizes = (parts[0].shape[0], read.members, read.queries, read.columns, blocks)
    scale, gain = read.flat(read.row_scale), read.flat(read.gain)
    constants = dict(KIND=kind, WANT=want, SHAPE=config.shape)
    configs.run(_merge, (read.members * blocks,), config, *parts, scale, gain, value, mass, output, sizes, **constants)


def _find_thresholds(read: Operands, results: Results) -> None:
    shape = (read.batch, read.heads, read.queries)
    results.level, results.tau = results.value.new_full(shape, -math.inf), results.value.new_zeros(shape)
    if read.empty:
        return
    state, keys, _, gate = read.views()
    arguments = (state, keys, gate, *read.vectors(), results.level, results.tau)

    def launch(config: configs.Config) -> None:
        blocks = -(-read.queries // config.shape.queries)
        sizes = (read.queries, read.slots, read.width, read.heads, read.group, blocks)
        constants = dict(LEAF=read.leaf, FOLD=read.fold, SIGHT=read.sight, MODE=read.mode, SHAPE=config.shape, PASSES=PASSES)
        configs.run(_threshold, (read.members * blocks,), config, *arguments, sizes, read.options(), read.compiled.power, **constants)

    launched("threshold", read, launch)


def _nothing(read: Operands, results: Results) -> None:
    """A memory without slots reads zeros; its value is 0 under ``Sum``, and the empty slot's or −∞ under ``Log`` and ``Simplex``."""
    results.output.zero_()
    results.mass.zero_()
    results.value.fill_(0.0 if read.kind in (SUM, THRESHOLD) or read.compiled.null else -math.inf)


def _splits(read: Operands, config: configs.Config) -> int:
    """Enough programs for two per processor, at least four tiles of slots each."""
    blocks = -(-read.queries // config.shape.queries)
    wanted = 2 * processors(read.state.device) // max(1, read.members * blocks)
    return max(1, min(wanted, read.slots // (4 * config.shape.slots)))


def on(tensor: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else nullcontext()
