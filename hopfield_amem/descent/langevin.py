"""Sampling from an energy: Langevin dynamics with Metropolis correction, every query a chain of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..energies import Free, Hypercube, Quadratic, ReadEnergy, checks
from ..energies.truth import readable
from ..kernels import full_precision, gated
from .loop import Descent, Energy, Landscape, Path
from .tails import check_density


@dataclass(frozen=True)
class Samples:
    """Where the chains of a Langevin run are, and how they came there.

    Attributes:
        state: the last state of every chain, (..., q, d).
        energy: E there, (..., q).
        acceptance: share of the proposals after warm-up that each chain accepted, (..., q); 1 without Metropolis correction.
        trajectory: every ``record``-th state after warm-up, (k, ..., q, d), when recorded.
        energies: their energies, (k, ..., q), when recorded.
    """

    state: Tensor
    energy: Tensor
    acceptance: Tensor
    trajectory: Tensor | None = None
    energies: Tensor | None = None

    def __str__(self) -> str:
        if not self.energy.numel():
            return "no chains"
        recorded = "" if self.trajectory is None else f", {len(self.trajectory)} states recorded of each"
        accepted, energy = float(self.acceptance.mean()), float(self.energy.mean())
        return f"{self.energy.numel()} chains{recorded}, {accepted:.0%} of the proposals accepted, mean energy {energy:.4g}"


class _Place(NamedTuple):
    """A state with what the next proposal and its acceptance need."""

    state: Tensor
    energy: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Langevin(Descent):
    """``y = x − η ∇E(x) + √(2ηT) ε``, ε ~ N(0, 1), accepted with probability ``min(1, e^(−E(y)/T) q(x|y) / (e^(−E(x)/T) q(y|x)))``.

    The chains converge to the density ``exp(−E(x)/T)``, exactly at any step size (Metropolis-adjusted Langevin, Besag 1994; Roberts & Tweedie 1996). At
    T = 1/β the density of ``distance`` is the mixture of Gaussians N(ξ_μ, 1/β) in equal parts, in general the kernel density of F. T → 0 is gradient descent.

    In a ``Hypercube`` proposals outside of it are rejected, which samples the density on it. A ``Sphere`` is refused: straight steps leave it. There
    sample ``lambda x, keys: energy(normalize(x, dim=-1), keys) + ½‖x‖²``, whose directions are distributed as exp(−E/T) on the sphere, and normalise.

    Args:
        step_size: η > 0. About 57 % of the proposals accepted is best in many dimensions (Roberts & Rosenthal 1998).
        steps: number of proposals.
        temperature: T > 0.
        metropolis: False accepts every proposal (unadjusted Langevin): then the density is biased by O(η), a quadratic energy's variance T/(1 − η/2)
            instead of T, but states are differentiable, which an accepted or rejected one is not. Not for an F of finite reach over distances: noise
            takes chains to where no slot pulls them back.
        warm_up: so many first steps are neither recorded nor counted in the acceptance.
        record: keep every ``record``-th state after warm-up; 0 keeps the last state only.
        seed: of the noise. None: torch's global generator. The noise of a chain depends on how many chains there are.
    """

    step_size: float = 0.1
    steps: int = 1000
    temperature: float = 1.0
    metropolis: bool = field(default=True, kw_only=True)
    warm_up: int = field(default=0, kw_only=True)
    record: int = field(default=0, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)
    tolerance = 0.0

    def __post_init__(self):
        for name in ("step_size", "temperature"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value!r}.")
        for name, least in (("steps", 1), ("warm_up", 0), ("record", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
        if self.warm_up >= self.steps:
            raise ValueError(f"warm_up ({self.warm_up}) must be below steps ({self.steps}), or nothing is sampled.")

    def __call__(
        self, energy: Energy, state: Tensor, keys: Tensor, *, presence: Tensor | None = None, bias: Tensor | None = None, causal: bool | int = False,
        backend: str = "auto",
    ) -> Samples:  # fmt: skip
        """Sample from ``state`` (..., q, d) on, one chain per query, among ``keys`` (..., n, d). Options as in ``retrieve``.

        Raises:
            ValueError, TypeError: inputs that do not fit, an energy whose density cannot be normalised (as far as ``tails.check_density`` can tell) or
                sampled, a start of density 0.
        """
        landscape = Landscape(energy, state, keys, gated(presence, bias, causal, 0.0, state.device), backend)
        with full_precision(state):
            place, accepted, record = self._walk(landscape)
        checks.contents(energy, landscape.given, place.state)
        path, heights = (torch.stack(part) for part in zip(*record, strict=True)) if record else (None, None)
        return Samples(place.state.to(landscape.dtype), place.energy.detach(), accepted, None if path is None else path.to(landscape.dtype), heights)

    def run(self, landscape: Landscape) -> Path:
        """The last states as those of a descent, for layers that read where one ends."""
        place, _, _ = self._walk(landscape)
        taken = torch.full(place.energy.shape, self.steps, device=place.energy.device)
        return Path(place.state, taken, torch.full_like(place.energy, math.inf), [])

    def _walk(self, landscape: Landscape) -> tuple[_Place, Tensor, list[tuple[Tensor, Tensor]]]:
        """The last place, the share of accepted proposals, and the recorded states with their energies."""
        _refuse(landscape, self)
        device = landscape.start.device
        generator = None if self.seed is None else torch.Generator(device).manual_seed(self.seed)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.metropolis):
            place = _at(landscape, landscape.start)
            _startable(landscape, place.energy)
            record, accepted = [], torch.zeros_like(place.energy)
            for step in range(1, self.steps + 1):
                place, moved = self._step(landscape, place, generator)
                if step <= self.warm_up:
                    continue
                accepted = accepted + moved
                if self.record and (step - self.warm_up) % self.record == 0:
                    record.append((place.state.detach(), place.energy.detach()))
        return place, accepted / (self.steps - self.warm_up), record

    def _step(self, landscape: Landscape, here: _Place, generator: torch.Generator | None) -> tuple[_Place, Tensor]:
        """The next place of every chain, and 1 for every chain that moved."""
        noise = torch.randn(here.state.shape, generator=generator, dtype=here.state.dtype, device=here.state.device)
        there = _at(landscape, here.state - self.step_size * here.gradient + math.sqrt(2 * self.step_size * self.temperature) * noise)
        if not self.metropolis:
            return there, torch.ones_like(here.energy)
        chance = torch.rand(here.energy.shape, generator=generator, dtype=here.energy.dtype, device=here.energy.device).log()
        moves = (chance < self._log_ratio(here, there)) & (landscape.project(there.state) == there.state).all(-1)
        rows = moves.unsqueeze(-1)
        energy = torch.where(moves, there.energy, here.energy)
        place = _Place(torch.where(rows, there.state, here.state), energy, torch.where(rows, there.gradient, here.gradient))
        return place, moves.to(energy.dtype)

    def _log_ratio(self, here: _Place, there: _Place) -> Tensor:
        """Logarithm of ``e^(−E(y)/T) q(x|y) / (e^(−E(x)/T) q(y|x))``, by which a proposal y from x is judged."""
        forth = (there.state - here.state + self.step_size * here.gradient).square().sum(-1)
        back = (here.state - there.state + self.step_size * there.gradient).square().sum(-1)
        return (here.energy - there.energy + (forth - back) / (4 * self.step_size)) / self.temperature


def _at(landscape: Landscape, state: Tensor) -> _Place:
    return _Place(state, landscape.energy(state), landscape.gradient(state))


def _refuse(landscape: Landscape, chains: Langevin) -> None:
    """Raise where ``exp(−E/T)`` is no density, or straight steps cannot sample it."""
    spec = landscape.spec
    if not isinstance(spec, ReadEnergy):
        return
    checks.bounded(spec, landscape.keys, landscape.gates.presence)
    if not isinstance(spec.confinement, (Quadratic, Free, Hypercube)):
        raise ValueError(
            f"Langevin takes straight steps, which leave {type(spec.confinement).__name__}(). On a sphere sample "
            "lambda x, keys: energy(normalize(x, dim=-1), keys) + 0.5 * x.square().sum(-1) "
            "and normalise the states: their directions have the density exp(−E/T)."
        )
    if not isinstance(spec.confinement, Hypercube):
        check_density(spec, landscape.keys, chains.temperature, metropolis=chains.metropolis)
    elif not chains.metropolis:
        raise ValueError("Without Metropolis correction nothing keeps a chain in the hypercube at the right density. Use metropolis=True.")


def _startable(landscape: Landscape, energy: Tensor) -> None:
    """Raise where a chain would start at density 0, from which no proposal can be judged."""
    outside = (landscape.project(landscape.start) != landscape.start) & landscape.start.isfinite()
    if not readable(~outside.any(), True):
        raise ValueError(f"Chains start outside of {landscape.spec}, that is, at density 0. Start them inside: state.clamp(-1, 1) for a hypercube.")
    if readable(energy.isfinite().all(), True):
        return
    if bool(energy.isnan().any()):
        checks.contents(landscape.spec, landscape.given, energy)
    raise ValueError(
        f"{int((energy == math.inf).sum())} of {energy.numel()} chains start where the energy is infinite, that is, at density 0: no slot is in reach. "
        "Start nearer to the patterns, use a smaller beta, or a separation of infinite reach (presets.distance(), presets.hybrid())."
    )
