"""The laws of any energy ``E(state, memories)``: what a descent relies on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .report import DoesNotApply, LawBroken, close

FARTHEST = 1e6  # how far from its memories an energy is looked at
HALVINGS = 40


@dataclass(frozen=True)
class Scalar:
    """An energy, states (q, d) and memories (n, d) in float64."""

    energy: Callable[[Tensor, Tensor], Tensor]
    state: Tensor
    memories: Tensor


def _there_is_one_number_per_query(case: Scalar) -> None:
    for state in (case.state, case.state.expand(2, 5, *case.state.shape)):
        value = case.energy(state, case.memories)
        if not isinstance(value, Tensor) or value.shape != state.shape[:-1]:
            came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise LawBroken(f"there is one number per query: states {tuple(state.shape)} must give {tuple(state.shape[:-1])}, got {came}.")
        if bool(value.isnan().any()):
            raise LawBroken("there is one number per query: it is NaN.")


def _a_batch_mate_changes_nothing(case: Scalar) -> None:
    alone = torch.cat([case.energy(row, case.memories) for row in case.state.split(1)])
    close("a batch mate changes nothing", case.energy(case.state, case.memories), alone)


def _the_gradient_is_right(case: Scalar) -> None:
    state, memories = case.state.clone().requires_grad_(), case.memories.clone().requires_grad_()
    if not case.energy(state, memories).requires_grad:
        raise LawBroken("the gradient is right: the energy is cut off from the state. Write it with differentiable torch operations.")
    try:
        torch.autograd.gradcheck(case.energy, (state, memories), atol=1e-5, rtol=1e-4)
    except Exception as error:
        raise LawBroken(f"the gradient is right: {error}") from None


def _float32_computes_the_same(case: Scalar) -> None:
    single = case.energy(case.state.float(), case.memories.float())
    if single.dtype != torch.float32:
        raise LawBroken(f"float32 computes the same: float32 states gave an energy in {single.dtype}.")
    truth = case.energy(case.state, case.memories)
    close("float32 computes the same", single.double(), truth, tolerance=1e-5)


def _a_small_step_down_lowers_the_energy(case: Scalar) -> None:
    start = case.energy(case.state, case.memories)
    slope = torch.func.grad(lambda x: case.energy(x, case.memories).sum())(case.state)
    lower = torch.stack([case.energy(case.state - 0.5**halving * slope, case.memories) <= start for halving in range(HALVINGS)])
    if not bool(lower.any(0).all()):
        raise LawBroken("a small step down lowers the energy: no step along −∇E does.")


def it_is_bounded_below(case: Scalar) -> None:
    """Along rays towards every memory, away from it, and between the states."""
    rays = torch.cat([case.memories, -case.memories, case.state - case.state.roll(1, 0)])
    rays = rays / rays.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    near, far, farther = (case.energy(radius * rays, case.memories) for radius in (1.0, FARTHEST / 10, FARTHEST))
    if bool(((far - farther > 0.5 * (near - far).abs() + 1e-6 * (1 + near.abs())) | (farther == -torch.inf) | farther.isnan()).any()):
        raise DoesNotApply("it falls without end along a ray: descend on a sphere or in a hypercube, or take a single step")


SCALAR_LAWS = (
    _there_is_one_number_per_query,
    _a_batch_mate_changes_nothing,
    _the_gradient_is_right,
    _float32_computes_the_same,
    _a_small_step_down_lowers_the_energy,
    it_is_bounded_below,
)
