"""torch's fused attention on a CPU, for softmax reads: exact, streaming, and it returns the log-normaliser.

Serves every rule whose weights are ``exp(s − Q)``: ``Dot · Exp · Log`` directly, ``Euclidean`` and ``Cosine`` through their
lifted vectors, an empty slot in closed form: ``Q = log(1 + e^L)`` and ``o = o_L e^(L − Q)``. Passing this Q and o on to
the fused backward gives its gradient, because only ``exp(s − Q)`` and ``⟨dO, o⟩`` enter there. Long memories go by in slices
whose partial results merge exactly, so that lifted keys, masks and partial gradients never need more than a slice; a forward
pass that makes no copies takes them whole. Heads that share a memory read the same keys, and a presence that heads share stays one.

All tensors are (b, h, rows, columns), of keys and values (b, h / group, rows, columns).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..energies import ReadEnergy
from ..energies.truth import known
from .cut import Cut
from .gates import EVERYTHING, Gates
from .rule import Rule

_FORWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_BACKWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)
AVAILABLE = _FORWARD is not None and _BACKWARD is not None
GROUPED = torch.__version__ >= "2.9"  # the operators know heads that share keys
SLICE = 2**18  # numbers in a slice of keys: 1 MiB in float32


def suits(energy: ReadEnergy) -> bool:
    """Whether an energy's weights are ``exp(β S − Q)`` of an inner product."""
    return energy.similarity.inner and energy.streams and Rule(energy.similarity, energy.separation, energy.scaling).exponential


def serves(energy: ReadEnergy, gates: Gates, state: Tensor) -> bool:
    """Whether a read can run here, forward and backward (the fused backward has no gradient for a presence or a bias)."""
    windowed = 0 < gates.reach < EVERYTHING and not known(gates.reach >= state.shape[-2])
    soft = gates.presence is not None and gates.presence.is_floating_point()
    plain = gates.bias is None and gates.seed is None and gates.level is None
    return AVAILABLE and suits(energy) and plain and not windowed and not soft and state.device.type == "cpu"


def forward(memory: Cut) -> tuple[Tensor, Tensor]:
    """What is read (b, h, q, v), and Q (b, h, q)."""
    output, level = None, None
    for j in _slices(memory, _copies(memory)):
        state, keys, values, mask = _operands(memory, j, memory.columns)
        part, log = _FORWARD(state, keys, values, 0.0, memory.causal, attn_mask=mask, scale=1.0)  # type: ignore[misc]
        part, log = part[..., : memory.columns], log.to(part.dtype)
        if bool((log == 0).any()) and not bool(state.isfinite().all() & keys.isfinite().all()):
            part = part * math.nan  # the fused kernel takes a row of NaN for an empty one
        log = log if memory.presence is None else torch.where(_alive(memory, j), log, -math.inf)
        output, level = (part, log) if output is None or level is None else _merged(output, level, part, log)
    if output is None or level is None:  # no query or no slot
        level = memory.state.new_full(memory.state.shape[:-1], -math.inf)
        output = memory.state.new_zeros(*level.shape, memory.columns)
    if memory.rule.null:
        value = torch.logaddexp(level, torch.zeros_like(level))
        output, level = output * torch.exp(level - value).unsqueeze(-1), value
    return output, level + memory.rule.constant


