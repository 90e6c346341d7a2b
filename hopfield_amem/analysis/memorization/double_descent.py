"""Double descent over data: where the loss on other data is highest, measured in the bits that a model can memorise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..estimate import Estimate
from .fits import Records, curve_of, plateaus


@dataclass(frozen=True)
class Onset:
    """Where the loss on other data is highest for one model size: from there on more data lowers it (double descent).

    Attributes:
        parameters: N.
        bits: of data, at the vertex of a parabola through the highest point and its neighbours, in the logarithm of bits.
        between: bits of the neighbours: the grid knows no better.
        capacity: most bits memorised, mean of the seeds.
    """

    parameters: float
    bits: float
    between: tuple[float, float]
    capacity: float

    @property
    def ratio(self) -> float:
        """Bits of data over bits of capacity: 1 where the second descent begins as soon as data no longer fit."""
        return self.bits / self.capacity


def onsets(records: Records) -> list[Onset]:
    """The onset of every model size; sizes whose validation loss is highest at an end of the data sizes have none."""
    found = []
    for size, seeds in plateaus(records).items():
        curve = curve_of(records, size, "validation loss")
        bits, losses = np.array([given for given, _ in curve]), np.array([float(np.mean(values)) for _, values in curve])
        peak = int(losses.argmax())
        if 0 < peak < len(bits) - 1:
            vertex = _vertex(np.log(bits[peak - 1 : peak + 2]), losses[peak - 1 : peak + 2])
            found.append(Onset(size, math.exp(vertex), (float(bits[peak - 1]), float(bits[peak + 1])), float(np.mean(seeds))))
    return found


def double_descent(records: Records, *, reference: str = "") -> Estimate:
    """Bits of data over capacity at which the validation loss is highest: the geometric mean of the sizes, and the range that the grid leaves all of them.

    Morris et al. 2025 (arXiv 2505.24832, §4) find 1, on text and on random tokens.

    Raises:
        ValueError: no size whose validation loss rises and then falls.
    """
    found = onsets(records)
    if not found:
        raise ValueError("No size has its highest validation loss between two data sizes: take more of them on both sides of its capacity.")
    value = float(np.exp(np.mean([math.log(onset.ratio) for onset in found])))
    low, high = min(o.between[0] / o.capacity for o in found), max(o.between[1] / o.capacity for o in found)
    return Estimate(
        value,
        (min(low, value), max(high, value)),
        f"{len(found)} size{'s' * (len(found) > 1)}; interval: neighbouring data sizes",
        "measured",
        "argmax",
        reference,
    )


def _vertex(x: np.ndarray, y: np.ndarray) -> float:
    """Where the parabola through three points, the middle one highest, is highest; the middle one where their places do not ascend."""
    if not x[0] < x[1] < x[2]:
        return float(x[1])
    second, first, _ = np.polyfit(x - x[1], y, 2)
    return float(x[1] + (np.clip(-first / (2 * second), x[0] - x[1], x[2] - x[1]) if second < 0 else 0.0))
