"""What is proved and argued about outer-product memories: exponents, bounds, overflow (Cabannes, Dohmatob & Bietti 2024, arXiv 2310.02984)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..estimate import Estimate
from . import doors

PAPER = "arXiv 2310.02984"


def scaling_exponent(alpha: float, rho: float, thresholded: bool = False, classes: float = 5) -> Estimate:
    """s of ``𝓔 ∝ d^−s`` for infinite data and fixed M and N, from when an input is recalled: its own ``q(x)`` above what others add to a score.

    Few classes (M ≪ d): ``d q(x)² ≳ max_y Σ_{f(x)=y} q(x)²``, the condition of Theorem 1. With q = p^ρ:

        2αρ > 1            s = (α − 1)/(2αρ)
        2αρ ≤ 1            the same s, of ``𝓔 ∝ (d N^(2αρ−1))^−s``: it overflows as N → ∞.  ρ = 0: s = 0
        P ∝ d inputs only  s = (α − 1)/max(1, 2αρ)

    As many classes as inputs (M = N, ``classes=math.inf``): no two inputs share a class, so that ``d² q(x)² ≳ Σ q²`` and ``d q(x)² ≳ q(1)²``, the one
    strongest competitor. Thresholds then keep P ∝ d² inputs: ``s = (α − 1)/max(½, 2αρ)``, twice the above for ρ = 0. Without a threshold and with
    2αρ > 1 the strongest competitor decides and s is as above; with 2αρ ≤ 1 there is no one power of d.

    Only these two ends are told apart: every finite M counts as few, M ≪ d, and gives the same exponent, also where M > d and neither end is reached.

    An argument, up to logarithms. At ρ = 1 and for thresholds at ρ = 0 it is the rate that arXiv 2310.02984 proves.

    Args:
        alpha: of Zipf's law, above 1.
        rho: the power of q = p^ρ, at least 0.
        thresholded: whether only the most frequent inputs are stored, P ∝ d of them (M ≪ d) or P ∝ d² (M = N), with a margin.
        classes: M, at least 2, of which nothing matters but whether it is finite: M ≪ d; ``math.inf`` for as many as inputs.

    Raises:
        ValueError: α ≤ 1, a negative ρ, fewer than two classes, M = N with 2αρ ≤ 1 and all inputs stored.
    """
    doors.tail(alpha)
    doors.power(rho)
    if not classes >= 2:
        raise ValueError(f"classes must be at least 2, math.inf for as many as inputs; got {classes!r}.")
    slope, many = 2 * alpha * rho, classes == math.inf
    if thresholded:
        exponent = (alpha - 1) / max(0.5 if many else 1.0, slope)
    elif many and slope <= 1:
        raise ValueError(
            f"With as many classes as inputs and 2αρ = {slope:.3g} ≤ 1 the error is no one power of d. Store the most frequent only (thresholded)."
        )
    else:
        exponent = (alpha - 1) / slope if rho else 0.0
    stored = f"the {'d²' if many else 'd'}/const most frequent inputs" if thresholded else "all inputs"
    return Estimate(
        exponent, assumption=f"infinite data, q = p^{rho:g} on {stored}, {'M = N' if many else 'M fixed and much below d'}, up to logarithms",
        kind="heuristic", success="argmax", reference=PAPER,
    )  # fmt: skip


def overflow_dimension(inputs: int, share: float) -> Estimate:
    """``d = N p_*/3 − 1``: up to this width, ``3(d + 1) ≤ N p_*``, a memory that stores all N inputs alike (q = 1) errs on at least 1/20 of the mass.

    The lower bound of Theorem 1 then counts every input. It says no more than ``𝓔 ≥ 1/20``: part of the inputs is recalled well below this width, and the
    error there is between that and chance.

    Args:
        inputs: N.
        share: p_*, the largest share of the inputs that one class has, in (0, 1]; 1/M for equal classes.

    Raises:
        TypeError, ValueError: fewer than one input, a share outside (0, 1].
    """
    doors.count(inputs, "inputs")
    if not 0 < share <= 1:
        raise ValueError(f"share is the part of the inputs that the largest class has, in (0, 1]; got {share!r}.")
    return Estimate(
        max(inputs * share / 3 - 1, 0.0),
        assumption="q = 1 for all inputs; expected error at least 1/20 up to this width; constants 3 and 1/20 recalled, not confirmed in print",
        kind="heuristic", success="argmax", reference=f"{PAPER}, Theorem 1",
    )  # fmt: skip


def recall_error_bounds(probability: Tensor, weights: Tensor, labels: Tensor, dim: int) -> tuple[Estimate, Estimate]:
    """Theorem 1 as it is recalled: between what and what the expected error of storage weights q lies. -> (lower, upper), at most 1

        lower  (1/20) · p{x : 3(d + 1) q(x)² ≤ Q_∞}
        upper  inf_γ 2d^−γ + p{x : d q(x)² ≤ 16 c_γ (Q_∞ + 8 c_γ ‖q‖²/d)},    c_γ = log M + γ log d

    **The constants 16, 8 and 1/20 are recalled, not read**: the paper's text was not at hand. With them the bounds are heuristics, which hold wherever
    they were tried. The infimum is taken over 400 γ in [0, 8], which can only raise the bound; an upper bound above 1 is given as 1.

    Args:
        probability: p, (N,).
        weights: q, (N,), at least 0, not all 0.
        labels: f, (N,), whole numbers from 0; M is the largest and one, whether all of them have inputs or not.
        dim: d.

    Raises:
        TypeError, ValueError: no distribution, weights or classes that do not fit, nothing stored, d < 1.
    """
    doors.distribution(probability)
    doors.storage(weights, labels)
    doors.count(dim, "dim")
    if weights.ndim != 1 or len(weights) != len(probability) or (weights < 0).any() or not (weights > 0).any():
        raise ValueError("Storage weights must be (N,), as the probabilities, not negative, and not all 0.")
    p, signal = probability.double(), weights.double().square()
    classes = int(labels.max()) + 1
    largest = float(torch.zeros(classes, dtype=signal.dtype).index_add_(0, labels, signal).max())
    lower = float(p[3 * (dim + 1) * signal <= largest].sum()) / 20
    gamma = torch.linspace(0, 8, 400, dtype=torch.float64)
    spread = math.log(classes) + gamma * math.log(dim)
    level = 16 * spread * (largest + 8 * spread * float(signal.sum()) / dim)
    strength, order = signal.sort()
    mass = torch.cat([p.new_zeros(1), p[order].cumsum(0)])  # of the inputs stored at most so strongly
    missed = mass[torch.searchsorted(dim * strength, level, right=True)]
    upper = min(float((2 * dim**-gamma + missed).min()), 1.0)
    note = f"expected over random embeddings, d = {dim}; constants recalled, not confirmed in print"
    return tuple(Estimate(value, assumption=note, kind="heuristic", success="argmax", reference=f"{PAPER}, Theorem 1") for value in (lower, upper))  # type: ignore[return-value]
