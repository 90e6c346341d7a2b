"""Reads among product-quantised slots: scores are looked up in small tables, and slots are never put together again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energies import Dot, Euclidean, ReadEnergy
from .rows import fitting


@dataclass(frozen=True, eq=False)
class ProductCode:
    """Slots ``ξ̂_μ = (C₁[c_μ1], …, C_P[c_μP])``: of every part the number of a centroid (product quantisation, Jégou et al. 2011).

    Attributes:
        codebooks: centroids of every part, (parts, centroids, d / parts).
        codes: their numbers, in uint8, one row per part, (parts, n).
    """

    codebooks: Tensor
    codes: Tensor

    def decode(self, slots: slice | Tensor = slice(None)) -> Tensor:
        """ξ̂ of some slots. -> (n, d)"""
        parts = [book[numbers[slots].long()] for book, numbers in zip(self.codebooks, self.codes, strict=True)]
        return torch.cat(parts, -1)

    def encode(self, patterns: Tensor) -> Tensor:
        """The nearest centroid of every part, a few patterns at a time. (n, d) -> (parts, n)"""
        few = patterns.split(fitting(self.codebooks[..., 0].numel()))
        found = [Euclidean()(self.split(rows), self.codebooks).argmax(-1).to(torch.uint8) for rows in few]
        return torch.cat(found, -1)

    def split(self, rows: Tensor) -> Tensor:
        """The parts of every row. (q, d) -> (parts, q, d / parts)"""
        return rows.unflatten(-1, (len(self.codebooks), self.codebooks.shape[-1])).transpose(0, 1)


class Quantised:
    """Reads of quantised slots, with the methods of every backend. ``S(x, ξ̂) = Σ_part S(x_part, C[c])`` for ``Dot`` and ``Euclidean``: asymmetric lookups.

    Whole rows of scores are held, of a few queries at a time, so that every scaling serves. Averages are gathered per centroid:
    ``Σ_μ p_μ ξ̂_μ = Σ_c (Σ_{μ: c_μ = c} p_μ) C[c]``, part by part.
    """

    def __init__(self, energy: ReadEnergy, code: ProductCode):
        self.spec, self.code = energy, code

    def similarity(self, state: Tensor) -> Tensor:
        """``S(x, ξ̂)`` of a few queries. (q, d) -> (q, n)"""
        code = self.code
        tables = self.spec.similarity(code.split(state), code.codebooks.to(state.dtype)).mT.contiguous()  # (parts, centroids, q): whole rows are looked up
        found = state.new_zeros(code.codes.shape[1], len(state))
        for table, numbers in zip(tables, code.codes, strict=True):
            found = found + table.index_select(0, numbers.int())
        return found.mT

    def settle(self, state: Tensor) -> Tensor:
        return self._by_rows(state, lambda rows: self.spec.confinement.minimise(*self._pull(rows), rows))

    def read(self, state: Tensor, values: Tensor) -> Tensor:  # (..., q, d), (n, v) -> (..., q, v)
        def averaged(rows: Tensor) -> Tensor:
            weights = self._weights(rows)
            return self.spec.averaged(weights @ values, weights.sum(-1, keepdim=True))

        return self._by_rows(state, averaged)

    def value(self, state: Tensor) -> Tensor:
        """Q of every query."""
        spec = self.spec
        return self._by_rows(state, lambda rows: spec.scaling.value(spec.separation, spec.beta * self.similarity(rows)))

    def energy(self, state: Tensor) -> Tensor:
        return self.spec.confinement(state) - self.value(state) / self.spec.beta

    def force(self, state: Tensor) -> Tensor:
        return self._by_rows(state, lambda rows: self.spec.similarity.force(rows, *self._pull(rows)))

    def nearest(self, state: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
        """Similarities and numbers of the most similar slots, most similar first. (..., q, d) -> (..., q, min(count, n)) twice"""
        count = min(count, self.code.codes.shape[1])
        found = [self.similarity(rows).topk(count, -1) for rows in self._few(state)]
        best, index = (torch.cat(part).reshape(*state.shape[:-1], count) for part in zip(*found, strict=True))
        return best, index

    def _weights(self, rows: Tensor) -> Tensor:
        return self.spec.scaling.weights(self.spec.separation, self.spec.beta * self.similarity(rows))

    def _pull(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """``Σ p ξ̂``, and ``Σ p`` where the similarity is massive."""
        weights, code = self._weights(rows).mT.contiguous(), self.code  # (n, q)
        parts = []
        for book, numbers in zip(code.codebooks.to(rows.dtype), code.codes, strict=True):
            gathered = weights.new_zeros(len(book), len(rows)).index_add(0, numbers.long(), weights)  # with int64 a single query takes a path 20 times as fast
            parts.append(gathered.mT @ book)
        return torch.cat(parts, -1), weights.sum(0).unsqueeze(-1) if self.spec.similarity.massive else None

    def _by_rows(self, state: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of rows, a few at a time. (..., q, d) -> (..., q, ·)"""
        result = torch.cat([function(rows) for rows in self._few(state)])
        return result.reshape(*state.shape[:-1], *result.shape[1:])

    def _few(self, state: Tensor) -> tuple[Tensor, ...]:
        """So many rows at a time that their scores fit the budget, (..., q, d) -> (few, d) each"""
        return state.reshape(-1, state.shape[-1]).split(fitting(self.code.codes.shape[1]))


def serves(energy: ReadEnergy) -> bool:
    """Whether an energy's scores are sums over parts, and its β one number."""
    return isinstance(energy.similarity, (Dot, Euclidean)) and not isinstance(energy.beta, Tensor)
