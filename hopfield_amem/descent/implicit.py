"""Solvers of ``(I − Jᵀ) y = g`` for every query at once, from products with Jᵀ alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
SOLVER_STEPS = 200


def neumann(transposed: Product, target: Tensor) -> tuple[Tensor, float]:
    """``y ← g + Jᵀy``, which converges because the fixed point attracts; and the last relative change."""
    scale = _norm(target)
    total, change = target, torch.zeros(())
    for step in range(SOLVER_STEPS):
        moved = target + transposed(total)
        change = ((moved - total).norm(dim=-1, keepdim=True) / scale).amax() if total.numel() else change
        total = moved
        if looked_at(step, target) and change <= 10 * torch.finfo(target.dtype).eps:
            break
    return total, float(change)


def conjugate_gradients(symmetric: Product, target: Tensor) -> tuple[Tensor, float]:
    """Conjugate gradients on ``I − J``, positive definite at an attracting fixed point; and the last relative residual (Hestenes & Stiefel 1952)."""
    scale = _norm(target)
    total, residual = torch.zeros_like(target), target
    direction, energy = residual, residual.square().sum(-1, keepdim=True)
    change = torch.zeros(())
    for step in range(SOLVER_STEPS):
        image = direction - symmetric(direction)
        curvature = (direction * image).sum(-1, keepdim=True)
        length = torch.where(curvature > 0, energy / torch.where(curvature > 0, curvature, 1.0), 0.0)
        total, residual = total + length * direction, residual - length * image
        fresh = residual.square().sum(-1, keepdim=True)
        change = (fresh.sqrt() / scale).amax() if total.numel() else change
        if looked_at(step, target) and (change <= 10 * torch.finfo(target.dtype).eps or not bool((length > 0).any())):
            break
        direction = residual + torch.where(energy > 0, fresh / torch.where(energy > 0, energy, 1.0), 0.0) * direction
        energy = fresh
    return total, float(change)


def looked_at(step: int, tensor: Tensor) -> bool:
    """Whether a loop looks at its progress after this step: on a CPU always, on a GPU every eighth time, since it costs a round trip."""
    return tensor.device.type == "cpu" or step % 8 == 7


def _norm(target: Tensor) -> Tensor:
    return target.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(target.dtype).tiny)
