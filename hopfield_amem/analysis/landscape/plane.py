"""Planes in pattern space, to look at energies on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plane:
    """A plane in pattern space: ``x = origin + a · axes``. Origin (d,), orthonormal axes (2, d)."""

    origin: Tensor
    axes: Tensor

    @classmethod
    def along(cls, origin: Tensor, first: Tensor, second: Tensor) -> Plane:
        """The plane through a point, along two directions, (d,) each. The first axis has the first direction, the second what the second adds to it.

        Raises:
            ValueError: shapes that do not fit, directions that are parallel or 0.
        """
        if origin.ndim != 1 or not origin.shape == first.shape == second.shape:
            raise ValueError(f"A plane has an origin and two directions (d,), got {tuple(origin.shape)}, {tuple(first.shape)} and {tuple(second.shape)}.")
        across = first / first.norm().clamp_min(torch.finfo(first.dtype).tiny)
        rest = second - (second @ across) * across
        if not float(rest.norm()) > 1e-6 * float(second.norm()) or not float(first.norm()) > 0:
            raise ValueError("The two directions of a plane must not be parallel, and neither may be 0.")
        return cls(origin, torch.stack([across, rest / rest.norm()]))

    @classmethod
    def through(cls, points: Tensor) -> Plane:
        """The plane through three points (3, d), for example three stored patterns. Raises ValueError where they lie on a line."""
        if points.ndim != 2 or len(points) != 3:
            raise ValueError(f"A plane goes through three points, (3, d), got {tuple(points.shape)}.")
        return cls.along(points.mean(0), points[1] - points[0], points[2] - points[0])

    def check(self, points: Tensor) -> None:
        """Raise ValueError for points of another width."""
        if points.shape[-1] != self.origin.shape[-1]:
            raise ValueError(f"This plane lies in {self.origin.shape[-1]} dimensions, the points {tuple(points.shape)} in {points.shape[-1]}.")

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
        ValueError: fewer than three patterns or fewer than two features, patterns that are not finite.
    """
    if patterns.ndim != 2 or patterns.shape[0] < 3 or patterns.shape[1] < 2 or not patterns.is_floating_point():
        came = f"{patterns.dtype} {tuple(patterns.shape)}"
        raise ValueError(f"Two principal components need at least 3 floating-point patterns of at least 2 features, shape (n, d); got {came}.")
    if not bool(patterns.isfinite().all()):
        raise ValueError("Patterns with NaN or Inf have no principal components. Repair or leave out such patterns.")
    origin = patterns.mean(0)
    axes = torch.linalg.svd(patterns - origin, full_matrices=False).Vh[:2]
    sign = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return Plane(origin, axes * sign)
