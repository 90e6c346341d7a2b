"""Power laws, fitted to measurements with an interval rather than by eye."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

RESAMPLES = 2000

Numbers = Sequence[float] | np.ndarray | Tensor


@dataclass(frozen=True)
class PowerLaw:
    """``y = factor · x^exponent``, with the interval of the exponent. Calling it gives y."""

    exponent: float
    factor: float
    interval: tuple[float, float]
    confidence: float = 0.95

    def __call__(self, x: Numbers) -> np.ndarray:
        return self.factor * _array(x) ** self.exponent

    def __str__(self) -> str:
        return f"{self.factor:.3g} · x^{self.exponent:.3f} [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"


def power_law(x: Numbers, y: Numbers, *, confidence: float = 0.95) -> PowerLaw:
    """Least squares of ``log y = log factor + exponent · log x``, and the interval of the exponent by bootstrap (Efron 1979; scipy).

    Args:
        x: positive, (points,), at least three different ones.
        y: positive, (points,), of which points are drawn again; or (trials, points) of positive means, which are fitted, and of which trials are drawn again.
        confidence: of the interval, in (0, 1): percentiles of 2,000 resamples.

    Raises:
        ValueError: shapes that do not fit, fewer than three different x, numbers that are not positive and finite.
    """
    x, y = _array(x), _array(y)
    if x.ndim != 1 or y.ndim not in (1, 2) or y.shape[-1] != len(x) or len(np.unique(x)) < 3:
        raise ValueError(f"A power law needs x (points,) with three different values at least and y (points,) or (trials, points), got {x.shape}, {y.shape}.")
    if not (0 < confidence < 1):
        raise ValueError(f"confidence must lie in (0, 1), got {confidence!r}.")
    level = y.mean(0) if y.ndim == 2 else y
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (level > 0).all()):
        raise ValueError("A power law needs positive, finite numbers: leave out points where nothing was measured, such as an error of 0.")
    exponent, offset = _fitted(x, level)
    return PowerLaw(float(exponent), float(np.exp(offset)), _interval(x, y, float(exponent), confidence), confidence)


def _fitted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset of the line through (log x, log y). (..., points) -> (...)"""
    x, y = np.log(x), np.log(y)
    x, y = np.broadcast_arrays(x, y)
    centred = x - x.mean(-1, keepdims=True)
    slope = (centred * y).sum(-1) / (centred**2).sum(-1)
    return slope, y.mean(-1) - slope * x.mean(-1)


def _interval(x: np.ndarray, y: np.ndarray, exponent: float, confidence: float) -> tuple[float, float]:
    """Percentiles of the exponent over resampled trials (means of which must stay positive), or over resampled points."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    if y.ndim == 2 and len(y) < 2:
        y = y[0]
    if y.ndim == 2:
        sample = (np.arange(len(y)),)
        refit = lambda trials: _refitted(x, y[trials].mean(0))
    else:
        sample = (np.arange(len(x)),)
        refit = lambda points: _refitted(x[points], y[points])
    options: dict = {"n_resamples": RESAMPLES, "vectorized": False, "method": "percentile", "rng": np.random.default_rng(0)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # an exact law, or a resample without a slope
        found = bootstrap(sample, refit, **options)
    draws = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    low, high = np.percentile(draws, [50 * (1 - confidence), 50 * (1 + confidence)])
    return min(float(low), exponent), max(float(high), exponent)


def _refitted(x: np.ndarray, y: np.ndarray) -> float:
    """The exponent of a resample; NaN where it holds fewer than two different x or a mean of 0."""
    if np.ptp(x) == 0 or (y <= 0).any():
        return np.nan
    return float(_fitted(x, y)[0])


def _array(values: Numbers) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
