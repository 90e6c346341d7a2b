"""Continuous dynamics of networks, ``τ dx/dt = −∂E/∂g``, integrated by torchdiffeq with any of its methods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..flow import Integration, integrated
from .descent import NetworkDynamics, Trail
from .terrain import Terrain


@dataclass(frozen=True)
class NetworkFlow(Integration, NetworkDynamics):
    """``τ dx/dt = −∂E/∂g`` from t = 0 to ``time``, clamped neurons at rest.

    Args:
        time: how long, > 0, in units of the time constants. The state of neurons decays like ``e^(−t/τ)`` to what their synapses ask for.
        method: any method of ``torchdiffeq.odeint``: "dopri5" (adaptive), "rk4", "euler", …
        options: keyword arguments of ``odeint`` (rtol, atol, options, …), and ``points=k``, which records the states at k equally spaced times.
        tolerance: ``‖∂E/∂g‖ / (‖x‖ + tolerance · √n)`` below which a sample counts as converged.

    The exact flow never raises E, and an adaptive method does not within its tolerances; ``NetworkDescent`` never does. Adaptive methods share their
    step sizes over the samples, chosen for the worst one. Gradients go through every step: there is no adjoint here.
    """

    def __post_init__(self):
        super().__post_init__()
        if dict(self.options or ()).get("adjoint"):
            raise ValueError("NetworkFlow has no adjoint: synapses may be any function, whose tensors it would not see. Leave 'adjoint' out.")

    def run(self, terrain: Terrain) -> Trail:
        """Raises ValueError for a method torchdiffeq does not know, or an adaptive one whose steps collapse."""
        times, options, points = self.schedule(terrain.start)
        field = _Field(terrain)
        path = integrated(field, terrain.start, times, self.method, options=options)
        path = path if terrain.free is None else torch.where(terrain.free, path, terrain.start)  # interpolation rounds what does not move, too
        final = path[-1]
        with torch.no_grad():
            residual = terrain.residual(final, terrain.slope(final))
        steps = torch.full(final.shape[:-1], field.evaluations, device=final.device)
        return Trail(final, steps, residual, list(path.detach()) if points else [])


class _Field(nn.Module):
    """``dx/dt`` of states in rows."""

    def __init__(self, terrain: Terrain):
        super().__init__()
        self.terrain, self.evaluations = terrain, 0

    def forward(self, time: Tensor, state: Tensor) -> Tensor:
        self.evaluations += 1
        return -self.terrain.slope(state)
