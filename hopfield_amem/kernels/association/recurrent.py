"""One token at a time: how a memory is generated with, and the path of writes that no matrix equation solves."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energies import Ridge
from .ridge import regressed, rooted
from .tokens import MatrixState, RidgeState, SlotState, State, Tokens, scaled
from .weights import weights


def recurrent(tokens: Tokens) -> tuple[Tensor, State]:
    """``u_t = b_t signal(ŷ_t, v_t)`` with ``ŷ_t`` read before the write, ``o_t`` after it."""
    if isinstance(tokens.memory.write, Ridge):
        return _ridge(tokens)
    return _matrix(tokens) if tokens.constant else _slots(tokens)


def _update(tokens: Tokens, prediction: Tensor, value: Tensor, write_rate: Tensor | None, erase_rate: Tensor | None) -> Tensor:
    """What one token writes."""
    if tokens.memory.slope is None:
        return scaled(write_rate, tokens.memory.write.signal(prediction, value))  # type: ignore[union-attr]
    written = scaled(write_rate, value)
    return written - scaled(erase_rate, prediction) if tokens.memory.slope else written


def _matrix(tokens: Tokens) -> tuple[Tensor, MatrixState]:
    """``S ← Diag(γ) S``, ``u = a v − b w S``, ``S ← S + kᵀ u``, ``o = q S``"""
    state = tokens.state.memory if isinstance(tokens.state, MatrixState) else _nothing(tokens, tokens.keys.shape[-1])
    query = tokens.memory.read.inverse_temperature(2, tokens.keys) * tokens.query
    at = tokens.memory.predictor.inverse_temperature(2, tokens.keys) * tokens.at
    faded = None if tokens.decay is None else tokens.decay.exp()
    outputs = []
    for q, k, v, w, a, b, g in _steps(tokens, query, tokens.keys, tokens.values, at, tokens.write_rate, tokens.erase_rate, faded):
        state = state if g is None else g.unsqueeze(-1) * state
        written = _update(tokens, _answer(w, state) if tokens.memory.slope != 0 else v, v, a, b)
        state = state + k.unsqueeze(-1) * written.unsqueeze(-2)
        outputs.append(_answer(q, state))
    return _stacked(tokens, outputs), MatrixState(state)


def _slots(tokens: Tokens) -> tuple[Tensor, SlotState]:
    """The same with all slots kept: what a token writes is appended."""
    read, predictor = tokens.memory.read, tokens.memory.predictor
    levels, there, slots = tokens.levels(), tokens.present(), tokens.slots
    written = _nothing(tokens, 0)
    if isinstance(tokens.state, SlotState):
        written = tokens.state.written.expand(*tokens.lead, *tokens.state.written.shape[-2:])
    outputs = []
    for t, (q, v, w, a, b) in enumerate(_steps(tokens, tokens.query, tokens.values, tokens.at, tokens.write_rate, tokens.erase_rate)):
        end = tokens.cached + t

        def recalled(energy, x, held, count=end, now=end):
            seen = slots.new_ones(count, dtype=torch.bool) if there is None else there[..., :count].unsqueeze(-2)
            fall = None if levels is None else (levels[..., now : now + 1] - levels[..., :count]).unsqueeze(-2)
            return (weights(energy, x.unsqueeze(-2), slots[..., :count, :], seen, fall) @ held).squeeze(-2)

        prediction = recalled(predictor, w, written) if tokens.memory.slope != 0 else v
        update = _update(tokens, prediction, v, a, b)
        update = update.expand(*written.shape[:-2], update.shape[-1])
        written = torch.cat([written, update.unsqueeze(-2)], -2)
        outputs.append(recalled(read, q, written, end + 1))
    return _stacked(tokens, outputs), tokens.grown(written)


def _ridge(tokens: Tokens) -> tuple[Tensor, RidgeState]:
    """``H ← γH + b k kᵀ``, ``G ← γG + b k vᵀ``, ``o = q (H + λ)⁻¹ G``"""
    query, keys = (rooted(tokens.memory.read, t) for t in (tokens.query, tokens.keys))
    width, penalty = keys.shape[-1], tokens.memory.write.penalty  # type: ignore[union-attr]
    covariance, memory = tokens.state if isinstance(tokens.state, RidgeState) else (_nothing(tokens, width, width), _nothing(tokens, width))
    faded = None if tokens.decay is None else tokens.decay.exp()
    outputs = []
    for q, k, weighted, v, g in _steps(tokens, query, keys, scaled(tokens.write_rate, keys), tokens.values, faded):
        if g is not None:
            covariance, memory = g.unsqueeze(-1) * covariance, g.unsqueeze(-1) * memory
        covariance = covariance + weighted.unsqueeze(-1) * k.unsqueeze(-2)
        memory = memory + weighted.unsqueeze(-1) * v.unsqueeze(-2)
        outputs.append(_answer(regressed(covariance, q.unsqueeze(-1), penalty).squeeze(-1), memory))
    return _stacked(tokens, outputs), RidgeState(covariance, memory)


def _answer(x: Tensor, state: Tensor) -> Tensor:  # (..., d), (..., d, v) -> (..., v)
    return (x.unsqueeze(-2) @ state).squeeze(-2)


def _nothing(tokens: Tokens, rows: int, columns: int | None = None) -> Tensor:
    return tokens.values.new_zeros(*tokens.lead, rows, tokens.values.shape[-1] if columns is None else columns)


def _steps(tokens: Tokens, *sequences: Tensor | None):
    """The tokens of several sequences side by side. Unbound, because the gradient of an index is as large as the sequence."""
    length = tokens.length
    return zip(*([None] * length if s is None else s.expand(*s.shape[:-2], length, s.shape[-1]).unbind(-2) for s in sequences), strict=True)


def _stacked(tokens: Tokens, outputs: list[Tensor]) -> Tensor:
    if not outputs:
        return tokens.values.new_zeros(*torch.broadcast_shapes(tokens.lead, tokens.query.shape[:-2]), 0, tokens.values.shape[-1])
    return torch.stack(outputs, -2)
