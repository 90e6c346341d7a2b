"""Memories that write what their slots did not yet hold, as one differentiable operation: ``u_t = a_t v_t − b_t Σ_{j < c + t} p_tj u_j``.

p are the weights of a read energy for the query w_t among the slots before it, with F of slot j multiplied by exp(G_t − G_j). The first c slots are
a cache. Options are (rule, divides): the name of the energy's factors, and whether weights are divided by their sum (``ReadEnergy.divides``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...energies import Simplex
from ..association import definitions
from ..compiler import compiled
from ..compiler.generated import SUM
from ..differentiable import FAMILIES, Family
from ..explanation import WIDEST
from . import solves
from .solves import Written


@torch.library.custom_op("hopfield_amem::kernel_written", mutates_args=())
def written(
    erase: Tensor, keys: Tensor, values: Tensor, write_rate: Tensor | None, erase_rate: Tensor | None, cached: Tensor | None,
    level: Tensor | None, presence: Tensor | None, beta: Tensor, rule: str, divides: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """u (b, h, t, v) in the dtype of the values, and what divides the weights of every row (b, h, t), empty where nothing does."""
    return solves.forward(_written(erase, keys, values, write_rate, erase_rate, cached, level, presence, beta, rule, divides))


@written.register_fake
def _(erase, keys, values, write_rate, erase_rate, cached, level, presence, beta, rule, divides):
    plain = compiled(rule).kind == SUM and not divides
    return values.new_empty(values.shape), values.new_empty((0,) if plain else values.shape[:3], dtype=torch.float32)


@torch.library.custom_op("hopfield_amem::kernel_written_backward", mutates_args=())
def written_backward(
    cotangent: Tensor, erase: Tensor, keys: Tensor, values: Tensor, write_rate: Tensor | None, erase_rate: Tensor | None, cached: Tensor | None,
    level: Tensor | None, presence: Tensor | None, beta: Tensor, u: Tensor, statistic: Tensor, rule: str, divides: bool, wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of erase, keys, values, write rate, erase rate, cached u, levels and β, empty where there is none or none is wanted."""
    given = (erase, keys, values, write_rate, erase_rate, cached, level, beta)
    memory = _written(*given[:7], presence, beta, rule, divides)
    wanted = [want and tensor is not None for tensor, want in zip(given, wanted, strict=True)]
    grads = [None if t is None else torch.zeros_like(t) for t in given] if memory.empty else solves.backward(memory, cotangent, u, statistic, tuple(wanted))
    parts = (_like(tensor, grad) if want else erase.new_empty(0) for tensor, grad, want in zip(given, grads, wanted, strict=True))
    return tuple(parts)  # type: ignore[return-value]


@written_backward.register_fake
def _(cotangent, erase, keys, values, write_rate, erase_rate, cached, level, presence, beta, u, statistic, rule, divides, wanted):
    given = (erase, keys, values, write_rate, erase_rate, cached, level, beta)
    return tuple(erase.new_empty(0) if t is None or not want else t.new_empty(t.shape) for t, want in zip(given, wanted, strict=True))


def _forward(tensors, options):
    return written(*tensors, *options)


def _backward(cotangents, tensors, results, options, wanted):
    wanted = [*wanted[:7], wanted[8]]
    *grads, d_beta = written_backward(cotangents[0], *tensors, *results, *options, wanted)
    return *grads, None, d_beta


def _written(erase, keys, values, write_rate, erase_rate, cached, level, presence, beta, rule: str, divides: bool) -> Written:
    known = compiled(rule)
    if isinstance(known.factors.scaling, Simplex):
        raise ValueError("Weights that write are those of Sum or Log, not of Simplex, whose τ has no closed form. For softmax take Log().")
    if values.shape[-1] > WIDEST:
        raise ValueError(f"Values that are written have at most {WIDEST} columns here, got {values.shape[-1]}: columns are independent, so split them.")
    return Written(known, divides, erase, keys, values, write_rate, erase_rate, cached, level, presence, beta)


def _like(tensor: Tensor | None, grad: Tensor | None) -> Tensor:
    if tensor is None or grad is None:
        raise RuntimeError("a gradient is missing that was wanted")
    return grad.to(tensor.dtype).reshape(tensor.shape).contiguous()


FAMILIES["triton written"] = Family(1, _forward, _backward, definitions.written)
