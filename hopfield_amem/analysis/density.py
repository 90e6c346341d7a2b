"""Energies as log-densities: the constants that make ``exp(−βE)`` integrate to one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..energies import Blend, Cosine, Dot, Epanechnikov, Euclidean, Exp, Free, Log, Quadratic, ReadEnergy, Separation, Sphere
from ..energies.read import as_amount
from ..energies.truth import decided
from ..kernels import engine, full_precision, gated

SHORTEST = 1e-12  # length from which on a vector has a direction for ``Cosine``
LARGE = 1e5  # √(ν² + κ²) from which on the expansion of a Bessel function is exact to rounding


def log_density(energy: ReadEnergy, state: Tensor, keys: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """``log p(x) = −βE(x) − log Z``: the density that the stored patterns make. (..., q, d), (..., n, d) -> (..., q)

    ``distance(β)``: Gaussians N(ξ_μ, 1/β), equally weighted; ``epanechnikov``, ``hybrid``: kernel densities (Hoover et al. 2025, arXiv 2506.10801);
    ``von_mises_fisher(κ)``: mixture on the sphere; ``log_sum_exp(β)``: Gaussians weighted by exp(½β‖ξ_μ‖²). −∞ where no slot is there. In the dtype of the
    inputs, at least float32: a logarithm of many dimensions is no half.

    Raises:
        ValueError: an energy whose log Z is not known in closed form; inputs that do not fit; a pattern on the sphere that has no direction.
    """
    state, keys = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (state, keys))
    constant = log_partition(energy, keys, presence=presence)
    with full_precision(state):
        value = engine(energy, state, keys, gated(presence, None, False, 0.0, state.device)).energy(state)
    return torch.where(constant == -math.inf, -math.inf, -energy.inverse_temperature(1, value) * value - constant)


def log_partition(energy: ReadEnergy, keys: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """``log Z = log ∫ exp(−βE(x)) dx`` over R^d, or over the sphere by its surface. (..., n, d) -> (..., 1)

    ``exp(−βE)`` is ``Σ_μ a_μ F(βS)`` times ``exp(−βC)``, so Z is the sum of what the single slots hold, ``a_μ exp(½β‖ξ_μ‖²)`` times one integral for
    ``Dot`` with ``Quadratic``, ``a_μ`` times one integral for the others.

    Args:
        presence: how much of every slot is there, the same for all queries: (..., n) or (..., 1, n).

    Raises:
        ValueError: ``Log`` without an empty slot, and of ``Exp``, ``Epanechnikov`` or a ``Blend`` of them over distances, or ``Exp`` over cosines on a
            sphere or inner products with ``Quadratic``; nothing else has a closed form here. β must be a number. A pattern on the sphere that is there
            and has length 0.
    """
    if not isinstance(energy, ReadEnergy) or energy.scaling != Log() or not isinstance(energy.beta, (int, float)):
        raise ValueError(f"log Z is known for Log() scaling without an empty slot and a number as beta, got {energy}.")
    keys = keys.to(torch.promote_types(keys.dtype, torch.float32))
    amount = as_amount(presence, keys)
    logs = keys.new_zeros(keys.shape[-2]) if amount is None else _row(amount).to(keys.dtype).log()
    if isinstance(energy.similarity, Cosine):
        _directed(keys, logs)
    if isinstance(energy.similarity, Dot) and isinstance(energy.confinement, Quadratic):
        logs = logs + 0.5 * energy.beta * keys.square().sum(-1)
    return torch.logsumexp(logs, -1, keepdim=True) + _log_integral(energy, keys.shape[-1])


def _directed(keys: Tensor, logs: Tensor) -> None:
    """Raise where a pattern that is there has no direction: ``Cosine`` gives it the same similarity everywhere, which is no von Mises–Fisher density."""
    lost = (keys.norm(dim=-1) < SHORTEST) & (logs > -math.inf)
    if decided(lost.any()):
        raise ValueError(
            f"{int(lost.sum())} of the patterns have length 0, or nearly: they have no direction, around which a density on the sphere could lie. "
            "Leave them out, or give them presence 0."
        )


def _row(amount: Tensor) -> Tensor:
    """A presence without its dimension of queries."""
    if amount.ndim > 1 and amount.shape[-2] != 1:
        raise ValueError(f"log Z is one number per memory, so presence must be the same for all queries, (n,) or (..., 1, n); got {tuple(amount.shape)}.")
    return amount.squeeze(-2) if amount.ndim > 1 else amount


def _log_integral(energy: ReadEnergy, dim: int) -> float:
    """``log ∫ F(βS(x, ξ)) exp(−βC(x)) dx`` of one slot, without what depends on ‖ξ‖."""
    similarity, confinement = energy.similarity, energy.confinement
    gaussian = isinstance(similarity, Dot) and isinstance(confinement, Quadratic) and isinstance(energy.separation, Exp)
    if gaussian or (isinstance(similarity, Euclidean) and isinstance(confinement, Free)):
        return _log_kernel(energy.separation, float(energy.beta), dim)
    if isinstance(similarity, Cosine) and isinstance(confinement, Sphere) and isinstance(energy.separation, Exp):
        return (dim - 1) * math.log(confinement.radius) - von_mises_fisher_log_constant(dim, float(energy.beta))
    raise ValueError(f"log Z of {energy} is not known in closed form. Known are presets.distance, epanechnikov, hybrid, von_mises_fisher and log_sum_exp.")


def _log_kernel(separation: Separation, beta: float, dim: int) -> float:
    """``log ∫ F(−½β‖x‖²) dx`` over R^d."""
    if isinstance(separation, Exp):
        return 0.5 * dim * math.log(2 * math.pi / beta)
    if isinstance(separation, Epanechnikov):  # the ball of radius √(2/β), on which 1 − r² averages 2/(d + 2)
        return 0.5 * dim * math.log(2 * math.pi / beta) - math.lgamma(0.5 * dim + 1) + math.log(2 / (dim + 2))
    if isinstance(separation, Blend):
        parts = (separation.share, separation.first), (1 - separation.share, separation.second)
        logs = [math.log(share) + _log_kernel(part, beta, dim) for share, part in parts]
        return max(logs) + math.log1p(math.exp(min(logs) - max(logs)))
    raise ValueError(f"The integral of {separation} over distances is not known in closed form. Known are Exp(), Epanechnikov() and a Blend of them.")


def von_mises_fisher_log_constant(dim: int, kappa: float) -> float:
    """``log C_d(κ) = (d/2 − 1) log κ − (d/2) log 2π − log I_{d/2−1}(κ)``: C_d(κ) exp(κ μ·x) is a density on the unit sphere of R^d (Mardia & Jupp 2000).

    ``dim`` ≥ 2, κ > 0, of any size. Where scipy's scaled Bessel function underflows (large d, small κ) its power series is summed in logarithms, and where
    d or κ are beyond 10⁵ its uniform expansion is taken.

    Raises:
        ValueError: a smaller dimension, a κ that is not positive and finite.
    """
    if not isinstance(dim, int) or dim < 2 or not 0 < kappa < math.inf:
        raise ValueError(f"A von Mises–Fisher density needs dim ≥ 2 and a positive finite kappa, got dim={dim!r}, kappa={kappa!r}.")
    order = 0.5 * dim - 1
    return order * math.log(kappa) - 0.5 * dim * math.log(2 * math.pi) - _log_bessel(order, kappa)


def _log_bessel(order: float, kappa: float) -> float:
    """``log I_ν(κ)``"""
    if math.hypot(order, kappa) > LARGE:
        return _log_bessel_uniform(order, kappa)
    from scipy.special import ive

    scaled = float(ive(order, kappa))
    return math.log(scaled) + kappa if scaled > 1e-290 else _log_bessel_series(order, kappa)


def _log_bessel_uniform(order: float, kappa: float) -> float:
    """``log I_ν(κ) ≈ t − ν asinh(ν/κ) − ½ log 2πt + log(1 + (3 − 5p²)/24t + (81 − 462p² + 385p⁴)/1152t²)``, t = √(ν² + κ²), p = ν/t (DLMF 10.41.3): the
    next term is of order t⁻³, for every ν ≥ 0."""
    length = math.hypot(order, kappa)
    square = (order / length) ** 2
    corrections = (3 - 5 * square + (81 - 462 * square + 385 * square**2) / (48 * length)) / (24 * length)
    return length - order * math.asinh(order / kappa) - 0.5 * math.log(2 * math.pi * length) + math.log1p(corrections)


def _log_bessel_series(order: float, kappa: float) -> float:
    """``log I_ν(κ) = log Σ_k (κ/2)^(2k+ν)/(k! Γ(ν+k+1))``; the terms peak at k ≈ ½(√(ν² + κ²) − ν)."""
    import numpy as np
    from scipy.special import gammaln

    peak = 0.5 * (math.hypot(order, kappa) - order)
    k = np.arange(math.ceil(peak + 20 * math.sqrt(peak) + 60))
    return float(np.logaddexp.reduce((2 * k + order) * math.log(0.5 * kappa) - gammaln(k + 1) - gammaln(order + k + 1)))
