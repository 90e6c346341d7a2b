"""The mean over the length of a Gaussian key that is asked for, where no closed form is known."""

from __future__ import annotations

import math

import numpy as np

from .averaged import LengthAveraged
from .kernel import Kernel
from .moments import SETTLED, integral, quadrature

DEPTH = 37.0  # what is e^−37 times smaller than the largest is left out
CLOSE = 1e-7  # a change by so much leaves an error of about its square
SHORTEST = -60.0  # log of the shortest length looked at, in units of √d
PROBES, FIRST, MOST = 33, 32, 2**10  # points within the place that matters; steps of the first and the last rule
COARSE = 64  # panels while the place is looked for


def log_mean_over_lengths(kernel: Kernel, law: LengthAveraged) -> tuple[float, str]:
    """``log E[κ²/κ_ii²]`` over the length r of the key asked for, and how it was found; inf where ever shorter keys make ever more of it.

    In u = log r, where the integrand falls to nothing on both sides, steps of equal length converge exponentially; they are halved until nothing changes.

    Raises:
        ValueError: an integral that does not settle, or that is decided by keys longer than is looked at: it may well diverge.
    """
    place = _place(kernel, law)
    if place is None:
        return math.inf, "diverges: the shorter a key, the more of the mean it makes"
    low, high = place
    steps, change = FIRST, math.inf
    grid = np.linspace(low, high, steps + 1)
    logs = np.array([_integrand(kernel, law, u) for u in grid])
    value = float(np.logaddexp.reduce(logs)) + math.log((high - low) / steps)
    while change > CLOSE and steps < MOST:
        between = 0.5 * (grid[1:] + grid[:-1])
        logs = np.concatenate([logs, [_integrand(kernel, law, u) for u in between]])
        grid, steps = np.sort(np.concatenate([grid, between])), 2 * steps
        finer = float(np.logaddexp.reduce(logs)) + math.log((high - low) / steps)
        change, value = abs(finer - value), finer
    if not change <= SETTLED:
        raise ValueError(f"The mean over lengths of {kernel.energy} does not settle: use GaussianKeys(d), or measure the median.")
    return value, f"quadrature to {max(change, 1e-14):.0e}, over lengths too"


def _integrand(kernel: Kernel, law: LengthAveraged, u: float, panels: int | None = None) -> float:
    """``log`` of density times ``E κ²/κ_ii²``, per u = log r."""
    length = math.exp(u)
    scores = law.at(length**2)
    inner = quadrature(kernel, scores)[0] if panels is None else integral(kernel, scores, panels)
    return law.log_density(length) + u + inner - 2 * kernel.own(scores.own)


def _place(kernel: Kernel, law: LengthAveraged) -> tuple[float, float] | None:
    """From where to where in u the integrand matters; None where it does not fall towards short keys."""
    middle = 0.5 * math.log(law.dim)
    longest = math.log(4 * (math.sqrt(law.dim) + 10))
    probed = np.concatenate([middle + np.arange(SHORTEST, -8, 4), middle + np.arange(-8, -2, 0.5), np.arange(middle - 2, longest + 0.1, 0.1)])
    for _ in range(6):
        logs, failure = _probed(kernel, law, probed)
        usable = np.isfinite(logs)
        if not usable.any():
            raise failure or ValueError(f"{kernel.energy} weighs no key of any length.")
        where = np.flatnonzero(usable & (np.where(usable, logs, -np.inf) > logs[usable].max() - DEPTH))
        first, last = int(where[0]), int(where[-1])
        if first == 0 and probed[0] < middle + SHORTEST + 1:
            return None
        if last == len(probed) - 1 or (first == 0) or not usable[max(first - 1, 0)] or not usable[last + 1]:
            raise ValueError(
                f"The mean over the lengths of Gaussian keys of {kernel.energy} is decided where it cannot be computed, or diverges: use GaussianKeys(d), "
                f"or measure the median. {failure or ''}"
            )
        low, high = float(probed[first - 1]), float(probed[last + 1])
        if last - first > PROBES // 2:
            break
        probed = np.linspace(low, high, PROBES)
    return low, high


def _probed(kernel: Kernel, law: LengthAveraged, places: np.ndarray) -> tuple[np.ndarray, ValueError | None]:
    """The integrand wherever it can be computed, NaN elsewhere, and why."""
    logs, failure = np.full(len(places), np.nan), None
    for i, u in enumerate(places):
        try:
            logs[i] = _integrand(kernel, law, float(u), COARSE)
        except ValueError as error:
            failure = error
    return logs, failure
