"""One call of a transformer's attention, read again as an associative memory, a block of queries at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...analysis.tally import Reading
from ...descent import Descent, FixedPoint, approach
from ...energies import ReadEnergy, presets
from ...energies.scaling import has_null_slot

BLOCK = 2**20  # scores alive at once
UNSEEN = -100.0  # additive masks below this leave nothing of a slot: exp underflows in float32


class Unreadable(Exception):
    """This attention cannot be read as a memory; the message says why."""


@dataclass(frozen=True)
class Call:
    """What an attention function was called with, and what it answered.

    Attributes:
        module: whose attention it is.
        function: the function that answered. One that reads from an energy says so by its attributes ``energy`` and ``descent``; any other
            is taken for softmax attention, and ``check`` finds out.
        query, keys, values: (batch, heads, q, d), (batch, memories, n, d), (batch, memories, n, v).
        mask: boolean or additive, (batch or 1, heads or 1, q or 1, n); (batch, n); or None.
        options: the keyword arguments.
        output: (batch, q, heads, v).
    """

    module: nn.Module
    function: Callable
    query: Tensor
    keys: Tensor
    values: Tensor
    mask: Any
    options: Mapping[str, Any]
    output: Tensor

    @property
    def energy(self) -> ReadEnergy:
        """The energy of the heads: log-sum-exp unless the function has one, at the model's own scaling."""
        scaling = self.options.get("scaling")
        energy = getattr(self.function, "energy", None) or presets.log_sum_exp()
        return energy.at(energy.beta * (self.query.shape[-1] ** -0.5 if scaling is None else scaling))

    @property
    def descent(self) -> Descent:
        """How queries come to the states that read the values."""
        return getattr(self.function, "descent", FixedPoint(steps=1))


def called(module: nn.Module, function: Callable, tensors: tuple[Any, ...], options: Mapping[str, Any], output: Tensor) -> Call:
    """A call as the attention function saw it: query, keys, values and mask are among ``tensors``, by place, or ``options``, by name."""
    named = dict(zip(("query", "key", "value", "attention_mask"), tensors, strict=False)) | dict(options)
    return Call(module, function, named["query"], named["key"], named["value"], named.get("attention_mask"), options, output)


def readings(call: Call) -> Iterator[tuple[slice, Reading, Tensor]]:
    """Blocks of queries: their place, what the memory does with them, and the values read (batch, heads, rows, v). Computed in float32 at least.

    Raises:
        Unreadable: masks or descents that are not understood.
    """
    if call.mask is not None and not isinstance(call.mask, Tensor):
        raise Unreadable(f"its mask is a {type(call.mask).__name__}; set_attn_implementation('sdpa') or 'eager' give it a tensor")
    dtype = torch.promote_types(call.query.dtype, torch.float32)
    groups = call.query.shape[1] // call.keys.shape[1]
    keys, values = (x.to(dtype).repeat_interleave(groups, 1) for x in (call.keys, call.values))
    together = max(1, BLOCK // (call.query.shape[0] * call.query.shape[1] * keys.shape[-2]))
    for start in range(0, call.query.shape[2], together):
        rows = slice(start, start + together)
        presence, added = _seen(call, rows)
        state = _approached(call, call.query[:, :, rows].to(dtype), keys, presence, added)
        reading = _read(call, state, keys, presence, added)
        yield rows, reading, call.energy.averaged(reading.weights @ values, reading.weights.sum(-1, keepdim=True))


def _approached(call: Call, query: Tensor, keys: Tensor, presence: Tensor, added: Tensor | None) -> Tensor:
    """The states that read the values: for attention the queries themselves."""
    if call.descent == FixedPoint(steps=1):
        return query
    if added is not None or call.options.get("softcap") is not None or call.options.get("s_aux") is not None:
        raise Unreadable(f"its queries take several steps, {call.descent}, under sinks, capped scores or a position bias")
    return approach(call.energy, query, keys, call.descent, presence=presence)


def _read(call: Call, state: Tensor, keys: Tensor, presence: Tensor, added: Tensor | None) -> Reading:
    energy, softcap, sinks = call.energy, call.options.get("softcap"), call.options.get("s_aux")
    scores = energy.scores(state, keys)
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores if added is None else scores + added
    every, seen = scores, presence.expand_as(scores)
    if sinks is not None:  # a slot of known score, which holds no value
        every = torch.cat([scores, sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)], -1)
        seen = torch.nn.functional.pad(seen, (0, 1), value=True)
    weights, sunk = energy.scaling.weights(energy.separation, every, seen).tensor_split([scores.shape[-1]], -1)
    null = 1 - weights.sum(-1) if has_null_slot(energy.scaling) else sunk.sum(-1)
    value = energy.scaling.value(energy.separation, every, seen) / energy.inverse_temperature(1, state)
    return Reading(energy.confinement(state) - value, scores, weights, presence, null)


def _seen(call: Call, rows: slice) -> tuple[Tensor, Tensor | None]:
    """Which slots a block of queries sees, (batch or 1, heads or 1, rows, n), and what is added to their scores, or None."""
    slots, bias = call.keys.shape[2], call.options.get("position_bias")
    bias = None if bias is None else bias[..., rows if bias.shape[-2] > 1 else slice(None), :slots]
    if call.mask is None:
        return _unmasked(call, rows), bias
    if call.mask.ndim == 2:
        return call.mask[:, None, None, :slots].bool(), bias
    mask = call.mask[..., rows if call.mask.shape[-2] > 1 else slice(None), :slots]
    if mask.dtype == torch.bool:
        return mask, bias
    presence = mask > UNSEEN
    terms = [x for x in (mask, bias) if x is not None and bool((x.masked_fill(~presence, 0) != 0).any())]
    return presence, sum(terms[1:], terms[0]) if terms else None


def _unmasked(call: Call, rows: slice) -> Tensor:
    """What is seen without a mask: everything, or by the i-th of several causal queries the slots 0 to i."""
    queries, causal = call.query.shape[2], call.options.get("is_causal")
    causal = getattr(call.module, "is_causal", True) if causal is None else causal
    index = torch.arange(max(queries, call.keys.shape[2]), device=call.query.device)
    slot = index[: call.keys.shape[2]].view(1, 1, 1, -1)
    return slot <= index[:queries][rows, None] if causal and queries > 1 else slot >= 0


def check(call: Call, rows: slice, read: Tensor, asked: Tensor) -> None:
    """Hold what was read again against what the attention answered, at the queries to look at, boolean (batch, rows).

    Raises:
        Unreadable: they differ by more than √eps of the model's precision, so that the weights are not the model's.
    """
    answer = call.output[:, rows].to(read.dtype)[asked]
    difference = float((read.transpose(1, 2)[asked] - answer).norm() / answer.norm().clamp_min(torch.finfo(read.dtype).tiny))
    if not difference <= torch.finfo(call.output.dtype).eps ** 0.5:
        raise Unreadable(f"its output is not what {call.energy} reads from its keys and values: relative difference {difference:.2g}")
