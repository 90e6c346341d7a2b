"""Normalisations as Lagrangians: layer norm and the projection onto a sphere, with the ε that keeps them smooth."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..spec import shown
from .lagrangian import Lagrangian
from .rows import number, per_row, positive, rows


@dataclass(frozen=True, eq=False)
class Normalisation(Lagrangian):
    """What both have in common: ``L = scale · γ · spread(x) + δ·x`` with a gain, a bias and ε.

    Args:
        gain: γ > 0, a number or a tensor with one entry, or one per row. One gain for a whole row keeps L convex.
        bias: δ, one number per neuron: a tensor that broadcasts to (d,) or to all rows, or None for 0.
        eps: ε > 0.

    Raises:
        ValueError: a gain that is not positive, ε ≤ 0, a bias that does not fit the neurons.
        TypeError: a bias that is no tensor.
    """

    gain: float | Tensor = 1.0
    bias: Tensor | None = None
    eps: float = 1e-5

    bounded = True

    def __post_init__(self):
        if not self.eps > 0:
            raise ValueError(f"A normalisation needs eps > 0, got {self.eps!r}: without it, it has no slope where its spread vanishes.")
        if self.bias is not None and not isinstance(self.bias, Tensor):
            raise TypeError(f"The bias of a normalisation is a tensor with one entry per neuron, or None, got {self.bias!r}.")
        if not isinstance(self.gain, Tensor):
            positive(self.gain, "gain")

    def __call__(self, x):
        centred = self.centred(x)
        return self._share(x) * number(self.gain, x) * self.spread(centred).squeeze(-1) + self._shift(x)

    def activation(self, x):
        return self._activation_and_rate(x)[0]

    def legendre(self, x):
        """Of ``x·g − L`` all but ε cancels."""
        activation, rate = self._activation_and_rate(x)
        return activation, (-self._share(x) * self.eps * rate,)

    def _activation_and_rate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """g, and the gain over the spread of every row. (..., d) -> (..., d), (...)"""
        centred = self.centred(x)
        rate = per_row(self.gain, x) / self.spread(centred)
        activation = rate * centred
        return activation if self.bias is None else activation + self.bias.to(x.dtype), rate.squeeze(-1)

    def centred(self, x: Tensor) -> Tensor:
        """What is divided by the spread."""
        raise NotImplementedError

    def spread(self, centred: Tensor) -> Tensor:
        """The length that a row is divided by. (..., d) -> (..., 1)"""
        raise NotImplementedError

    def _share(self, x: Tensor) -> int:
        """What the spread is multiplied with in L."""
        raise NotImplementedError

    def _shift(self, x: Tensor) -> Tensor | float:
        return 0.0 if self.bias is None else (x * self.bias.to(x.dtype)).sum(-1)

    def check(self, shape):
        rows(self.gain, "gain", shape)
        positive(self.gain, "gain")
        if self.bias is not None and (self.bias.ndim > len(shape) or any(b not in (1, s) for b, s in zip(self.bias.shape[::-1], shape[::-1], strict=False))):
            raise ValueError(f"The bias has one entry per neuron {tuple(shape)}, or per neuron of a row ({shape[-1]},), got {tuple(self.bias.shape)}.")

    def _terms(self, spread: str) -> str:
        return f"L(x) = {shown(self.gain)} · {spread}" + ("" if self.bias is None else " + δ·x")


@dataclass(frozen=True, eq=False)
class LayerNorm(Normalisation):
    """``L = d γ σ + δ·x`` with ``σ² = mean (x − x̄)² + ε``: activations are the layer norm ``γ (x − x̄)/σ + δ``, the energy ``−d γ ε/σ``.

    Krotov & Hopfield 2021, arXiv 2008.06996; for transformers Hoover et al. 2023, arXiv 2302.07253, eq. 1 and 2. Every row on its own.
    """

    def centred(self, x):
        return x - x.mean(-1, keepdim=True)

    def spread(self, centred):
        return (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()

    def _share(self, x):
        return x.shape[-1]

    def __str__(self) -> str:
        return self._terms("d √(mean (x − x̄)² + ε)")


@dataclass(frozen=True, eq=False)
class SphericalNorm(Normalisation):
    """``L = γ √(‖x‖² + ε) + δ·x``: activations are the direction ``γ x/√(‖x‖² + ε) + δ``, the energy ``−γ ε/√(‖x‖² + ε)``.

    Spherical normalisation, Krotov & Hopfield 2021, arXiv 2008.06996. Every row on its own.
    """

    def centred(self, x):
        return x

    def spread(self, centred):
        return (centred.square().sum(-1, keepdim=True) + self.eps).sqrt()

    def _share(self, x):
        return 1

    def __str__(self) -> str:
        return self._terms("√(‖x‖² + ε)")
