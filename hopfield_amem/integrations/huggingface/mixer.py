"""Memories in the place of attention: a decoder's own module projects, turns and puts out; what it attended to is written and read instead."""

from __future__ import annotations

import copy
import functools
import inspect
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from ...energies import Memory
from ...layers.cell import Addressing, Writing
from ...layers.memory_cell import MemoryCell
from .cache import MemorySlot, claim
from .tokens import documents, in_a_row, presence

NAME = "hopfield_mixer"  # the attention function that modules which are mixers call
UNDERSTOOD = {
    "self", "hidden_states", "attention_mask", "past_key_values", "position_embeddings", "position_ids", "cache_position", "use_cache",
    "output_attentions", "encoder_hidden_states", "encoder_attention_mask", "key_value_states", "kwargs",
}  # fmt: skip


class Context(NamedTuple):
    """What a mixer knows of its call beyond queries, keys and values."""

    tokens: Tensor  # (batch, T, dim)
    slot: MemorySlot | None


class MixedAttention(nn.Module):
    """A self-attention module whose past is a memory: ``o_t = Σ_{j≤t} κ₂(q_t, k_j) u_j`` with the attention's own q, k and v.

    Made by ``mixing``, a subclass of the attention's class too. Its children are those of the attention, the same parameters under the same names, and
    ``cell``, which makes rates and decays. It is called as the attention is and returns ``(output, None)``: a memory has no weights to show.

    Raises:
        ValueError: tokens of an encoder to attend to, a mask by which tokens attend to later ones, packed documents together with a cache.
    """

    cell: MemoryCell
    given: Memory
    scaling_of_cell: float | None  # what multiplies the β of the memory given; None: nothing
    stock: type[nn.Module]  # the class of the attention
    positional: tuple[str, ...]  # what its forward takes after hidden_states
    layer_idx: int

    def forward(self, hidden_states: Tensor, *args, **kwargs):
        given = dict(zip(self.positional, args, strict=False)) | kwargs
        if given.get("encoder_hidden_states") is not None or given.get("key_value_states") is not None:
            raise ValueError("A mixer reads what it has written itself; it cannot attend to an encoder.")
        if self.cell.memory.decay == "channel" and given.get("position_embeddings") is not None:
            given["position_embeddings"] = _unturned(given["position_embeddings"])
        cache = given.get("past_key_values")
        slot = None if cache is None else claim(cache, self.layer_idx)
        return super().forward(hidden_states, mixing=Context(hidden_states, slot), **given)

    def __reduce__(self):
        return _empty, (self.stock,), self.__dict__


def mixing(module: Any, memory: Memory, *, norm: float | None = None, writing: Writing = Writing()) -> nn.Module | str:
    """A mixer in the place of the self-attention of a HuggingFace decoder, or why there can be none.

    The module's own code makes queries, keys and values, with whatever norms, biases and rotary positions it has, and projects the output, by the same
    parameters under the same names. What becomes of them is ``o_t = Σ_{j≤t} κ₂(q_t, k_j) u_j``, and its slot in the cache holds the state of the memory.
    The attention's own ``scaling`` multiplies β, so that ``Memory(presets.log_sum_exp())`` gives the model's logits, and every other memory starts from its
    trained weights. Soft caps, windows and dropout of weights are not kept. A memory that decays per channel addresses without the model's rotary
    positions, which it would undo. Rates and decays are new parameters, in ``cell``.

    Args:
        module: any module of a transformers model.
        memory: the cell, with numbers as inverse temperatures.
        norm: length that keys are given, with β as it is; or None for the attention's own keys and scaling. Learned rates keep writes contracting either way.
        writing: rates and decays.

    Returns:
        A module to be put where the given one was; or the reason why there is none, where that is no causal self-attention, or is more than one.

    Raises:
        ValueError: a memory that no mixer can be made of, or erase keys, which an attention does not project.
    """
    reason = _declined(module)
    if reason is not None:
        return reason
    if writing.erase:
        raise ValueError("An attention projects no erase keys: use Writing(erase=False), or a model with MemoryMixer layers of its own.")
    mixed = _empty(type(module))
    mixed.__dict__.update({name: copy.copy(held) if isinstance(held, (dict, set)) else held for name, held in vars(module).items()})
    mixed.config = copy.deepcopy(module.config)
    mixed.config._attn_implementation = NAME
    mixed.cell = _cell(module, memory, norm, writing).train(module.training)
    mixed.given, mixed.scaling_of_cell = mixed.cell.memory, None
    if norm is None:
        _temper(mixed, getattr(module, "scaling", None))
    return mixed


