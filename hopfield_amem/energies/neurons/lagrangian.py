"""Lagrangians: a convex function of the states of neurons. Its gradient is their activation, its Legendre transform their energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..scalings.scaling import Log, Scaling, Sum, homogeneity, is_exponential
from ..scalings.simplex import Simplex
from ..separations import derivative
from ..separations.elementwise import as_separation
from ..separations.separation import Separation
from ..spec import Spec, scaled, tensors
from . import convexity
from .rows import number, per_row, positive, rows

SUM = Sum()
Terms = tuple[Tensor, ...]


class Lagrangian(Spec):
    """Base of all Lagrangians ``L(x)``: one number per row x of states (Krotov 2021, arXiv 2107.06446; Krotov & Hopfield 2021, arXiv 2008.06996).

    The activation is ``g = ∂L/∂x``, the energy of the neurons the Legendre transform ``x·g − L``, which along any path changes by ``x·dg``. L is convex, so
    that ``dx/dt = −∂E/∂g`` lowers the energy E of the whole network: ``dE/dt = −(∂E/∂g)ᵀ (∂²L/∂x²) ∂E/∂g ≤ 0``.

    ``bounded`` says that activations are, wherever the states go; ``separable`` that a neuron's activation depends on its own state alone.
    """

    bounded = False
    separable = False

    def __call__(self, x: Tensor) -> Tensor:  # (..., d) -> (...)
        raise NotImplementedError

    def activation(self, x: Tensor) -> Tensor:
        """``g = ∂L/∂x``. (..., d) -> (..., d)"""
        return derivative.slope(self, x)

    def energy(self, x: Tensor) -> Tensor:
        """``x·g − L`` of every row. (..., d) -> (...)"""
        return torch.stack(self.legendre(x)[1]).sum(0)

    def legendre(self, x: Tensor) -> tuple[Tensor, Terms]:
        """Activation, and the terms whose sum is the energy, ``x·g`` and ``−L``. (..., d) -> (..., d), ((...), ...)"""
        activation = self.activation(x)
        return activation, ((x * activation).sum(-1), -self(x))

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError when this is no convex function of rows of neurons of this shape (..., d)."""


@dataclass(frozen=True, eq=False, init=False)
class Factored(Lagrangian):
    """``L(x) = Q[Σᵢ F(β xᵢ)]/β`` with the library's own separations F and scalings Q, over the neurons of a row.

    Args:
        separation: F, or a plain elementwise torch function.
        scaling: Q. ``Sum``: every neuron on its own, ``g = F′(βx)``. ``Log``, ``Simplex``: the neurons of a row share what they say, ``g = ∂Q/∂(βx)``.
        beta: β > 0, a number or a tensor with one entry, or one per row, whose gradient flows.

    Raises:
        ValueError: Q∘F is not convex, with the place where it is not; factors or a β that do not fit.
    """

    separation: Separation
    scaling: Scaling
    beta: float | Tensor

    def __init__(self, separation: Separation | Callable[[Tensor], Tensor], scaling: Scaling = SUM, beta: float | Tensor = 1.0):
        if not isinstance(scaling, Scaling):
            raise ValueError(f"The scaling of a Lagrangian must be Sum(), Log() or Simplex(), got {scaling!r}.")
        checks.inverse_temperature(beta)
        self._set(separation=as_separation(separation), scaling=scaling, beta=beta)
        if not torch.compiler.is_compiling():
            convexity.refuse_factors(self.separation, self.scaling)

    def __call__(self, x):
        return self.scaling.value(self.separation, self._scaled(x), None) / number(self.beta, x)

    def activation(self, x):
        if is_exponential(self.separation) and self.scaling == Log():
            return self._scaled(x).softmax(-1)
        return self.scaling.weights(self.separation, self._scaled(x), None)

    def legendre(self, x):
        degree = homogeneity(self.scaling, self.separation)
        if degree is not None:  # x·g = n L (Euler)
            activation = self.activation(x)
            return activation, ((x * activation).sum(-1) * (1 - 1 / degree),)
        value, activation = self.scaling.value_and_weights(self.separation, self._scaled(x), None)
        return activation, ((x * activation).sum(-1), -(value if self._plain else value / number(self.beta, x)))

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._plain else per_row(self.beta, x) * x

    @property
    def _plain(self) -> bool:
        """Whether β is the number 1."""
        return isinstance(self.beta, (int, float)) and self.beta == 1

    @property
    def separable(self) -> bool:
        return isinstance(self.scaling, Sum)

    @property
    def bounded(self) -> bool:
        if self.separable:
            return convexity.levels_off(self.separation)
        return is_exponential(self.separation) or isinstance(self.scaling, Simplex)  # whose weights sum to a constant, at most

    def check(self, shape):
        rows(self.beta, "beta", shape)
        positive(self.beta, "beta")

    def __str__(self) -> str:
        scale, over = scaled(self.beta)
        formula = self.scaling.formula(self.separation.formula, f"{scale} x_μ".lstrip())
        return f"L(x) = {formula}{over}"


@dataclass(frozen=True, eq=False)
class Written(Lagrangian):
    """A user's Lagrangian: any differentiable convex function, or module, ``L(x)`` of shape (..., d) -> (...)."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, x):
        return self.function(x)

    def check(self, shape):
        width = shape[-1]
        name = getattr(self.function, "__name__", type(self.function).__name__)
        held = next(tensors(self.function), None)
        probe = convexity.probes(width).to(held.device if held is not None else "cpu")
        try:
            value = self(probe)
        except RuntimeError:  # a function that holds tensors of single precision
            probe = probe.float()
            value = self(probe)
        if not isinstance(value, Tensor) or value.shape != probe.shape[:-1]:
            came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"The Lagrangian {name} must give one number per row: ({len(probe)}, {width}) should become ({len(probe)},), got {came}.")
        convexity.refuse_bends(self, probe, f"The Lagrangian {name}")

    def __str__(self) -> str:
        return f"L(x) = {getattr(self.function, '__name__', type(self.function).__name__)}(x)"


@dataclass(frozen=True, eq=False)
class Learned(Lagrangian):
    """The Lagrangian that a module says it has (its ``spec``) at its present parameters."""

    module: Any

    def __call__(self, x):
        return self.module.spec(x)

    def activation(self, x):
        return self.module.spec.activation(x)

    def legendre(self, x):
        return self.module.spec.legendre(x)

    @property
    def bounded(self) -> bool:
        return self.module.spec.bounded

    @property
    def separable(self) -> bool:
        return self.module.spec.separable

    def check(self, shape):
        self.module.spec.check(shape)

    def __str__(self) -> str:
        return f"{self.module.spec}, learned"


def as_lagrangian(lagrangian: Lagrangian | Callable[[Tensor], Tensor]) -> Lagrangian:
    """The Lagrangian itself, that of a module, or a plain function or module ``L(x)`` as one."""
    if isinstance(lagrangian, Lagrangian):
        return lagrangian
    if isinstance(getattr(lagrangian, "spec", None), Lagrangian):
        return Learned(lagrangian)
    if not callable(lagrangian):
        raise ValueError(f"Neurons are given by a Lagrangian, for example lagrangians.relu(), or a convex function L(x), got {lagrangian!r}.")
    return Written(lagrangian)
