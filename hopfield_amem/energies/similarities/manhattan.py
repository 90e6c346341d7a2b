"""The city-block distance, which is no inner product: its scores are computed elementwise, and its states settle at medians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..confinement import Free
from .similarity import Similarity


@dataclass(frozen=True)
class Manhattan(Similarity):
    """``S(x, ξ) = −‖x − ξ‖₁`` (Millidge et al. 2022, arXiv 2202.04557). Its settled state is the coordinate-wise weighted median of the patterns."""

    highest = 0.0
    rests = True
    confinement = Free()

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        return -(state.unsqueeze(-2) - keys.unsqueeze(-3)).abs().sum(-1)

    def rest(self, weights: Tensor, state: Tensor, keys: Tensor) -> Tensor:
        if keys.shape[-2] == 0:
            return state.expand(*weights.shape[:-1], state.shape[-1])
        mass = weights.sum(-1, keepdim=True)
        middle = torch.where(mass == 0, state, self.median(weights, keys))
        return torch.where(mass.isnan(), mass, middle)  # a selection would hide NaN

    def median(self, weights: Tensor, keys: Tensor) -> Tensor:
        """``argmin_x Σ_μ p_μ ‖x − ξ_μ‖₁``, one pattern's coordinate per coordinate. (..., q, n), (..., n, d) -> (..., q, d)

        The gradient reaches the selected coordinates of ``keys``; the selection itself is piecewise constant.
        """
        with torch.no_grad():
            order = keys.detach().argsort(-2).mT.unsqueeze(-3)  # (..., 1, d, n)
            batch = torch.broadcast_shapes(weights.shape[:-2], keys.shape[:-2])
            shape = (*batch, weights.shape[-2], *order.shape[-2:])
            mass = weights.detach().unsqueeze(-2).expand(shape).gather(-1, order.expand(shape)).cumsum(-1)
            rank = (mass < 0.5 * mass[..., -1:]).sum(-1, keepdim=True).clamp_max(keys.shape[-2] - 1)
            chosen = order.expand(shape).gather(-1, rank).squeeze(-1)  # (..., q, d)
        return keys.expand(*batch, *keys.shape[-2:]).gather(-2, chosen)

    def formula(self, scale: str) -> str:
        return f"−{scale}‖x − ξ_μ‖₁"
