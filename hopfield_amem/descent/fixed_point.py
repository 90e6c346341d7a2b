"""Fixed-point descent: settle until at rest. One step is attention."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energies import ReadEnergy, checks
from ..kernels import full_precision
from .certificate import Descended
from .loop import Landscape, check_options, descend


@dataclass(frozen=True)
class FixedPoint:
    """``x ← argmin_x C(x) − Σ_μ p_μ S(x, ξ_μ)`` until ``‖Δx‖ ≤ tolerance · ‖x‖``, each query on its own.

    Majorization–minimization (CCCP: Yuille & Rangarajan 2003; Ramsauer et al. 2020, Theorem 1): the energy never rises
    where Q∘F is convex and increasing in the scores, which holds for ``Exp``, ``Tsallis`` and rectified separations.

    Args:
        steps: at most this many.
        tolerance: relative change below which a query rests; 0 rests only when nothing changes any more.
        gradient: "recompute" differentiates through every step taken (scores are recomputed, so memory holds the states only);
            "implicit" solves ``(I − Jᵀ) y = g`` at the fixed point, in memory independent of the steps. The latter is exact
            at a converged, attracting fixed point, and gives the query no gradient (a fixed point forgets its start).
        record: keep all states and energies.
    """

    steps: int = 100
    tolerance: float = 1e-5
    gradient: str = "recompute"
    record: bool = False

    def __post_init__(self):
        check_options(self.steps, self.tolerance)
        if self.gradient not in ("recompute", "implicit"):
            raise ValueError(f"gradient must be 'recompute' or 'implicit', got {self.gradient!r}.")

    def __call__(self, energy: ReadEnergy, state: Tensor, keys: Tensor, *, presence: Tensor | None = None, backend: str = "auto") -> Descended:
        """Descend from ``state`` (..., q, d) among ``keys`` (..., n, d).

        Raises:
            ValueError, TypeError: inputs that do not fit, an energy without closed-form step or unbounded below.
        """
        if not isinstance(energy, ReadEnergy):
            raise TypeError(f"FixedPoint needs a ReadEnergy, got {type(energy).__name__}. Any differentiable function descends with GradientDescent or Flow.")
        checks.step(energy)
        landscape = Landscape(energy, state, keys, presence, backend)
        if self.steps > 1:
            checks.bounded(energy, landscape.keys, presence)
        assert landscape.engine is not None
        settle = landscape.engine.settle
        with full_precision(state):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.gradient == "recompute"):
                state, taken, residual, path = descend(landscape, settle, self.steps, self.tolerance, self.record)
            if self.gradient == "implicit" and torch.is_grad_enabled():
                _warn_unconverged(residual, max(self.tolerance, 1e-3))
                state = _attach(settle, state)
            return landscape.descended(state, taken, residual, self.tolerance, path)


def _attach(settle, state: Tensor) -> Tensor:
    """The fixed point as a function of everything ``settle`` depends on: ``dx = (I − J)⁻¹ ∂settle``."""
    attached = settle(state)
    if not attached.requires_grad:
        return attached
    try:
        anchor = state.detach().requires_grad_()
    except RuntimeError:
        raise ValueError("gradient='implicit' works with autograd only. Under torch.func use gradient='recompute'.") from None
    local = settle(anchor)

    def solve(cotangent: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise ValueError("gradient='implicit' gives first derivatives only. For second ones use gradient='recompute'.")
        (moved,) = torch.autograd.grad(local, anchor, cotangent, retain_graph=True)
        cotangent = torch.where((moved == cotangent).all(-1, keepdim=True), 0.0, cotangent)  # J = I: no slot acts on this row
        scale = cotangent.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(cotangent.dtype).tiny)
        total = cotangent
        for _ in range(200):  # y ← g + Jᵀy converges because the fixed point attracts
            (back,) = torch.autograd.grad(local, anchor, total, retain_graph=True)
            change = ((cotangent + back - total).norm(dim=-1, keepdim=True) / scale).amax() if total.numel() else total.sum()
            total = cotangent + back
            if change <= 10 * torch.finfo(cotangent.dtype).eps:
                return total
        if change > 1e-3:
            warnings.warn(
                f"The implicit gradient did not converge (change {float(change):.1e} after 200 steps): the fixed point barely attracts. Use 'recompute'.",
                stacklevel=2,
            )
        return total

    attached.register_hook(solve)
    return attached


def _warn_unconverged(residual: Tensor, tolerance: float) -> None:
    late = int((residual > tolerance).sum())
    if late:
        warnings.warn(
            f"{late} of {residual.numel()} queries have not converged; their implicit gradient is inaccurate. Raise steps, or use 'recompute'.",
            stacklevel=3,
        )
