"""The operators of ``chunked``: streaming tiles, on (batch, rows, columns) tensors, and torch's fused attention, on (batch, heads, rows, columns) ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ..energies.registry import named
from ..energies.similarities.similarity import capped
from . import fused, tile_gradients, tiles
from .cut import BASELINE, ELEMENTS, Cut, Rows, warmed
from .differentiable import FAMILIES, Family, differentiable
from .gates import EVERYTHING, Gates
from .rule import Rule


def streamed(tensors: tuple[Tensor | None, ...], rule: str, width: int, reach: int, rate: float, needs: int) -> tuple[Tensor, Tensor]:
    """Output and Q of a read of lifted, folded (state, keys, values, presence, bias, origin, seed): (b, q, columns), (b, q)"""
    needs |= BASELINE if torch.is_grad_enabled() else 0
    output, value, *_ = differentiable("chunked", (rule, width, reach, rate, needs), *tensors)
    return output, value


def _rule(name: str) -> Rule:
    return Rule(*named(name))


@torch.library.custom_op("hopfield_amem::read", mutates_args=())
def read(
    state: Tensor, keys: Tensor, values: Tensor | None, presence: Tensor | None, bias: Tensor | None, origin: Tensor | None,
    seed: Tensor | None, rule: str, width: int, reach: int, rate: float, needs: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Output, value Q, threshold and baseline of every query. ``values=None`` reads the leading ``width`` key columns."""
    memory = _memory(state, keys, values, presence, bias, origin, seed, rule, width, reach, rate)
    rows = tiles.forward(memory, needs)
    return rows.output, rows.value, rows.tau, rows.baseline


@read.register_fake
def _(state, keys, values, presence, bias, origin, seed, rule, width, reach, rate, needs):
    columns, shape = width if values is None else values.shape[-1], state.shape[:2]
    solved = _rule(rule).thresholded
    output, value = state.new_empty(*shape, columns), state.new_empty(shape)
    return output, value, state.new_empty((*shape, 2) if solved else (0,)), state.new_empty((*shape, columns) if solved and needs & BASELINE else (0,))


