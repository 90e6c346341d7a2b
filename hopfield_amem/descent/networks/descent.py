"""How networks of energies move: what their descents share, and steps downhill that never raise the energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...energies import Network
from ...energies.network import States
from ...energies.truth import settled
from ...kernels import full_precision
from ..halving import HALVINGS, longest
from ..implicit import looked_at
from ..loop import check_options
from .terrain import Clamped, Point, Terrain, below

ORDERS = ("synchronous", "asynchronous")


@dataclass(frozen=True)
class Rest:
    """States of a network at rest (or out of steps), with the evidence for it, per sample. Nothing here is an error: read ``converged``.

    Attributes:
        states: x of every group, (..., *shape).
        activations: g of every group, what its neurons say, (..., *shape).
        energy: E, (...), without gradient.
        steps: steps this sample took before it came to rest, (...). For ``NetworkFlow``, evaluations of the slope.
        residual: ``‖∂E/∂g‖ / (‖x‖ + tolerance · √n)`` at the end, over the n neurons that are not clamped, (...). The second term lets states rest that
            fade to 0.
        converged: residual ≤ tolerance, (...).
        trajectory: states after 0, 1, … steps by group, (steps + 1, ..., *shape), when recorded.
        energies: their energies, (steps + 1, ...), when recorded.
    """

    states: dict[str, Tensor]
    activations: dict[str, Tensor]
    energy: Tensor
    steps: Tensor
    residual: Tensor
    converged: Tensor
    trajectory: dict[str, Tensor] | None = None
    energies: Tensor | None = None

    def __str__(self) -> str:
        if not self.converged.numel():
            return "no samples"
        share, steps = float(self.converged.float().mean()), float(self.steps.float().mean())
        return f"{share:.0%} of {self.converged.numel()} samples converged, {steps:.1f} steps, mean energy {float(self.energy.mean()):.4g}"


class Trail(NamedTuple):
    """Where a descent came, in rows: the state (..., n), per sample the steps and the residual, and the recorded states."""

    state: Tensor
    steps: Tensor
    residual: Tensor
    record: list[Tensor]


class NetworkDynamics:
    """Base of the dynamics ``τ dx/dt = −∂E/∂g``. A subclass says how it runs over a terrain; the door and the certificate are shared."""

    tolerance: float

    def run(self, terrain: Terrain) -> Trail:
        """From ``terrain.start`` downhill."""
        raise NotImplementedError

    def __call__(self, network: Network, states: States, *, clamped: Clamped = ()) -> Rest:
        """Descend from states (..., *shape); groups that are not given start at 0.

        Args:
            network: what is descended.
            states: by group; half types are computed in float32.
            clamped: what keeps its state: names of groups, or a mapping from names to True, or to boolean masks that broadcast to a group's states. Where the
                neurons of a row share what they say (softmax, norms), whole rows are clamped.

        Raises:
            ValueError, TypeError: states, names or masks that do not fit; a network whose energy is unbounded below.
        """
        if not isinstance(network, Network):
            raise TypeError(f"{type(self).__name__} descends a Network, got {type(network).__name__}. Other energies: GradientDescent, Flow.")
        terrain = Terrain(network, states, clamped, self.tolerance)
        if not torch.compiler.is_compiling():
            stability = network.check_stability(terrain.start, clamped=terrain.held())
            if stability.stable is False:
                raise ValueError(f"This network is {stability}")
        with full_precision(terrain.start):
            trail = self.run(terrain)
            return self._certified(terrain, trail)

    def activations(self, network: Network, states: States, *, clamped: Clamped = ()) -> dict[str, Tensor]:
        """What the neurons say where the descent ends, without certificate, and without asking whether the energy is bounded below."""
        terrain = Terrain(network, states, clamped, self.tolerance)
        with full_precision(terrain.start):
            return self._said(terrain, terrain.unpacked(self.run(terrain).state))

    def _said(self, terrain: Terrain, final: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the neurons say at the end; ValueError where states or activations have left the range of their numbers."""
        terrain.refuse_infinite(final)
        activations = terrain.network.activations(final)
        terrain.refuse_infinite(activations)
        return {name: activation.to(terrain.dtype) for name, activation in activations.items()}

    def _certified(self, terrain: Terrain, trail: Trail) -> Rest:
        final, back = terrain.unpacked(trail.state), terrain.dtype
        activations = self._said(terrain, final)
        with torch.no_grad():
            energy = terrain.energy(trail.state)
            energies = torch.stack([terrain.energy(rows) for rows in trail.record]) if trail.record else None
            trajectory = {n: s.to(back) for n, s in terrain.unpacked(torch.stack(trail.record)).items()} if trail.record else None
        states = {name: state.to(back) for name, state in final.items()}
        return Rest(states, activations, energy, trail.steps, trail.residual, trail.residual <= self.tolerance, trajectory, energies)


