"""Where descents come to rest: the distinct states, how deep they lie, how the energy bends there, and how many starts each of them draws."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...descent import Descended, FixedPoint, GradientDescent
from ...descent.loop import Descent, Energy
from ...energies import ReadEnergy
from ...energies.distances import distances
from ..result import Result

WIDEST = 1024  # dimensions up to which a Hessian is made
ROWS = 256  # states that are compared with all others at once


@dataclass(frozen=True)
class FixedPoints(Result):
    """The distinct states in which descents rest, those that drew most starts first.

    Attributes:
        state: (k, d).
        energy: E there, (k,).
        count: how many starts came there, (k,).
        nearest: index of the nearest stored pattern (Euclidean), (k,).
        distance: how far that is, (k,).
        of: for every start the index of its fixed point, (q,); −1 where the descent did not converge, or ended with infinite energy.
        curvature: eigenvalues of the Hessian of E along the directions in which the state may move both ways, ascending, (k, d or fewer), NaN beyond the
            last; None where it was not asked for. A minimum has none that is negative; their number is the index of a saddle.
    """

    state: Tensor
    energy: Tensor
    count: Tensor
    nearest: Tensor
    distance: Tensor
    of: Tensor
    curvature: Tensor | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One row per fixed point."""
        columns: dict[str, Tensor] = {"energy": self.energy, "starts": self.count, "nearest pattern": self.nearest, "distance": self.distance}
        if self.curvature is not None and self.curvature.shape[-1]:
            largest = self.curvature.nan_to_num(-math.inf).amax(-1)
            columns |= {"least curvature": self.curvature[:, 0], "largest curvature": largest, "negative directions": self.negative()}
        values = {name: column.tolist() for name, column in columns.items()}
        return [{"fixed point": i, **{name: column[i] for name, column in values.items()}} for i in range(len(self.state))]

    def negative(self) -> Tensor:
        """How many directions of every fixed point lead down, 0 at a minimum, (k,)."""
        if self.curvature is None:
            raise ValueError("Ask for curvature=True to know in which directions the energy falls.")
        bends = self.curvature.nan_to_num(0.0)
        return (bends < -1e-6 * bends.abs().sum(-1, keepdim=True)).sum(-1)

    def plot(self):
        """Energy of every fixed point against how many starts it drew, coloured by how the energy bends."""
        from ..plots.landscape import fixed_points

        return fixed_points(self)


def fixed_points(
    energy: Energy, start: Tensor, keys: Tensor, *, descent: Descent | None = None, apart: float = 1e-3, curvature: bool = True
) -> FixedPoints:  # fmt: skip
    """Descend from every start, and tell apart where the descents rest.

    Args:
        energy: a ReadEnergy, or any differentiable ``E(state, memories)``.
        start: (q, d).
        keys: stored patterns (n, d).
        descent: None: ``FixedPoint(steps=200)`` for a ReadEnergy, ``GradientDescent(steps=2000)`` for a function.
        apart: states nearer to each other than this share of the largest norm of any rest, start or pattern are one.
        curvature: whether Hessians are made, one of d × d per fixed point.

    Raises:
        ValueError, TypeError: shapes that do not fit, an ``apart`` that is not positive, more than 1,024 dimensions with curvature.
    """
    if start.ndim != 2 or keys.ndim != 2 or not len(start) or not len(keys) or start.shape[-1] != keys.shape[-1]:
        raise ValueError(f"fixed_points needs starts (q, d) and stored patterns (n, d), got {tuple(start.shape)} and {tuple(keys.shape)}.")
    if not 0 < apart < 1:
        raise ValueError(f"apart is a share of the size of states, in (0, 1), got {apart!r}.")
    if curvature and keys.shape[-1] > WIDEST:
        raise ValueError(f"Hessians are made up to {WIDEST} dimensions, got {keys.shape[-1]}. Leave them out with curvature=False.")
    found = told_apart((descent or usual_descent(energy))(energy, start, keys), start, keys, apart)
    if not curvature or not len(found.state):
        return found
    bends = [_curvature(energy, x, keys) for x in found.state]
    return replace(found, curvature=torch.nn.utils.rnn.pad_sequence(bends, batch_first=True, padding_value=math.nan))


@torch.no_grad()
def told_apart(rest: Descended, start: Tensor, keys: Tensor, apart: float = 1e-3) -> FixedPoints:
    """The distinct states of descents that rest, without curvature. ``apart`` is a share of the largest norm of any rest, start or pattern."""
    arrived = (rest.converged & rest.energy.isfinite()).nonzero().squeeze(-1)
    states = rest.state[arrived]
    size = max(float(part.norm(dim=-1).max()) for part in (states, start, keys) if len(part))
    label, first, count = _distinct(states, apart * max(size, torch.finfo(states.dtype).tiny / apart))
    of = torch.full(rest.converged.shape, -1, device=states.device).index_put((arrived,), label)
    distance, nearest = distances(states[first], keys).min(-1)
    return FixedPoints(states[first], rest.energy[arrived][first], count, nearest, distance, of)


def usual_descent(energy: Energy) -> Descent:
    """What comes to rest where nothing else is said."""
    return FixedPoint(steps=200) if isinstance(energy, ReadEnergy) else GradientDescent(steps=2000)


def _distinct(states: Tensor, apart: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which of the distinct states every state is, the index of the first one of each, and how many there are, most first. (q, d) -> (q,), (k,), (k,)

    Chains of states that are nearer than ``apart`` are one: the connected components of the graph that joins them, found a few rows at a time.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(states):
        empty = torch.zeros(0, dtype=torch.long, device=states.device)
        return empty, empty, empty
    near = [
        (distances(rows, states) < apart).nonzero() + torch.tensor([first, 0], device=states.device)
        for first, rows in zip(range(0, len(states), ROWS), states.split(ROWS), strict=True)
    ]
    one, other = torch.cat(near).cpu().numpy().T
    graph = coo_array((np.ones_like(one), (one, other)), shape=(len(states), len(states)))
    chains = torch.as_tensor(connected_components(graph, directed=False)[1], device=states.device).long()
    count = chains.bincount()
    order = count.argsort(descending=True, stable=True)
    label = order.argsort()[chains]
    first = torch.stack([(label == k).nonzero()[0, 0] for k in range(len(count))])
    return label, first, count[order]


def _curvature(energy: Energy, state: Tensor, keys: Tensor) -> Tensor:
    """Eigenvalues of the Hessian of E at a state (d,), along the directions in which it may move, E taken where its confinement projects to."""
    confined = energy.confinement if isinstance(energy, ReadEnergy) else None
    axes = torch.eye(len(state), dtype=state.dtype, device=state.device)
    if confined is not None:
        x = state.expand_as(axes)
        both = 0.5 * (confined.tangent(x, axes) - confined.tangent(x, -axes))  # 1 along directions that are open both ways, ½ or 0 along others
        _, size, directions = torch.linalg.svd(both)
        axes = directions[size > 0.75]
    if not len(axes):
        return state.new_zeros(0)

    def along(steps: Tensor) -> Tensor:
        x = (state + steps @ axes).unsqueeze(0)
        return energy(x if confined is None else confined.project(x), keys).sum()

    hessian = torch.func.jacrev(torch.func.jacrev(along))(state.new_zeros(len(axes)))
    return torch.linalg.eigvalsh(hessian)