@torch.library.custom_op("hopfield_amem::read_backward", mutates_args=())
def read_backward(
    cotangents: list[Tensor], inputs: list[Tensor], presence: Tensor | None, bias: Tensor | None, origin: Tensor | None,
    seed: Tensor | None, rows: list[Tensor], rule: str, width: int, reach: int, rate: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of states, keys, values, presence and bias (empty where there is none) from those of output (and value)."""
    state, keys, *values = inputs
    memory = _memory(state, keys, values[0] if values else None, presence, bias, origin, seed, rule, width, reach, rate)
    grads = tile_gradients.backward(memory, Rows(*rows), cotangents[0], cotangents[1] if len(cotangents) > 1 else None)
    d_state, d_keys, *others = (state.new_empty(0) if grad is None else grad.contiguous() for grad in grads)
    return d_state, d_keys, others[0], others[1], others[2]


@read_backward.register_fake
def _(cotangents, inputs, presence, bias, origin, seed, rows, rule, width, reach, rate):
    empty = inputs[0].new_empty(0)
    d_presence = presence.new_empty(presence.shape) if presence is not None and presence.is_floating_point() else empty.clone()
    d_bias = empty.clone() if bias is None else bias.new_empty(bias.shape)
    d_state, d_keys, *d_values = (t.new_empty(t.shape) for t in inputs)
    return d_state, d_keys, d_values[0] if d_values else empty, d_presence, d_bias


def definition(tensors, options) -> tuple[Tensor, Tensor]:
    """``(output, Q)`` with every matrix in full: what ``read`` computes, in differentiable torch."""
    (state, keys, values, presence, bias, origin, seed), (rule, width, reach, rate, _) = tensors, options
    keys = _spread(keys, state.shape[0])
    values, presence, origin = (None if t is None else _spread(t, state.shape[0]) for t in (values, presence, origin))
    known, keys = _rule(rule), keys if origin is None else keys - origin
    lifted = known.similarity.lift_keys(keys) if known.similarity.inner else keys
    score = state @ lifted.mT if known.similarity.inner else warmed(known.similarity, state, keys)
    score = capped(score) if known.capped else score
    score = score if bias is None else score + bias
    gates = Gates(presence, None, reach, rate, seed)
    presence = gates.amounts(score.shape[-2], score.shape[-1], score.device)
    weights = known.scaling.weights(known.separation, score, presence)
    keep = gates.kept(score.shape[:-2], score.shape[-2], score.shape[-1], score.dtype)
    weights = weights if keep is None else weights * keep
    return weights @ (lifted[..., :width] if values is None else values), known.scaling.value(known.separation, score, presence)


def _spread(tensor: Tensor, members: int) -> Tensor:
    """With one entry for every member."""
    return tensor if tensor.shape[0] == members else tensor.repeat_interleave(members // tensor.shape[0], 0)


def _backward(cotangents, tensors, results, options, _):
    state, keys, values, presence, bias, origin, seed = tensors
    inputs = [state, keys] if values is None else [state, keys, values]
    return *read_backward([c for c in cotangents if c is not None], inputs, presence, bias, origin, seed, list(results), *options[:-1]), None, None


FAMILIES["chunked"] = Family(2, lambda tensors, options: read(*tensors, *options), _backward, definition)


def _memory(state, keys, values, presence, bias, origin, seed, rule, width, reach, rate) -> Cut:
    known = _rule(rule)
    budget = ELEMENTS if known.similarity.inner else max(4096, ELEMENTS // state.shape[-1])
    return Cut(known, state, keys, values, presence, width, reach, bias, origin, seed, rate, budget)


def softened(tensors: tuple[Tensor | None, ...], rule: str, width: int, causal: bool) -> tuple[Tensor, Tensor]:
    """Output (b, h, q, columns) and Q (b, h, q) of a softmax read of lifted, grouped (state, keys, values, presence, origin)."""
    output, value = differentiable("softmax", (rule, width, causal), *tensors)
    return output.transpose(1, 2), value


@torch.library.custom_op("hopfield_amem::softmax", mutates_args=())
def softmax(
    state: Tensor, keys: Tensor, values: Tensor | None, presence: Tensor | None, origin: Tensor | None, rule: str, width: int, causal: bool
) -> tuple[Tensor, Tensor]:
    """Output (b, q, h, columns), which is how it lies in memory, and Q (b, h, q), by torch's fused attention."""
    output, value = fused.forward(_shared(state, keys, values, presence, origin, rule, width, causal))
    return output.transpose(1, 2).contiguous(), value.contiguous()


@softmax.register_fake
def _(state, keys, values, presence, origin, rule, width, causal):
    batch, heads, queries = state.shape[:3]
    return state.new_empty(batch, queries, heads, width if values is None else values.shape[-1]), state.new_empty(batch, heads, queries)


@torch.library.custom_op("hopfield_amem::softmax_backward", mutates_args=())
def softmax_backward(
    cotangent: Tensor, pulled: Tensor | None, state: Tensor, keys: Tensor, values: Tensor | None, presence: Tensor | None, origin: Tensor | None,
    output: Tensor, value: Tensor, rule: str, width: int, causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of states, keys and values (empty where there are none)."""
    memory = _shared(state, keys, values, presence, origin, rule, width, causal)
    grads = fused.backward(memory, output.transpose(1, 2), value, cotangent.transpose(1, 2), pulled)
    d_state, d_keys, d_values = (state.new_empty(0) if grad is None else grad.contiguous() for grad in grads)
    return d_state, d_keys, d_values


@softmax_backward.register_fake
def _(cotangent, pulled, state, keys, values, presence, origin, output, value, rule, width, causal):
    d_state, d_keys, d_values = (state.new_empty(0) if t is None else t.new_empty(t.shape) for t in (state, keys, values))
    return d_state, d_keys, d_values


def _softmax_definition(tensors, options) -> tuple[Tensor, Tensor]:
    (state, keys, values, presence, origin), (rule, width, causal) = tensors, options
    group = state.shape[1] // keys.shape[1] if keys.shape[1] else 1
    keys, values, origin = (t if t is None or group == 1 else t.repeat_interleave(group, 1) for t in (keys, values, origin))
    output, value = definition((state, keys, values, presence, None, origin, None), (rule, width, EVERYTHING * causal, 0.0, 0))
    return output.transpose(1, 2).contiguous(), value


def _softmax_backward(cotangents, tensors, results, options, _):
    return *softmax_backward(*cotangents, *tensors, *results, *options), None, None


FAMILIES["softmax"] = Family(2, lambda tensors, options: softmax(*tensors, *options), _softmax_backward, _softmax_definition)


def _shared(state, keys, values, presence, origin, rule, width, causal) -> Cut:
    return Cut(_rule(rule), state, keys, values, presence, width, EVERYTHING * causal, origin=origin)
