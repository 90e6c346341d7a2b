"""The families of operators with every matrix in full, in differentiable torch: what second derivatives and tangents are taken through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...energies.registry import named
from .reference import solve
from .weights import weighed


def linear(tensors, _) -> tuple[Tensor, Tensor, Tensor]:
    """Output, final state and written rows with every matrix in full, in differentiable torch."""
    query, keys, values, write_rate, erase_rate, erase, decay, state = tensors
    inside = torch.float32 if keys.dtype != torch.float64 else torch.float64
    k, v = keys.to(inside), values.to(inside)
    left, since, until, whole = _falls(k, None if decay is None else decay.to(inside))
    s = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1]) if state is None else state.to(inside)
    u = v if write_rate is None else write_rate.to(inside).unsqueeze(-1) * v
    if erase_rate is not None:
        w, rate = (keys if erase is None else erase).to(inside), erase_rate.to(inside).unsqueeze(-1)
        u = solve(rate * _pairs(w, k, left), u - rate * ((w * since) @ s))
    final = whole * s + (k * until).mT @ u
    output = keys.new_empty(0)
    if query is not None:
        group = query.shape[1] // max(1, k.shape[1])
        k, left, since, s, read = (t if t.ndim == 0 else t.repeat_interleave(group, 1) for t in (k, left, since, s, u))
        q = query.to(inside)
        output = ((q * since) @ s + _pairs(q, k, left).tril() @ read).to(query.dtype)
    return output, final, u.to(keys.dtype)


def _falls(keys: Tensor, decay: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """e^{x_{j+1} + … + x_i} of all pairs (…, i, j, r), e^{…} since the start and until the end (…, i, r), and over all rows (…, r, 1)."""
    if decay is None:
        one = keys.new_ones(())
        return one, one, one, one
    rows = decay.shape[2]
    below = torch.ones(rows, rows, dtype=torch.bool, device=decay.device).tril(-1).unsqueeze(-1)
    left = torch.where(below, decay.unsqueeze(3), 0.0).cumsum(2).exp()  # sums of one sign: no difference to cancel
    return left, decay.cumsum(2).exp(), left[:, :, -1] if rows else decay, decay.sum(2).exp().unsqueeze(-1)


def _pairs(rows: Tensor, columns: Tensor, left: Tensor) -> Tensor:
    """Σ_c rows_ic columns_jc left_ijc: (…, i, j)"""
    if left.ndim == 0 or left.shape[-1] == 1:
        return rows @ columns.mT * (left if left.ndim == 0 else left.squeeze(-1))
    return torch.einsum("bhic,bhjc,bhijc->bhij", rows, columns, left)


def written(tensors, options) -> tuple[Tensor]:
    """``u = (I + b P)⁻¹ (a v − b P_c u_c)`` with every matrix in full, in differentiable torch."""
    exact = torch.promote_types(tensors[2].dtype, torch.float32)
    erase, keys, values, write_rate, erase_rate, cached, _, presence, beta = (_exact(t, exact) for t in tensors)
    weights = _weights(erase, keys, tensors[6], presence, beta, options, True)
    old = 0 if cached is None else cached.shape[2]
    target = values if write_rate is None else write_rate.unsqueeze(-1) * values
    known = torch.zeros_like(target) if cached is None else weights[..., :old] @ cached
    rate = torch.ones_like(target[..., :1]) if erase_rate is None else erase_rate.unsqueeze(-1)
    return (solve(rate * weights[..., old:], target - rate * known).to(tensors[2].dtype),)


def recalled(tensors, options) -> tuple[Tensor]:
    """``recalled`` with every matrix in full, in differentiable torch."""
    query, keys, held, level, presence, beta = tensors
    group = query.shape[1] // max(1, keys.shape[1])
    keys, held, level, presence = (t if t is None or group == 1 else t.repeat_interleave(group, 1) for t in (keys, held, level, presence))
    return (_weights(query, keys, level, presence, beta, options, False) @ held,)


def _weights(x, keys, level, presence, beta, options, strict: bool) -> Tensor:
    rule, divides = options
    rows, slots = x.shape[2], keys.shape[2]
    ago = torch.arange(slots - rows, slots, device=x.device).unsqueeze(-1) - torch.arange(slots, device=x.device)
    seen = ago > 0 if strict else ago >= 0
    seen = seen if presence is None else seen & presence.unsqueeze(-2)
    fall = None if level is None else level[..., slots - rows :].unsqueeze(-1) - level.unsqueeze(-2)
    return weighed(named(rule), divides, beta[..., None, None] * named(rule).similarity(x, keys), seen, fall)


def _exact(tensor: Tensor | None, dtype: torch.dtype) -> Any:
    return tensor if tensor is None or tensor.dtype == torch.bool else tensor.to(dtype)
