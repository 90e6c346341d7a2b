"""Laws of the score of two Gaussian keys, neither of whose lengths is given."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .laws import DistanceScores, NormalScores, ScoreLaw


class LengthAveraged:
    """Base: laws of the score that depend on the length of the key asked for, itself a Gaussian key of d dimensions, over which κ²/κ_ii² is averaged."""

    dim: int

    def at(self, square: float) -> ScoreLaw:
        """The law where the key asked for has that squared length."""
        raise NotImplementedError

    def log_density(self, length: float) -> float:
        """``log`` density of the length: χ of d degrees."""
        return (self.dim - 1) * math.log(length) - 0.5 * length**2 - (0.5 * self.dim - 1) * math.log(2) - math.lgamma(0.5 * self.dim)


@dataclass(frozen=True)
class AveragedNormalScores(LengthAveraged):
    """Inner products of two Gaussian keys."""

    dim: int
    beta: float

    def at(self, square: float) -> ScoreLaw:
        return NormalScores(self.beta, square)


@dataclass(frozen=True)
class AveragedDistanceScores(LengthAveraged):
    """Distances of two Gaussian keys."""

    dim: int
    beta: float

    def at(self, square: float) -> ScoreLaw:
        return DistanceScores(self.dim, self.beta, square)
