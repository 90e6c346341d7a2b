"""Patterns split over layers, each with an energy of its own, and the global energy of them all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from . import checks
from .distances import distances
from .read import ReadEnergy
from .spec import scaled


@dataclass(frozen=True)
class Layered:
    """``E(x; ξ) = −log Σ_t exp(−β E_t(x; ξ_t))/β``, patterns split over layers t (Niu et al. 2024, arXiv 2405.08707, §4; there β = 1).

    It lies between ``min_t E_t − (log l)/β`` and ``min_t E_t``: the global memory is that of whichever layer is near. With ``distance(β)`` in every layer it
    is ``distance(β)`` of all patterns together. (A hierarchy of memories adds its energies instead; here exactly one layer answers.)

    It is an energy like any other, ``E(state, patterns)`` with the patterns of all layers one after the other, so that every descent follows it;
    ``descent.LayerPass`` goes through the layers in order, as a forward pass does.

    Args:
        energies: one per layer; or one for all.
        sizes: how many patterns every layer holds, in order.
        beta: inverse temperature β > 0 at which layers compete.

    Raises:
        ValueError: no layers, sizes below 0, another number of energies than layers, β ≤ 0, something that is no ``ReadEnergy``.
    """

    energies: ReadEnergy | tuple[ReadEnergy, ...]
    sizes: tuple[int, ...]
    beta: float = 1.0

    def __post_init__(self):
        if not isinstance(self.sizes, (tuple, list)):
            raise ValueError(f"sizes are a tuple, one number of patterns per layer, for example (100, 100); got {self.sizes!r}.")
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if not self.sizes or any(not isinstance(size, int) or size < 0 for size in self.sizes):
            raise ValueError(f"sizes say how many patterns every layer holds, integers of at least 0, for example (100, 100); got {self.sizes}.")
        given = tuple(self.energies) if isinstance(self.energies, list) else self.each
        if len(given) != len(self.sizes) or not all(isinstance(energy, ReadEnergy) for energy in given):
            raise ValueError(f"There are {len(self.sizes)} layers: give one ReadEnergy for all, or as many, got {self.energies!r}.")
        object.__setattr__(self, "energies", given)
        if isinstance(self.beta, Tensor):
            raise ValueError("Layers compete at one inverse temperature, a number; a tensor belongs into their energies.")
        checks.inverse_temperature(self.beta)

    @property
    def each(self) -> tuple[ReadEnergy, ...]:
        """The energy of every layer."""
        return self.energies if isinstance(self.energies, tuple) else (self.energies,) * len(self.sizes)

    def __call__(self, state: Tensor, patterns: Tensor) -> Tensor:
        """``E`` of every query. (..., q, d), (..., n, d) -> (..., q), with n the sum of the sizes"""
        shift, terms = self._terms(state, patterns)
        total = terms.sum(0)
        return torch.where(total == 0, torch.inf, -(shift + torch.where(total == 0, 1.0, total).log()) / self.beta)

    def layers(self, state: Tensor, patterns: Tensor) -> Tensor:
        """``E_t`` of every layer. -> (l, ..., q); +∞ for a layer without patterns whose energy is a logarithm"""
        return torch.stack([energy(state, part) for energy, part in zip(self.each, self.split(patterns), strict=True)])

    def weights(self, state: Tensor, patterns: Tensor) -> Tensor:
        """Which layer answers: ``softmax_t(−β E_t)``, 0 where none does. -> (l, ..., q)"""
        _, terms = self._terms(state, patterns)
        total = terms.sum(0)
        return terms / torch.where(total == 0, 1.0, total)

    def _terms(self, state: Tensor, patterns: Tensor) -> tuple[Tensor, Tensor]:
        """The largest ``−β E_t`` of every query, 0 where all are −∞, and every ``exp(−β E_t)`` relative to it."""
        score = -self.beta * self.layers(state, patterns)
        shift = score.detach().amax(0)
        shift = torch.where(shift == -torch.inf, 0.0, shift)
        return shift, torch.exp(score - shift)

    def split(self, patterns: Tensor) -> tuple[Tensor, ...]:
        """The patterns of every layer. (..., n, d) -> l times (..., n_t, d)"""
        checks.floating("patterns", patterns)
        if patterns.shape[-2] != sum(self.sizes):
            raise ValueError(f"The layers hold {' + '.join(map(str, self.sizes))} = {sum(self.sizes)} patterns, got {tuple(patterns.shape)}.")
        return patterns.split(self.sizes, -2)

    def __str__(self) -> str:
        scale, over = scaled(self.beta)
        terms = " + ".join(f"n_{t} = {size}" for t, size in enumerate(self.sizes, 1))
        kinds = "; ".join(dict.fromkeys(str(energy).replace("E(x)", "E_t(x)") for energy in self.each))
        return f"E(x) = −log Σ_t exp(−{scale and f'{scale} '}E_t(x)){over},  {kinds},  {terms}"


def nearest_neighbour(state: Tensor, patterns: Tensor) -> Tensor:
    """``min_μ ½‖x − ξ_μ‖²``, the limit β → ∞ of the distance energy. (..., q, d), (..., n, d) -> (..., q); +∞ without patterns

    The distance energy lies within ``(log n)/β`` below it (arXiv 2405.08707, Proposition 1, in this library's β).
    """
    checks.floating("state", state)
    checks.floating("patterns", patterns)
    if not patterns.shape[-2]:
        return torch.full_like(state[..., 0], torch.inf)
    return 0.5 * distances(state, patterns).amin(-1).square()


def evenly(count: int, layers: int) -> tuple[int, ...]:
    """So many patterns split over so many layers as evenly as it goes: sizes for ``Layered``."""
    if layers < 1 or count < 0:
        raise ValueError(f"Patterns are split over at least one layer, got count={count}, layers={layers}.")
    edges = [count * t // layers for t in range(layers + 1)]
    return tuple(high - low for low, high in pairwise(edges))
