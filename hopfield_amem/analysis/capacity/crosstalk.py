"""How many patterns a memory should hold, predicted from a small sample of them.

A heuristic (not a bound): the crosstalk estimate of associative memories, the own pattern's weight against the summed weight
of the others (Hopfield 1982; for steep energies Krotov & Hopfield 2016, arXiv 1606.01164; Demircigil et al. 2017, arXiv 1702.01929),
with the scores of a sample of m others in place of random patterns, so that correlated patterns are allowed for.

Assumptions. The others are exchangeable: the sample stands for all of them. One step decides: a pattern that holds more than
half of the weight at the query wins the descent. Beyond the sample (N − 1 > m) scores up to a threshold u count (N − 1)/m
times, mean field, and those above follow a generalised Pareto tail (Pickands 1975) fitted to the sample's highest eighth,
because a steep energy is decided by the nearest few of N, nearer than any in the sample. Wrong where these fail: clusters of
near-duplicates too rare to be sampled, loads that extrapolate the sample a hundredfold, descents that recover after a bad
first step. For a sign (hypercube) half of the weight is sufficient, not necessary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...energies import ReadEnergy, checks

GROUPS = 12  # points that stand for the tail


@torch.no_grad()
def predicted_recall(energy: ReadEnergy, query: Tensor, own: Tensor, others: Tensor, *, loads: Sequence[int]) -> Tensor:
    """Predicted share of queries that are recalled at every load N, a heuristic: see the module.

    ``recall(N) = mean_q [|p_own| > ½ Σ c |p|]`` with the energy's own weights p at the query, over the own pattern and N − 1
    others represented by the sample with multiplicities c.

    Args:
        energy: the read energy, β included.
        query: damaged patterns (q, d).
        own: the pattern of every query, (q, d).
        others: a sample of m other patterns in random order, (m, d); none of them should be an own one.
        loads: numbers of stored patterns N ≥ 1.

    Returns:
        (loads,), each in [0, 1].

    Raises:
        ValueError, TypeError: shapes that do not fit, no other pattern, a load below 1.
    """
    scores = _scores(energy, query, own, others)
    if any(load < 1 for load in loads):
        raise ValueError(f"A load counts stored patterns, the query's own included: at least 1, got {list(loads)}.")
    held = [_held(energy, *scores, torch.full_like(scores[0], load)).double().mean() for load in loads]
    return torch.stack(held).to(query.dtype) if held else query.new_zeros(0)


def crosstalk_capacity(energy: ReadEnergy, query: Tensor, own: Tensor, others: Tensor, *, rate: float = 0.5, largest: int = 10**5) -> float:
    """The load up to which at least ``rate`` of the queries is predicted to be recalled: a heuristic, see the module.

    Searched by doubling, then bisection: the first crossing up to a factor of two, since ``predicted_recall`` falls with N except
    for jumps of its tail fit. 0.0 when not even a single stored pattern is recalled that often, inf when ``largest`` patterns are.

    Raises:
        ValueError, TypeError: as ``predicted_recall``; a rate outside (0, 1]; a largest load below 1.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate is the share of queries that must be recalled, in (0, 1]; got {rate!r}.")
    if largest < 1:
        raise ValueError(f"The largest load to consider must be at least 1, got {largest!r}.")

    def recalled(load: int) -> bool:
        return float(predicted_recall(energy, query, own, others, loads=[load])) >= rate

    low, high = 0, 1
    while recalled(high):
        if high == largest:
            return math.inf
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if recalled(middle) else (low, middle)
    return float(low)


def _held(energy: ReadEnergy, own: Tensor, others: Tensor, load: Tensor) -> Tensor:
    """Whether the own pattern holds most of the weight, or of a k-th of it where a read is made of k patterns.

    From scores (q, 1) and (q, m) at loads (q, 1). -> (q, 1)
    """
    scores, multiplicity = zip(_sampled(others, load), _tail(others, load), strict=True)
    presence = torch.cat([torch.ones_like(own), *multiplicity], -1)
    weights = energy.scaling.weights(energy.separation, torch.cat([own, *scores], -1), presence)
    share = 1 / energy.scaling.patterns(energy.separation)
    return weights[..., :1] > 0.5 * share * weights.abs().sum(-1, keepdim=True)


def _sampled(others: Tensor, load: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and multiplicities of the sample: N − 1 of it one by one; beyond m all but the tail, (N − 1)/m each."""
    sample = others.shape[-1]
    first = (torch.arange(sample, device=load.device) < load - 1).to(others.dtype)
    body = others <= _upper(others)[0]
    return others, torch.where(load - 1 <= sample, first, body * (load - 1) / sample)


def _tail(others: Tensor, load: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and multiplicities of the highest of N − 1 > m others, as a generalised Pareto tail beyond u expects them.

    ``s(r) = u + σ((K/r)^ξ − 1)/ξ`` for ranks r = 1 … K, in groups of geometrically growing size.
    """
    threshold, scale, shape, share = _upper(others)
    total = share * (load - 1).clamp_min(others.shape[-1])
    edges = total ** torch.linspace(0, 1, GROUPS, dtype=others.dtype, device=others.device)
    rank = torch.cat([torch.full_like(total, math.log(2)), (edges[..., 1:] * edges[..., :-1]).sqrt()], -1)
    multiplicity = torch.cat([torch.ones_like(total), edges.diff(dim=-1)], -1)
    score = threshold + scale * torch.expm1(shape * (total / rank).log()) / shape
    return score, torch.where(load - 1 > others.shape[-1], multiplicity, 0.0)


def _upper(others: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """u, σ, ξ and the share of the sample above u, its highest eighth, by moments: mean excess ``σ/(1 − ξ)``, variance ``mean²/(1 − 2ξ)``.

    The shape ξ is common to all queries and negative, because similarities of patterns of one length are bounded.
    """
    sample = others.shape[-1]
    above = max(1, sample // 8)
    top = others.topk(min(above + 1, sample), -1).values
    excess = top[..., :above] - top[..., -1:]
    mean = excess.mean(-1, keepdim=True)
    spread = excess.var(-1, keepdim=True).mean() if above > 1 else mean.square().mean()
    shape = (0.5 * (1 - mean.square().mean() / spread.clamp_min(torch.finfo(others.dtype).tiny))).clamp(-1.0, -1e-3)
    return top[..., -1:], mean * (1 - shape), shape, above / sample


def _scores(energy: ReadEnergy, query: Tensor, own: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the own pattern (q, 1) and of the sample (q, m), in float64 because multiplicities are large."""
    checks.inputs(energy, query, others, None, None)
    if query.ndim != 2 or others.ndim != 2 or len(query) == 0 or len(others) == 0:
        raise ValueError(f"The prediction needs at least one query (q, d) and one other pattern (m, d), got {tuple(query.shape)} and {tuple(others.shape)}.")
    if own.shape != query.shape:
        raise ValueError(f"Every query needs its own pattern: own must have the shape {tuple(query.shape)} of the query, got {tuple(own.shape)}.")
    query, own, others = query.double(), own.double(), others.double()
    mine = torch.cat([energy.scores(q, k) for q, k in zip(query.split(1), own.split(1), strict=True)])
    return mine, energy.scores(query, others)
