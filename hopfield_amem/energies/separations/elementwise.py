"""Any elementwise torch function as a separation, or as the slope of one: checked once; derivatives by autograd, integrals by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from .separation import Exp, Separation, require


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
        return f"{_name(self.function)}({score})"


@dataclass(frozen=True)
class Activation(Elementwise):
    """``F(s) = ∫₀ˢ f(t) dt`` for any activation function f: with ``Dot`` and ``Sum``, the feed-forward block ``Σ_μ f(x·k_μ) v_μ`` as a memory.

    ``Gelu``, ``Silu``, ``Relu`` have closed forms; this serves every other activation. F is integrated piece by piece with ten Gauss–Legendre points
    each: to rounding where f is smooth on the scale of 1 (or bends at multiples of ½) up to |s| = 16 and a polynomial of low degree beyond.

    Args:
        function: the activation, for example ``torch.tanh``: an elementwise torch function, or a module.

    Raises:
        ValueError: as for ``Elementwise``.
    """

    def __call__(self, score: Tensor) -> Tensor:
        edges = torch.tensor(_EDGES, dtype=score.dtype, device=score.device)
        whole = torch.stack([self._between(side[:-1], side[1:]).cumsum(0) for side in (edges, -edges)])  # ∫ from 0 to ± every edge but the first
        whole = torch.cat([torch.zeros_like(whole[:, :1]), whole], 1)
        place = (torch.bucketize(score.detach().abs(), edges, right=True) - 1).clamp(0, len(_EDGES) - 1)
        side = (score < 0).long()
        return whole[side, place] + self._between(edges[place] * (1 - 2 * side), score)

    def slope(self, score: Tensor) -> Tensor:
        return self.function(score)

    def _between(self, start: Tensor, end: Tensor) -> Tensor:
        """``∫ f`` from start to end."""
        width = end - start
        total = torch.zeros_like(width)
        for point, weight in zip(*_GAUSS, strict=True):
            total = total + weight * self.function(start + point * width)
        return width * total

    def formula(self, score: str) -> str:
        return f"∫{_name(self.function)}({score})"


_EDGES = (*(0.5 * k for k in range(32)), *(2.0**k for k in range(4, 21)))
_GAUSS = tuple((half.tolist()) for half in (0.5 + 0.5 * leggauss(10)[0], 0.5 * leggauss(10)[1]))  # points and weights on [0, 1]


def gelu_tanh(score: Tensor) -> Tensor:
    """GELU as GPT-2 and Gemma approximate it, ``½s(1 + tanh(√(2/π)(s + 0.044715 s³)))`` (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    return torch.nn.functional.gelu(score, approximate="tanh")


def as_separation(separation: Separation | Callable[[Tensor], Tensor]) -> Separation:
    """The separation itself, or a plain elementwise torch function as one. ``torch.exp`` is recognised as ``Exp()``."""
    if isinstance(separation, Separation):
        return separation
    if separation in (torch.exp, Tensor.exp):
        return Exp()
    require(
        not isinstance(separation, type),
        f"A separation is an object or a function of the scores, and {separation!r} is a class. Make one of it, such as Exp().",
    )
    require(callable(separation), f"A separation is an elementwise function of the scores, for example Exp() or torch.relu; got {separation!r}.")
    return Elementwise(separation)


def _name(function: Callable) -> str:
    """What a formula calls a function: its own name, that of a module's class, or F."""
    name = getattr(function, "__name__", None if isinstance(function, partial) else type(function).__name__)
    return "F" if name in (None, "<lambda>") else name


def _check_elementwise(separation: Elementwise) -> None:
    name = getattr(separation.function, "__name__", repr(separation.function))
    advice = "F must map each score on its own, for example lambda s: torch.relu(s) ** 3; a rule over all slots belongs in the scaling (Log, Simplex)."
    probe = torch.linspace(-2.0, 2.0, 12, dtype=torch.float64).reshape(3, 4)
    try:
        whole = separation(probe)
    except Exception as error:
        raise ValueError(f"The separation {name} failed on a (3, 4) tensor of scores: {error}. {advice}") from error
    require(isinstance(whole, Tensor) and whole.shape == probe.shape, f"The separation {name} does not keep the shape of the scores. {advice}")
    require(whole.dtype == probe.dtype, f"The separation {name} turned float64 scores into {whole.dtype}; it must keep the dtype.")
    single = torch.stack([separation(s.reshape(1, 1)).reshape(()) for s in probe.flatten()]).reshape(3, 4)
    require(
        torch.allclose(whole, single, rtol=1e-10, atol=1e-12, equal_nan=True),
        f"The separation {name} is not elementwise: one score changed another's value. {advice}",
    )
    try:
        slope = separation.slope(probe)
    except Exception as error:
        raise ValueError(f"The separation {name} cannot be differentiated: {error}. Write it with differentiable torch operations.") from error
    flat = bool((slope == 0).all()) and not torch.equal(whole, whole[:1, :1].expand(3, 4))
    require(not flat, f"The separation {name} cannot be differentiated: its result is cut off from the scores. Write it with differentiable torch operations.")
