"""Descents on a plane: where they pass, and how the energy falls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...descent.loop import Descent, Energy
from ..result import Result
from .fixed_points import usual_descent
from .plane import Plane


@dataclass(frozen=True)
class Paths(Result):
    """Descents, recorded.

    Attributes:
        coordinates: where they pass, projected to the plane, (steps + 1, q, 2).
        energy: E on the way, (steps + 1, q).
        converged: whether each came to rest, (q,).
    """

    coordinates: Tensor
    energy: Tensor
    converged: Tensor

    def rows(self) -> list[dict[str, Any]]:
        """One row per descent and step."""
        steps, queries = self.energy.shape
        across, up = self.coordinates.unbind(-1)
        return [
            {"descent": q, "step": t, "energy": float(self.energy[t, q]), "horizontal": float(across[t, q]), "vertical": float(up[t, q])}
            for q in range(queries)
            for t in range(steps)
        ]

    def plot(self):
        """Energy along every descent."""
        from ..plots.recall import energy_curves

        return energy_curves({f"{self.energy.shape[1]} descents": self.energy}, "Energy along the descent")


@torch.no_grad()
def descent_paths(energy: Energy, start: Tensor, keys: Tensor, plane: Plane, *, descent: Descent | None = None) -> Paths:
    """Record descents from starts (q, d) among patterns (n, d), projected to a plane. ``descent`` as in ``fixed_points``.

    Raises:
        ValueError, TypeError: shapes that do not fit, a descent that cannot record.
    """
    if start.ndim != 2 or not len(start):
        raise ValueError(f"descent_paths needs starts (q, d), got {tuple(start.shape)}.")
    plane.check(start)
    chosen = descent or usual_descent(energy)
    if not hasattr(chosen, "record"):
        raise ValueError(f"Paths need a descent that records its states (FixedPoint, GradientDescent, Flow), got {chosen!r}.")
    found = replace(chosen, record=True)(energy, start, keys)  # type: ignore[type-var]
    assert found.trajectory is not None and found.energies is not None
    return Paths(plane.coordinates(found.trajectory), found.energies, found.converged)
