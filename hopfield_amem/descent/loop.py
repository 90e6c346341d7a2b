"""What every descent shares: the door, the loop with per-query stopping, and the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..energies import DistributedEnergy, ReadEnergy, checks
from ..energies.truth import settled
from ..kernels import Bounded, Gates, Reference, computation, engine, full_precision, gated
from .certificate import Descended, certify
from .implicit import looked_at

Energy = ReadEnergy | Callable[[Tensor, Tensor], Tensor]


class Landscape:
    """An energy over one memory: its value and gradient at states, whatever kind of energy it is."""

    def __init__(self, energy: Energy, state: Tensor, keys: Tensor, gates: Gates, backend: str = "auto"):
        self.spec = energy
        self.given: dict[str, Tensor | None] = {"query": state, "keys": keys}
        if isinstance(energy, ReadEnergy):
            checks.inputs(energy, state, keys, None, gates.presence, gates.bias)
        elif not callable(energy):
            raise TypeError(f"A descent follows a ReadEnergy, or a function E(state, memories) that gives one number per query; got {type(energy).__name__}.")
        elif not gates.open:
            raise ValueError("presence, bias and causality belong to a ReadEnergy; an energy given as a function must handle its own masks.")
        self.dtype, (state, keys) = computation(state, keys)
        shapes = [state.shape[:-2], keys.shape[:-2]] if isinstance(energy, ReadEnergy) else [state.shape[:-2]]
        self.start = state.expand(*torch.broadcast_shapes(*shapes), *state.shape[-2:])
        self.keys, self.gates, self.backend = keys, gates, backend
        self.engine = engine(energy, self.start, keys, gates, backend=backend) if isinstance(energy, ReadEnergy) else None

    def detached(self) -> Reference | Bounded:
        """The engine of the same memory as constants."""
        spec = self.spec
        assert isinstance(spec, ReadEnergy)
        spec = spec.at(spec.beta.detach()) if isinstance(spec.beta, Tensor) else spec
        return engine(spec, self.start, self.keys.detach(), self.gates.detached(), backend=self.backend)

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
        if isinstance(self.spec, DistributedEnergy):
            return self.spec.gradient(state, self.keys)
        return torch.func.grad(self._followed)(state)

    def _followed(self, state: Tensor) -> Tensor:
        """The energies of all queries in one number, which must depend on the state by operations that torch can follow."""
        total = self.energy(state).sum()
        if not total.requires_grad:
            raise ValueError(
                "The energy function is cut off from the state, and its gradient would be zero everywhere. Write it with differentiable torch operations: "
                "no detach(), item(), numpy() or rounding."
            )
        return total

    def project(self, state: Tensor) -> Tensor:
        return self.spec.confinement.project(state) if isinstance(self.spec, ReadEnergy) else state

    def certificate(self, state: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Margin and retrieval-error bound of every state."""
        return certify(self.spec, state, self.keys, self.gates)

    def descended(self, path: Path, tolerance: float) -> Descended:
        """The state with its certificate, in the dtype the caller gave."""
        checks.contents(self.spec, self.given, path.state)
        with torch.no_grad():
            energy = self.energy(path.state)
            margin, bound = self.certificate(path.state)
            trajectory = torch.stack(path.record).to(self.dtype) if path.record else None
            energies = torch.stack([self.energy(x) for x in path.record]) if path.record else None
        found = path.state.to(self.dtype), energy, path.steps, path.residual, path.residual <= tolerance, margin, bound, trajectory, energies
        return Descended(*found, path.period)


class Path(NamedTuple):
    """Where a descent came: the state, per query the steps taken and the residual of the last one, the recorded states, and the period of a cycle."""

    state: Tensor
    steps: Tensor
    residual: Tensor
    record: list[Tensor]
    period: Tensor | None = None


class Descent:
    """Base of all descents. A subclass says how it runs down a landscape; the door and the certificate are shared."""

    tolerance: float

    def run(self, landscape: Landscape) -> Path:
        """From ``landscape.start`` downhill."""
        raise NotImplementedError

    def __call__(
        self, energy: Energy, state: Tensor, keys: Tensor, *, presence: Tensor | None = None, bias: Tensor | None = None, causal: bool | int = False,
        backend: str = "auto",
    ) -> Descended:  # fmt: skip
        """Descend from ``state`` (..., q, d) among ``keys`` (..., n, d), or whatever memories the energy function takes. Options as in ``retrieve``.

        Raises:
            ValueError, TypeError: inputs that do not fit, an energy that is unbounded below or that this descent cannot follow.
        """
        landscape = Landscape(energy, state, keys, gated(presence, bias, causal, 0.0, state.device), backend)
        with full_precision(state):
            return landscape.descended(self.run(landscape), self.tolerance)

    def state(self, energy: Energy, state: Tensor, keys: Tensor, gates: Gates) -> Tensor:
        """Where the descent ends, without certificate, for a read that goes on from there."""
        landscape = Landscape(energy, state, keys, gates)
        with full_precision(state):
            return self.run(landscape).state.to(landscape.dtype)


def descend(start: Tensor, step: Callable[[Tensor], Tensor], steps: int, tolerance: float, record: bool) -> Path:
    """Repeat a step until every query has come to rest. A query at rest no longer moves, whatever its neighbours do."""
    state = start
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
    return Path(state, taken, residual, path)


def check_options(steps: int, tolerance: float) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0 (0 stops only when nothing changes any more), got {tolerance!r}.")
