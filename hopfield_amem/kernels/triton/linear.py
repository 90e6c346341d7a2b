"""The operators of memories with a state of constant size, as one family: linear attention, decayed, gated, and with the delta rule.

    S ← Diag(γ_t) S;   u_t = a_t v_t − b_t w_t S;   S ← S + k_tᵀ u_t;   o_t = q_t S

The sequence is cut into chunks; inside a chunk rows meet by matrix products, from chunk to chunk the state is carried.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..association import definitions
from ..differentiable import FAMILIES, Family
from . import linear_launch
from .linear_operands import Linear


@torch.library.custom_op("hopfield_amem::kernel_linear", mutates_args=())
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


@torch.library.custom_op("hopfield_amem::kernel_linear_backward", mutates_args=())
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


def _forward(tensors, options):
    return linear(*tensors)


def _backward(cotangents, tensors, results, options, wanted):
    return linear_backward(*cotangents, *tensors, results[2], results[3])


FAMILIES["triton linear"] = Family(3, _forward, _backward, definitions.linear)
