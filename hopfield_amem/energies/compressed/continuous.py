"""Memories of a curve instead of slots: ``E(x; B) = C(x) − Q[∫₀¹ F(β S(x, ξ(t))) dt]/β`` with ``ξ(t) = Bᵀψ(t)``."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import checks
from ..read import ReadEnergy
from ..scalings.level import Level
from ..scalings.scaling import Log, Sum
from ..scalings.simplex import Simplex
from ..separations.separation import require
from .basis import Basis, moments
from .quadrature import GaussLegendre, Quadrature


@dataclass(frozen=True)
class Continuous:
    """``E(x; B) = C(x) − Q[∫₀¹ F(β S(x, ξ(t))) dt]/β``, ``ξ(t) = Bᵀψ(t)``: continuous-time memory (Santos et al. 2025, arXiv 2502.10122), for
    any read energy whose scaling has a continuous limit: ``Sum``, ``Log``, ``Level``, ``Simplex()``.

    With ``log_sum_exp`` it is ``½‖x‖² − log ∫ exp(β x·ξ(t)) dt/β``, whose unit gradient step is ``∫ p(t) ξ(t) dt``. For N samples that the curve follows it
    tends to the energy of N slots plus ``log N/β``, since a mean stands in the place of a sum. The integral is a quadrature, so that everything that
    serves slots serves it: the curve's points at the nodes as ``slots``, their weights as presence. The rule must see the basis: ``Midpoint`` with a
    multiple of L points for ``Rectangular``, whose jumps no Gauss rule integrates well.

    A function of state and coefficients like any other energy: ``GradientDescent()(energy, query, coefficients)``; for ``FixedPoint`` and
    ``retrieve`` give ``energy.read``, ``energy.slots(coefficients)`` and ``presence=energy.presence(coefficients)``.

    Args:
        read: the energy E of slots.
        basis: ψ. ``basis.fit(samples)`` gives coefficients B (L, d).
        quadrature: the rule of the integral.

    Raises:
        ValueError, TypeError: parts of a wrong kind, coefficients that do not fit the basis.
    """

    read: ReadEnergy
    basis: Basis
    quadrature: Quadrature = GaussLegendre(100)
    shapes: Tensor = field(init=False, repr=False, compare=False)  # ψ at the nodes, (points, L)
    masses: Tensor = field(init=False, repr=False, compare=False)  # weights of the nodes, (points,)

    def __post_init__(self):
        require(isinstance(self.read, ReadEnergy), f"Continuous takes a read energy such as presets.log_sum_exp(beta), got {self.read!r}.")
        require(isinstance(self.basis, Basis), f"Continuous takes a basis such as Rectangular(count), got {self.basis!r}.")
        require(isinstance(self.quadrature, Quadrature), f"Continuous takes a quadrature such as GaussLegendre(points), got {self.quadrature!r}.")
        require(
            isinstance(self.read.scaling, (Sum, Log, Level)) or self.read.scaling == Simplex(),
            f"A curve has no k best points to choose: its energy is an integral under Sum(), Log(), Level() or Simplex(), got {self.read.scaling}.",
        )
        nodes, masses = self.quadrature.rule()
        object.__setattr__(self, "shapes", self.basis(nodes))
        object.__setattr__(self, "masses", masses)

    def __call__(self, state: Tensor, coefficients: Tensor) -> Tensor:
        """E of every query. (..., q, d), (..., L, d) -> (..., q)"""
        return self.read(state, self.slots(coefficients), presence=self.presence(coefficients))

    def slots(self, coefficients: Tensor) -> Tensor:
        """``ξ(t_j)`` at the nodes. (..., L, d) -> (..., points, d)"""
        return self._along(self.shapes, coefficients)

    def presence(self, like: Tensor) -> Tensor:
        """What each node weighs in the integral, (points,)"""
        return self.masses.to(like.device, torch.promote_types(like.dtype, torch.float32))

    def curve(self, coefficients: Tensor, time: Tensor) -> Tensor:
        """``ξ(t)`` at times in [0, 1]. (..., L, d), (n,) -> (..., n, d)

        Raises:
            ValueError, TypeError: times that are no tensor (n,) or lie outside [0, 1], coefficients that do not fit.
        """
        return self._along(self.basis(moments(time)), coefficients)

    def _along(self, shapes: Tensor, coefficients: Tensor) -> Tensor:
        checks.floating("coefficients", coefficients)
        count = self.basis.count
        require(coefficients.shape[-2] == count, f"{self.basis} needs coefficients (..., {count}, d), got {tuple(coefficients.shape)}: basis.fit(samples).")
        return shapes.to(coefficients.device, coefficients.dtype) @ coefficients

    def __str__(self) -> str:
        return str(self.read).replace("Σ_μ ", "∫ ").replace("ξ_μ", "ξ(t)") + ",  ξ(t) = Bᵀψ(t)"
