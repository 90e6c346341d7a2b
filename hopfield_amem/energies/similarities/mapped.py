"""Similarities in a feature space: S(Φ(x), Φ(ξ)) with any map Φ, learned ones included."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..confinement import Confinement, Free, Quadratic
from ..separations.separation import require
from .similarity import Dot, Similarity


@dataclass(frozen=True)
class Mapped(Similarity):
    """``S_Φ(x, ξ) = S(Φ(x), Φ(ξ))``: states and patterns are compared where a map puts them (U-Hop, Wu et al. 2024, arXiv 2404.03827, for linear Φ).

    The gradient in the state passes through Φ, so descents by gradient reach ``−∇E``. There is no closed-form step; values are read as by any similarity,
    and reading the patterns themselves, ``Σ p ξ``, is U-Hop's update. Where Φ is linear, ``layers.LearnedKernel`` takes any number of such steps.

    Args:
        map: Φ, a function or module (..., d) -> (..., D) that treats every row by itself. One that holds learned tensors is served by full matrices,
            which give them their gradient. A module is compared by identity.
        similarity: S between mapped vectors. The state is ``Free`` under a distance, else ``Quadratic``, unless the energy says otherwise.

    Raises:
        ValueError: no function, no similarity, or a map that does not keep the leading dimensions.
    """

    map: Callable[[Tensor], Tensor]
    similarity: Similarity = Dot()

    def __post_init__(self):
        require(callable(self.map), f"Mapped takes a function (..., d) -> (..., D), for example a LearnedKernel or lambda x: x @ W.mT; got {self.map!r}.")
        require(
            not getattr(self.similarity, "nonnegative", False),
            f"{self.similarity} compares distributions, and what a map gives need not be one. Map onto them before the memory, or use another similarity.",
        )
        require(isinstance(self.similarity, Similarity), f"Mapped takes a similarity such as Dot() or Euclidean(), got {self.similarity!r}.")

    @property
    def highest(self) -> float:  # type: ignore[override]
        return self.similarity.highest

    @property
    def degree(self) -> int:  # type: ignore[override]
        return self.similarity.degree

    @property
    def confinement(self) -> Confinement:  # type: ignore[override]
        if self.degree > 1:
            return self.similarity.confinement
        return Free() if isinstance(self.similarity.confinement, Free) else Quadratic()

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        return self.similarity(self.mapped(state), self.mapped(keys))

    def mapped(self, rows: Tensor) -> Tensor:
        """Φ of every row. (..., n, d) -> (..., n, D)"""
        features = self.map(rows)
        kept = isinstance(features, Tensor) and features.ndim == rows.ndim and features.shape[:-1] == rows.shape[:-1]
        came = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        require(kept, f"The map of {self} must turn (..., n, d) into (..., n, D), row by row: {tuple(rows.shape)} became {came}.")
        return features

    def formula(self, scale: str) -> str:
        return re.sub(r"\bx\b", "Φ(x)", self.similarity.formula(scale)).replace("ξ_μ", "Φ(ξ_μ)")
