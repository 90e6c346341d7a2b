"""The neurons that people know, one line each: Lagrangians by the names of their activations (Krotov 2021, arXiv 2107.06446; HAMUX)."""

from __future__ import annotations

from torch import Tensor

from ..scalings.scaling import Log, Sum
from ..scalings.simplex import Simplex
from ..separations.activation import LogCosh, RectifiedExp, Softplus
from ..separations.separation import Exp, Power, RectifiedPower
from ..separations.tsallis import Tsallis
from .lagrangian import Factored, Lagrangian
from .norms import LayerNorm, SphericalNorm

Beta = float | Tensor


def identity() -> Factored:
    """``L = ½‖x‖²``, ``g = x``: linear neurons."""
    return Factored(Power(2), Sum())


def relu() -> Factored:
    """``L = ½ Σ max(x, 0)²``, ``g = max(x, 0)``."""
    return Factored(RectifiedPower(2), Sum())


def repu(degree: int) -> Factored:
    """``L = Σ max(x, 0)ⁿ/n``, ``g = max(x, 0)ⁿ⁻¹``: rectified powers (Krotov & Hopfield 2016, arXiv 1606.01164)."""
    return Factored(RectifiedPower(degree), Sum())


def exp(beta: Beta = 1.0) -> Factored:
    """``L = Σ exp(βx)/β``, ``g = exp(βx)``. Overflows where βx leaves the range of exp, 709 in float64."""
    return Factored(Exp(), Sum(), beta)


def rexp(beta: Beta = 1.0) -> Factored:
    """``L = Σ [exp(β max(x, 0))/β − max(x, 0)]``, ``g = exp(β max(x, 0)) − 1``: a rectified exponential. Overflows as ``exp`` does."""
    return Factored(RectifiedExp(), Sum(), beta)


def tanh(beta: Beta = 1.0) -> Factored:
    """``L = Σ log cosh(βx)/β``, ``g = tanh(βx)``: the neurons of Hopfield 1984."""
    return Factored(LogCosh(), Sum(), beta)


def sigmoid(beta: Beta = 1.0) -> Factored:
    """``L = Σ log(1 + exp(βx))/β``, ``g = σ(βx)``."""
    return Factored(Softplus(), Sum(), beta)


def softmax(beta: Beta = 1.0) -> Factored:
    """``L = log Σ exp(βx)/β``, ``g = softmax(βx)``: the hidden neurons of modern Hopfield networks (Krotov & Hopfield 2021, arXiv 2008.06996)."""
    return Factored(Exp(), Log(), beta)


def ghostmax(beta: Beta = 1.0) -> Factored:
    """``L = log(1 + Σ exp(βx))/β``, ``g = exp(βx)/(1 + Σ exp(βx))``: softmax with one silent neuron more, at state 0."""
    return Factored(Exp(), Log(null_slot=True), beta)


def sparsemax(beta: Beta = 1.0) -> Factored:
    """``L = min_τ [τ + ½ Σ max(1 + βx − τ, 0)²]/β``, ``g = sparsemax(βx)`` (Martins & Astudillo 2016, arXiv 1602.02068)."""
    return Factored(Tsallis(2.0), Simplex(), beta)


def layer_norm(gain: float | Tensor = 1.0, bias: Tensor | None = None, eps: float = 1e-5) -> LayerNorm:
    """``g = γ (x − x̄)/√(mean (x − x̄)² + ε) + δ``, every row on its own."""
    return LayerNorm(gain, bias, eps)


def spherical_norm(gain: float | Tensor = 1.0, bias: Tensor | None = None, eps: float = 1e-5) -> SphericalNorm:
    """``g = γ x/√(‖x‖² + ε) + δ``, every row on its own."""
    return SphericalNorm(gain, bias, eps)


LAGRANGIANS: dict[str, Lagrangian] = {
    "identity": identity(),
    "relu": relu(),
    "repu": repu(3),
    "exp": exp(),
    "rexp": rexp(),
    "tanh": tanh(),
    "sigmoid": sigmoid(),
    "softmax": softmax(),
    "ghostmax": ghostmax(),
    "sparsemax": sparsemax(),
    "layer_norm": layer_norm(),
    "spherical_norm": spherical_norm(),
}
"""One of each, at β = 1."""
