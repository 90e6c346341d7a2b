"""Write energies ``ℓ(ŷ, v)``: a loss between what a memory predicts for a key and what it should hold. Writing moves the memory downhill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .separations import derivative


class WriteEnergy:
    """Base of all write energies: ``ℓ(ŷ, v)`` with ŷ = S φ(k), and the signal ``−∂ℓ/∂ŷ`` that is written at the key.

    ``slope`` is minus the derivative of the signal in the prediction where that is a constant (0 Hebbian, 1 Delta):
    it is all that the causal write-then-read recurrence needs. None means that the loss is not quadratic.
    """

    slope: float | None = None

    def step(self, rate: Tensor, stiffness: Tensor) -> Tensor:
        """The rate at which a token erases what it is asked to erase at; ``stiffness`` is κ₁(k, k). (..., t), (..., t) -> (..., t)"""
        return rate

    def __call__(self, prediction: Tensor, value: Tensor) -> Tensor:  # (..., v), (..., v) -> (...)
        raise NotImplementedError

    def signal(self, prediction: Tensor, value: Tensor) -> Tensor:
        """``−∂ℓ/∂ŷ``, what one gradient step adds to the memory's answer at this key. -> (..., v)"""
        return -derivative.slope(lambda guess: self(guess, value), prediction)


@dataclass(frozen=True)
class Hebbian(WriteEnergy):
    """``ℓ = −⟨ŷ, v⟩``: always add the value. Linear attention, and softmax attention's growing memory."""

    slope = 0.0

    def __call__(self, prediction, value):
        return -(prediction * value).sum(-1)

    def __str__(self) -> str:
        return "−⟨ŷ, v⟩"


@dataclass(frozen=True)
class Delta(WriteEnergy):
    """``ℓ = ½‖ŷ − v‖²``: add what is missing (Widrow & Hoff 1960; DeltaNet, Yang et al. 2024, arXiv 2406.06484)."""

    slope = 1.0

    def __call__(self, prediction, value):
        return 0.5 * (prediction - value).square().sum(-1)

    def __str__(self) -> str:
        return "½‖ŷ − v‖²"


@dataclass(frozen=True)
class ImplicitDelta(Delta):
    """The exact minimiser of ``½‖S′ − S‖² + ½b‖S′φ(k) − v‖²``: a Delta step of rate ``b/(1 + b κ(k, k))``, stable at every b ≥ 0.

    Longhorn (Liu et al. 2024, arXiv 2407.14207).
    """

    def step(self, rate, stiffness):
        return rate / (1 + rate * stiffness)

    def __str__(self) -> str:
        return "½‖ŷ − v‖², minimised with ½‖S′ − S‖²/b"


@dataclass(frozen=True)
class Ridge(WriteEnergy):
    """``ℓ = ½‖ŷ − v‖²`` minimised exactly over all pairs with ``λ‖S‖²/2`` (MesaNet, von Oswald et al. 2025, arXiv 2506.05233)."""

    penalty: float = 1e-2
    slope = 1.0

    def __post_init__(self):
        if not 0 < self.penalty < float("inf"):
            raise ValueError(f"Ridge needs a positive finite penalty λ, got {self.penalty!r}.")

    def __call__(self, prediction, value):
        return 0.5 * (prediction - value).square().sum(-1)

    def __str__(self) -> str:
        return f"argmin Σ ½‖Sk − v‖² + {self.penalty:g}‖S‖²/2"


@dataclass(frozen=True)
class Loss(WriteEnergy):
    """A write energy from any differentiable ``loss(prediction, value)`` of shape (..., v), (..., v) -> (...)."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, prediction, value):
        return self.function(prediction, value)

    def __str__(self) -> str:
        return f"{getattr(self.function, '__name__', 'ℓ')}(ŷ, v)"


def as_write_energy(write: WriteEnergy | Callable[[Tensor, Tensor], Tensor]) -> WriteEnergy:
    """The write energy itself, or a plain loss function as one. Raises ValueError when the loss has a wrong shape."""
    if isinstance(write, WriteEnergy):
        return write
    if not callable(write) or isinstance(write, type):
        raise ValueError(f"A write energy is Hebbian(), Delta(), ImplicitDelta(), Ridge(λ) or a function loss(prediction, value), got {write!r}.")
    probe = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    loss = write(probe, probe.flip(0))
    if not isinstance(loss, Tensor) or loss.shape != (2,):
        came = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss(prediction, value) must reduce only the last dimension: (2, 3), (2, 3) should give (2,), got {came}.")
    return Loss(write)