@dataclass(frozen=True)
class NetworkDescent(NetworkDynamics):
    """``x ← x − η/τ ∂E/∂g`` until ``‖∂E/∂g‖ ≤ tolerance · (‖x‖ + tolerance · √n)``, each sample on its own.

    E never rises: the step of a sample is halved until its energy does not, and doubled again, up to η, while it does not need to be. Where rounding
    decides whether E rises (by 8 units in the last place of its terms at most), it must not speed up instead. Without gradients a
    step that need not be halved costs one evaluation of E and ``∂E/∂g`` together; with gradients, or where some sample's is halved, one more for every
    size that is tried and one where it ends.

    Args:
        step_size: η > 0, the longest step, in units of the time constants.
        steps: at most this many.
        tolerance: what counts as rest; 0 takes all steps, unless a sample cannot move any more.
        order: "synchronous" moves all groups at once, "asynchronous" one after another, each seeing where the others have come.
        record: keep all states and energies.

    Raises:
        ValueError: options out of range.
    """

    step_size: float = 0.5
    steps: int = 200
    tolerance: float = 1e-5
    order: str = "synchronous"
    record: bool = False

    def __post_init__(self):
        check_options(self.steps, self.tolerance)
        if not 0 < self.step_size < float("inf"):
            raise ValueError(f"step_size must be positive and finite, got {self.step_size!r}.")
        if self.order not in ORDERS:
            raise ValueError(f"order must be 'synchronous' or 'asynchronous', got {self.order!r}.")

    def run(self, terrain: Terrain) -> Trail:
        state, at = terrain.start, terrain.evaluate(terrain.start)
        turns = [None] if self.order == "synchronous" else terrain.groups()
        sizes = [torch.full_like(at.energy, self.step_size) for _ in turns]
        moving = self._far(terrain, state, at, torch.ones_like(at.energy, dtype=torch.bool))
        taken = torch.zeros_like(moving, dtype=torch.long)
        record = [state.detach()] if self.record else []
        for taking in range(self.steps):
            if looked_at(taking, state) and settled(~moving):
                break
            taken = taken + moving
            before, whole = state, True
            for turn, group in enumerate(turns):
                state, at, sizes[turn], taken_whole = self._step(terrain, state, at, sizes[turn] * moving, group=group)
                whole = whole and taken_whole
            moving = self._far(terrain, state, at, moving)
            moving = moving if whole else moving & ~self._stuck(before, state, sizes)
            if self.record:
                record.append(state.detach())
        return Trail(state, taken, terrain.residual(state, at.slope), record)

    def _step(self, terrain: Terrain, state: Tensor, at: Point, size: Tensor, *, group: Tensor | None) -> tuple[Tensor, Point, Tensor, bool]:
        """One step of all groups, or of one: the new state, what was found there, the size of the next step, and whether no sample's had to be halved."""
        slope, whole = at.slope if group is None else at.slope * group, None
        if not torch.is_grad_enabled() and not torch.compiler.is_compiling():  # the whole step mostly goes down: what is found at its end is kept
            moved = torch.addcmul(state, size.unsqueeze(-1), slope, value=-1)
            there = terrain.evaluate(moved)
            whole = below(there, at, group)
            if settled(whole):
                return moved, there, (2 * size).clamp(max=self.step_size), True
        chosen = longest(lambda rows: below(terrain.evaluate(rows), at, group), state, -slope, size, whole=whole)
        moved = torch.addcmul(state, chosen.unsqueeze(-1), slope, value=-1)
        grown = torch.where(chosen > 0, 2 * chosen, size * 0.5 ** (HALVINGS + 1)).clamp(max=self.step_size)
        return moved, terrain.evaluate(moved), grown, False

    def _far(self, terrain: Terrain, state: Tensor, at: Point, moving: Tensor) -> Tensor:
        """Which of the moving samples are not at rest yet; NaN keeps moving, and is explained at the end."""
        return moving if self.tolerance == 0 else moving & ~(terrain.residual(state, at.slope) <= self.tolerance)

    def _stuck(self, before: Tensor, state: Tensor, sizes: list[Tensor]) -> Tensor:
        """Samples that no step moves any more, however small."""
        small = torch.stack(sizes).amax(0) < torch.finfo(state.dtype).eps * self.step_size
        return small & (state == before).all(-1) if settled(small.any()) else small
