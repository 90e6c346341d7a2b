"""An energy on a plane, and where each point of it falls to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...descent.loop import Descent, Energy
from ...energies import ReadEnergy, checks
from ...energies.distances import distances
from ..result import Result
from .fixed_points import FixedPoints, told_apart, usual_descent
from .plane import Plane


@dataclass(frozen=True)
class Landscape(Result):
    """An energy sampled on a plane.

    Attributes:
        horizontal, vertical: plane coordinates of the grid, (w,) and (h,).
        energy: E at the grid points, (h, w); +inf where no slot is in reach.
        basin: index of the stored pattern nearest to where the descent from a grid point rests (the first of equally near ones),
            (h, w); −1 where it rests with infinite energy, reached by no slot.
        patterns: plane coordinates of the stored patterns, (n, 2).
        attractor: index of the fixed point that a grid point falls to, (h, w); −1 where its descent did not converge to one.
        attractors: these fixed points, without curvature.
        rest: their plane coordinates, (k, 2).
    """

    horizontal: Tensor
    vertical: Tensor
    energy: Tensor
    basin: Tensor
    patterns: Tensor
    attractor: Tensor
    attractors: FixedPoints
    rest: Tensor

    def rows(self) -> list[dict[str, Any]]:
        """One row per attractor: the share of the grid that falls to it, its energy, the stored pattern nearest to it."""
        points = self.energy.numel()
        return [{"share of the plane": row["starts"] / points, **row} for row in self.attractors.rows()]

    def plot(self, paths: Any = None):
        """Contours of E over basins coloured by attractor; ``paths`` of descents (``descent_paths``) drawn into them."""
        from ..plots.landscape import surface

        return surface(self, paths)


@torch.no_grad()
def landscape(energy: Energy, keys: Tensor, plane: Plane, *, resolution: int = 80, margin: float = 0.25, descent: Descent | None = None) -> Landscape:
    """Energy and basins on a square grid of the plane that holds all patterns. The descent leaves the plane; only its start is on it.

    A state that must lie on a sphere or in a cube is projected there before its energy is taken.

    Args:
        energy: a ReadEnergy, or any differentiable ``E(state, memories)``.
        keys: stored patterns (n, d).
        plane: where to look, for example ``principal_plane(keys)`` or ``Plane.through(keys[:3])``.
        resolution: grid points per side.
        margin: how far the grid extends beyond the outermost pattern, as a share of the larger side.
        descent: None: ``FixedPoint(steps=200)`` for a ReadEnergy, ``GradientDescent(steps=2000)`` for a function.

    Raises:
        ValueError, TypeError: shapes that do not fit, an energy without closed-form step or unbounded below.
    """
    if keys.ndim != 2 or len(keys) == 0 or resolution < 2:
        raise ValueError(f"A landscape needs stored patterns (n, d) and resolution ≥ 2, got keys {tuple(keys.shape)} and resolution {resolution!r}.")
    plane.check(keys)
    points = plane.coordinates(keys)
    horizontal, vertical = _axes(points, resolution, margin)
    start = plane.lift(torch.stack(torch.meshgrid(horizontal, vertical, indexing="xy"), -1).reshape(-1, 2))
    if isinstance(energy, ReadEnergy):
        start = energy.confinement.project(start)
        checks.inputs(energy, start, keys, None, None)
    rest = (descent or usual_descent(energy))(energy, start, keys)
    basin = _first_nearest(energy, rest.state, keys).masked_fill(rest.energy.isinf(), -1)
    found, shape = told_apart(rest, start, keys), (resolution, resolution)
    drawn = energy(start, keys).reshape(shape), basin.reshape(shape), points, found.of.reshape(shape)
    return Landscape(horizontal, vertical, *drawn, found, plane.coordinates(found.state))


def _first_nearest(energy: Energy, state: Tensor, keys: Tensor) -> Tensor:
    """The most similar pattern; of those as similar up to rounding (in the middle of a mixture) the first, not a random one."""
    score = energy.similarity(state, keys) if isinstance(energy, ReadEnergy) else -distances(state, keys)
    slack = 1e-4 * (score.amax(-1, keepdim=True) - score.amin(-1, keepdim=True))
    index = torch.arange(len(keys), device=keys.device)
    return torch.where(score >= score.amax(-1, keepdim=True) - slack, index, len(keys)).amin(-1)


def _axes(points: Tensor, resolution: int, margin: float) -> tuple[Tensor, Tensor]:
    low, high = points.amin(0), points.amax(0)
    half = (0.5 + margin) * (high - low).max().clamp_min(torch.finfo(points.dtype).eps)
    centre = (low + high) / 2
    across = torch.linspace(-1, 1, resolution, dtype=points.dtype, device=points.device) * half
    return centre[0] + across, centre[1] + across
