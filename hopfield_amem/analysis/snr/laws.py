"""Laws of the score ``s = β S(k_i, k)`` of an independent key at the one that is asked for, and integrals over them by quadrature.

A law is written in a standard variable t: a normal number, an angle or a distance. Kernels range over hundreds of orders of magnitude, so densities and
kernels are kept as logarithms, and nodes lie wherever the density or the density times κ² matters, which for steep kernels are different places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .bessel import log_scaled_bessel

DEPTH = 150.0  # what is e^−150 times smaller than the largest is left out
PANELS, POINTS = 256, 8  # of the composite Gauss–Legendre rule, on each of the two places, at first

LogKernel = Callable[[np.ndarray], np.ndarray]


class ScoreLaw:
    """Base: how the score depends on t, and the density of t."""

    own: float  # the score of the key that is asked for
    endless = False  # whether t has no ends, so that ``probed`` may stop short of what matters

    def score(self, t: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def log_density(self, t: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def places(self, score: float) -> list[float]:
        """Where in t a score is taken, for kernels that bend or jump there."""
        raise NotImplementedError

    def probed(self) -> np.ndarray:
        """Ascending points t in which to look for where integrands matter."""
        raise NotImplementedError


@dataclass(frozen=True)
class NormalScores(ScoreLaw):
    """Inner products of Gaussian keys with one of squared length n²: ``s = βn z``, z ~ N(0, 1); own score βn²."""

    beta: float
    square: float
    endless = True

    @property
    def own(self) -> float:  # type: ignore[override]
        return self.beta * self.square

    @property
    def spread(self) -> float:
        return self.beta * math.sqrt(self.square)

    def score(self, t):
        return self.spread * t

    def log_density(self, t):
        return -0.5 * t**2 - 0.5 * math.log(2 * math.pi)

    def places(self, score):
        return [score / self.spread]

    def probed(self):
        far = np.geomspace(40.0, 1e4, 1200)
        return np.concatenate([-far[::-1], np.linspace(-39.9, 39.9, 799), far])


@dataclass(frozen=True)
class CosineScores(ScoreLaw):
    """Cosines of directions with one of them: ``s = β(cos t − shift)``, t with density ``∝ sin^(d−2) t`` on [0, π]; own score β(1 − shift)."""

    dim: int
    beta: float
    shift: float = 0.0

    @property
    def own(self) -> float:  # type: ignore[override]
        return self.beta * (1 - self.shift)

    def score(self, t):
        return self.beta * (np.cos(t) - self.shift)

    def log_density(self, t):
        constant = math.lgamma(0.5 * self.dim) - math.lgamma(0.5 * (self.dim - 1)) - 0.5 * math.log(math.pi)
        with np.errstate(divide="ignore"):
            return constant + (self.dim - 2) * np.log(np.sin(np.clip(t, 0, math.pi))) if self.dim > 2 else np.full_like(t, constant)

    def places(self, score):
        cosine = score / self.beta + self.shift
        return [math.acos(cosine)] if -1 < cosine < 1 else []

    def probed(self):
        near = np.geomspace(1e-8, 0.5 * math.pi, 2000)
        bulk = 0.5 * math.pi + np.linspace(-40, 40, 801) / math.sqrt(self.dim)
        return np.unique(np.clip(np.concatenate([[0.0], near, math.pi - near, bulk, [math.pi]]), 0, math.pi))


@dataclass(frozen=True)
class DistanceScores(ScoreLaw):
    """Distances t of Gaussian keys from one of squared length n²: ``s = −½β t²``, t² non-central χ² of d degrees; own score 0."""

    dim: int
    beta: float
    square: float
    own = 0.0

    def score(self, t):
        return -0.5 * self.beta * t**2

    def log_density(self, t):
        """From ``½(x/λ)^(d/4−½) exp(−½(x + λ)) I_{d/2−1}(√(λx))``, x = t²."""
        length, order = math.sqrt(self.square), 0.5 * self.dim - 1
        return log_scaled_bessel(order, length * t) - 0.5 * (t - length) ** 2 + order * (np.log(t) - math.log(length)) + np.log(t)

    def places(self, score):
        return [math.sqrt(-2 * score / self.beta)] if score < 0 else []

    def probed(self):
        far = math.sqrt(self.dim + self.square) + 40
        return np.unique(np.concatenate([np.geomspace(1e-12, 1.0, 500), np.linspace(0.01, far, 4000)]))


def nodes(law: ScoreLaw, log_kernel: LogKernel, bends: tuple[float, ...], panels: int = PANELS) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and the logarithms of their probabilities: a rule for integrals over the law alone and times κ² alike.

    Args:
        log_kernel: ``log |κ|`` of scores; +∞ or NaN where it cannot be computed.
        bends: scores in which the kernel bends or jumps, where panels must end.
        panels: on each of the two places.

    Raises:
        ValueError: a kernel that overflows, or a density that underflows, where it matters.
    """
    probed = law.probed()
    density = law.log_density(probed)
    with np.errstate(invalid="ignore"):
        integrand = density + 2 * log_kernel(law.score(probed))
    places = [_extent(probed, density), _extent(probed, integrand)]
    if law.endless and np.isfinite(integrand).any() and int(np.nanargmax(np.where(np.isposinf(integrand), np.nan, integrand))) in (0, len(probed) - 1):
        raise ValueError("The mean square of the kernel is decided further out than is looked at. Use a smaller β, or measure.")
    lost = probed[1:-1][np.isneginf(density[1:-1])]
    if ((places[1][0] <= lost) & (lost <= places[1][1])).any():
        raise ValueError("The density of the score underflows where the mean square of the kernel is decided. Use a smaller β or fewer dimensions, or measure.")
    bent = [t for score in bends for t in law.places(score) if any(low < t < high for low, high in places)]
    edges = np.unique(np.concatenate([*(np.linspace(low, high, panels + 1) for low, high in places), np.asarray(bent, dtype=float)]))
    points, weights = np.polynomial.legendre.leggauss(POINTS)
    half = 0.5 * np.diff(edges)[:, None]
    t = (edges[:-1, None] + half * (points + 1)).ravel()
    logs = law.log_density(t) + np.log((half * weights).ravel())
    return law.score(t), logs


def _extent(probed: np.ndarray, log: np.ndarray) -> tuple[float, float]:
    """From where to where a function matters, one probed point to spare on both sides."""
    usable = np.isfinite(log)
    if not usable.any():  # a kernel that vanishes wherever the density does not: any place will do
        return float(probed[0]), float(probed[-1])
    where = np.flatnonzero(usable & (np.where(usable, log, -np.inf) > log[usable].max() - DEPTH))
    first, last = max(where[0] - 1, 0), min(where[-1] + 1, len(probed) - 1)
    if np.isposinf(log[first : last + 1]).any() or np.isnan(log[first : last + 1]).any():
        raise ValueError("The kernel overflows where its mean square is decided. Use a higher temperature, that is, a smaller β.")
    return float(probed[first]), float(probed[last])
