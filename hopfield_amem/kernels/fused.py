"""torch's fused attention on a CPU, for softmax reads: exact, streaming, and it returns the log-normaliser.

Serves every rule whose weights are ``exp(s − Q)``: ``Dot · Exp · Log`` directly, ``Euclidean`` and ``Cosine`` through their
lifted vectors, an empty slot in closed form: ``Q = log(1 + e^L)`` and ``o = o_L e^(L − Q)``. Passing this Q and o on to
the fused backward gives its gradient, because only ``exp(s − Q)`` and ``⟨dO, o⟩`` enter there. Long memories go by in slices
whose partial results merge exactly, so that lifted keys, masks and partial gradients never need more than a slice; a forward
pass that makes no copies takes them whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..energies import ReadEnergy
from .cut import Cut, Rows, Rule

_FORWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_BACKWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)
AVAILABLE = _FORWARD is not None and _BACKWARD is not None
SLICE = 2**18  # numbers in a slice of keys: 1 MiB in float32


def suits(energy: ReadEnergy) -> bool:
    """Whether an energy's weights are ``exp(β S − Q)`` of an inner product."""
    return energy.similarity.inner and Rule(energy.similarity, energy.separation, energy.scaling).exponential


def serves(memory: Cut) -> bool:
    """Whether this read can run here, forward and backward (the fused backward has no gradient for a presence or a bias)."""
    plain = memory.bias is None and memory.seed is None and not memory.windowed
    soft = memory.presence is not None and memory.presence.is_floating_point()
    enough = memory.state.shape[0] > 0 and memory.state.shape[1] > 0 and memory.keys.shape[1] > 0
    return AVAILABLE and memory.rule.exponential and memory.rule.similarity.inner and enough and plain and not soft and memory.state.device.type == "cpu"


def forward(memory: Cut) -> Rows:
    output, level = None, None
    for j in _slices(memory, _copies(memory)):
        state, keys, values, mask = _operands(memory, j)
        part, log = _FORWARD(state, keys, values, 0.0, memory.causal, attn_mask=mask, scale=1.0)  # type: ignore[misc]
        part, log = part.squeeze(1)[..., : memory.columns], log.squeeze(1).to(part.dtype)
        if bool((log == 0).any()) and not bool(state.isfinite().all() & keys.isfinite().all()):
            part = part * math.nan  # the fused kernel takes a row of NaN for an empty one
        log = log if memory.presence is None else torch.where(_alive(memory, j), log, -math.inf)
        output, level = (part, log) if output is None or level is None else _merged(output, level, part, log)
    if output is None or level is None:
        raise RuntimeError("a fused read needs at least one slot")
    if memory.rule.null:
        value = torch.logaddexp(level, torch.zeros_like(level))
        output, level = output * torch.exp(level - value).unsqueeze(-1), value
    empty = output.new_empty(0)
    return Rows(output.contiguous(), (level + memory.rule.constant).contiguous(), empty, empty.clone())


def backward(memory: Cut, rows: Rows, cotangent: Tensor):
    """Gradients of states, keys and values (added to those of the keys when tied); presence has none."""
    level = rows.value - memory.rule.constant
    level = torch.where(level == -math.inf, 0.0, level).unsqueeze(1)
    d_state = torch.zeros_like(memory.state)
    d_keys = torch.zeros(memory.keys.shape, dtype=memory.keys.dtype)
    d_values = None if memory.values is None else torch.zeros(memory.values.shape, dtype=memory.values.dtype)
    for j in _slices(memory, True):
        to_state, to_lifted, to_read = _sliced_backward(memory, rows, cotangent, level, j)
        d_state += to_state
        if d_values is None:
            to_lifted[..., : memory.width] += to_read
        else:
            d_values[:, j] = to_read
        if memory.identity:
            d_keys[:, j] = to_lifted
        memory.lower((slice(None), j), to_lifted, d_keys)
        del to_lifted, to_read  # or the next slice would be computed beside them
    return d_state, d_keys, d_values, None, None


def _sliced_backward(memory: Cut, rows: Rows, cotangent: Tensor, level: Tensor, j: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of states, lifted keys and what is read, from one slice of slots."""
    state, keys, values, mask = _operands(memory, j)
    grad, output = (pad(t, (0, values.shape[-1] - t.shape[-1])).unsqueeze(1) for t in (cotangent, rows.output))
    grads = _BACKWARD(grad, state, keys, values, output, level, 0.0, memory.causal, attn_mask=mask, scale=1.0)  # type: ignore[misc]
    to_state, to_lifted, to_read = (g.squeeze(1) for g in grads)
    width = memory.state.shape[-1]
    return to_state[..., :width], to_lifted[..., :width], to_read[..., : memory.columns]


def _copies(memory: Cut) -> bool:
    """Whether the operands of a forward pass are more than the memory itself: lifted keys, widened ones, or a mask."""
    return not memory.identity or memory.columns != memory.keys.shape[2] or memory.presence is not None


def _slices(memory: Cut, cut: bool) -> Iterator[slice]:
    """Slot ranges, or all slots at once; a causal read is aligned at its first slot and stays whole."""
    slots = memory.keys.shape[1]
    width = max(1024, SLICE // (memory.keys.shape[0] * memory.keys.shape[2])) if cut and not memory.causal else slots
    for j in range(0, slots, width):
        yield slice(j, min(j + width, slots))


def _merged(output: Tensor, level: Tensor, part: Tensor, log: Tensor) -> tuple[Tensor, Tensor]:
    """Two normalised partial reads as one: weighted by ``exp(L − log(e^L + e^L'))``."""
    both = torch.logaddexp(level, log)
    safe = torch.where(both == -math.inf, 0.0, both)
    return output * torch.exp(level - safe).unsqueeze(-1) + part * torch.exp(log - safe).unsqueeze(-1), both


def _operands(memory: Cut, j: slice) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """State, keys and values as (b, 1, rows, width) of one width, as the fused kernel wants them, and the additive mask."""
    keys, values = memory.slots((slice(None), j))
    values = keys if memory.values is None else values
    width = max(keys.shape[-1], values.shape[-1])
    state, keys, values = (_widened(t, width).unsqueeze(1) for t in (memory.state, keys, values))
    if memory.presence is None:
        return state, keys, values, None
    zero = torch.zeros((), dtype=state.dtype, device=state.device)
    return state, keys, values, torch.where(_present(memory, j), zero, -math.inf).unsqueeze(1)


def _widened(tensor: Tensor, width: int) -> Tensor:
    tensor = pad(tensor, (0, width - tensor.shape[-1])) if tensor.shape[-1] < width else tensor
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _present(memory: Cut, j: slice) -> Tensor:
    """Presence of a slice, (b, rows or 1, j)."""
    return memory.presence.expand(-1, -1, memory.keys.shape[1])[..., j]  # type: ignore[union-attr]


def _alive(memory: Cut, j: slice) -> Tensor:
    """Queries that see at least one slot of a slice, (b, rows or 1)."""
    seen = _present(memory, j)
    if not memory.causal:
        return seen.any(-1)
    first = torch.where(seen.any(-1), seen.int().argmax(-1), max(seen.shape[-1], memory.state.shape[1]))
    return first <= torch.arange(memory.state.shape[1], device=seen.device)
