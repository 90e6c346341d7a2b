"""The operators of memories with a state of constant size, as one family: linear attention, decayed, gated, and with the delta rule.

    S ← Diag(γ_t) S;   u_t = a_t v_t − b_t w_t S;   S ← S + k_tᵀ u_t;   o_t = q_t S

The sequence is cut into chunks; inside a chunk rows meet by matrix products, from chunk to chunk the state is carried.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..differentiable import FAMILIES, Family
from . import linear_launch
from .linear_operands import Linear


@torch.library.custom_op("hopfield_amem::linear", mutates_args=())
def linear(
    query: Tensor | None, keys: Tensor, values: Tensor, write_rate: Tensor | None, erase_rate: Tensor | None, erase: Tensor | None,
    decay: Tensor | None, state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Output (empty without queries), final state, written rows u, and the states before chunks."""
    return linear_launch.forward(Linear(query, keys, values, write_rate, erase_rate, erase, decay, state))


@linear.register_fake
def _(query, keys, values, write_rate, erase_rate, erase, decay, state):
    given = Linear(query, keys, values, write_rate, erase_rate, erase, decay, state)
    written, final = given.empty(given.rows, given.columns), given.empty(given.width, given.columns, dtype=torch.float32)
    output = keys.new_empty(0) if query is None else query.new_empty(*query.shape[:3], values.shape[-1])
    return output, final, written, given.empty(given.chunks, given.width, given.columns, dtype=given.kept)


@torch.library.custom_op("hopfield_amem::linear_backward", mutates_args=())
def linear_backward(
    d_output: Tensor | None, d_final: Tensor | None, d_written: Tensor | None, query: Tensor | None, keys: Tensor, values: Tensor,
    write_rate: Tensor | None, erase_rate: Tensor | None, erase: Tensor | None, decay: Tensor | None, state: Tensor | None, written: Tensor,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the tensors of ``linear``, empty where there is none."""
    tensors = (query, keys, values, write_rate, erase_rate, erase, decay, state)
    grads = linear_launch.backward(Linear(*tensors), (d_output, d_final, d_written), written, states)
    return tuple(keys.new_empty(0) if t is None else _of(t, g) for t, g in zip(tensors, grads, strict=True))  # type: ignore[return-value]


def _of(tensor: Tensor, grad: Tensor | None) -> Tensor:
    """A gradient in its tensor's dtype, zero where nothing depends on the tensor."""
    return torch.zeros_like(tensor, memory_format=torch.contiguous_format) if grad is None else grad.to(tensor.dtype)


@linear_backward.register_fake
def _(d_output, d_final, d_written, query, keys, values, write_rate, erase_rate, erase, decay, state, written, states):
    tensors = (query, keys, values, write_rate, erase_rate, erase, decay, state)
    return tuple(keys.new_empty(0) if t is None else t.new_empty(t.shape) for t in tensors)


def definition(tensors, options) -> tuple[Tensor, Tensor, Tensor]:
    """Output, final state and written rows with every matrix in full, in differentiable torch."""
    query, keys, values, write_rate, erase_rate, erase, decay, state = tensors
    inside = torch.float32 if keys.dtype != torch.float64 else torch.float64
    k, v = keys.to(inside), values.to(inside)
    left, since, until, whole = _falls(k, None if decay is None else decay.to(inside))
    s = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1]) if state is None else state.to(inside)
    u = v if write_rate is None else write_rate.to(inside).unsqueeze(-1) * v
    if erase_rate is not None:
        w, rate = (keys if erase is None else erase).to(inside), erase_rate.to(inside).unsqueeze(-1)
        gram = rate * _pairs(w, k, left).tril(-1)
        unit = torch.eye(k.shape[2], dtype=inside, device=k.device)
        u = torch.linalg.solve_triangular(gram + unit, u - rate * ((w * since) @ s), upper=False, unitriangular=True)
    final = whole * s + (k * until).mT @ u
    output = keys.new_empty(0)
    if query is not None:
        group = query.shape[1] // k.shape[1]
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


def _forward(tensors, options):
    return linear(*tensors)


def _backward(cotangents, tensors, results, options, wanted):
    return linear_backward(*cotangents, *tensors, results[2], results[3])


FAMILIES["triton linear"] = Family(3, _forward, _backward, definition)
