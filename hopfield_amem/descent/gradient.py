"""Gradient descent on any energy: a spec, or any differentiable scalar ``E(state, memories)``."""

from __future__ import annotations

from dataclasses import dataclass

from ..energies import ReadEnergy, checks
from .loop import Descent, Landscape, Path, check_options, descend


@dataclass(frozen=True)
class GradientDescent(Descent):
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

    def run(self, landscape: Landscape) -> Path:
        if isinstance(landscape.spec, ReadEnergy):
            checks.bounded(landscape.spec, landscape.keys, landscape.gates.presence)
        step = lambda x: landscape.project(x - self.step_size * landscape.gradient(x))
        return descend(landscape.start, step, self.steps, self.tolerance, self.record)
