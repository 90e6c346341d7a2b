"""How queries are damaged copies of patterns: flipped signs, masked coordinates, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...energies.separations.separation import require


class Corruption:
    """Base of all corruptions."""

    def __call__(self, patterns: Tensor, generator: torch.Generator) -> Tensor:
        """Damaged copies, each row on its own. (..., d) -> (..., d)"""
        raise NotImplementedError

    def start(self, dim: int) -> tuple[float, float]:
        """``(a, b)`` of a damaged copy ``x = a ξ + y`` of width ``dim`` with y across ξ and ``‖y‖² = b ‖ξ‖²``."""
        raise NotImplementedError

    def agreement(self, dim: int) -> float:
        """The expected share of right bits minus that of wrong ones, once a damaged pattern of ±1 is made ±1 again (``signed``)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Flips(Corruption):
    """The signs of a ``share`` of the coordinates are turned, exactly round(share · d) of every row."""

    share: float

    def __post_init__(self):
        _share(self)

    def __call__(self, patterns, generator):
        return torch.where(_chosen(patterns, self.share, generator), -patterns, patterns)

    def start(self, dim):
        own = self.agreement(dim)
        return own, 1 - own**2

    def agreement(self, dim):
        return 1 - 2 * realised(self.share, dim)


@dataclass(frozen=True)
class Masking(Corruption):
    """A ``share`` of the coordinates is 0, exactly round(share · d) of every row. An energy on the hypercube is asked with random bits there."""

    share: float

    def __post_init__(self):
        _share(self)

    def __call__(self, patterns, generator):
        return torch.where(_chosen(patterns, self.share, generator), 0.0, patterns)

    def start(self, dim):
        share = realised(self.share, dim)
        return 1 - share, share * (1 - share)

    def agreement(self, dim):
        return 1 - realised(self.share, dim)


@dataclass(frozen=True)
class Noise(Corruption):
    """Gaussian noise whose expected squared length is ``scale²`` times that of the pattern. An energy on the hypercube is asked with the signs."""

    scale: float

    def __post_init__(self):
        require(0 <= self.scale < math.inf, f"Noise needs a scale of at least 0, got {self.scale!r}.")

    def __call__(self, patterns, generator):
        length = patterns.norm(dim=-1, keepdim=True) / math.sqrt(patterns.shape[-1])
        return patterns + self.scale * length * torch.randn(patterns.shape, generator=generator, dtype=patterns.dtype)

    def start(self, dim):
        return 1.0, self.scale**2

    def agreement(self, dim):
        return math.erf(1 / (math.sqrt(2) * self.scale)) if self.scale > 0 else 1.0


def _share(corruption: Flips | Masking) -> None:
    require(0 <= corruption.share <= 1, f"{type(corruption).__name__} needs a share of the coordinates in [0, 1], got {corruption.share!r}.")


def realised(share: float, dim: int) -> float:
    """The share that whole coordinates make up, ``round(share · d)/d``."""
    return round(share * dim) / dim


def signed(states: Tensor, generator: torch.Generator) -> Tensor:
    """States of ±1: the signs of coordinates, at random where one is 0."""
    random = torch.randint(0, 2, states.shape, generator=generator).to(states) * 2 - 1
    return torch.where(states == 0, random, states.sign())


def _chosen(patterns: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A random selection of round(share · d) coordinates per row, boolean."""
    count = round(share * patterns.shape[-1])
    index = torch.rand(patterns.shape, generator=generator).topk(count, -1).indices
    return torch.zeros(patterns.shape, dtype=torch.bool).scatter_(-1, index, True)
