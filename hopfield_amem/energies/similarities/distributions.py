"""Similarities of distributions, the confinement that keeps a state one, and similarities from distances.

Patterns and states are non-negative and normalised on the fly, ``x̂ = (x/Σx + ε)/(1 + dε)``: the floor ε keeps every logarithm and its gradient finite.
With the inner products and distances of ``similarity`` these are the rows of the Universal Hopfield table (Millidge et al. 2022, arXiv 2202.04557).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..confinement import Confinement
from ..scalings.simplex import Simplex
from ..separations.separation import require
from ..separations.tsallis import Tsallis
from .similarity import Similarity, capped


@dataclass(frozen=True)
class Probability(Confinement):
    """``x ≥ floor, Σ x = 1``: the state is a probability distribution.

    A positive floor keeps states off the boundary, where the gradient of a divergence is steep. Projecting is sparsemax (Martins & Astudillo 2016,
    arXiv 1602.02068). ``Flow`` does not follow this set; ``FixedPoint`` and ``GradientDescent`` do.
    """

    floor: float = 0.0
    averages = True

    def __post_init__(self):
        require(0 <= self.floor < 1, f"Probability needs a floor in [0, 1/d), got {self.floor!r}.")

    def minimise(self, pull: Tensor, mass: Tensor | None, state: Tensor) -> Tensor:
        if mass is not None:
            return torch.where(mass == 0, state, self.project(pull / torch.where(mass == 0, 1.0, mass)))
        vertex = torch.zeros_like(pull).scatter(-1, pull.argmax(-1, keepdim=True), 1.0)
        moved = self.floor + self._room(pull) * vertex
        return torch.where((pull == pull[..., :1]).all(-1, keepdim=True), state, moved + 0 * pull)  # NaN stays visible

    def project(self, state: Tensor) -> Tensor:
        room = self._room(state)
        return self.floor + room * Simplex().weights(Tsallis(2.0), (state - self.floor) / room)

    def tangent(self, state: Tensor, velocity: Tensor) -> Tensor:
        raise ValueError("Flow does not follow the probability simplex. Descend with FixedPoint or GradientDescent, whose steps are projected onto it.")

    def _room(self, state: Tensor) -> float:
        room = 1 - self.floor * state.shape[-1]
        require(room > 0, f"Probability(floor={self.floor:g}) leaves no distribution over {state.shape[-1]} entries: the floor must be below 1/d.")
        return room

    def __str__(self) -> str:
        return f"[x ≥ {self.floor:g}, Σx = 1]"


def normalised(pattern: Tensor, floor: float) -> Tensor:
    """``(x/Σx + ε)/(1 + dε)``; the uniform distribution for a pattern of zeros. (..., d)"""
    total = pattern.sum(-1, keepdim=True)
    raised = pattern / torch.where(total == 0, 1.0, total) + floor
    return raised / raised.sum(-1, keepdim=True)


@dataclass(frozen=True)
class _OfDistributions(Similarity):
    floor: float = 1e-6

    nonnegative = True
    confinement = Probability()

    def __post_init__(self):
        require(0 < self.floor < 1, f"{type(self).__name__} needs a floor in (0, 1), got {self.floor!r}: it keeps logarithms of zero entries finite.")

    def _both(self, state: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return normalised(state, self.floor), normalised(keys, self.floor)


@dataclass(frozen=True)
class NormalisedDot(_OfDistributions):
    """``S(x, ξ) = x̂ · ξ̂`` of the normalised patterns (Millidge et al. 2022, arXiv 2202.04557)."""

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        state, keys = self._both(state, keys)
        return state @ keys.mT

    def formula(self, scale: str) -> str:
        return f"{scale} x̂·ξ̂_μ".lstrip()


@dataclass(frozen=True)
class KullbackLeibler(_OfDistributions):
    """``S(x, ξ) = −KL(ξ̂ ‖ x̂) = −Σ ξ̂ log(ξ̂/x̂)``
    (Millidge et al. 2022, arXiv 2202.04557). Its settled state is the mean ``Σ p ξ / Σ p`` of the normalised patterns.
    """

    highest = 0.0
    rests = True

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        state, keys = self._both(state, keys)
        return capped(state.log() @ keys.mT - (keys * keys.log()).sum(-1).unsqueeze(-2))

    def rest(self, weights: Tensor, state: Tensor, keys: Tensor) -> Tensor:
        total = keys.sum(-1, keepdim=True)
        mean, mass = weights @ torch.where(total == 0, 1 / keys.shape[-1], keys / torch.where(total == 0, 1.0, total)), weights.sum(-1, keepdim=True)
        return torch.where(mass == 0, state, mean / torch.where(mass == 0, 1.0, mass))

    def formula(self, scale: str) -> str:
        return f"−{scale and f'{scale} '}KL(ξ_μ‖x)"


@dataclass(frozen=True)
class ReverseKullbackLeibler(_OfDistributions):
    """``S(x, ξ) = −KL(x̂ ‖ ξ̂) = −Σ x̂ log(x̂/ξ̂)``
    (Millidge et al. 2022, arXiv 2202.04557). Its settled state is the normalised geometric mean ``∝ exp(Σ p log ξ̂ / Σ p)``.
    """

    highest = 0.0
    rests = True

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        state, keys = self._both(state, keys)
        return capped(state @ keys.log().mT - (state * state.log()).sum(-1, keepdim=True))

    def rest(self, weights: Tensor, state: Tensor, keys: Tensor) -> Tensor:
        mass = weights.sum(-1, keepdim=True)
        mean = weights @ normalised(keys, self.floor).log() / torch.where(mass == 0, 1.0, mass)
        lowered = (1 + self.floor * keys.shape[-1]) * mean.softmax(-1) - self.floor  # the x whose x̂ this is
        return torch.where(mass == 0, state, lowered.clamp_min(0.0))

    def formula(self, scale: str) -> str:
        return f"−{scale and f'{scale} '}KL(x‖ξ_μ)"


@dataclass(frozen=True)
class JensenShannon(_OfDistributions):
    """``S(x, ξ) = −½KL(x̂ ‖ m) − ½KL(ξ̂ ‖ m)`` with ``m = ½(x̂ + ξ̂)``: symmetric, and never below −log 2
    (Millidge et al. 2022, arXiv 2202.04557). No closed-form step.
    """

    highest = 0.0

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        state, keys = (t.unsqueeze(d) for t, d in zip(self._both(state, keys), (-2, -3), strict=True))
        log_middle = (0.5 * (state + keys)).log()
        return capped(-0.5 * (state * (state.log() - log_middle) + keys * (keys.log() - log_middle)).sum(-1))

    def formula(self, scale: str) -> str:
        return f"−{scale and f'{scale} '}JS(x, ξ_μ)"


@dataclass(frozen=True)
class Inverse(Similarity):
    """``S(x, ξ) = 1/(floor + D(x, ξ))`` of a distance ``D = −S'``: positive and bounded, so that powers separate (Millidge et al. 2022, arXiv 2202.04557).

    Args:
        of: a similarity that is minus a distance: ``Euclidean()``, ``Manhattan()``, ``KullbackLeibler()``, …
        floor: added to the distance, so that an exact query scores 1/floor rather than infinity.

    Raises:
        ValueError: a similarity that is no distance, or a floor that is not positive.
    """

    of: Similarity
    floor: float = 0.01

    def __post_init__(self):
        require(
            isinstance(self.of, Similarity) and self.of.highest == 0,
            f"Inverse needs minus a distance, such as Euclidean() or JensenShannon(); got {self.of!r}.",
        )
        require(0 < self.floor < math.inf, f"Inverse needs a positive floor, got {self.floor!r}: 1/0 is what an exact query would score without it.")

    @property
    def highest(self) -> float:  # type: ignore[override]
        return 1 / self.floor

    @property
    def nonnegative(self) -> bool:  # type: ignore[override]
        return self.of.nonnegative

    @property
    def confinement(self) -> Confinement:  # type: ignore[override]
        return self.of.confinement

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        return 1 / (self.floor + (-self.of(state, keys)).clamp_min(0.0))  # rounding may take an exact query below zero

    def invariant(self, product: Tensor, state_square: Tensor, key_square: Tensor) -> Tensor:
        return 1 / (self.floor + (-self.of.invariant(product, state_square, key_square)).relu())

    def formula(self, scale: str) -> str:
        return f"{scale or '1'}/({self.floor:g} + D(x, ξ_μ))".replace("D(x, ξ_μ)", self.of.formula("").lstrip("−"))
