"""The operators of ``triton``: one read of a memory and its gradients, opaque to torch.compile, on (b, h, rows, columns) tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energies.registry import named
from ..compiler import compiled
from ..compiler.generated import THRESHOLD
from ..differentiable import FAMILIES, Family
from ..gates import Gates
from . import gradients, launch
from .operands import Operands

VALUE, MASS, BASELINE, WIDE = 1, 2, 4, 8  # what a read is asked for beside its output; WIDE: the output in float32


@torch.library.custom_op("hopfield_amem::kernel", mutates_args=())
def kernel(
    state: Tensor, keys: Tensor, values: Tensor | None, presence: Tensor | None, beta: Tensor, bias: Tensor | None, seed: Tensor | None,
    rule: str, reach: int, rate: float, needs: int, level: Tensor | None = None, offset: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Output, value Q, mass Σ p, and for ``Simplex`` level, τ and baseline (empty where there is none)."""
    read = Operands(compiled(rule), state, keys, values, presence, beta, bias, seed, reach, rate, level, offset)
    output = torch.float32 if needs & WIDE else state.dtype
    return launch.forward(read, bool(needs & VALUE), bool(needs & MASS), bool(needs & BASELINE), output).tensors()  # type: ignore[return-value]


@kernel.register_fake
def _(state, keys, values, presence, beta, bias, seed, rule, reach, rate, needs, level=None, offset=0):
    rows, columns = state.shape[:3], keys.shape[-1] if values is None else values.shape[-1]
    single = torch.float32
    output = state.new_empty(*rows, columns, dtype=single if needs & WIDE else state.dtype)
    empty, value = state.new_empty(0, dtype=single), state.new_empty(rows, dtype=single)
    solved, level = compiled(rule).kind == THRESHOLD, compiled(rule).drops_row_term
    tops = [torch.empty_like(value) if kept else empty.clone() for kept in (solved or level, solved)]
    baseline = torch.empty_like(output) if solved and needs & BASELINE else empty.clone()
    return output, value, torch.empty_like(value) if needs & MASS else empty, *tops, baseline


@torch.library.custom_op("hopfield_amem::kernel_backward", mutates_args=())
def kernel_backward(
    cotangent: Tensor, pulled: Tensor | None, heavier: Tensor | None, state: Tensor, keys: Tensor, values: Tensor | None,
    presence: Tensor | None, beta: Tensor, bias: Tensor | None, seed: Tensor | None, results: list[Tensor], rule: str, reach: int, rate: float,
    wanted: list[bool], level: Tensor | None = None, offset: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of state, keys, values, presence, β, bias and levels, empty where there is none or none is wanted."""
    read = Operands(compiled(rule), state, keys, values, presence, beta, bias, seed, reach, rate, level, offset)
    wanted = [*wanted, False][:7]
    grads = gradients.backward(read, (cotangent, pulled, heavier), tuple(results), tuple(wanted))
    return tuple(g if g is not None and want else state.new_empty(0) for g, want in zip(grads, wanted, strict=True))  # type: ignore[return-value]


@kernel_backward.register_fake
def _(cotangent, pulled, heavier, state, keys, values, presence, beta, bias, seed, results, rule, reach, rate, wanted, level=None, offset=0):
    def like(tensor, want):
        return state.new_empty(0) if tensor is None or not want or not tensor.is_floating_point() else tensor.new_empty(tensor.shape)

    return tuple(like(tensor, want) for tensor, want in zip((state, keys, values, presence, beta, bias, level), [*wanted, False][:7], strict=True))


def definition(tensors, options) -> tuple[Tensor, ...]:
    """``(output, Q, Σ p)`` with every matrix in full, in differentiable torch."""
    (state, keys, values, presence, beta, bias, seed, level), (rule, reach, rate, needs, offset) = tensors, options
    similarity, separation, scaling = named(rule)
    group = state.shape[1] // keys.shape[1]
    read = keys if values is None else values
    keys, read = (t if group == 1 else t.repeat_interleave(group, 1) for t in (keys, read))
    gates = Gates(presence, None, reach, rate, seed, offset, level)
    inside = torch.float32 if state.dtype != torch.float64 else state.dtype
    score = beta.to(inside)[..., None, None] * similarity(state.to(inside), keys.to(inside))
    score = score if bias is None else score + bias.to(inside).unsqueeze(-2)
    amounts = gates.amounts(score.shape[-2], score.shape[-1], score.device)
    amounts = amounts.to(inside) if amounts is not None and amounts.is_floating_point() else amounts
    weights = scaling.weights(separation, score, amounts)
    keep = gates.kept(score.shape[:2], score.shape[-2], score.shape[-1], inside)
    weights = weights if keep is None else weights * keep
    output = weights @ read.to(inside)
    mass = weights.sum(-1) if needs & MASS else weights.new_empty(0)
    return output.to(inside if needs & WIDE else state.dtype), scaling.value(separation, score, amounts), mass


def _forward(tensors, options):
    *tensors, level = tensors
    *options, offset = options
    return kernel(*tensors, *options, level, offset)


def _backward(cotangents, tensors, results, options, wanted):
    cotangent, pulled, heavier = cotangents
    *tensors, level = tensors
    rule, reach, rate, needs, offset = options
    heavier = heavier if needs & MASS else None
    wanted = [*wanted[:6], wanted[7]]
    *grads, d_level = kernel_backward(cotangent, pulled, heavier, *tensors, list(results), rule, reach, rate, wanted, level, offset)
    return *grads, None, d_level


FAMILIES["triton"] = Family(3, _forward, _backward, definition)
