"""Full rows of a few queries at a time: how many fit the budget, and steps that are no averages (medians, means of distributions).

Extra memory is that of a few rows, forward and backward: where gradients are wanted, rows are made again for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch._C import _functorch  # type: ignore[attr-defined]

from ..energies import ReadEnergy
from ..energies.read import as_amount
from .cut import ELEMENTS
from .gates import kept
from .layout import Layout

if TYPE_CHECKING:
    from .bounded import Bounded

Step = Callable[..., Tensor]

BUDGET = 4 * ELEMENTS  # numbers of full rows that are alive at once


def fitting(each: int, elements: int | None = None) -> int:
    """How many rows of ``each`` numbers fit the budget, ``elements`` of them or ``BUDGET``; at least one."""
    return max(1, (BUDGET if elements is None else elements) // max(1, each))


def settled(memory: Bounded, state: Tensor) -> Tensor:
    """Where states settle, (..., q, d)"""
    gates, spec = memory.gates, memory.spec
    presence = as_amount(gates.amounts(state.shape[-2], memory.keys.shape[-2], state.device), state) if gates.reach else memory.presence
    bias = None if gates.bias is None else gates.bias.to(state.dtype).unsqueeze(-2)
    beta = spec.beta[..., None, None] if isinstance(spec.beta, Tensor) else None
    layout = Layout(state, memory.keys, None, presence, gates.aligned, *(t.shape[:-2] for t in (bias, beta) if t is not None))
    (states, keys, _, gate), (bias, beta) = layout.folded(), (None if t is None else layout.batched(t) for t in (bias, beta))

    def blocks(b: int) -> Iterator[Tensor]:
        together = fitting(keys.shape[1] * keys.shape[2])
        for i in range(0, max(1, states.shape[1]), together):
            rows = slice(i, i + together)
            seen = None if gate is None else gate[b, rows] if gate.shape[1] > 1 else gate[b]
            step = _step(spec, _factors(memory, b, i, len(states[b, rows])))
            yield _again(step, states[b, rows], keys[b], seen, None if bias is None else bias[b, 0], None if beta is None else beta[b, 0, 0])

    members = [torch.cat(list(blocks(b))) for b in range(states.shape[0])]
    return layout.unfolded(torch.stack(members) if members else states)


def _step(spec: ReadEnergy, factors: Tensor | None) -> Step:
    """One step of a few queries (rows, d) of one memory: keys (n, d), presence (rows or 1, n), bias (n,), β (), and dropout's factors (rows, n)."""

    def step(state: Tensor, keys: Tensor, gate: Tensor | None, bias: Tensor | None, beta: Tensor | None) -> Tensor:
        energy = spec if beta is None else spec.at(beta)
        weights = energy.scaling.weights(energy.separation, energy.scores(state, keys, bias), gate)
        return energy.settled(weights if factors is None else weights * factors.to(weights.dtype), state, keys)

    return step


def _factors(memory: Bounded, member: int, first: int, queries: int) -> Tensor | None:
    """What dropout multiplies the weights of a few rows with, (rows, n)"""
    seed = memory.gates.seed
    if seed is None:
        return None
    query, slot = first + torch.arange(queries, device=seed.device), torch.arange(memory.keys.shape[-2], device=seed.device)
    return kept(seed, torch.full_like(slot, member), query.unsqueeze(-1), slot, memory.gates.dropout)


def _again(step: Step, *tensors: Tensor | None) -> Tensor:
    """The step of a few rows, which is made again for its gradient; as it stands where a transform or a compiler watches."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or _functorch.peek_interpreter_stack() is not None:
        return step(*tensors)
    return _Again.apply(step, *tensors)  # type: ignore[return-value]


class _Again(torch.autograd.Function):
    """Keeps the inputs of some rows and nothing else; differentiable any number of times."""

    @staticmethod
    def forward(ctx, step, *tensors):  # type: ignore[override]
        ctx.step = step
        ctx.save_for_backward(*tensors)
        return step(*tensors)

    @staticmethod
    def backward(ctx, cotangent):  # type: ignore[override]
        twice, needed = torch.is_grad_enabled(), ctx.needs_input_grad[1:]
        with torch.enable_grad():
            tensors = [None if t is None else t if twice else t.detach().requires_grad_(need) for t, need in zip(ctx.saved_tensors, needed, strict=True)]
            wanted = [t for t, need in zip(tensors, needed, strict=True) if need and t is not None]
            found = iter(torch.autograd.grad(ctx.step(*tensors), wanted, cotangent, create_graph=twice, allow_unused=True))
        return None, *(next(found) if need else None for need in needed)
