"""Trials of a memory, many at once: draw patterns, damage some, retrieve, and see what came back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..seeds import mixed
from .corruption import signed
from .task import SCORES, Reading, Retrieve, Task, of_bits

NUMBERS = 2**22  # numbers of stored patterns that are alive at once, but for a single memory that holds more


@dataclass(frozen=True)
class Sizes:
    """How much is tried: so many independent memories of ``load`` patterns of width ``dim``, and so many queries to each."""

    dim: int
    load: int
    memories: int
    queries: int


@torch.no_grad()
def successes(retrieve: Retrieve, task: Task, sizes: Sizes, seed: int) -> Tensor:
    """Mean success of every memory's queries; for "all patterns" whether all succeeded. -> (memories,)

    Works through so many memories and queries at a time as a few tiles hold, or one memory.

    Raises:
        ValueError: a retrieve that returns a wrong shape, complex numbers, NaN or Inf.
    """
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, NUMBERS // (sizes.load * sizes.dim))
    found = []
    with torch.random.fork_rng(devices=[]):  # what retrieve draws itself is repeatable, too
        torch.manual_seed(mixed(seed, *b"what retrieve draws"))  # not the patterns' own numbers
        for first in range(0, sizes.memories, at_once):
            memories = min(at_once, sizes.memories - first)
            found.append(_of_block(retrieve, task, task.ensemble.draw(memories, sizes.load, sizes.dim, generator), sizes.queries, generator))
    return torch.cat(found)


def _of_block(retrieve: Retrieve, task: Task, patterns: Tensor, queries: int, generator: torch.Generator) -> Tensor:
    """Patterns are exchangeable, so the first ones are asked for. (memories, n, d) -> (memories,)"""
    own = patterns[:, :queries]
    query = own.clone() if task.corruption is None else task.corruption(own, generator)
    if isinstance(retrieve, Reading) and of_bits(retrieve.energy) and task.ensemble.signs:
        query = signed(query, generator) if bool((query.abs() != 1).any()) else query
    width = max(1, SCORES // (patterns.shape[0] * patterns.shape[1]))
    state = torch.cat([_retrieved(retrieve, part, patterns) for part in query.split(width, 1)], 1)
    success = task.successes(state, patterns)
    return success.amin(-1) if task.success == "all patterns" else success.mean(-1)


def _retrieved(retrieve: Retrieve, query: Tensor, patterns: Tensor) -> Tensor:
    state = retrieve(query, patterns)
    if not isinstance(state, Tensor) or state.shape != query.shape:
        came = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
        raise ValueError(
            f"retrieve must return one state per query, (memories, queries, d) = {tuple(query.shape)} for patterns {tuple(patterns.shape)}, got {came}. "
            "Wrap a function of one memory, (q, d) and (n, d), with each_memory(retrieve)."
        )
    if state.is_complex() or not bool(state.isfinite().all()):
        came = "complex numbers" if state.is_complex() else "NaN or Inf"
        raise ValueError(f"retrieve returned {came} for {patterns.shape[1]} patterns of width {patterns.shape[2]}. Look at its temperature and scales.")
    return state.to(patterns)


def rate_interval(means: Tensor, queries: int, confidence: float, *, parts: int = 1) -> tuple[float, float]:
    """Interval of a rate from the mean success of independent memories, asked ``queries`` times each.

    Clopper & Pearson's (1934) for the effective number of queries, ``p(1 − p)`` over the variance of the mean (Korn & Graubard 1998), because queries to one
    memory are not independent; a query of several ``parts``, such as bits, may count for up to so many. Where all memories fare alike nothing tells whether
    a memory's queries stand and fall together, and every memory counts once.
    """
    from scipy.stats import beta, norm, t

    memories = len(means)
    rate, variance = float(means.double().mean()), float(means.double().var()) / memories if memories > 1 else 0.0
    asked = float(memories)
    level = 0.5 * (1 - confidence)
    if 0 < rate < 1 and variance > 0:
        asked = min(asked * queries * parts, rate * (1 - rate) / variance * float(norm.isf(level) / t.isf(level, memories - 1)) ** 2)
    hits = rate * asked
    low = float(beta.ppf(level, hits, asked - hits + 1)) if hits > 0 else 0.0
    high = float(beta.isf(level, hits + 1, asked - hits)) if hits < asked else 1.0
    return (low, high) if math.isfinite(low + high) else (0.0, 1.0)
