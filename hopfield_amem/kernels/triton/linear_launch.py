"""Which kernels a linear memory runs, forward and backward: one launch per stage, all chunks at once but in the scans."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import configs
from .launch import on
from .linear_operands import Linear
from .spec import Memory
from .templates.linear_gradients import gradients as _gradients
from .templates.linear_gradients import rated as _rated
from .templates.linear_outputs import outputs as _outputs
from .templates.linear_outputs import outputs_back as _outputs_back
from .templates.linear_scan import scan as _scan
from .templates.linear_scan import scan_back as _scan_back
from .templates.linear_solve import decayed as _decayed
from .templates.linear_solve import solve as _solve
from .views import rowwise

Gradients = tuple[Tensor | None, ...]


def forward(given: Linear) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output (b, g·h, t, v), final state (b, h, d, v), written rows (b, h, t, v), and the states before chunks (b, h, t/c, d, v)."""
    written = given.empty(given.rows, given.columns)
    final = given.empty(given.width, given.columns, dtype=torch.float32)
    states = given.empty(given.chunks, given.width, given.columns, dtype=given.kept)
    output = given.keys.new_empty(0) if given.query is None else given.query.new_empty(*given.query.shape[:3], given.columns)
    with on(given.keys):
        memory = given.memory(starts=given.state is not None)
        keys = _met(given, given.keys, ahead=True)
        solved, ways = written, None
        if memory.erases:
            solved, ways = given.empty(given.rows, given.columns), given.empty(given.rows, given.width)
        _solved(given, memory, given.values, solved, ways, back=False)
        config = given.config("scan")
        blocks = _blocks(given.columns, config.shape.columns)
        views = (given.view(t) for t in (keys, ways, solved, given.decay, given.state))
        arguments = (*views, states, given.view(final), given.view(written), given.sizes(), blocks)
        _run(_scan, given.members * blocks, config, *arguments, MEMORY=memory, MODE=given.mode)
        if given.query is not None:
            config = given.config("outputs")
            blocks = _blocks(given.columns, config.shape.columns)
            arguments = (given.view(given.query), given.view(given.keys), given.view(given.decay), states, given.view(written), given.view(output))
            _run(_outputs, given.members * given.group * given.chunks * blocks, config, *arguments, given.sizes(), blocks, MEMORY=memory, MODE=given.mode)
    return output, final, written, states


def backward(given: Linear, cotangents: tuple[Tensor | None, Tensor | None, Tensor | None], written: Tensor, states: Tensor) -> Gradients:
    """Gradients of query, keys, values, write rate, erase rate, erase keys, decay and state, from those of output, final state and written rows."""
    grad, d_final, d_written = (None if c is None or c.ndim < 4 else rowwise(c) for c in cotangents)  # without queries the output is a vector of nothing
    memory = given.memory(reads=grad is not None, shown=d_written is not None, ends=d_final is not None)
    with on(given.keys):
        solved, d_states, d_state = _scanned_back(given, memory, grad, d_final, _to_rows(given, memory, grad, d_written))
        d_query, d_keys, d_erase, d_decay, d_erase_rate = _to_columns(given, memory, grad, written, states, d_states, solved)
        d_values, d_write_rate = _to_values(given, solved)
    return d_query, d_keys, d_values, d_write_rate, d_erase_rate, d_erase, d_decay, d_state if given.state is not None else None


def _to_rows(given: Linear, memory: Memory, grad: Tensor | None, d_written: Tensor | None) -> Tensor:
    """The cotangent of the written rows, but for what comes through the state."""
    if grad is None:
        return given.empty(given.rows, given.columns).zero_() if d_written is None else d_written
    out = given.empty(given.rows, given.columns)
    config = given.config("outputs_back")
    blocks = _blocks(given.columns, config.shape.columns)
    views = (given.view(t) for t in (given.query, given.keys, given.decay, grad, d_written, out))
    _run(_outputs_back, given.members * given.chunks * blocks, config, *views, given.sizes(), blocks, MEMORY=memory, MODE=given.mode)
    return out


