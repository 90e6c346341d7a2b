"""The q-exponential of Tsallis statistics, which interpolates between softmax and sparsemax."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .separation import Separation, plus, require, superscript


@dataclass(frozen=True)
class Tsallis(Separation):
    """``F(s) = [1 + (α−1)s]₊^(α/(α−1)) / α``, the q-exponential; under ``Simplex`` its weights are α-entmax.

    α = 1 is ``Exp`` (softmax), α = 2 sparsemax, α = 1.5 the usual entmax (Peters et al. 2019, arXiv 1905.05702;
    Hopfield–Fenchel–Young energies: Santos et al. 2024, arXiv 2411.08590). α ≥ 1.
    """

    alpha: float = 1.5

    def __post_init__(self):
        require(1 <= self.alpha < math.inf, f"Tsallis needs a finite α ≥ 1, got {self.alpha!r}. α = 1 is softmax, α = 2 sparsemax.")

    @property
    def reach(self) -> float:
        return math.inf if self.alpha == 1 else 1 / (self.alpha - 1)

    def _power(self, score: Tensor, exponent: float) -> Tensor:
        """``[1 + (α−1)s]₊^exponent``, exactly 0 outside the support whatever the exponent's sign."""
        if exponent >= 1 and self.alpha >= 1.1:
            return (1 + (self.alpha - 1) * score).relu() ** exponent
        inside = score > -self.reach
        if exponent == 0:
            return inside.to(score.dtype)
        base = torch.log1p((self.alpha - 1) * torch.where(inside, score, 0.0))  # accurate as α → 1
        return torch.where(inside, torch.exp(exponent * base), 0.0)

    def __call__(self, score: Tensor) -> Tensor:
        if self.alpha == 1:
            return score.exp()
        return self._power(score, self.alpha / (self.alpha - 1)) / self.alpha

    def slope(self, score: Tensor) -> Tensor:
        return score.exp() if self.alpha == 1 else self._power(score, 1 / (self.alpha - 1))

    def curvature(self, score: Tensor) -> Tensor:
        return score.exp() if self.alpha == 1 else self._power(score, (2 - self.alpha) / (self.alpha - 1))

    def formula(self, score: str) -> str:
        return f"exp({score})" if self.alpha == 1 else self._written(score)

    def _written(self, score: str) -> str:
        scaled = score if self.alpha == 2 else f"{self.alpha - 1:g}({score})"
        power = self.alpha / (self.alpha - 1)
        return f"[{plus('1', scaled)}]₊{superscript(int(power)) if power.is_integer() else f'^{power:.4g}'}/{self.alpha:g}"
