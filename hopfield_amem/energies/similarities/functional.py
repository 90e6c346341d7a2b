"""Similarities given as functions: of the inner product and the two norms, or of states and keys as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..separations.separation import require
from .similarity import Similarity


@dataclass(frozen=True)
class Invariant(Similarity):
    """A user's rotation-invariant similarity: ``S = function(x·ξ, ‖x‖², ‖ξ‖²)``, any elementwise torch function.

    Every similarity that no common rotation of states and keys changes has this form (first fundamental theorem of the
    orthogonal group), so that a spec like ``Invariant(lambda dot, xx, kk: -torch.log1p(xx + kk - 2 * dot))`` covers
    the radial kernels, and compiles to a kernel around one matrix product.
    """

    function: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __post_init__(self):
        require(callable(self.function), f"Invariant takes a function S(x·ξ, ‖x‖², ‖ξ‖²) of tensors, got {self.function!r}.")

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        squares = state.square().sum(-1, keepdim=True), keys.square().sum(-1).unsqueeze(-2)
        return self.invariant(state @ keys.mT, *squares)

    def invariant(self, product: Tensor, state_square: Tensor, key_square: Tensor) -> Tensor:
        return self.function(product, state_square, key_square)

    def formula(self, scale: str) -> str:
        return f"{scale} {getattr(self.function, '__name__', 'S').replace('<lambda>', 'S')}(x·ξ_μ, ‖x‖², ‖ξ_μ‖²)".lstrip()


@dataclass(frozen=True)
class Custom(Similarity):
    """A similarity given as a plain function ``S(state, keys)`` of shape (..., q, d), (..., n, d) -> (..., q, n)."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __post_init__(self):
        made = callable(self.function) and not isinstance(self.function, type)
        require(made, f"A similarity is an object, such as Dot() or Euclidean(), or a function S(state, keys) of tensors, got {self.function!r}.")

    def __call__(self, state: Tensor, keys: Tensor) -> Tensor:
        score = self.function(state, keys)
        expected = state.shape[-2], keys.shape[-2]
        if not isinstance(score, Tensor) or score.shape[-2:] != expected:
            came = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise ValueError(
                f"A similarity gives a score for every query and slot: S(state, keys) of states {tuple(state.shape)} and keys {tuple(keys.shape)} must have "
                f"shape (..., {expected[0]}, {expected[1]}), got {came}. To compare pair by pair, give the states a dimension for slots: state.unsqueeze(-2)."
            )
        return score

    def formula(self, scale: str) -> str:
        return f"{scale} {getattr(self.function, '__name__', 'S').replace('<lambda>', 'S')}(x, ξ_μ)".lstrip()
