"""What pairs of runs tell: runs that differ in one thing and share all else, such as the seed, the draw or the fold."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.stats import ttest_1samp


class Paired(NamedTuple):
    """The mean of some differences, and its 95 % interval by Student's t."""

    mean: float
    low: float
    high: float


def paired(first: Sequence[float], second: Sequence[float] | float = 0.0) -> Paired:
    """First less second, pair by pair; of differences themselves, second is 0.

    Raises:
        ValueError: with fewer than two pairs, or unequally many.
    """
    others = [second] * len(first) if isinstance(second, int | float) else second
    if len(first) != len(others) or len(first) < 2:
        raise ValueError(f"paired compares two runs or more, as many of both kinds, got {len(first)} and {len(others)}: give every pair both of its runs")
    differences = [one - other for one, other in zip(first, others, strict=True)]
    low, high = ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return Paired(fmean(differences), float(low), float(high))


def lead(differences: Sequence[float]) -> float:
    """The mean of paired differences in units of its standard error; 0 where there is one draw only, which settles nothing."""
    if len(differences) < 2:
        return 0.0
    return fmean(differences) / max(stdev(differences) / len(differences) ** 0.5, 1e-12)
