"""How often a bit of the mean field is wrong: pulls, Gaussian noise, and the few patterns that alone outweigh the own one."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from .ensembles import Overlaps

FEW = 30.0  # rivals, above which they are noise like all others
NET = 40  # the largest difference of two counts of rivals that is looked at


class Rivals(NamedTuple):
    """Patterns that agree with a state in all bits but the one that is turned, which for each of them is at random that of the state or the other.

    Attributes:
        index: their group among the overlaps.
        expected: how many there are.
        weight: with which each of them pulls, own pattern's weight where the state is at the pattern.
    """

    index: int
    expected: float
    weight: float = 0.0

    def nets(self) -> list[tuple[float, float]]:
        """(probability, net pull): the difference of two Poisson counts, of those for the own bit and those against it (Skellam 1946)."""
        from scipy.stats import skellam

        if self.expected < 1e-15:
            return [(1.0, 0.0)]
        counts = range(-NET, NET + 1)
        chances = skellam.pmf(list(counts), 0.5 * self.expected, 0.5 * self.expected)
        return [(float(chance), count * self.weight) for count, chance in zip(counts, chances, strict=True) if chance > 1e-15]


def without_rivals(overlaps: Overlaps, log_load: float) -> tuple[Overlaps, Rivals | None]:
    """The overlaps without those of rivals, where these are few enough to be counted one by one."""
    index = int(overlaps.product.argmax())
    expected = math.expm1(log_load) * math.exp(float(overlaps.log_probability[index]))
    if not expected <= FEW:
        return overlaps, None
    rest = overlaps.log_probability.clone()
    rest[index] = -math.inf
    return overlaps._replace(log_probability=rest), Rivals(index, expected)


def wrong_bits(own: float, back: float, noise: float, flipped: float) -> float:
    """The probability of a wrong bit: it is pulled by own + back where it began right, by own − back where it began wrong, plus noise."""
    if noise == 0:
        return flipped if own < back else float(own < 0) * (1 - flipped)
    tail = NormalDist().cdf
    return (1 - flipped) * tail(-(own + back) / noise) + flipped * tail(-(own - back) / noise)


def wrong_among_rivals(pulls: tuple[float, float, float], flipped: float, rivals: Rivals | None) -> float:
    """``wrong_bits`` of the pulls (own, back, noise), rivals included."""
    own, back, noise = pulls
    nets = [(1.0, 0.0)] if rivals is None else rivals.nets()
    return sum(chance * wrong_bits(own + net, back, noise, flipped) for chance, net in nets)


def turned(own: float, noise: float, rivals: Rivals | None) -> float:
    """How many bits a small pull turns, per pull."""
    nets = [(1.0, 0.0)] if rivals is None else rivals.nets()
    return sum(chance * 2 * NormalDist().pdf((own + net) / noise) / noise for chance, net in nets) if noise > 0 else 0.0