def backward(memory: Cut, output: Tensor, value: Tensor, cotangent: Tensor, pulled: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of states, keys and values (added to those of the keys when tied), from those of what is read and of Q."""
    level = value - memory.rule.constant
    level = torch.where(level == -math.inf, 0.0, level)
    if pulled is not None:  # ds = p (g − ⟨dO, o⟩ + dQ): one column more in which values are 0, dO is 1 and o is −dQ
        output, cotangent = torch.cat([output, -pulled.unsqueeze(-1)], -1), pad(cotangent, (0, 1), value=1.0)
    slices = list(_slices(memory, True))
    d_state = d_keys = d_values = None
    for j in slices:
        to_state, to_lifted, to_read = _sliced_backward(memory, (output, level, cotangent), j)
        if memory.values is None:
            to_lifted[..., : memory.width] += to_read
        d_state = to_state if d_state is None else d_state.add_(to_state)
        if len(slices) == 1 and memory.identity:
            return d_state, to_lifted, None if memory.values is None else to_read
        d_keys = torch.zeros(memory.keys.shape, dtype=memory.keys.dtype) if d_keys is None else d_keys
        memory.lower((slice(None), slice(None), j), to_lifted, d_keys)
        if memory.values is not None:
            d_values = torch.zeros(memory.values.shape, dtype=memory.values.dtype) if d_values is None else d_values
            d_values[..., j, :] = to_read
        del to_state, to_lifted, to_read  # or the next slice would be computed beside them
    if d_state is None or d_keys is None:
        return tuple(None if t is None else torch.zeros_like(t) for t in (memory.state, memory.keys, memory.values))  # type: ignore[return-value]
    return d_state, d_keys, d_values


def _sliced_backward(memory: Cut, rows: tuple[Tensor, Tensor, Tensor], j: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of states, lifted keys and what is read, from one slice of slots."""
    output, level, cotangent = rows
    state, keys, values, mask = _operands(memory, j, output.shape[-1])
    grad, output = (pad(t, (0, values.shape[-1] - t.shape[-1])) for t in (cotangent, output))
    to_state, *grads = _BACKWARD(grad, state, keys, values, output, level, 0.0, memory.causal, attn_mask=mask, scale=1.0)  # type: ignore[misc]
    memories = memory.keys.shape[1]
    to_lifted, to_read = (g if g.shape[1] == memories else g.unflatten(1, (memories, -1)).sum(2) for g in grads)
    width = memory.state.shape[-1]
    return to_state[..., :width], to_lifted[..., :width], to_read[..., : memory.columns]


def _copies(memory: Cut) -> bool:
    """Whether the operands of a forward pass are more than the memory itself: lifted keys, widened ones, or a mask."""
    return not memory.identity or memory.columns != memory.keys.shape[-1] or memory.presence is not None


def _slices(memory: Cut, cut: bool) -> Iterator[slice]:
    """Slot ranges, or all slots at once; a causal read is aligned at its first slot and stays whole."""
    batch, heads, slots, dim = memory.keys.shape
    width = max(1024, SLICE // max(1, batch * heads * dim)) if cut and not memory.causal else slots
    for j in range(0, slots if memory.state.numel() else 0, max(1, width)):
        yield slice(j, min(j + width, slots))


def _merged(output: Tensor, level: Tensor, part: Tensor, log: Tensor) -> tuple[Tensor, Tensor]:
    """Two normalised partial reads as one: weighted by ``exp(L − log(e^L + e^L'))``."""
    both = torch.logaddexp(level, log)
    safe = torch.where(both == -math.inf, 0.0, both)
    return output * torch.exp(level - safe).unsqueeze(-1) + part * torch.exp(log - safe).unsqueeze(-1), both


def _operands(memory: Cut, j: slice, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """State, keys and values of one width, as the fused kernel wants them, with at least so many columns; and the additive mask."""
    index = (slice(None), slice(None), j)
    keys = memory.lifted(index)
    values = keys[..., : memory.width] if memory.values is None else memory.values[index]
    group = memory.state.shape[1] // keys.shape[1]
    if group > 1 and not GROUPED:
        keys, values = (t.repeat_interleave(group, 1) for t in (keys, values))
    width = max(keys.shape[-1], columns)
    state, keys, values = (_widened(t, width) for t in (memory.state, keys, values))
    if memory.presence is None:
        return state, keys, values, None
    zero = torch.zeros((), dtype=state.dtype, device=state.device)
    return state, keys, values, torch.where(_present(memory, j), zero, -math.inf)


def _widened(tensor: Tensor, width: int) -> Tensor:
    tensor = pad(tensor, (0, width - tensor.shape[-1])) if tensor.shape[-1] < width else tensor
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _present(memory: Cut, j: slice) -> Tensor:
    """Presence of a slice, (b or 1, h or 1, rows or 1, j)"""
    presence = memory.presence
    assert presence is not None
    presence = presence[:1] if presence.stride(0) == 0 else presence  # one for the whole batch
    return presence.expand(-1, -1, -1, memory.keys.shape[-2])[..., j]


def _alive(memory: Cut, j: slice) -> Tensor:
    """Queries that see at least one slot of a slice, broadcastable to (b, h, rows)"""
    seen, rows = _present(memory, j), memory.state.shape[-2]
    if not memory.causal:
        return seen.any(-1)
    first = torch.where(seen.any(-1), seen.int().argmax(-1), max(seen.shape[-1], rows))
    return first <= torch.arange(rows, device=seen.device)
