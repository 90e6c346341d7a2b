"""An energy on the plane of two principal components, and which memory each point of it falls to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..descent import FixedPoint
from ..energies import ReadEnergy, checks


@dataclass(frozen=True)
class Plane:
    """A plane in pattern space: ``x = origin + a · axes``. Origin (d,), orthonormal axes (2, d)."""

    origin: Tensor
    axes: Tensor

    def coordinates(self, points: Tensor) -> Tensor:
        """Where points project to: ``a = axes (x − origin)``. (..., d) -> (..., 2)"""
        return (points - self.origin) @ self.axes.mT

    def lift(self, coordinates: Tensor) -> Tensor:
        """The points of the plane. (..., 2) -> (..., d)"""
        return self.origin + coordinates @ self.axes


def principal_plane(patterns: Tensor) -> Plane:
    """The plane through the mean along the two directions of largest variance (Pearson 1901). (n, d) -> Plane

    Each axis points where its largest coordinate is positive.

    Raises:
        ValueError: fewer than three patterns or fewer than two features.
    """
    if patterns.ndim != 2 or patterns.shape[0] < 3 or patterns.shape[1] < 2:
        raise ValueError(f"Two principal components need at least 3 patterns of at least 2 features, shape (n, d); got {tuple(patterns.shape)}.")
    origin = patterns.mean(0)
    axes = torch.linalg.svd(patterns - origin, full_matrices=False).Vh[:2]
    sign = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return Plane(origin, axes * sign)


@dataclass(frozen=True)
class Landscape:
    """An energy sampled on a plane.

    Attributes:
        horizontal, vertical: plane coordinates of the grid, (w,) and (h,).
        energy: E at the grid points, (h, w); +inf where no slot is in reach.
        basin: index of the stored pattern nearest to where the descent from a grid point rests (the first of equally near ones),
            (h, w); −1 where it rests with infinite energy, reached by no slot.
        patterns: plane coordinates of the stored patterns, (n, 2).
    """

    horizontal: Tensor
    vertical: Tensor
    energy: Tensor
    basin: Tensor
    patterns: Tensor


@torch.no_grad()
def landscape(energy: ReadEnergy, keys: Tensor, plane: Plane, *, resolution: int = 80, margin: float = 0.25, descent: FixedPoint | None = None) -> Landscape:
    """Energy and basins on a square grid of the plane that holds all patterns. The descent leaves the plane; only its start is on it.

    A state that must lie on a sphere or in a cube is projected there before its energy is taken.

    Args:
        energy: what to descend.
        keys: stored patterns (n, d).
        plane: where to look, usually ``principal_plane(keys)``.
        resolution: grid points per side.
        margin: how far the grid extends beyond the outermost pattern, as a share of the larger side.
        descent: default ``FixedPoint(steps=200)``.

    Raises:
        ValueError, TypeError: shapes that do not fit, an energy without closed-form step or unbounded below.
    """
    if keys.ndim != 2 or len(keys) == 0 or resolution < 2:
        raise ValueError(f"A landscape needs stored patterns (n, d) and resolution ≥ 2, got keys {tuple(keys.shape)} and resolution {resolution!r}.")
    points = plane.coordinates(keys)
    horizontal, vertical = _axes(points, resolution, margin)
    grid = torch.stack(torch.meshgrid(horizontal, vertical, indexing="xy"), -1)
    start = energy.confinement.project(plane.lift(grid.reshape(-1, 2)))
    checks.inputs(energy, start, keys, None, None)
    rest = (descent or FixedPoint(steps=200))(energy, start, keys)
    basin = _first_nearest(energy, rest.state, keys).masked_fill(rest.energy.isinf(), -1)
    shape = (resolution, resolution)
    return Landscape(horizontal, vertical, energy(start, keys).reshape(shape), basin.reshape(shape), points)


def _first_nearest(energy: ReadEnergy, state: Tensor, keys: Tensor) -> Tensor:
    """The most similar pattern; of those as similar up to rounding (in the middle of a mixture) the first, not a random one."""
    score = energy.similarity(state, keys)
    slack = 1e-4 * (score.amax(-1, keepdim=True) - score.amin(-1, keepdim=True))
    index = torch.arange(len(keys), device=keys.device)
    return torch.where(score >= score.amax(-1, keepdim=True) - slack, index, len(keys)).amin(-1)


def _axes(points: Tensor, resolution: int, margin: float) -> tuple[Tensor, Tensor]:
    low, high = points.amin(0), points.amax(0)
    half = (0.5 + margin) * (high - low).max().clamp_min(torch.finfo(points.dtype).eps)
    centre = (low + high) / 2
    across = torch.linspace(-1, 1, resolution, dtype=points.dtype, device=points.device) * half
    return centre[0] + across, centre[1] + across
