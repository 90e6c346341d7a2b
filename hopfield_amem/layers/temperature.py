"""An inverse temperature that suits stored patterns, for memories that nobody trains."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..energies import ReadEnergy, checks
from ..kernels.rows import fitting

SCORES = 2**20  # at most about this many scores are looked at,
QUERIES = 8, 128  # of at least and at most so many patterns
FARTHEST = 2.0**40  # how far β is sought from the scale of the similarities
FINENESS = 1.01  # the factor up to which β is determined


def tempered(energy: ReadEnergy, beta: float | str | None, patterns: Tensor, slots: float, share: float) -> ReadEnergy:
    """The energy at the β that was asked for: a number, "data" for what suits the patterns (``suited``), None for the energy's own.

    Raises:
        ValueError: anything else.
    """
    if beta is None:
        return energy
    if beta == "data":
        return suited(energy, patterns, slots, share)
    if isinstance(beta, str):
        raise ValueError(f"beta is a positive number, 'data' for one that suits the stored patterns, or None for the energy's own; got {beta!r}.")
    checks.inverse_temperature(beta)
    return energy.at(float(beta))


@torch.no_grad()
def suited(energy: ReadEnergy, patterns: Tensor, slots: float, share: float) -> ReadEnergy:
    """The energy at the least β at which a share of the stored patterns, asked for themselves, retrieve at most ``slots`` memories each.

    Memories retrieved are counted as ``(Σ p)²/Σ p²``, the inverse participation ratio of the retrieval weights: 1 when one pattern has all the weight,
    n when all n share it (the metastable states of Ramsauer et al. 2020, arXiv 2008.02217, are told apart by such counts). A small β blends
    patterns, a large one is the nearest neighbour and, for separations of finite reach, loses sight of damaged queries: so the least β that separates enough.
    The count needs no formula of its own for any energy, and does not change when the patterns are scaled, since β then scales inversely.

    Duplicates count as one memory. Of n patterns at most ``(1 + n)/2`` are asked for, so that β decides something also where n is small. The energy
    keeps its own β where none decides anything: one pattern, all patterns equal, or a homogeneous F under ``Sum``.

    Args:
        energy: the spec, whose own β is where nothing is known.
        patterns: what is stored, (n, d). At most 128 of them ask, evenly spread, and so few that their scores stay near a million.
        slots: number of memories, at least 1; not only whole numbers.
        share: of the patterns, in (0, 1].
    """
    if len(patterns) < 2:
        return energy
    similarity = _similarity(energy, patterns)
    ties = (similarity >= similarity.amax(-1, keepdim=True) - 1e-12 * similarity.abs().amax()).sum(-1)
    goal = min(slots, (1 + len(patterns)) / 2) * ties

    def separates(beta: float) -> bool:
        weights = energy.scaling.weights(energy.separation, beta * similarity).abs()
        weights = weights / weights.amax(-1, keepdim=True)  # so that squares stay finite; of weights that are all 0 or infinite nothing holds
        return bool((weights.sum(-1).square() <= goal * weights.square().sum(-1)).double().mean() >= share)

    spread = float((similarity.amax(-1, keepdim=True) - similarity).mean())
    beta = _least(separates, 1 / spread) if spread > 0 else None
    return energy if beta is None else energy.at(beta)


def _similarity(energy: ReadEnergy, patterns: Tensor) -> Tensor:
    """Similarities of a sample of the patterns to all of them, in float64. (n, d) -> (queries, n)"""
    few, many = QUERIES
    count = min(len(patterns), many, max(few, SCORES // len(patterns)))
    asking = patterns[torch.linspace(0, len(patterns) - 1, count, device=patterns.device).long()].double()
    width = fitting(count * patterns.shape[-1], SCORES)
    return torch.cat([energy.similarity(asking, part.double()) for part in patterns.split(width)], -1)


def _least(holds: Callable[[float], bool], start: float) -> float | None:
    """The least number for which something holds that holds above it; None where it holds everywhere or nowhere near the start."""
    high = start
    while not holds(high):
        high *= 4
        if high > FARTHEST * start:
            return None
    low = high / 4
    while holds(low):
        low, high = low / 4, low
        if low * FARTHEST < start:
            return None
    while high > FINENESS * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
