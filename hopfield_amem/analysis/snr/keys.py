"""Where keys come from: ensembles whose scores have a known law."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...energies import Cosine, Dot, Euclidean, ReadEnergy
from .averaged import AveragedDistanceScores, AveragedNormalScores, LengthAveraged
from .laws import CosineScores, DistanceScores, NormalScores, ScoreLaw


class Keys:
    """Base of the ensembles of keys: independent, and alike in every direction."""

    dim: int

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Keys of the memory, (count, dim) in float64."""
        raise NotImplementedError

    def asked(self, count: int, generator: torch.Generator) -> Tensor:
        """Keys that are asked for, (count, dim)."""
        return self.draw(count, generator)

    def laws(self, energy: ReadEnergy) -> list[tuple[float, ScoreLaw | LengthAveraged]]:
        """The laws of the score of a key at the one asked for, each with the logarithm of its probability: one, unless keys are of several kinds."""
        raise NotImplementedError

    def typical(self, energy: ReadEnergy) -> ScoreLaw:
        """The law at the key asked for that is the median one."""
        law = self.laws(energy)[0][1]
        if isinstance(law, LengthAveraged):
            raise NotImplementedError("Keys whose law is averaged over lengths say what is typical themselves.")
        return law


@dataclass(frozen=True)
class GaussianKeys(Keys):
    """Keys ``k ~ N(0, I)``; the one asked for has the length that is typical, ``‖k_i‖² = d``, or another that is given.

    This is what the closed forms of "Understanding Transformer from the Perspective of Associative Memory" (arXiv 2505.19488, §2.1) are for.

    Args:
        dim: d ≥ 1.
        square: ``‖k_i‖²`` > 0 of the key asked for; None: d.
    """

    dim: int
    square: float | None = None

    def __post_init__(self):
        _check_dim(self.dim, 1)
        if self.square is not None and not 0 < self.square < math.inf:
            raise ValueError(f"square is the squared length of the key that is asked for, positive and finite; got {self.square!r}.")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.dim, generator=generator, dtype=torch.float64)

    def asked(self, count: int, generator: torch.Generator) -> Tensor:
        direction = torch.nn.functional.normalize(self.draw(count, generator), dim=-1)
        return math.sqrt(self.dim if self.square is None else self.square) * direction

    def laws(self, energy: ReadEnergy) -> list[tuple[float, ScoreLaw | LengthAveraged]]:
        return [(0.0, _gaussian_law(energy, self.dim, float(self.dim if self.square is None else self.square)))]


@dataclass(frozen=True)
class AveragedGaussianKeys(Keys):
    """Keys ``k ~ N(0, I)``, the one asked for included: the mean is over its length as well.

    Exponential kernels answer short keys so much worse than typical ones that this mean is up to e⁴ times that of ``GaussianKeys`` at τ = √d.
    It is infinite for softmax from β = (1 + √2)/2 on and for κ = sⁿ in d ≤ 2n dimensions.
    """

    dim: int

    def __post_init__(self):
        _check_dim(self.dim, 1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.dim, generator=generator, dtype=torch.float64)

    def laws(self, energy: ReadEnergy) -> list[tuple[float, ScoreLaw | LengthAveraged]]:
        beta = float(energy.beta)
        averaged = {Dot: AveragedNormalScores, Euclidean: AveragedDistanceScores}.get(type(energy.similarity))
        return [(0.0, self.typical(energy) if averaged is None else averaged(self.dim, beta))]

    def typical(self, energy: ReadEnergy) -> ScoreLaw:
        return _gaussian_law(energy, self.dim, self.dim * (1 - 2 / (9 * self.dim)) ** 3)  # the median of χ² (Wilson & Hilferty 1931)


@dataclass(frozen=True)
class SphericalKeys(Keys):
    """Keys of length one in every direction alike: normalised keys, cosine attention.

    Args:
        dim: d ≥ 2; on a line there are but two directions.
    """

    dim: int

    def __post_init__(self):
        _check_dim(self.dim, 2)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.nn.functional.normalize(torch.randn(count, self.dim, generator=generator, dtype=torch.float64), dim=-1)

    def laws(self, energy: ReadEnergy) -> list[tuple[float, ScoreLaw | LengthAveraged]]:
        return [(0.0, _cosine_law(energy, self.dim))]


def _gaussian_law(energy: ReadEnergy, dim: int, square: float) -> ScoreLaw:
    beta = float(energy.beta)
    if isinstance(energy.similarity, Dot):
        return NormalScores(beta, square)
    if isinstance(energy.similarity, Cosine) and dim > 1:
        return CosineScores(dim, beta)
    if isinstance(energy.similarity, Euclidean):
        return DistanceScores(dim, beta, square)
    raise ValueError(
        f"The law of {energy.similarity} at Gaussian keys is not known (those of Dot, Euclidean and, for d > 1, Cosine are): use measured_inverse_snr."
    )


def _cosine_law(energy: ReadEnergy, dim: int) -> ScoreLaw:
    if isinstance(energy.similarity, (Dot, Cosine)):
        return CosineScores(dim, float(energy.beta))
    if isinstance(energy.similarity, Euclidean):
        return CosineScores(dim, float(energy.beta), 1.0)  # −½‖x − ξ‖² = x·ξ − 1
    raise ValueError(f"The law of {energy.similarity} at keys of length one is not known here (Dot, Cosine and Euclidean are): use measured_inverse_snr.")


def _check_dim(dim: int, least: int) -> None:
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < least:
        raise ValueError(f"Keys have an integer number of dimensions, at least {least}; got {dim!r}.")
