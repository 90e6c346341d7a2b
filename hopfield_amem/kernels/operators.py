"""A bounded-memory read as one differentiable operation, so that eager, torch.compile, torch.func and autograd see the same.

* ``read`` and ``read_backward``: opaque custom operators on (batch, rows, columns) tensors, streaming tiles or, where it
  is exact and on a CPU, torch's fused attention;
* ``Read`` and ``ReadBackward``: autograd functions over them. Second derivatives and forward-mode tangents are taken
  through ``definition``, the same read with every matrix in full.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..energies.derivative import jvp, vjp
from ..energies.registry import named
from . import fused, tiles
from .cut import BASELINE, ELEMENTS, Cut, Rows, Rule, warmed
from .reference import causal_presence


def streamed(tensors: tuple[Tensor, Tensor, Tensor | None, Tensor | None], rule: str, width: int, causal: bool, needs: int) -> tuple[Tensor, Tensor]:
    """Output and Q of a read of lifted, folded (state, keys, values, presence): (b, q, columns), (b, q)"""
    function = Read if torch.compiler.is_compiling() else ReadTangent
    needs |= BASELINE if torch.is_grad_enabled() else 0
    output, value, *_ = function.apply(*tensors, rule, width, causal, needs)  # type: ignore[misc]
    return output, value


def _rule(name: str) -> Rule:
    return Rule(*named(name))


@torch.library.custom_op("hopfield_amem::read", mutates_args=())
def read(
    state: Tensor, keys: Tensor, values: Tensor | None, presence: Tensor | None, rule: str, width: int, causal: bool, needs: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, value Q, threshold and baseline of every query. ``values=None`` reads the leading ``width`` key columns."""
    memory = _memory(state, keys, values, presence, rule, width, causal)
    rows = fused.forward(memory) if fused.serves(memory) else tiles.forward(memory, needs)
    return rows.output, rows.value, rows.tau, rows.baseline


@read.register_fake
def _(state, keys, values, presence, rule, width, causal, needs):
    columns, shape = width if values is None else values.shape[-1], state.shape[:2]
    solved = _rule(rule).thresholded
    output, value = state.new_empty(*shape, columns), state.new_empty(shape)
    return output, value, state.new_empty((*shape, 2) if solved else (0,)), state.new_empty((*shape, columns) if solved and needs & BASELINE else (0,))


