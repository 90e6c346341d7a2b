"""torch's fused attention on a CPU, for softmax reads: exact, streaming, and it returns the log-normaliser.

Serves every rule whose weights are ``exp(s − Q)``: ``Dot · Exp · Log`` directly, ``Euclidean`` and ``Cosine`` through their
lifted vectors, an empty slot in closed form: ``Q = log(1 + e^L)`` and ``o = o_L e^(L − Q)``. Passing this Q and o on to
the fused backward gives its gradient, because only ``exp(s − Q)`` and ``⟨dO, o⟩`` enter there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..energies import ReadEnergy
from .cut import Memory, Rows, Rule

_FORWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_BACKWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)
AVAILABLE = _FORWARD is not None and _BACKWARD is not None


def suits(energy: ReadEnergy) -> bool:
    """Whether an energy's weights are ``exp(β S − Q)`` of an inner product."""
    return energy.similarity.inner and Rule(energy.separation, energy.scaling).exponential


def serves(rule: Rule, memory: Memory) -> bool:
    """Whether this read can run here, forward and backward (the fused backward has no gradient for a presence)."""
    soft = memory.presence is not None and memory.presence.is_floating_point()
    enough = memory.state.shape[0] > 0 and memory.state.shape[1] > 0 and memory.keys.shape[1] > 0
    return AVAILABLE and rule.exponential and rule.similarity is None and enough and not soft and memory.state.device.type == "cpu"


def forward(rule: Rule, memory: Memory) -> Rows:
    state, keys, values = _operands(memory)
    output, level = _FORWARD(state, keys, values, 0.0, memory.causal, attn_mask=_mask(memory), scale=1.0)  # type: ignore[misc]
    output, level = output.squeeze(1)[..., : memory.values.shape[-1]], level.squeeze(1).to(output.dtype)
    if memory.presence is not None:
        level = torch.where(_alive(memory), level, -math.inf)
    if rule.null:
        value = torch.logaddexp(level, torch.zeros_like(level))
        output, level = output * torch.exp(level - value).unsqueeze(-1), value
    empty = output.new_empty(0)
    return Rows(output.contiguous(), (level + rule.constant).contiguous(), empty, empty.clone())


def backward(rule: Rule, memory: Memory, rows: Rows, cotangent: Tensor):
    """Gradients of states, keys and values (added to those of the keys when tied); presence has none."""
    state, keys, values = _operands(memory)
    level = rows.value - rule.constant
    level = torch.where(level == -math.inf, 0.0, level).unsqueeze(1)
    width = values.shape[-1] - cotangent.shape[-1]
    grad, output = pad(cotangent, (0, width)).unsqueeze(1), pad(rows.output, (0, width)).unsqueeze(1)
    grads = _BACKWARD(grad, state, keys, values, output, level, 0.0, memory.causal, attn_mask=_mask(memory), scale=1.0)  # type: ignore[misc]
    d_state, d_keys, d_values = (g.squeeze(1) for g in grads)
    d_state, d_keys = d_state[..., : memory.state.shape[-1]], d_keys[..., : memory.keys.shape[-1]]
    d_values = d_values[..., : memory.values.shape[-1]]
    if not memory.tied:
        return d_state, d_keys, d_values, None
    d_keys[..., : d_values.shape[-1]] += d_values
    return d_state, d_keys, None, None


def _operands(memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
    """State, keys and values as (b, 1, rows, width) of one width, as the fused kernel wants them."""
    keys = memory.keys
    values = keys if memory.tied else memory.values
    width = max(keys.shape[-1], values.shape[-1])
    return tuple(_widened(t, width).unsqueeze(1) for t in (memory.state, keys, values))  # type: ignore[return-value]


def _widened(tensor: Tensor, width: int) -> Tensor:
    tensor = pad(tensor, (0, width - tensor.shape[-1])) if tensor.shape[-1] < width else tensor
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _mask(memory: Memory) -> Tensor | None:
    """Additive mask (b, 1, rows or 1, n): 0 where a slot is there, −∞ where it is deleted."""
    if memory.presence is None:
        return None
    zero = torch.zeros((), dtype=memory.state.dtype, device=memory.state.device)
    return torch.where(memory.presence, zero, -math.inf).unsqueeze(1).expand(-1, -1, -1, memory.keys.shape[1])


def _alive(memory: Memory) -> Tensor:
    """Queries that see at least one slot, (b, rows or 1)."""
    seen = memory.presence.expand(-1, -1, memory.keys.shape[1])  # type: ignore[union-attr]
    if not memory.causal:
        return seen.any(-1)
    first = torch.where(seen.any(-1), seen.int().argmax(-1), seen.shape[-1])
    return first <= torch.arange(memory.state.shape[1], device=seen.device)
