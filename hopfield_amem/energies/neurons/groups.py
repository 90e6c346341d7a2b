"""Groups of neurons: a Lagrangian, a shape, and how slow they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..spec import Spec
from .lagrangian import Lagrangian, as_lagrangian


@dataclass(frozen=True, eq=False, init=False)
class Neurons(Spec):
    """A group of neurons of a network.

    Args:
        lagrangian: L of a row, for example ``lagrangians.tanh()``, or any convex function or module ``L(x)``. A group of many rows has the sum of its rows' L.
        shape: of the group without samples, the neurons of a row last: ``100``, ``(28, 28)``, ``(tokens, width)``.
        time_constant: τ > 0 in ``τ dx/dt = −∂E/∂g``.

    Raises:
        ValueError: sizes that are not positive, a Lagrangian that is not convex or does not fit the shape.
    """

    lagrangian: Lagrangian
    shape: tuple[int, ...]
    time_constant: float

    def __init__(self, lagrangian: Lagrangian | Callable[[Tensor], Tensor], shape: int | tuple[int, ...], time_constant: float = 1.0):
        sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        if not sizes or any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
            raise ValueError(f"A group of neurons has positive sizes, for example 100 or (28, 28), got {shape!r}.")
        if not isinstance(time_constant, (int, float)) or not 0 < time_constant < math.inf:
            raise ValueError(f"A time constant must be positive and finite, got {time_constant!r}.")
        self._set(lagrangian=as_lagrangian(lagrangian), shape=sizes, time_constant=float(time_constant))
        if not torch.compiler.is_compiling():
            self.lagrangian.check(sizes)

    @property
    def size(self) -> int:
        """How many neurons there are."""
        return math.prod(self.shape)

    def row(self, state: Tensor) -> Tensor:
        """All neurons of a sample in a row. (..., *shape) -> (..., n)"""
        return state.flatten(-len(self.shape)) if len(self.shape) > 1 else state

    def shaped(self, row: Tensor) -> Tensor:
        """Back from a row. (..., n) -> (..., *shape)"""
        return row.unflatten(-1, self.shape) if len(self.shape) > 1 else row

    def over_rows(self, numbers: Tensor) -> Tensor:
        """One number per row, added up. (..., *rows) -> (...)"""
        return numbers.flatten(1 - len(self.shape)).sum(-1) if len(self.shape) > 1 else numbers

    def leading(self, state: Tensor) -> torch.Size:
        """The leading dimensions of a state, its samples."""
        return state.shape[: state.ndim - len(self.shape)]

    def check(self, name: str, state: Tensor) -> None:
        """Raise ValueError or TypeError when a tensor is no state of these neurons."""
        if not isinstance(state, Tensor) or not state.is_floating_point():
            kind = state.dtype if isinstance(state, Tensor) else type(state).__name__
            raise TypeError(f"The state of {name!r} must be a floating-point tensor, got {kind}. Convert it with torch.as_tensor(...).float().")
        if state.ndim < len(self.shape) or tuple(state.shape[state.ndim - len(self.shape) :]) != self.shape:
            raise ValueError(f"The state of {name!r} has the shape (..., {', '.join(map(str, self.shape))}), got {tuple(state.shape)}.")

    def __str__(self) -> str:
        slow = "" if self.time_constant == 1 else f", τ = {self.time_constant:g}"
        return f"{' × '.join(map(str, self.shape))}  {self.lagrangian}{slow}"
