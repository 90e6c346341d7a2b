"""Separations F: how sharply a nearby pattern stands out. Elementwise, written in torch, with slope F′ and curvature F″."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from . import derivative


class Separation:
    """Base of all separations. A subclass writes F; its slope and curvature are derived unless a closed form is given."""

    reach = math.inf  # F′(s) = 0 for every s ≤ −reach
    saturation = math.inf  # F′(s) = 1, to rounding, for every s ≥ saturation

    def __call__(self, score: Tensor) -> Tensor:
        raise NotImplementedError

    def slope(self, score: Tensor) -> Tensor:
        """``F′(s)``, elementwise and differentiable."""
        return derivative.elementwise(self.__call__, score)

    def curvature(self, score: Tensor) -> Tensor:
        """``F″(s)``, elementwise and differentiable."""
        return derivative.elementwise(self.slope, score)

    def formula(self, score: str) -> str:
        """F written out for a score, as in a paper."""
        return f"{type(self).__name__}({score})"

    def __str__(self) -> str:
        return self.formula("s")


@dataclass(frozen=True)
class Exp(Separation):
    """``F(s) = eˢ``: softmax weights under ``Log`` (Demircigil et al. 2017; Ramsauer et al. 2020)."""

    def __call__(self, score: Tensor) -> Tensor:
        return score.exp()

    slope = curvature = __call__

    def formula(self, score: str) -> str:
        return f"exp({score})"


@dataclass(frozen=True)
class Power(Separation):
    """``F(s) = sⁿ/n``. ``Power(2)`` under ``Sum`` is the linear layer, linear attention and the 1982 network."""

    degree: int = 2

    def __post_init__(self):
        require(isinstance(self.degree, int) and self.degree >= 1, f"Power needs an integer degree ≥ 1, got {self.degree!r}.")

    def __call__(self, score: Tensor) -> Tensor:
        return score**self.degree / self.degree

    def slope(self, score: Tensor) -> Tensor:
        return score ** (self.degree - 1)

    def curvature(self, score: Tensor) -> Tensor:
        if self.degree == 1:
            return torch.zeros_like(score)
        return (self.degree - 1) * score ** (self.degree - 2)

    def formula(self, score: str) -> str:
        return f"({score}){superscript(self.degree)}/{self.degree}"


@dataclass(frozen=True)
class RectifiedPower(Separation):
    """``F(s) = max(s, 0)ⁿ/n``: ReLU weights for n = 2, squared ReLU for n = 3 (Krotov & Hopfield 2016, arXiv 1606.01164)."""

    degree: int = 2
    reach = 0.0

    def __post_init__(self):
        require(isinstance(self.degree, int) and self.degree >= 1, f"RectifiedPower needs an integer degree ≥ 1, got {self.degree!r}.")

    def __call__(self, score: Tensor) -> Tensor:
        return score.relu() ** self.degree / self.degree

    def slope(self, score: Tensor) -> Tensor:
        return _rectified(score, self.degree - 1)

    def curvature(self, score: Tensor) -> Tensor:
        if self.degree == 1:
            return torch.zeros_like(score)
        power = _rectified(score, self.degree - 2)
        return power if self.degree == 2 else (self.degree - 1) * power

    def formula(self, score: str) -> str:
        return f"max({score}, 0){superscript(self.degree)}/{self.degree}"


Relu = partial(RectifiedPower, 2)
"""``F(s) = max(s, 0)²/2``, whose slope is the ReLU activation."""


@dataclass(frozen=True)
class Epanechnikov(Separation):
    """``F(s) = max(1 + s, 0)``: with ``Euclidean`` and ``Log`` the log-sum-ReLU energy (Hoover et al. 2025, arXiv 2506.10801)."""

    reach = 1.0

    def __call__(self, score: Tensor) -> Tensor:
        return (1 + score).relu_()

    def slope(self, score: Tensor) -> Tensor:
        return (1 + score).sign_().relu_()  # in place: a tile of scores may be large

    def curvature(self, score: Tensor) -> Tensor:
        return torch.zeros_like(score)

    def formula(self, score: str) -> str:
        return f"max({plus('1', score)}, 0)"


@dataclass(frozen=True)
class Rounded(Separation):
    """``F(s) = max_r (r s − ½r²)`` over numbers r of so many decimals, whose slope is s rounded: a quadratic with a staircase for a slope.

    Small overlaps between keys vanish, which keeps what is written exact (DeltaFormer's round kernel, arXiv 2505.19488, NeurIPS 2025).
    Gradients pass through the rounding as if it were not there (straight-through), so the curvature is 1.
    """

    decimals: int = 2

    def __post_init__(self):
        require(isinstance(self.decimals, int) and self.decimals >= 0, f"Rounded needs a number of decimals ≥ 0, got {self.decimals!r}.")

    def __call__(self, score: Tensor) -> Tensor:
        rounded = self.slope(score.detach())
        return rounded * score - 0.5 * rounded.square()

    def slope(self, score: Tensor) -> Tensor:
        return score + (score.round(decimals=self.decimals) - score).detach()

    def curvature(self, score: Tensor) -> Tensor:
        return torch.ones_like(score)

    def formula(self, score: str) -> str:
        return f"max_r [r({score}) − r²/2]"


def _rectified(score: Tensor, exponent: int) -> Tensor:
    """``max(s, 0)ⁿ``, for n = 0 the step that is 0 at 0; a sign is twice as fast as a comparison that is converted."""
    if exponent == 0:
        return score.sign().relu_()
    return score.relu() if exponent == 1 else score.relu() ** exponent


def superscript(n: int) -> str:
    """An exponent as a paper prints it."""
    return str(n).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def plus(first: str, second: str) -> str:
    """A sum of two formulas."""
    return f"{first} − {second[1:]}" if second.startswith("−") else f"{first} + {second}"


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)
