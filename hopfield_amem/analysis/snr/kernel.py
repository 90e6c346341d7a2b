"""The kernel κ of an energy as a function of the score: its retrieval weight before anything is normalised, as a logarithm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...energies import Dot, Level, Log, ReadEnergy, Separation, Simplex, Sphere, Sum
from ...energies.scalings.scaling import is_exponential


def factors(energy: ReadEnergy) -> bool:
    """Whether the weights of a query are κ(k_i, k_j) up to a common factor, so that κ = F′ decides the noise: ``Sum``, ``Log``, and exponentials always."""
    level = isinstance(energy.scaling, (Simplex, Level)) and is_exponential(energy.separation)
    return type(energy.scaling) in (Sum, Log) or (level and getattr(energy.scaling, "total", 1.0) == 1.0)


def log_kernel(energy: ReadEnergy, score: Tensor) -> Tensor:
    """``log |κ|`` with ``κ = F′(s)``: −∞ where the weight is 0, +∞ where it overflows."""
    return score if is_exponential(energy.separation) else energy.separation.slope(score).abs().log()


@dataclass(frozen=True)
class Kernel:
    """κ of an energy for arrays of scores, all less a level τ (0 where no scaling has one)."""

    energy: ReadEnergy
    level: float = 0.0

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """``log |κ|`` of every score."""
        return log_kernel(self.energy, torch.from_numpy(np.asarray(score, dtype=np.float64) - self.level)).numpy()

    @property
    def bends(self) -> tuple[float, ...]:
        """Scores at which kernels of the library bend or jump: the end of their reach, 0, and where they saturate."""
        found = (-self.energy.separation.reach, 0.0, self.energy.separation.saturation)
        return tuple(self.level + score for score in found if math.isfinite(score))

    def own(self, score: float) -> float:
        """``log κ(k_i, k_i)`` at the score of a key with itself. Raises ValueError where κ is 0 or not finite: then nothing is retrieved."""
        value = float(self(np.array([score]))[0])
        if not math.isfinite(value):
            state = "0" if value == -math.inf else "not finite"
            raise ValueError(f"The weight of a key at its own score, {score:g}, is {state}, so {self.energy} retrieves nothing. Use another separation or β.")
        return value


def checked(energy: ReadEnergy | Separation, count: int) -> ReadEnergy:
    """The energy; a separation alone weighs inner products at β = 1, ``κ(x, ξ) = F′(x·ξ)``. Raises where β is not one number, or N is no number of keys."""
    energy = ReadEnergy(Dot(), energy, Sum(), Sphere()) if isinstance(energy, Separation) else energy
    if not isinstance(energy, ReadEnergy):
        raise TypeError(f"The retrieval SNR is that of a ReadEnergy, such as presets.log_sum_exp(0.125), or of a Separation; got {energy!r}.")
    if isinstance(energy.beta, Tensor) and energy.beta.numel() != 1:
        raise ValueError(f"The retrieval SNR is for one temperature at a time, got β of shape {tuple(energy.beta.shape)}. Use energy.at(beta[i]).")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count is the number of stored keys N, the one asked for included: an integer of at least 1; got {count!r}.")
    return energy.at(float(energy.beta)) if isinstance(energy.beta, Tensor) else energy