@torch.library.custom_op("hopfield_amem::read_backward", mutates_args=())
def read_backward(
    cotangents: list[Tensor], inputs: list[Tensor], presence: Tensor | None, rows: list[Tensor], rule: str, width: int, causal: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of states, keys, values and presence (empty where there is none) from those of output (and value)."""
    state, keys, *values = inputs
    memory = _memory(state, keys, values[0] if values else None, presence, rule, width, causal)
    if len(cotangents) == 1 and fused.serves(memory):
        grads = fused.backward(memory, Rows(*rows), cotangents[0])
    else:
        grads = tiles.backward(memory, Rows(*rows), cotangents[0], cotangents[1] if len(cotangents) > 1 else None)
    d_state, d_keys, *others = (state.new_empty(0) if grad is None else grad.contiguous() for grad in grads)
    return d_state, d_keys, others[0], others[1]


@read_backward.register_fake
def _(cotangents, inputs, presence, rows, rule, width, causal):
    empty = inputs[0].new_empty(0)
    d_presence = presence.new_empty(presence.shape) if presence is not None and presence.is_floating_point() else empty.clone()
    d_state, d_keys, *d_values = (t.new_empty(t.shape) for t in inputs)
    return d_state, d_keys, d_values[0] if d_values else empty, d_presence


class Read(torch.autograd.Function):
    """``(output, Q)`` of a read, with first derivatives in bounded memory."""

    @staticmethod
    def forward(state, keys, values, presence, rule, width, causal, needs):
        return read(state, keys, values, presence, rule, width, causal, needs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, rule, width, causal, _ = inputs
        ctx.options = rule, width, causal
        ctx.save_for_backward(*tensors, *output)
        ctx.save_for_forward(*tensors)
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, cotangent, pulled, *_):
        state, keys, values, presence, *rows = ctx.saved_tensors
        if cotangent is None and pulled is None:
            return (None,) * 8
        cotangent = torch.zeros_like(rows[0]) if cotangent is None else cotangent
        apply = _run_backward if torch.compiler.is_compiling() else ReadBackward.apply
        d_state, d_keys, d_values, d_presence = apply(cotangent, pulled, state, keys, values, presence, *rows, *ctx.options)
        return d_state, d_keys, None if values is None else d_values, d_presence if _soft(presence) else None, *(None,) * 4

    @staticmethod
    def vmap(info, in_dims, *inputs):
        tensors = [_fold(t, dim, info.batch_size) for t, dim in zip(inputs[:4], in_dims, strict=False)]
        return _unfold(Read.apply(*tensors, *inputs[4:]), info.batch_size)


class ReadTangent(Read):
    """``Read`` with forward-mode tangents, through the definition. Apart, because torch.compile refuses any ``jvp``."""

    @staticmethod
    def jvp(ctx, *tangents):
        tensors = ctx.saved_tensors[:4]
        run, moving = _definition_of(tensors, ctx.options)
        along = tuple(torch.zeros_like(tensors[k]) if tangents[k] is None else tangents[k] for k in moving)
        _, (output, value) = jvp(run, tuple(tensors[k] for k in moving), along)
        return output, value, None, None


class ReadBackward(torch.autograd.Function):
    """The first derivative of ``Read``, differentiable once more through the definition."""

    @staticmethod
    def forward(cotangent, pulled, state, keys, values, presence, output, value, tau, baseline, rule, width, causal):
        return _run_backward(cotangent, pulled, state, keys, values, presence, output, value, tau, baseline, rule, width, causal)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:6])
        ctx.save_for_forward(*inputs[:6])
        ctx.options = inputs[10:]

    @staticmethod
    def backward(ctx, *cotangents):
        first, moving = _first_derivative_of(ctx.saved_tensors, ctx.options)
        _, pullback = vjp(first, *(ctx.saved_tensors[k] for k in moving))
        grads: list[Tensor | None] = [None] * 13
        for k, grad in zip(moving, pullback(tuple(cotangents[k - 2] for k in moving if k >= 2)), strict=True):
            grads[k] = grad
        return tuple(grads)

    @staticmethod
    def jvp(ctx, *tangents):
        tensors = ctx.saved_tensors[:6]
        first, moving = _first_derivative_of(tensors, ctx.options)
        along = tuple(torch.zeros_like(tensors[k]) if tangents[k] is None else tangents[k] for k in moving)
        _, moved = jvp(first, tuple(tensors[k] for k in moving), along)
        result = [tensors[0].new_zeros(0) for _ in range(4)]
        for k, tangent in zip((k for k in moving if k >= 2), moved, strict=True):
            result[k - 2] = tangent
        return tuple(result)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        tensors = [_fold(t, dim, info.batch_size) for t, dim in zip(inputs[:10], in_dims, strict=False)]
        return _unfold(ReadBackward.apply(*tensors, *inputs[10:]), info.batch_size)


def definition(state, keys, values, presence, rule, width, causal) -> tuple[Tensor, Tensor]:
    """``(output, Q)`` with every matrix in full: what ``read`` computes, in differentiable torch."""
    known = _rule(rule)
    lifted = known.similarity.lift_keys(keys) if known.similarity.inner else keys
    score = state @ lifted.mT if known.similarity.inner else warmed(known.similarity, state, keys)
    presence = causal_presence(presence, score.shape[-2], score.shape[-1], score.device) if causal else presence
    weights = known.scaling.weights(known.separation, score, presence)
    return weights @ (lifted[..., :width] if values is None else values), known.scaling.value(known.separation, score, presence)


def _definition_of(tensors, options):
    """The definition as a function of the floating tensors among (state, keys, values, presence), and their positions."""
    moving = [k for k, t in enumerate(tensors) if t is not None and t.is_floating_point()]

    def run(*primals):
        full = list(tensors)
        for k, primal in zip(moving, primals, strict=True):
            full[k] = primal
        return definition(*full, *options)  # type: ignore[call-arg]

    return run, moving


def _first_derivative_of(tensors, options):
    """Gradients of the floating ones among (state, keys, values, presence) as a function of them and of the cotangents.

    Positions count (cotangent, pulled, state, keys, values, presence); pulled is None when Q has no cotangent.
    """
    pulled, inputs = tensors[1], tensors[2:]
    run, moving = _definition_of(inputs, options)
    outer = [0] if pulled is None else [0, 1]

    def first(*primals):
        (_, value), pullback = vjp(run, *primals[len(outer) :])
        return pullback((primals[0], torch.zeros_like(value) if pulled is None else primals[1]))

    return first, outer + [k + 2 for k in moving]


def _run_backward(cotangent, pulled, state, keys, values, presence, output, value, tau, baseline, rule, width, causal):
    cotangents = [cotangent] if pulled is None else [cotangent, pulled]
    inputs = [state, keys] if values is None else [state, keys, values]
    return read_backward(cotangents, inputs, presence, [output, value, tau, baseline], rule, width, causal)


def _memory(state, keys, values, presence, rule, width, causal) -> Cut:
    known = _rule(rule)
    budget = ELEMENTS if known.similarity.inner else max(4096, ELEMENTS // state.shape[-1])
    return Cut(known, state, keys, values, presence, width, causal, budget)


def _soft(presence: Tensor | None) -> bool:
    return presence is not None and presence.is_floating_point()


def _fold(tensor: Tensor | None, dim: int | None, batch: int) -> Tensor | None:
    """A vmapped dimension joined with the batch dimension in front; placeholders of one dimension stay."""
    if tensor is None or (tensor.ndim == 1 and dim is None):
        return tensor
    moved = tensor.unsqueeze(0).expand(batch, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return moved.reshape(moved.shape[0] * moved.shape[1], *moved.shape[2:])


def _unfold(outputs, batch: int):
    split = tuple(o if o.ndim == 1 else o.reshape(batch, o.shape[0] // batch, *o.shape[1:]) for o in outputs)
    return split, tuple(None if o.ndim == 1 else 0 for o in outputs)