def mix(module: Any, query: Tensor, keys: Tensor, values: Tensor, attention_mask: Tensor | None, *, mixing: Context, cache: Any = None, **options):
    """What transformers calls instead of attention: (batch, heads, T, d), twice (batch, memories, T, ·) -> (batch, T, heads, value) and no weights."""
    cell, (tokens, slot) = module.cell, mixing
    _check(cell, query, keys, values)
    if module.scaling_of_cell is not None:
        _temper(module, options.get("scaling"))
    if cache is not None or options.get("position_bias") is not None:
        raise ValueError("A mixer knows neither paged caches nor position biases: generate with generate(), and mix attention without biases.")
    there, bounds = presence(attention_mask, *tokens.shape[:2]), options.get("cu_seq_lens_q")
    bounds = documents(attention_mask, there) if bounds is None else bounds
    addressed = query.unflatten(1, (cell.memories, -1)), cell.normed(keys.unsqueeze(2)), values.unsqueeze(2), None
    if bounds is None:
        read, memory = cell.read(tokens, addressed, None if slot is None else slot.memory, presence=there)
        if slot is not None:
            slot.store(memory, tokens.shape[1])
        return read.contiguous(), None
    if slot is not None:
        raise ValueError("Documents packed into one row leave no single memory to go on from: pass use_cache=False.")
    packed = *(in_a_row(part) for part in addressed[:3]), None
    read, _ = cell.read(in_a_row(tokens), packed, presence=None if there is None else there.reshape(1, -1), cu_seqlens=bounds)
    return read.reshape(*tokens.shape[:2], *read.shape[2:]), None


def _declined(module: Any) -> str | None:
    """Why there is no mixer for a module; None: there is one."""
    forward = inspect.unwrap(type(module).forward)
    if isinstance(module, MixedAttention):
        return "it is a mixer already"
    if "ALL_ATTENTION_FUNCTIONS" not in getattr(getattr(forward, "__code__", None), "co_names", ()) or not hasattr(module, "config"):
        return "it is no attention that calls the function its config names"
    parameters = inspect.signature(forward).parameters
    causal = getattr(module, "is_causal", False) and getattr(module.config, "is_causal", True)
    if not causal or "past_key_values" not in parameters or not isinstance(getattr(module, "layer_idx", None), int):
        return "it is no causal self-attention with a slot in the cache (is_causal, past_key_values, layer_idx)"
    if unknown := parameters.keys() - UNDERSTOOD:
        return f"it is called with what a mixer does not understand: {', '.join(sorted(unknown))}"
    if "kwargs" not in parameters:
        return "it hands no arguments of its call on to the attention function"
    if module._parameters:
        return f"it has parameters that a memory has no use for: {', '.join(module._parameters)}"
    if "forward" in vars(module):
        return "its forward was replaced, perhaps by hooks of accelerate: mix first, dispatch afterwards"
    return None


def _cell(module: Any, memory: Memory, norm: float | None, writing: Writing) -> MemoryCell:
    """Rates and decays in the sizes, on the device and in the dtype of an attention."""
    config, weight = module.config, next(p for p in module.parameters() if p.is_floating_point())
    heads = getattr(module, "num_heads", None) or config.num_attention_heads
    key = getattr(module, "head_dim", None) or config.hidden_size // heads
    width, memories = (key, getattr(module, "v_head_dim", key)), heads // getattr(module, "num_key_value_groups", 1)
    addressing = Addressing(norm=norm, memories=memories)
    return MemoryCell(config.hidden_size, heads, memory, width, addressing=addressing, writing=writing, device=weight.device, dtype=weight.dtype)


def _temper(module: Any, scaling: float | None) -> None:
    """Put the memory at β times an attention's scaling, where it is not there yet: OPT scales its queries itself, and says 1 when it is called."""
    scaling = module.cell.widths[0] ** -0.5 if scaling is None else scaling
    if scaling != module.scaling_of_cell:
        read, prediction = (None if energy is None else energy.at(energy.beta * scaling) for energy in (module.given.read, module.given.prediction))
        module.cell.memory, module.scaling_of_cell = replace(module.given, read=read, prediction=prediction), scaling


def _check(cell: MemoryCell, *parts: Tensor) -> None:
    came = tuple((part.shape[1], part.shape[-1]) for part in parts)
    key, value = cell.widths
    expected = (cell.heads, key), (cell.memories, key), (cell.memories, value)
    if came != expected:
        raise ValueError(f"By its config this attention makes queries, keys and values of (heads, width) {expected}; it made {came}. It cannot be mixed.")


def _unturned(positions: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The cosine and sine of no turn."""
    return torch.ones_like(positions[0]), torch.zeros_like(positions[1])


def _empty(stock: type[nn.Module]) -> Any:
    """A mixer without contents of an attention class, by which a pickle names it."""
    made = _mixed(stock)
    return made.__new__(made)


@functools.cache
def _mixed(stock: type[nn.Module]) -> type[nn.Module]:
    """The mixer class of an attention class."""
    AttentionInterface.register(NAME, mix)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    positional = tuple(inspect.signature(stock.forward).parameters)[2:]
    return type(f"Mixed{stock.__name__}", (MixedAttention, stock), {"stock": stock, "positional": positional})
