"""Gradient descent on any energy: a spec, or any differentiable scalar ``E(state, memories)``."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..energies import ReadEnergy, checks
from ..kernels import full_precision
from .certificate import Descended
from .loop import Energy, Landscape, check_options, descend


@dataclass(frozen=True)
class GradientDescent:
    """``x ← x − η ∇E(x)``, projected onto the confinement, until ``‖Δx‖ ≤ tolerance · ‖x‖``, each query on its own.

    For ``Dot`` and ``Quadratic`` a step of size 1 is the settled state, attention. A step below 2/L, with L the largest
    curvature of E, never raises the energy.

    Args:
        step_size: η > 0.
        steps: at most this many.
        tolerance: relative change below which a query rests; 0 rests only when nothing changes any more.
        record: keep all states and energies.
    """

    step_size: float = 0.1
    steps: int = 200
    tolerance: float = 1e-5
    record: bool = False

    def __post_init__(self):
        check_options(self.steps, self.tolerance)
        if not self.step_size > 0:
            raise ValueError(f"step_size must be positive, got {self.step_size!r}.")

    def __call__(self, energy: Energy, state: Tensor, keys: Tensor, *, presence: Tensor | None = None, backend: str = "auto") -> Descended:
        """Descend from ``state`` (..., q, d) among ``keys`` (..., n, d), or whatever memories the energy function takes.

        Raises:
            ValueError, TypeError: inputs that do not fit, or an energy that is unbounded below.
        """
        landscape = Landscape(energy, state, keys, presence, backend)
        if isinstance(energy, ReadEnergy):
            checks.bounded(energy, landscape.keys, presence)
        with full_precision(state):
            state, taken, residual, path = descend(
                landscape, lambda x: landscape.project(x - self.step_size * landscape.gradient(x)), self.steps, self.tolerance, self.record
            )
            return landscape.descended(state, taken, residual, self.tolerance, path)
