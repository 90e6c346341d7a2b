"""Confinements C: what keeps a state finite. Each minimises ``C(x) − pull·x + ½ mass ‖x‖²``, the energy at fixed weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .scalings.scaling import normal


class Confinement:
    """Base of all confinements."""

    averages = False  # True when settled states, and values read with them, are averages: divided by the sum of the weights

    def __call__(self, state: Tensor) -> Tensor:  # (..., q, d) -> (..., q)
        """``C(x)`` inside the allowed set (0 for a pure constraint)."""
        return torch.zeros_like(state[..., 0])

    def gradient(self, state: Tensor) -> Tensor:
        """``∇C(x)``, the same shape as the state."""
        return torch.zeros_like(state)

    def minimise(self, pull: Tensor, mass: Tensor | None, state: Tensor) -> Tensor:
        """``argmin_x C(x) − pull·x + ½ mass ‖x‖²``, a mass of None meaning 0; where every x is equally good, the present state."""
        raise NotImplementedError

    def project(self, state: Tensor) -> Tensor:
        """The nearest allowed state."""
        return state

    def tangent(self, state: Tensor, velocity: Tensor) -> Tensor:
        """The part of a velocity that stays in the allowed set."""
        return velocity


@dataclass(frozen=True)
class Quadratic(Confinement):
    """``C(x) = ½‖x‖²``: a unit gradient step of a ``Dot`` energy then lands on ``Σ p ξ``, which is attention."""

    def __call__(self, state):
        return 0.5 * state.square().sum(-1)

    def gradient(self, state):
        return state

    def minimise(self, pull, mass, state):
        return pull if mass is None else pull / (1 + mass)

    def __str__(self) -> str:
        return "½‖x‖²"


@dataclass(frozen=True)
class Free(Confinement):
    """``C(x) = 0``: for energies that are confined by their similarity (distances)."""

    averages = True

    def minimise(self, pull, mass, state):
        if mass is None:
            return state
        mass = normal(mass)
        return torch.where(mass == 0, state, pull / torch.where(mass == 0, math.inf, mass))

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class Sphere(Confinement):
    """``‖x‖ = radius``. The settled state is the direction of the pull."""

    radius: float = 1.0

    def __post_init__(self):
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"Sphere needs a positive finite radius, got {self.radius!r}.")

    def minimise(self, pull, mass, state):
        return self._scaled(pull, state)

    def project(self, state):
        return self._scaled(state, state)

    def tangent(self, state, velocity):
        return velocity - state * (state * velocity).sum(-1, keepdim=True) / self.radius**2

    def _scaled(self, direction: Tensor, otherwise: Tensor) -> Tensor:
        length = direction.detach().abs().amax(-1, keepdim=True)  # keeps the square of a long or short vector finite
        unit = direction / torch.where(length == 0, 1.0, length)
        norm = torch.where(length == 0, 1.0, unit).norm(dim=-1, keepdim=True)
        return torch.where(length == 0, otherwise, self.radius * unit / norm)

    def __str__(self) -> str:
        return f"[‖x‖ = {self.radius:g}]"


@dataclass(frozen=True)
class Hypercube(Confinement):
    """``−1 ≤ xᵢ ≤ 1``: with ``Dot`` the settled state is ``sign(Σ p ξ)``, binary memories (Hopfield 1982)."""

    def minimise(self, pull, mass, state):
        if mass is None:
            return torch.where(pull == 0, state, torch.where(pull.isnan(), pull, pull.sign()))
        mass = normal(mass)
        return torch.where(mass == 0, state, (pull / torch.where(mass == 0, math.inf, mass)).clamp(-1, 1))

    def project(self, state):
        return state.clamp(-1, 1)

    def tangent(self, state, velocity):
        outward = ((state >= 1) & (velocity > 0)) | ((state <= -1) & (velocity < 0))
        return torch.where(outward, 0.0, velocity)

    def __str__(self) -> str:
        return "[−1 ≤ x ≤ 1]"
