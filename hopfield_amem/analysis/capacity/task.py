"""What is asked of a memory: which patterns it stores, how its queries are damaged, and what counts as recalled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ...descent import Descent, FixedPoint, SpinDescent
from ...energies import Hypercube, ReadEnergy
from ...energies.separations.separation import require
from ...kernels import Gates
from ..estimate import SUCCESSES
from ..seeds import seeded
from .corruption import Corruption
from .ensembles import Ensemble
from .given import Sampler, as_ensemble

SCORES = 2**22  # scores of states and stored patterns that are alive at once

Retrieve = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What is asked of a memory.

    Args:
        patterns: "binary", "spherical" (unit length), "gaussian", "correlated" or an ``Ensemble``; rows (total, d) to draw from; or a function
            ``sampler(count, generator) -> (count, d)``.
        corruption: ``Flips``, ``Masking`` or ``Noise``; None asks with the stored patterns themselves. Damaged bits are made ±1 again for energies on the
            hypercube, at random where they are 0.
        success: "one bit": the share of coordinates of the right sign. "one pattern": every coordinate within ``tolerance`` times the pattern's largest.
            "all patterns": so for every stored pattern. "ε-close": ``‖x − ξ‖ ≤ tolerance · ‖ξ‖``. "argmax": every other stored pattern is
            farther; exact copies of the own one count as it.
        tolerance: see ``success``.
        rate: how often a query must succeed, in (0, 1). None: ½, and 0.99 for "one bit".

    Raises:
        ValueError: names that there are not, numbers out of range.
    """

    patterns: Ensemble | str | Tensor | Sampler = "spherical"
    corruption: Corruption | None = None
    success: str = "ε-close"
    tolerance: float = 0.1
    _: KW_ONLY
    rate: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "patterns", as_ensemble(self.patterns))
        require(self.success in SUCCESSES, f"success is one of {', '.join(map(repr, SUCCESSES))}, got {self.success!r}.")
        require(0 < self.tolerance < math.inf, f"The tolerance must be positive and finite, got {self.tolerance!r}.")
        if not (self.corruption is None or isinstance(self.corruption, Corruption)):
            raise ValueError(f"A corruption is Flips(share), Masking(share), Noise(scale) or None, got {self.corruption!r}.")
        if self.rate is None:
            object.__setattr__(self, "rate", 0.99 if self.success == "one bit" else 0.5)
        require(0 < self.required < 1, f"The rate of success that is asked for must lie in (0, 1), got {self.rate!r}.")

    @property
    def ensemble(self) -> Ensemble:
        return as_ensemble(self.patterns)

    @property
    def required(self) -> float:
        """The rate of success that is asked for."""
        return 0.5 if self.rate is None else self.rate

    def start(self, dim: int) -> tuple[float, float]:
        """``(a, b)`` of a query ``x = a ξ + y`` with y across ξ and ``‖y‖² = b ‖ξ‖²``."""
        return (1.0, 0.0) if self.corruption is None else self.corruption.start(dim)

    def successes(self, state: Tensor, patterns: Tensor) -> Tensor:
        """How far states recall the first q patterns, each in [0, 1]. (memories, q, d), (memories, n, d) -> (memories, q)"""
        own = patterns[:, : state.shape[1]]
        if self.success == "one bit":
            return (state * own > 0).float().mean(-1)
        if self.success == "ε-close":
            return ((state - own).norm(dim=-1) <= self.tolerance * own.norm(dim=-1)).float()
        if self.success == "argmax":
            return nearest_is_own(state, patterns).float()
        return ((state - own).abs() <= self.tolerance * own.abs().amax(-1, keepdim=True)).all(-1).float()

    def __str__(self) -> str:
        damage = "asked for themselves" if self.corruption is None else f"damaged by {self.corruption}"
        within = "" if self.success in ("one bit", "argmax") else f", tolerance {self.tolerance:g}"
        return f"{self.ensemble}, {damage}; {self.success}{within}, at a rate of {self.required:g}"


def suited(energy: object) -> Task:
    """The task that suits an energy: bits recalled whole on the hypercube, elsewhere unit vectors recalled up to a tenth of their length."""
    return Task("binary", success="one pattern") if of_bits(energy) else Task()