def _scanned_back(given: Linear, memory: Memory, grad: Tensor | None, d_final: Tensor | None, pulls: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cotangents of X's right-hand sides, of the states after chunks, and of the first state."""
    back, ways = given.empty(given.rows, given.columns), given.empty(given.rows, given.width)
    _solved(given, memory, pulls, back, ways, back=True)
    solved = given.empty(given.rows, given.columns)
    d_states = given.empty(given.chunks, given.width, given.columns, dtype=given.kept)
    d_state = given.empty(given.width, given.columns, dtype=torch.float32)
    erase = _met(given, given.way, ahead=False) if memory.erases else None
    query = _met(given, given.query, ahead=False) if given.query is not None and grad is not None else None
    config = given.config("scan_back")
    blocks = _blocks(given.columns, config.shape.columns)
    views = (given.view(t) for t in (ways, erase, query, grad, back, given.decay))
    arguments = (*views, given.erase_rate, given.view(d_final), d_states, given.view(d_state), given.view(solved), given.sizes(), blocks)
    _run(_scan_back, given.members * blocks, config, *arguments, MEMORY=memory, MODE=given.mode)
    return solved, d_states, d_state


def _to_columns(given: Linear, memory: Memory, grad: Tensor | None, written: Tensor, states: Tensor, d_states: Tensor, solved: Tensor) -> Gradients:
    """Gradients of query, keys, erase keys, decay and erase rate."""
    config = given.config("gradients")
    blocks = _blocks(given.width, config.shape.width)
    d_query = None if given.query is None else torch.empty_like(given.query, memory_format=torch.contiguous_format)
    if d_query is not None and grad is None:
        d_query.zero_()
    d_keys = given.empty(given.rows, given.width)
    d_erase = None if memory.tied else given.empty(given.rows, given.width)
    parts = lambda: given.keys.new_empty(blocks, given.keys.shape[0], given.heads, given.rows, dtype=torch.float32)
    d_rates = parts() if memory.erases else None
    d_decay = None if given.decay is None else given.empty(given.rows, given.width, dtype=torch.float32) if given.channels else parts()
    views = (given.view(t) for t in (given.query, given.keys, given.way, given.decay))
    given_back = (given.view(t) for t in (written, grad, solved, d_query, d_keys, d_erase))
    of_decay = given.view(d_decay) if given.channels else d_decay
    arguments = (*views, given.erase_rate, states, d_states, *given_back, of_decay, d_rates)
    sizes = (given.sizes(), blocks, given.members)
    _run(_gradients, given.members * given.chunks * blocks, config, *arguments, *sizes, MEMORY=memory, MODE=given.mode)
    if d_decay is not None and not given.channels:
        d_decay = d_decay.sum(0).unsqueeze(-1)
    return d_query, d_keys, d_erase, d_decay, None if d_rates is None else d_rates.sum(0)


def _to_values(given: Linear, solved: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of values and write rates."""
    if given.write_rate is None:
        return solved, None
    d_values, d_rates, config = torch.empty_like(solved), torch.empty_like(given.write_rate), given.config("solve")
    arguments = (given.view(given.values), given.write_rate, given.view(solved), given.view(d_values), d_rates, given.sizes())
    _run(_rated, given.members * given.chunks, config, *arguments)
    return d_values, d_rates


def _solved(given: Linear, memory: Memory, rows: Tensor, of_rows: Tensor, of_keys: Tensor | None, back: bool) -> None:
    views = (given.view(t) for t in (given.keys, given.way, given.decay))
    arguments = (*views, given.write_rate, given.erase_rate, given.view(rows), given.view(of_rows), given.view(of_keys), given.sizes())
    _run(_solve, given.members * given.chunks, given.config("solve"), *arguments, MEMORY=memory, MODE=given.mode, BACK=back)


def _met(given: Linear, rows: Tensor, ahead: bool) -> Tensor:
    """Rows under a decay per channel since their chunk began, or ahead until it ends; a decay of one number meets them in the scans."""
    if not given.channels:
        return rows
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    config = given.config("solve")
    members, blocks = rows.shape[0] * rows.shape[1], _blocks(given.width, config.shape.width)
    heads, group = rows.shape[1], rows.shape[1] // given.heads
    sizes = (given.rows, given.width, given.columns, heads, group, given.chunks)
    arguments = (given.view(rows), given.view(given.decay), given.view(out), sizes)
    _run(_decayed, members * given.chunks * blocks, config, *arguments, MEMORY=given.memory(), AHEAD=ahead)
    return out


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


def _run(kernel: Any, programs: int, config: configs.Config, *arguments: Any, **constants: Any) -> None:
    if programs:
        configs.run(kernel, (programs,), config, *arguments, SHAPE=config.shape, **constants)
