"""Which patterns are stored: random ones, independent or correlated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...energies.separations.separation import require

POINTS, LENGTHS, FARTHEST = 2001, 61, 38.0  # of an overlap's grid, of a length's; standard deviations that one of 10³⁰⁰ normal numbers reaches


class Overlaps(NamedTuple):
    """How a random pattern lies to a fixed state x: groups of x·ξ, of ‖ξ‖², and the logarithm of their probability, all float64 (groups,)."""

    product: Tensor
    square: Tensor
    log_probability: Tensor


class NoOverlaps(ValueError):
    """Patterns whose overlaps are not known in closed form."""


class Ensemble:
    """Base of all ensembles of patterns."""

    signs = False  # whether patterns are ±1
    most = math.inf  # how many different patterns there are

    def draw(self, memories: int, count: int, dim: int, generator: torch.Generator) -> Tensor:
        """Independent memories of ``count`` patterns, float32. -> (memories, count, dim)"""
        raise NotImplementedError

    def square(self, dim: int) -> float:
        """E‖ξ‖² of a pattern."""
        raise NotImplementedError

    def median_square(self, dim: int) -> float:
        """The median of ‖ξ‖²."""
        return self.square(dim)

    def overlaps(self, dim: int, square: float, lengths: bool = False) -> Overlaps:
        """How the patterns lie to a state that is independent of them, with ‖x‖² = ``square``; with ``lengths`` as ‖ξ‖² varies, too."""
        raise NoOverlaps(f"{self}: no overlaps in closed form. Measure instead: measure(energy, dim, task)")

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} patterns"


@dataclass(frozen=True)
class Binary(Ensemble):
    """Independent bits of ±1, ‖ξ‖² = d (Hopfield 1982)."""

    signs = True

    def draw(self, memories, count, dim, generator):
        return torch.randint(0, 2, (memories, count, dim), generator=generator, dtype=torch.float32).mul_(2).sub_(1)

    def square(self, dim):
        return float(dim)

    def overlaps(self, dim, square, lengths=False):
        agreeing = torch.arange(dim + 1, dtype=torch.float64)
        log_probability = math.lgamma(dim + 1) - torch.lgamma(agreeing + 1) - torch.lgamma(dim - agreeing + 1) - dim * math.log(2)
        return Overlaps((2 * agreeing - dim) * math.sqrt(square / dim), torch.full_like(agreeing, float(dim)), log_probability)


@dataclass(frozen=True)
class Spherical(Ensemble):
    """Uniform on the sphere of this radius (1: normalised keys; K√(d − 1) in Ramsauer et al. 2020, √d in Lucibello & Mézard 2024)."""

    radius: float = 1.0

    def __post_init__(self):
        require(0 < self.radius < math.inf, f"Spherical needs a positive, finite radius, got {self.radius!r}.")

    def draw(self, memories, count, dim, generator):
        patterns = torch.randn(memories, count, dim, generator=generator)
        return patterns.mul_(self.radius / patterns.norm(dim=-1, keepdim=True).clamp_min(1e-30))

    def square(self, dim):
        return self.radius**2

    def overlaps(self, dim, square, lengths=False):
        require(dim >= 2, f"A sphere needs at least two dimensions, got {dim}.")
        edges = torch.linspace(-1, 1, 2 * POINTS + 1, dtype=torch.float64)
        cosine = edges[1::2]  # midpoints: the density may be infinite at ±1
        log_density = 0.5 * (dim - 3) * torch.log1p(-cosine.square())
        product = cosine * self.radius * math.sqrt(square)
        return Overlaps(product, torch.full_like(cosine, self.radius**2), log_density.log_softmax(0))


@dataclass(frozen=True)
class Gaussian(Ensemble):
    """Independent normal coordinates of this standard deviation, ‖ξ‖² ≈ d · scale²."""

    scale: float = 1.0

    def __post_init__(self):
        require(0 < self.scale < math.inf, f"Gaussian needs a positive, finite scale, got {self.scale!r}.")

    def draw(self, memories, count, dim, generator):
        return torch.randn(memories, count, dim, generator=generator).mul_(self.scale)

    def square(self, dim):
        return dim * self.scale**2

    def median_square(self, dim):
        return dim * self.scale**2 * (1 - 2 / (9 * dim)) ** 3  # of χ² (Wilson & Hilferty 1931)

    def overlaps(self, dim, square, lengths=False):
        along = torch.linspace(-FARTHEST, FARTHEST, 301 if lengths else POINTS, dtype=torch.float64)
        across, log_across = self._across(dim, lengths)
        log_probability = (-0.5 * along.square()).log_softmax(0).unsqueeze(-1) + log_across
        product = (along * self.scale * math.sqrt(square)).unsqueeze(-1).expand_as(log_probability)
        length = self.scale**2 * (along.square().unsqueeze(-1) + across)
        return Overlaps(product.flatten(), length.flatten(), log_probability.flatten())

    @staticmethod
    def _across(dim: int, lengths: bool) -> tuple[Tensor, Tensor]:
        """Squared length in the d − 1 other directions (χ²) and its log probability; only its mean where lengths do not matter."""
        freedom = dim - 1
        if not lengths or freedom == 0:
            return torch.tensor([float(freedom)], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        spread = 12 * math.sqrt(2 * freedom)
        edges = torch.linspace(max(0.0, freedom - spread), freedom + spread, 2 * LENGTHS + 1, dtype=torch.float64)
        middle = edges[1::2]
        return middle, ((0.5 * freedom - 1) * middle.log() - 0.5 * middle).log_softmax(0)


@dataclass(frozen=True)
class Correlated(Ensemble):
    """Bits of ±1 that agree with a common prototype: any two patterns have the expected overlap ``correlation``, in [0, 1)."""

    correlation: float = 0.1
    signs = True

    def __post_init__(self):
        require(0 <= self.correlation < 1, f"Correlated needs a correlation in [0, 1), got {self.correlation!r}.")

    def draw(self, memories, count, dim, generator):
        prototype = Binary().draw(memories, 1, dim, generator)
        agrees = torch.rand(memories, count, dim, generator=generator) < 0.5 * (1 + math.sqrt(self.correlation))
        return torch.where(agrees, prototype, -prototype)

    def square(self, dim):
        return float(dim)