def asked(energy: object, task: Task | None) -> Task:
    """The task that is given, or the one that suits the energy. Raises TypeError where it is no ``Task``."""
    if task is not None and not isinstance(task, Task):
        raise TypeError(f"A task is Task(patterns, corruption, success), or None for what suits the energy; got {type(task).__name__}.")
    return suited(energy) if task is None else task


def of_bits(energy: object) -> bool:
    """Whether states are confined to ±1."""
    return isinstance(energy, ReadEnergy) and isinstance(energy.confinement, Hypercube)


def nearest_is_own(state: Tensor, patterns: Tensor) -> Tensor:
    """Whether state i is nearer to pattern i than to every stored pattern that differs from it, in tiles.

    (memories, q, d), (memories, n, d) -> (memories, q)
    """
    memories, queries = state.shape[:2]
    width = max(1, SCORES // (memories * queries))
    best = torch.full(state.shape[:2], -math.inf)
    mine = torch.full(state.shape[:2], -math.inf)
    query, names = torch.arange(queries), _names(patterns)
    for first in range(0, patterns.shape[1], width):
        part = patterns[:, first : first + width]
        score = state @ part.mT - 0.5 * part.square().sum(-1).unsqueeze(-2)
        here = query[(query >= first) & (query < first + width)]
        mine[:, here] = score[:, here, here - first]
        copies = names[:, :queries].unsqueeze(-1) == names[:, first : first + width].unsqueeze(-2)
        best = torch.maximum(best, score.masked_fill_(copies, -math.inf).amax(-1))
    return mine > best


def _names(patterns: Tensor) -> Tensor:
    """A number for every pattern, the same for exact copies; for others with a chance of 2⁻⁶⁴. Comparing all of them with each other takes d times as long.

    (memories, n, d) -> (memories, n), integer
    """
    factors = torch.randint(-(2**63), 2**63 - 1, patterns.shape[-1:], generator=seeded(0, "names of patterns")) | 1
    rows = max(1, SCORES // (patterns.shape[0] * patterns.shape[2]))
    return torch.cat([((part.float() + 0.0).view(torch.int32) * factors).sum(-1) for part in patterns.split(rows, 1)], 1)  # −0 + 0 = 0


@dataclass(frozen=True, eq=False)
class Reading:
    """An energy and a descent as ``retrieve(query, patterns) -> state``, for many memories at once: (memories, q, d), (memories, n, d) -> (memories, q, d).

    Args:
        energy: a ``ReadEnergy``, or any ``E(state, memories)`` with a descent that follows it.
        descent: None: spin by spin on the hypercube (``SpinDescent``), elsewhere ``FixedPoint`` of at most 50 steps.
    """

    energy: ReadEnergy | Callable[[Tensor, Tensor], Tensor]
    descent: Descent | None = None

    def __post_init__(self):
        if self.descent is None:
            object.__setattr__(self, "descent", SpinDescent() if of_bits(self.energy) else FixedPoint(50, 1e-4))

    @property
    def by_spins(self) -> bool:
        """Whether one spin is turned at a time, which leaves out what a pattern's bit does to itself."""
        return isinstance(self.descent, SpinDescent)

    @torch.no_grad()
    def __call__(self, query: Tensor, patterns: Tensor) -> Tensor:
        assert self.descent is not None
        if not self.by_spins:
            return self.descent.state(self.energy, query, patterns, Gates())
        walk = self.descent  # serves one memory at a time
        return torch.stack([walk.state(self.energy, x, keys, Gates()) for x, keys in zip(query, patterns, strict=True)])


@dataclass(frozen=True, eq=False)
class EachMemory:
    """What ``each_memory`` gives."""

    retrieve: Retrieve

    def __call__(self, query: Tensor, patterns: Tensor) -> Tensor:
        return torch.stack([self.retrieve(x, keys) for x, keys in zip(query, patterns, strict=True)])


def each_memory(retrieve: Retrieve) -> Retrieve:
    """A function of one memory, (q, d), (n, d) -> (q, d), as one of many: (memories, q, d), (memories, n, d) -> (memories, q, d), one after another."""
    return EachMemory(retrieve)
