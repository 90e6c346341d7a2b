"""Higher-order memories: neurons interact in pairs, triangles and larger simplices (Burns & Fukai 2023, arXiv 2305.05179)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import chain, combinations

import numpy as np
import torch
from torch import Tensor

from ..confinement import Hypercube
from ..separations.separation import require
from .similarity import Similarity

MOST = 10_000_000  # simplices that one spec enumerates or draws


@dataclass(frozen=True, eq=False)
class Simplices:
    """Sets of neurons that interact, by size: edges (m₂, 2), triangles (m₃, 3), … Specs are equal when they hold the same sets in the same order.

    Nothing is enumerated behind one's back: all simplices of a size are as many as ``comb(neurons, size)``, and are made by ``every`` alone; ``random``
    draws some of them without listing all.

    Args:
        neurons: N, the width of a state.
        sets: one integer tensor (m, size) per size, neurons of a row all different.

    Raises:
        ValueError, TypeError: sets of a wrong shape, out of range, or naming a neuron twice (x² is no interaction of ±1 neurons).
    """

    neurons: int
    sets: tuple[Tensor, ...]

    def __post_init__(self):
        object.__setattr__(self, "sets", tuple(self.sets))
        require(len(self.sets) > 0, "Simplices need at least one tensor of sets, for example edges of shape (m, 2).")
        for members in self.sets:
            if not isinstance(members, Tensor) or members.is_floating_point() or members.dtype == torch.bool:
                raise TypeError(f"Simplices are integer tensors of shape (m, size), got {getattr(members, 'dtype', type(members).__name__)}.")
            require(members.ndim == 2 and min(members.shape) >= 1, f"Simplices have shape (m, size) with m, size ≥ 1, got {tuple(members.shape)}.")
            require(bool(((members >= 0) & (members < self.neurons)).all()), f"Simplices must name neurons 0 … {self.neurons - 1}.")
            ordered = members.sort(-1).values
            require(bool((ordered.diff(dim=-1) > 0).all()), "A simplex names each of its neurons once.")
            require(len(ordered.unique(dim=0)) == len(ordered), "Every simplex is named once, in whatever order of its neurons.")

    @classmethod
    def every(cls, neurons: int, sizes: tuple[int, ...] = (2,)) -> Simplices:
        """All simplices of these sizes: ``every(N)`` are the pairs of the 1982 network, ``every(N, (2, 3))`` pairs and triangles.

        Raises:
            ValueError: more than ten million of them, or sizes outside 1 … N.
        """
        counts = {size: _possible(neurons, size) for size in sizes}
        _affordable(counts)
        return cls(neurons, tuple(_listed(neurons, size) for size in counts))

    @classmethod
    def random(cls, neurons: int, counts: Mapping[int, int], seed: int = 0) -> Simplices:
        """So many different simplices of every size, uniformly at random: ``random(100, {2: 1000, 3: 3950})`` has as many couplings as all pairs.

        Raises:
            ValueError: more simplices of a size than there are, or more than ten million.
        """
        for size, count in counts.items():
            possible = _possible(neurons, size)
            require(1 <= count <= possible, f"There are {possible} simplices of size {size} of {neurons} neurons; asked for {count!r}.")
        _affordable(counts)
        generator = torch.Generator().manual_seed(seed)
        return cls(neurons, tuple(_drawn(neurons, size, count, generator) for size, count in counts.items()))

    def products(self, x: Tensor) -> Tensor:
        """``Π_{i∈σ} x_i`` of every simplex σ, the coordinates in which the memory is linear. (..., N) -> (..., len(self))"""
        parts = []
        for members in self.sets:
            index = members.to(x.device)
            columns = (x.index_select(-1, index[:, k]) for k in range(index.shape[1]))
            parts.append(reduce(torch.mul, columns))
        return torch.cat(parts, -1)

    @property
    def largest(self) -> int:
        """The size of the largest simplex."""
        return max(members.shape[1] for members in self.sets)

    @property
    def degrees(self) -> Tensor:
        """In how many simplices every neuron takes part, (N,)."""
        return sum((torch.bincount(members.flatten().cpu(), minlength=self.neurons) for members in self.sets), torch.zeros(self.neurons, dtype=torch.long))

    def __len__(self) -> int:
        return sum(len(members) for members in self.sets)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Simplices):
            return NotImplemented
        same = self.neurons == other.neurons and len(self.sets) == len(other.sets)
        return same and all(torch.equal(mine.cpu(), theirs.cpu()) for mine, theirs in zip(self.sets, other.sets, strict=True))

    def __hash__(self) -> int:
        return hash((self.neurons, tuple(tuple(members.shape) for members in self.sets)))

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(members)} of size {members.shape[1]}" for members in self.sets)
        return f"Simplices({self.neurons} neurons, {counts})"


@dataclass(frozen=True)
class Simplicial(Similarity):
    """``S(x, ξ) = (1/|K|) Σ_{σ∈K} Π_{i∈σ} x_i ξ_i`` over a set K of simplices: 1 where a ±1 state equals a ±1 pattern.

    - ``ReadEnergy(Simplicial(K), Power(1), Sum())`` is the simplicial Hopfield network (Burns & Fukai 2023, arXiv 2305.05179), ``E = −Σ_σ w_σ Π_{i∈σ} x_i``
      with the Hebbian couplings ``w_σ = Σ_μ Π_{i∈σ} ξ_i^μ``, up to its factor. All pairs are the network of 1982.
    - With ``Exp`` and ``Log`` it is the modern form: simplices decide which pattern is near, softmax weighs.

    S grows like ‖x‖ to the size of the largest simplex, so ½‖x‖² does not hold a state of triangles: the confinement is ``Hypercube`` (the default) or
    ``Sphere``. Every product is linear in each neuron, so on the cube the couplings' energy has its minima at the corners, and updates of one neuron after
    the other (``SpinDescent``) never raise it. No closed-form step: descend by ``SpinDescent``, ``GradientDescent`` or ``Flow``; a ``FixedPoint`` is refused.
    Memory and time are O(|K|) per state and per pattern, and O(|K|) per pair of both.

    Args:
        simplices: K, which neurons interact.
    """

    simplices: Simplices
    confinement = Hypercube()  # unless another is given

    def __post_init__(self):
        require(isinstance(self.simplices, Simplices), f"Simplicial needs Simplices, for example Simplices.every(100, (2, 3)); got {self.simplices!r}.")

    @property
    def degree(self) -> int:
        return self.simplices.largest

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        if state.shape[-1] != self.simplices.neurons:
            raise ValueError(f"{self.simplices} need states of width {self.simplices.neurons}, got {tuple(state.shape)}.")
        return self.simplices.products(state) @ self.simplices.products(keys).mT / len(self.simplices)

    def formula(self, scale: str) -> str:
        return f"{scale} ⟨Π_σ x ξ_μ⟩_σ".lstrip()


def _possible(neurons: int, size: int) -> int:
    require(isinstance(size, int) and 1 <= size <= neurons, f"A simplex of {neurons} neurons has 1 to {neurons} of them, got size {size!r}.")
    return math.comb(neurons, size)


def _affordable(counts: Mapping[int, int]) -> None:
    total = sum(counts.values())
    require(0 < total <= MOST, f"These are {total:,} simplices, and {MOST:,} are the most. Draw some of them with Simplices.random(neurons, counts).")


def _listed(neurons: int, size: int) -> Tensor:
    """All sets of a size, (comb(neurons, size), size)."""
    flat = np.fromiter(chain.from_iterable(combinations(range(neurons), size)), np.int64, size * math.comb(neurons, size))
    return torch.from_numpy(flat).reshape(-1, size)


def _drawn(neurons: int, size: int, count: int, generator: torch.Generator) -> Tensor:
    """So many different sets, each sorted: drawn until there are enough while they are few, chosen from the list of all where they are most of it."""
    possible = math.comb(neurons, size)
    if 2 * count > possible:
        return _listed(neurons, size)[torch.randperm(possible, generator=generator)[:count].sort().values]
    found = torch.empty(0, size, dtype=torch.long)
    while len(found) < count:
        rows = min(2 * (count - len(found)) + 16, max(1, MOST // neurons))
        fresh = torch.rand(rows, neurons, generator=generator).topk(size).indices.sort(-1).values
        found = torch.unique(torch.cat([found, fresh]), dim=0)
    return found[torch.randperm(len(found), generator=generator)[:count].sort().values]
