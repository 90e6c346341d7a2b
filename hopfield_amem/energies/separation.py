"""Separations F: how sharply a nearby pattern stands out. Elementwise, written in torch, with slope F′ and curvature F″."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


class Separation:
    """Base of all separations. A subclass writes F; its slope and curvature are derived unless a closed form is given."""

    reach = math.inf  # F′(s) = 0 for every s ≤ −reach

    def __call__(self, score: Tensor) -> Tensor:
        raise NotImplementedError

    def slope(self, score: Tensor) -> Tensor:
        """``F′(s)``, elementwise and differentiable."""
        value, pullback = torch.func.vjp(self.__call__, score)
        return pullback(torch.ones_like(value))[0]

    def curvature(self, score: Tensor) -> Tensor:
        """``F″(s)``, elementwise and differentiable."""
        value, pullback = torch.func.vjp(self.slope, score)
        return pullback(torch.ones_like(value))[0]

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
        _require(isinstance(self.degree, int) and self.degree >= 1, f"Power needs an integer degree ≥ 1, got {self.degree!r}.")

    def __call__(self, score: Tensor) -> Tensor:
        return score**self.degree / self.degree

    def slope(self, score: Tensor) -> Tensor:
        return score ** (self.degree - 1)

    def curvature(self, score: Tensor) -> Tensor:
        if self.degree == 1:
            return torch.zeros_like(score)
        return (self.degree - 1) * score ** (self.degree - 2)

    def formula(self, score: str) -> str:
        return f"({score}){_superscript(self.degree)}/{self.degree}"


@dataclass(frozen=True)
class RectifiedPower(Separation):
    """``F(s) = max(s, 0)ⁿ/n``: ReLU weights for n = 2, squared ReLU for n = 3 (Krotov & Hopfield 2016, arXiv 1606.01164)."""

    degree: int = 2
    reach = 0.0

    def __post_init__(self):
        _require(isinstance(self.degree, int) and self.degree >= 1, f"RectifiedPower needs an integer degree ≥ 1, got {self.degree!r}.")

    def __call__(self, score: Tensor) -> Tensor:
        return score.relu() ** self.degree / self.degree

    def slope(self, score: Tensor) -> Tensor:
        if self.degree == 1:
            return (score > 0).to(score.dtype)
        return score.relu() if self.degree == 2 else score.relu() ** (self.degree - 1)

    def curvature(self, score: Tensor) -> Tensor:
        if self.degree == 1:
            return torch.zeros_like(score)
        if self.degree == 2:
            return (score > 0).to(score.dtype)
        return (self.degree - 1) * score.relu() ** (self.degree - 2)

    def formula(self, score: str) -> str:
        return f"max({score}, 0){_superscript(self.degree)}/{self.degree}"


Relu = partial(RectifiedPower, 2)
"""``F(s) = max(s, 0)²/2``, whose slope is the ReLU activation."""


@dataclass(frozen=True)
class Gelu(Separation):
    """``F(s) = ∫₋∞ˢ t Φ(t) dt = ½(s²Φ(s) + sφ(s) − Φ(s))``, whose slope is the exact GELU ``sΦ(s)``."""

    def __call__(self, score: Tensor) -> Tensor:
        below = torch.special.ndtr(score)
        density = torch.exp(-0.5 * score.square()) / math.sqrt(2 * math.pi)
        return 0.5 * (score.square() * below + score * density - below)

    def slope(self, score: Tensor) -> Tensor:
        return torch.nn.functional.gelu(score)

    def curvature(self, score: Tensor) -> Tensor:
        return torch.ops.aten.gelu_backward(torch.ones_like(score), score)

    def formula(self, score: str) -> str:
        return f"∫gelu({score})"


@dataclass(frozen=True)
class Silu(Separation):
    """``F(s) = ∫₋∞ˢ t σ(t) dt = s·softplus(s) + Li₂(−eˢ)``, whose slope is SiLU ``sσ(s)`` (Swish)."""

    def __call__(self, score: Tensor) -> Tensor:
        positive = score > 0
        decay = torch.exp(-torch.where(positive, score, -score))  # e^(−|s|), one-sided at 0 so that autograd gives F′(0) = 0
        tail = _dilogarithm(decay)  # Li₂(−e^(−|s|))
        inverted = -(math.pi**2) / 6 - 0.5 * score.square() - tail  # Li₂(−eˢ) for s > 0
        return score * torch.nn.functional.softplus(score) + torch.where(positive, inverted, tail)

    def slope(self, score: Tensor) -> Tensor:
        return torch.nn.functional.silu(score)

    def curvature(self, score: Tensor) -> Tensor:
        return torch.ops.aten.silu_backward(torch.ones_like(score), score)

    def formula(self, score: str) -> str:
        return f"∫silu({score})"


@dataclass(frozen=True)
class Epanechnikov(Separation):
    """``F(s) = max(1 + s, 0)``: with ``Euclidean`` and ``Log`` the log-sum-ReLU energy (Hoover et al. 2025, arXiv 2506.10801)."""

    reach = 1.0

    def __call__(self, score: Tensor) -> Tensor:
        return (1 + score).relu()

    def slope(self, score: Tensor) -> Tensor:
        return (score > -1).to(score.dtype)

    def curvature(self, score: Tensor) -> Tensor:
        return torch.zeros_like(score)

    def formula(self, score: str) -> str:
        return f"max({_sum('1', score)}, 0)"


@dataclass(frozen=True)
class Tsallis(Separation):
    """``F(s) = [1 + (α−1)s]₊^(α/(α−1)) / α``, the q-exponential; under ``Simplex`` its weights are α-entmax.

    α = 1 is ``Exp`` (softmax), α = 2 sparsemax, α = 1.5 the usual entmax (Peters et al. 2019, arXiv 1905.05702;
    Hopfield–Fenchel–Young energies: Santos et al. 2024, arXiv 2411.08590). α ≥ 1.
    """

    alpha: float = 1.5

    def __post_init__(self):
        _require(1 <= self.alpha < math.inf, f"Tsallis needs a finite α ≥ 1, got {self.alpha!r}. α = 1 is softmax, α = 2 sparsemax.")

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
        return f"[{_sum('1', scaled)}]₊{_superscript(int(power)) if power.is_integer() else f'^{power:.4g}'}/{self.alpha:g}"


@dataclass(frozen=True)
class Elementwise(Separation):
    """A user's separation: any elementwise torch function ``F(score)``. Slope and curvature are derived by autograd.

    Raises:
        ValueError: F is not elementwise, does not keep shape and dtype, or cannot be differentiated.
    """

    function: Callable[[Tensor], Tensor]

    def __post_init__(self):
        _check_elementwise(self)

    def __call__(self, score: Tensor) -> Tensor:
        return self.function(score)

    def formula(self, score: str) -> str:
        name = getattr(self.function, "__name__", "F")
        return f"{'F' if name == '<lambda>' else name}({score})"


def as_separation(separation: Separation | Callable[[Tensor], Tensor]) -> Separation:
    """The separation itself, or a plain elementwise torch function as one. ``torch.exp`` is recognised as ``Exp()``."""
    if isinstance(separation, Separation):
        return separation
    if separation in (torch.exp, Tensor.exp):
        return Exp()
    _require(callable(separation), f"A separation is an elementwise function of the scores, for example Exp() or torch.relu; got {separation!r}.")
    return Elementwise(separation)


def _check_elementwise(separation: Elementwise) -> None:
    name = getattr(separation.function, "__name__", repr(separation.function))
    advice = "F must map each score on its own, for example lambda s: torch.relu(s) ** 3; a rule over all slots belongs in the scaling (Log, Simplex)."
    probe = torch.linspace(-2.0, 2.0, 12, dtype=torch.float64).reshape(3, 4)
    try:
        whole = separation(probe)
    except Exception as error:
        raise ValueError(f"The separation {name} failed on a (3, 4) tensor of scores: {error}. {advice}") from error
    _require(isinstance(whole, Tensor) and whole.shape == probe.shape, f"The separation {name} does not keep the shape of the scores. {advice}")
    _require(whole.dtype == probe.dtype, f"The separation {name} turned float64 scores into {whole.dtype}; it must keep the dtype.")
    single = torch.stack([separation(s.reshape(1, 1)).reshape(()) for s in probe.flatten()]).reshape(3, 4)
    _require(torch.allclose(whole, single, rtol=1e-10, atol=1e-12, equal_nan=True), f"The separation {name} is not elementwise: one score changed another's value. {advice}")
    try:
        separation.slope(probe)
    except Exception as error:
        raise ValueError(f"The separation {name} cannot be differentiated: {error}. Write it with differentiable torch operations.") from error


def _dilogarithm(z: Tensor) -> Tensor:
    """``Li₂(−z)`` for 0 ≤ z ≤ 1: the Bernoulli series of ``Li₂(1 − e^(−u))`` at ``u = −log(1+z)``, |u| ≤ ln 2."""
    u = -torch.log1p(z)
    square = u * u
    total = torch.zeros_like(u)
    for coefficient in reversed(_BERNOULLI_SERIES):
        total = total * square + coefficient
    return u - square / 4 + u * square * total


# B₂ₖ/(2k+1)! for k = 1..9: the odd part of Σ Bₙ uⁿ⁺¹/(n+1)!; the next term is below 1e-19 at |u| = ln 2.
_BERNOULLI_SERIES = tuple(
    b / math.factorial(2 * k + 1)
    for k, b in enumerate((1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798), start=1)
)


def _superscript(n: int) -> str:
    return str(n).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _sum(first: str, second: str) -> str:
    return f"{first} − {second[1:]}" if second.startswith("−") else f"{first} + {second}"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
