"""Couplings: binary memories folded into one matrix, ``E(x) = −½ xᵀWx − bᵀx`` on states of ±1. Rules that learn them: ``energies.learning``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .. import checks
from ..truth import decided

ROWS = 256


@dataclass(frozen=True, eq=False)
class Couplings:
    """``E(x) = −½ xᵀWx − bᵀx`` (Hopfield 1982), an energy ``E(state, memories)`` that has learned its memories already and ignores the second argument.

    The diagonal of W adds the constant ``−½ tr W`` to E of every ±1 state: a descent of spins cannot see it. ``field``, and ``descent.replay`` with it,
    take W as it is.

    Args:
        weights: W, (d, d), row i holding what acts on spin i. Only a symmetric one has an energy.
        bias: b, (d,), or None for none.

    Raises:
        ValueError, TypeError: W that is no square floating-point matrix, b that does not fit it, entries that are not finite; asking an asymmetric W for its
            energy.
    """

    weights: Tensor
    bias: Tensor | None = None

    def __post_init__(self):
        checks.floating("weights", self.weights)
        rows, columns = self.weights.shape[-2:]
        if self.weights.ndim != 2 or rows != columns:
            raise ValueError(f"Couplings need a square matrix (d, d) of weights, got {tuple(self.weights.shape)}. Between two layers: Bidirectional(weights).")
        if self.bias is not None and (not isinstance(self.bias, Tensor) or self.bias.shape != (rows,) or self.bias.dtype != self.weights.dtype):
            came = f"{self.bias.dtype} of shape {tuple(self.bias.shape)}" if isinstance(self.bias, Tensor) else type(self.bias).__name__
            raise ValueError(f"The bias must be one {self.weights.dtype} per spin, shape ({rows},), got {came}.")
        for name, tensor in (("weights", self.weights), ("bias", self.bias)):
            if tensor is not None and decided(tensor.isfinite().all()) is False:
                raise ValueError(f"The {name} of Couplings hold NaN or Inf.")

    @cached_property
    def symmetric(self) -> bool:
        """Whether ``W = Wᵀ`` within rounding, so that there is an energy."""
        tolerance = 8 * torch.finfo(self.weights.dtype).eps * self.weights.abs().max()
        return bool(((self.weights - self.weights.mT).abs() <= tolerance).all())

    def __call__(self, state: Tensor, memories: Tensor | None = None) -> Tensor:
        """E of every state, in its dtype. (..., d) -> (...)"""
        if not self.symmetric:
            raise ValueError(
                "These couplings are asymmetric, so they have no energy and nothing descends. "
                "Follow what they do with descent.replay(couplings, state, steps), or symmetrise them: Couplings((W + W.mT) / 2)."
            )
        _fits(state, len(self.weights))
        weights, bias = self.in_dtype(state)
        return -0.5 * ((state @ weights) * state).sum(-1) - (0.0 if bias is None else state @ bias)

    def field(self, state: Tensor) -> Tensor:
        """The local field ``h = Wx + b`` of every spin, diagonal included. (..., d) -> (..., d)"""
        _fits(state, len(self.weights))
        weights, bias = self.in_dtype(state)
        field = state @ weights.mT
        return field if bias is None else field + bias

    def stability(self, patterns: Tensor) -> Tensor:
        """``ξᵢ (Σ_{j≠i} W_ij ξ_j + b_i)``, positive where a spin of a stored pattern stays. (n, d) -> (n, d)"""
        own = self.weights.diagonal().to(patterns.dtype)
        return patterns * (self.field(patterns) - own * patterns)

    def in_dtype(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """W and b in the dtype of a state."""
        return self.weights.to(like.dtype), None if self.bias is None else self.bias.to(like.dtype)

    def __str__(self) -> str:
        formula = "E(x) = −½ xᵀWx" + ("" if self.bias is None else " − bᵀx")
        return f"{formula if self.symmetric else 'no energy: W is asymmetric'},  x ∈ {{−1, 1}}^{len(self.weights)}"


@dataclass(frozen=True, eq=False)
class Bidirectional:
    """``E(x, y) = −xᵀWy`` between two layers of spins: bidirectional associative memory (Kosko 1988).

    A state is the pair side by side, ``(x, y)`` of width d + p.

    Args:
        weights: W, (d, p).
    """

    weights: Tensor

    def __post_init__(self):
        checks.floating("weights", self.weights)
        if self.weights.ndim != 2 or decided(self.weights.isfinite().all()) is False:
            raise ValueError(f"Bidirectional needs a finite matrix (d, p) of weights, got shape {tuple(self.weights.shape)}.")

    def __call__(self, state: Tensor, memories: Tensor | None = None) -> Tensor:
        """E of every pair. (..., d + p) -> (...)"""
        first, second = self.split(state)
        return -((first @ self.weights.to(state.dtype)) * second).sum(-1)

    def split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves of pairs. (..., d + p) -> (..., d), (..., p)"""
        _fits(state, sum(self.weights.shape))
        first, second = state.split(list(self.weights.shape), -1)
        return first, second

    @property
    def couplings(self) -> Couplings:
        """The same energy as couplings of all d + p spins: W and its transpose beside zeros."""
        first, second = self.weights.shape
        joint = self.weights.new_zeros(first + second, first + second)
        joint[:first, first:], joint[first:, :first] = self.weights, self.weights.mT
        return Couplings(joint)

    def __str__(self) -> str:
        first, second = self.weights.shape
        return f"E(x, y) = −xᵀWy,  x ∈ {{−1, 1}}^{first}, y ∈ {{−1, 1}}^{second}"


def spins(name: str, tensor: Tensor) -> Tensor:
    """The tensor (..., count, width) itself. Raises TypeError or ValueError unless it is floating-point and every entry is −1 or 1, which is looked at on
    every device (a GPU synchronises), but not while a compiler traces."""
    checks.floating(name, tensor)
    if decided(are_spins(tensor)) is False:  # on any device: a wrong answer would cost more than a synchronisation
        wrong = tensor[tensor.abs() != 1][0].item()
        raise ValueError(f"{name} must consist of −1 and 1, but hold {wrong:g}. Binarise them, for example torch.where(x > threshold, 1.0, -1.0).")
    return tensor


def are_spins(tensor: Tensor) -> Tensor:
    """Whether every entry is −1 or 1, a boolean scalar. Looked at in parts that stay in a cache."""
    parts = tensor.reshape(-1, tensor.shape[-1]).split(ROWS) if tensor.numel() else ()
    extremes = (part.abs().aminmax() for part in parts)
    return torch.stack([(low == 1) & (high == 1) for low, high in extremes] or [torch.ones((), dtype=torch.bool, device=tensor.device)]).all()


def _fits(state: Tensor, width: int) -> None:
    if state.shape[-1] != width:
        raise ValueError(f"These couplings join {width} spins, got a state of shape {tuple(state.shape)}.")
