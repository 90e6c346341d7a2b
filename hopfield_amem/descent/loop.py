"""What every descent shares: the door, the loop with per-query stopping, and the record."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..energies import ReadEnergy, checks
from ..energies.truth import settled
from ..kernels import Bounded, Reference, computation, engine
from .certificate import Descended, certify
from .implicit import looked_at

Energy = ReadEnergy | Callable[[Tensor, Tensor], Tensor]


class Landscape:
    """An energy over one memory: its value and gradient at states, whatever kind of energy it is."""

    def __init__(self, energy: Energy, state: Tensor, keys: Tensor, presence: Tensor | None, backend: str = "auto"):
        self.spec = energy
        self.given: dict[str, Tensor | None] = {"query": state, "keys": keys}
        if isinstance(energy, ReadEnergy):
            checks.inputs(energy, state, keys, None, presence)
        elif presence is not None:
            raise ValueError("presence belongs to a ReadEnergy; an energy given as a function must handle its own masks.")
        self.dtype, (state, keys) = computation(state, keys)
        shapes = [state.shape[:-2], keys.shape[:-2]] if isinstance(energy, ReadEnergy) else [state.shape[:-2]]
        self.start = state.expand(*torch.broadcast_shapes(*shapes), *state.shape[-2:])
        self.keys, self.presence, self.backend = keys, presence, backend
        self.engine = engine(energy, self.start, keys, presence=presence, backend=backend) if isinstance(energy, ReadEnergy) else None

    def detached(self) -> Reference | Bounded:
        """The engine of the same memory as constants."""
        spec, presence = self.spec, self.presence
        assert isinstance(spec, ReadEnergy)
        spec = spec.at(spec.beta.detach()) if isinstance(spec.beta, Tensor) else spec
        return engine(spec, self.start, self.keys.detach(), presence=None if presence is None else presence.detach(), backend=self.backend)

    def energy(self, state: Tensor) -> Tensor:
        """E of every query, (..., q, d) -> (..., q)"""
        if self.engine is not None:
            return self.engine.energy(state)
        value = self.spec(state, self.keys)
        if not isinstance(value, Tensor) or value.shape != state.shape[:-1]:
            came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"An energy function must give one number per query: E(state, memories) of shape {tuple(state.shape[:-1])}, got {came}.")
        return value

    def gradient(self, state: Tensor) -> Tensor:
        """∇E of every query, (..., q, d) -> (..., q, d), differentiable."""
        if self.engine is not None and self.spec.similarity.inner:  # type: ignore[union-attr]
            return self.spec.confinement.gradient(state) - self.engine.force(state)  # type: ignore[union-attr]
        return torch.func.grad(lambda x: self.energy(x).sum())(state)

    def project(self, state: Tensor) -> Tensor:
        return self.spec.confinement.project(state) if isinstance(self.spec, ReadEnergy) else state

    def descended(self, state: Tensor, steps: Tensor, residual: Tensor, tolerance: float, record: list[Tensor]) -> Descended:
        """The state with its certificate, in the dtype the caller gave."""
        checks.contents(self.spec, self.given, state)
        with torch.no_grad():
            energy = self.energy(state)
            margin, bound = certify(self.spec, state, self.keys, self.presence)
            trajectory = torch.stack(record).to(self.dtype) if record else None
            energies = torch.stack([self.energy(x) for x in record]) if record else None
        return Descended(state.to(self.dtype), energy, steps, residual, residual <= tolerance, margin, bound, trajectory, energies)


def descend(landscape: Landscape, step: Callable[[Tensor], Tensor], steps: int, tolerance: float, record: bool) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Repeat a step until every query has come to rest. A query at rest no longer moves, whatever its neighbours do.

    Returns the state, and per query the steps taken and the residual of the last one; and the recorded states.
    """
    state = landscape.start
    taken = torch.zeros(state.shape[:-1], dtype=torch.long, device=state.device)
    residual = torch.full(state.shape[:-1], float("inf"), dtype=state.dtype, device=state.device)
    path = [state.detach()] if record else []
    for taking in range(steps):
        moving = ~(residual <= tolerance)  # NaN keeps moving, and is explained at the end
        if taking and looked_at(taking - 1, state) and settled(~moving):
            break
        moved = step(state)
        with torch.no_grad():
            distance = (moved - state).norm(dim=-1) / moved.norm(dim=-1).clamp_min(torch.finfo(state.dtype).tiny)
            residual = torch.where(moving, distance, residual)
            taken = taken + moving
        state = torch.where(moving.unsqueeze(-1), moved, state)
        if record:
            path.append(state.detach())
    return state, taken, residual, path


def check_options(steps: int, tolerance: float) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0 (0 stops only when nothing changes any more), got {tolerance!r}.")
