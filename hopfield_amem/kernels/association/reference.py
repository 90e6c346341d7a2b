"""The definition of a memory that is written token by token: every matrix in full."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energies import ReadEnergy, Ridge
from .recurrent import recurrent
from .ridge import regressed, rooted
from .tokens import MatrixState, RidgeState, SlotState, State, Tokens, after, scaled
from .weights import left, weights


def reference(tokens: Tokens) -> tuple[Tensor, State]:
    """What every other path must equal: ``u = a v − b κ₁ u``, a triangular system, and ``o = κ₂ u``."""
    if not tokens.length:
        return recurrent(tokens)
    if isinstance(tokens.memory.write, Ridge):
        return ridge(tokens)
    read, predictor, old, ago = tokens.memory.read, tokens.memory.predictor, tokens.cached, _ago(tokens)
    target = scaled(tokens.write_rate, tokens.values)
    written = target = target.expand(*tokens.lead, *target.shape[-2:])
    if tokens.memory.slope:
        share = _weights(tokens, predictor, tokens.at, ago > 0)
        known = _recalled(tokens, predictor, tokens.at, share[..., :old])
        written = solve(scaled(tokens.erase_rate, share[..., old:]), target - scaled(tokens.erase_rate, known))
    slots = after(tokens.state.written, written) if old else written  # type: ignore[union-attr]
    share = _weights(tokens, read, tokens.query, ago >= 0)
    output = share[..., old:] @ written + _recalled(tokens, read, tokens.query, share[..., :old])
    return output, _final(tokens, written) if tokens.constant else tokens.grown(slots)


def solve(system: Tensor, target: Tensor) -> Tensor:
    """``u`` of ``u + A u = r`` with A strictly lower triangular. (..., t, t), (..., t, v) -> (..., t, v)"""
    eye = torch.eye(system.shape[-1], dtype=system.dtype, device=system.device)
    return torch.linalg.solve_triangular(eye + system.tril(-1), target, upper=False, unitriangular=True)


def _ago(tokens: Tokens) -> Tensor:
    """How many tokens before token i slot j was written, (t, c + t)."""
    rows, slots = (torch.arange(n, device=tokens.keys.device) for n in (tokens.length, tokens.cached + tokens.length))
    return rows.unsqueeze(-1) + tokens.cached - slots


def _weights(tokens: Tokens, energy: ReadEnergy, query: Tensor, seen: Tensor) -> Tensor:
    """Weights of all slots, each with what is left of it; (..., t, c + t)."""
    if tokens.per_channel:
        faded = left(tokens.left.unsqueeze(-2), tokens.left.unsqueeze(-3), seen.unsqueeze(-1)).to(query.dtype)  # type: ignore[union-attr]
        return energy.inverse_temperature(2, query) * torch.einsum("...id,...jd,...ijd->...ij", query, tokens.keys, faded)
    there, levels = tokens.present(), tokens.levels()
    seen = seen if there is None else seen & there.unsqueeze(-2)
    fall = None if levels is None else levels[..., tokens.cached :].unsqueeze(-1) - levels.unsqueeze(-2)
    return weights(energy, query, tokens.slots, seen, fall)


def _recalled(tokens: Tokens, energy: ReadEnergy, query: Tensor, share: Tensor) -> Tensor:
    """What was there before the first token answers: slots at these weights, or a matrix."""
    if isinstance(tokens.state, SlotState):
        return share @ tokens.state.written
    if not isinstance(tokens.state, MatrixState):
        return tokens.values.new_zeros(())
    query = query if tokens.left is None else query * tokens.left.exp().to(query.dtype)
    return energy.inverse_temperature(2, query) * (query @ tokens.state.memory)


def _final(tokens: Tokens, written: Tensor) -> MatrixState:
    """``Σ_j Diag(γ) k_jᵀ u_j``, with what is left of the matrix before."""
    keys, level = tokens.keys, tokens.left
    if level is not None:
        keys = keys * (level[..., -1:, :] - level).exp().to(keys.dtype)
    memory = keys.mT @ written
    if not isinstance(tokens.state, MatrixState):
        return MatrixState(memory)
    return MatrixState(memory + (tokens.state.memory if level is None else level[..., -1:, :].exp().mT.to(keys.dtype) * tokens.state.memory))


def ridge(tokens: Tokens) -> tuple[Tensor, RidgeState]:
    """``o_t = q (H_t + λ)⁻¹ G_t`` with ``H_t = Σ γ b k kᵀ`` and ``G_t = Σ γ b k vᵀ``, solved anew for every token."""
    query, keys = (rooted(tokens.memory.read, t) for t in (tokens.query, tokens.keys))
    level = tokens.keys.new_zeros(tokens.length) if tokens.left is None else tokens.left.squeeze(-1)
    amounts = left(level.unsqueeze(-1), level.unsqueeze(-2), _ago(tokens) >= 0).to(keys.dtype)
    weighted = scaled(tokens.write_rate, keys)
    covariance = torch.einsum("...ij,...jc,...je->...ice", amounts, weighted, keys)
    memory = torch.einsum("...ij,...jc,...jv->...icv", amounts, weighted, tokens.values)
    if isinstance(tokens.state, RidgeState):
        kept = level.exp()[..., None, None].to(keys.dtype)
        covariance = covariance + kept * tokens.state.covariance.unsqueeze(-3)
        memory = memory + kept * tokens.state.memory.unsqueeze(-3)
    found = regressed(covariance, query.unsqueeze(-1), tokens.memory.write.penalty)  # type: ignore[union-attr]
    return (found.mT @ memory).squeeze(-2), RidgeState(covariance[..., -1, :, :], memory[..., -1, :, :])
