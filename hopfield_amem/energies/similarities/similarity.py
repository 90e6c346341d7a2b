"""Similarities S(x, ξ): how near a state is to a stored pattern. Higher is nearer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..confinement import Confinement, Free, Quadratic, Sphere
from ..truth import known

_SHORTEST = 1e-24  # squared length below which ``normalize`` takes a vector for zero


class Similarity:
    """Base of all similarities: ``S(x, ξ)`` for every query and every slot.

    ``inner`` is True when S is an inner product of lifted vectors, ``S(x, ξ) = lift_state(x) · lift_keys(ξ)``
    with the leading d columns of ``lift_keys(ξ)`` being what a step averages and, when ``massive``, a column of ones
    after them. Such a similarity streams through matrix products; any other one is evaluated tile by tile.
    """

    inner = False
    highest = math.inf  # upper bound of S; where it is 0, rounding does not exceed it either (``capped``)
    massive = False  # True when S holds −½‖x‖², so that the weights also pull with a mass Σ p
    degree = 1  # S grows at most like ‖x‖ to this power; above 1 only a sphere or a cube holds the state
    rests = False  # True when ``rest`` says where a state settles, for a similarity that is no such inner product
    nonnegative = False  # True when states and keys must not have negative entries
    confinement: Confinement = Quadratic()  # what a state is confined by unless something else is asked for

    @property
    def steps(self) -> bool:
        """Whether the energy at fixed weights is minimised in closed form."""
        return self.inner or self.rests

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:  # (..., q, d), (..., n, d) -> (..., q, n)
        raise NotImplementedError

    def invariant(self, product: Tensor, state_square: Tensor, key_square: Tensor) -> Tensor:
        """S as a function of ``x·ξ``, ``‖x‖²`` and ``‖ξ‖²``, elementwise: the form that is compiled to kernels."""
        raise NotImplementedError(f"{self} is not known as a function of x·ξ, ‖x‖² and ‖ξ‖²")

    def lift_state(self, state: Tensor) -> Tensor:
        raise NotImplementedError(f"{self} is not an inner product")

    def lift_keys(self, keys: Tensor) -> Tensor:
        raise NotImplementedError(f"{self} is not an inner product")

    def pull(self, weights: Tensor, keys: Tensor) -> tuple[Tensor, Tensor | None]:
        """``Σ p ξ`` and, when S holds −½‖x‖², the mass ``Σ p``, from full weights (..., q, n)."""
        columns = self.lift_keys(keys)[..., : keys.shape[-1]]
        return weights @ columns, weights.sum(-1, keepdim=True) if self.massive else None

    def rest(self, weights: Tensor, state: Tensor, keys: Tensor) -> Tensor:
        """``argmax_x Σ_μ p_μ S(x, ξ_μ)``, or the state where no slot acts. (..., q, n), (..., q, d), (..., n, d) -> (..., q, d)"""
        raise NotImplementedError(f"{self} has no closed-form step")

    def origin(self, keys: Tensor) -> Tensor | None:
        """A point ``(..., 1, d)`` that may be subtracted from states and keys without changing S, or None."""
        return None

    def formula(self, scale: str) -> str:
        """``scale · S(x, ξ_μ)`` written out, as in a paper."""
        return f"{scale} {type(self).__name__}(x, ξ_μ)".lstrip()

    def __str__(self) -> str:
        return self.formula("")

    def force(self, state: Tensor, pull: Tensor, mass: Tensor | None) -> Tensor:
        """``Σ_μ p_μ ∇ₓS(x, ξ_μ)`` from the averages ``pull = Σ p ξ`` and ``mass = Σ p``."""
        raise NotImplementedError(f"{self} has no closed-form force")


def capped(score: Tensor) -> Tensor:
    """Scores −D of a distance, in place: 0 where rounding took them above it, with their gradient, so that a rectified F does not read what rounding left."""
    return score.sub_(score.detach().relu())


@dataclass(frozen=True)
class Dot(Similarity):
    """``S(x, ξ) = x · ξ``, the similarity of attention (Hopfield 1982; Ramsauer et al. 2020, arXiv 2008.02217)."""

    inner = True

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        return state @ keys.mT

    def invariant(self, product: Tensor, state_square: Tensor, key_square: Tensor) -> Tensor:
        return product

    def lift_state(self, state: Tensor) -> Tensor:
        return state

    def lift_keys(self, keys: Tensor) -> Tensor:
        return keys

    def force(self, state: Tensor, pull: Tensor, mass: Tensor | None) -> Tensor:
        return pull

    def formula(self, scale: str) -> str:
        return f"{scale} x·ξ_μ".lstrip()


@dataclass(frozen=True)
class Cosine(Similarity):
    """``S(x, ξ) = x · ξ / (‖x‖ ‖ξ‖)`` (Millidge et al. 2022, arXiv 2202.04557). A zero vector has similarity 0 to everything."""

    inner = True
    confinement = Sphere()

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        return _direction(state) @ _direction(keys).mT

    def invariant(self, product: Tensor, state_square: Tensor, key_square: Tensor) -> Tensor:
        return product * state_square.clamp_min(_SHORTEST).rsqrt() * key_square.clamp_min(_SHORTEST).rsqrt()

    def lift_state(self, state: Tensor) -> Tensor:
        return _direction(state)

    def lift_keys(self, keys: Tensor) -> Tensor:
        return _direction(keys)

    def force(self, state: Tensor, pull: Tensor, mass: Tensor | None) -> Tensor:
        length = state.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(state.dtype).tiny)
        unit = state / length
        return (pull - unit * (unit * pull).sum(-1, keepdim=True)) / length

    def formula(self, scale: str) -> str:
        return f"{scale} cos(x, ξ_μ)".lstrip()


def _direction(vector: Tensor) -> Tensor:
    """A vector of length 1; 0 for 0 in every dtype (the least length that torch takes, 1e-12, is 0 in float16)."""
    return normalize(vector, dim=-1, eps=max(1e-12, torch.finfo(vector.dtype).tiny))


@dataclass(frozen=True)
class Euclidean(Similarity):
    """``S(x, ξ) = −½‖x − ξ‖²``, the similarity of kernel densities and mean shift (Niu et al. 2024, arXiv 2405.08707)."""

    inner = True
    highest = 0.0
    massive = True
    confinement = Free()

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        origin = self.origin(keys)
        return capped(self.lift_state(state - origin) @ self.lift_keys(keys - origin).mT)

    def invariant(self, product: Tensor, state_square: Tensor, key_square: Tensor) -> Tensor:
        return product - 0.5 * state_square - 0.5 * key_square

    def lift_state(self, state: Tensor) -> Tensor:
        half = -0.5 * state.square().sum(-1, keepdim=True)
        return torch.cat([state, half, torch.ones_like(half)], -1)

    def lift_keys(self, keys: Tensor) -> Tensor:
        half = -0.5 * keys.square().sum(-1, keepdim=True)
        return torch.cat([keys, torch.ones_like(half), half], -1)

    def origin(self, keys: Tensor) -> Tensor:
        # Distances do not see a common shift; removing the middle of the keys keeps ‖x‖² + ‖ξ‖² − 2x·ξ from cancelling.
        # A median, of a sample, because one far (or deleted) slot must not move it.
        if keys.shape[-2] == 0:
            return keys.new_zeros(1, keys.shape[-1])
        sample = _sampled(keys.detach()).sort(-2).values  # a median on a GPU is not deterministic
        middle = (sample.shape[-2] - 1) // 2
        return sample[..., middle : middle + 1, :]

    def force(self, state: Tensor, pull: Tensor, mass: Tensor | None) -> Tensor:
        return pull if mass is None else pull - mass * state

    def formula(self, scale: str) -> str:
        return f"−½{scale and f'·{scale}'}‖x − ξ_μ‖²"


def _sampled(keys: Tensor, most: int = 1024) -> Tensor:
    """All slots, or so many of them, evenly spaced."""
    slots = keys.shape[-2]
    return keys if known(slots <= most) else keys.index_select(-2, torch.arange(most, device=keys.device) * slots // most)
