"""Basis functions ψ of time in [0, 1]: a sequence of patterns as a curve ``ξ(t) = Bᵀψ(t)`` of a few coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..separations.separation import require
from ..truth import decided


@dataclass(frozen=True)
class Basis:
    """Base of all bases: ψ₁ … ψ_L on [0, 1].

    Raises:
        ValueError: fewer than one function.
    """

    count: int

    def __post_init__(self):
        require(isinstance(self.count, int) and self.count >= 1, f"{type(self).__name__} needs a number of functions L of at least 1, got {self.count!r}.")

    def __call__(self, time: Tensor) -> Tensor:
        """``ψ(t)`` of times in [0, 1]. (n,) -> (n, L)"""
        raise NotImplementedError

    def fit(self, samples: Tensor, times: Tensor | None = None, *, ridge: float = 1e-6) -> Tensor:
        """``B = argmin Σ_i ‖Bᵀψ(t_i) − ξ_i‖² + λ‖B‖²``, by orthogonal factors in float64. (..., n, d) -> (..., L, d)

        Args:
            samples: patterns in the order of time.
            times: when each was seen, (n,) in [0, 1]. None: the middles of n equal intervals.
            ridge: λ > 0. It alone decides what more functions than samples do between them.

        Raises:
            ValueError, TypeError: samples or times of a wrong shape or kind, times outside [0, 1], λ ≤ 0.
        """
        checks.floating("samples", samples)
        require(0 < ridge < math.inf, f"The ridge λ must be positive and finite, got {ridge!r}.")
        times = middles(samples.shape[-2]).to(samples.device) if times is None else moments(times)
        require(times.shape == samples.shape[-2:-1], f"Every sample needs one time: samples {tuple(samples.shape)}, times {tuple(times.shape)}.")
        penalty = math.sqrt(ridge) * torch.eye(self.count, dtype=torch.float64, device=samples.device)
        rows, triangle = torch.linalg.qr(torch.cat([self(times), penalty]))
        seen = rows[: len(times)].mT @ samples.double()
        return torch.linalg.solve_triangular(triangle, seen, upper=True).to(samples.dtype)


@dataclass(frozen=True)
class Rectangular(Basis):
    """``ψ_l = 1`` on the l-th of L equal intervals: with as many of them as samples, the curve visits every pattern for an equal time."""

    def __call__(self, time):
        interval = (time * self.count).long().clamp(0, self.count - 1)
        return torch.nn.functional.one_hot(interval, self.count).to(time.dtype)


@dataclass(frozen=True)
class Radial(Basis):
    """``ψ_l = exp(−½(t − t_l)²/σ²)`` around the middles of L equal intervals; width: σ in units of an interval."""

    width: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.width < math.inf, f"Radial needs a positive finite width, got {self.width!r}.")

    def __call__(self, time):
        distance = (time.unsqueeze(-1) - middles(self.count).to(time)) * self.count / self.width
        return torch.exp(-0.5 * distance.square())


@dataclass(frozen=True)
class Fourier(Basis):
    """``1, √2 cos 2πt, √2 sin 2πt, √2 cos 4πt, …``, the first L of them: orthonormal, for curves that close."""

    def __call__(self, time):
        place = torch.arange(self.count, device=time.device)
        angle = 2 * math.pi * time.unsqueeze(-1) * ((place + 1) // 2)
        return torch.where(place == 0, 1.0, math.sqrt(2) * torch.where(place % 2 == 1, angle.cos(), angle.sin()))


@dataclass(frozen=True)
class Legendre(Basis):
    """``√(2l + 1) P_l(2t − 1)`` for l = 0 … L − 1: orthonormal polynomials."""

    def __call__(self, time):
        x = 2 * time - 1
        functions = [torch.ones_like(x), x]
        for degree in range(1, self.count - 1):  # (l + 1) P_{l+1} = (2l + 1) x P_l − l P_{l−1}
            functions.append(((2 * degree + 1) * x * functions[-1] - degree * functions[-2]) / (degree + 1))
        scale = (2 * torch.arange(self.count, device=time.device, dtype=time.dtype) + 1).sqrt()
        return torch.stack(functions[: self.count], -1) * scale


def middles(count: int) -> Tensor:
    """The middles of so many equal intervals of [0, 1], (count,) in float64."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def moments(times: Tensor) -> Tensor:
    """Times in float64, or TypeError or ValueError unless they are a tensor (n,) of numbers in [0, 1], beyond which no basis follows a sequence."""
    if not isinstance(times, Tensor) or times.is_complex() or times.dtype == torch.bool:
        came = times.dtype if isinstance(times, Tensor) else type(times).__name__
        raise TypeError(f"Times are a tensor (n,) of numbers in [0, 1], got {came}. Convert them with torch.as_tensor(times).")
    require(times.ndim == 1, f"Times are one number per pattern, (n,), got {tuple(times.shape)}.")
    inside = decided(((times >= 0) & (times <= 1)).all())
    require(inside is not False, "Times lie in [0, 1]: 0 is the beginning of the sequence, 1 its end. A curve interpolates between; beyond it would guess.")
    return times.double()
