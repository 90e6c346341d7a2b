"""Data with a heavy tail: inputs drawn by Zipf's law, each with one class to be recalled (Cabannes, Dohmatob & Bietti 2024, arXiv 2310.02984)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import doors


def zipf(inputs: int, alpha: float, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """``p(x) = x^−α / Σ_{x'≤N} x'^−α`` for x = 1 … N, the commonest first. -> (N,)

    Raises:
        TypeError, ValueError: fewer than one input, an α that is negative or not finite.
    """
    doors.count(inputs, "inputs")
    if not (isinstance(alpha, (int, float)) and 0 <= alpha < math.inf):
        raise ValueError(f"alpha, the exponent of Zipf's law, must be finite and at least 0, got {alpha!r}.")
    weight = (torch.arange(inputs) + 1).to(dtype) ** -alpha
    return weight / weight.sum()


@dataclass(frozen=True)
class ZipfTask:
    """N inputs with ``p(x) ∝ x^−α`` and M classes, ``f(x) = (x − 1) mod M`` for x = 1 … N.

    Raises:
        TypeError, ValueError: fewer than one input, fewer than two classes, an α that is negative or not finite.
    """

    inputs: int = 1000
    classes: int = 5
    alpha: float = 2.0

    def __post_init__(self):
        doors.count(self.classes, "classes", 2)
        zipf(1, self.alpha)
        doors.count(self.inputs, "inputs")

    @property
    def probability(self) -> Tensor:
        """p, (N,) float64."""
        return zipf(self.inputs, self.alpha)

    @property
    def labels(self) -> Tensor:
        """f, (N,)."""
        return torch.arange(self.inputs) % self.classes

    def frequencies(self, tokens: int, trials: int, *, seed: int = 0) -> Tensor:
        """How often each input occurs among T tokens, drawn anew for each trial, divided by T. -> (trials, N) float64

        Raises:
            TypeError, ValueError: fewer than one token or trial.
        """
        doors.count(tokens, "tokens")
        doors.count(trials, "trials")
        drawn = np.random.default_rng(seed).multinomial(tokens, self.probability.numpy(), size=trials)
        return torch.from_numpy(drawn).double() / tokens


def finite_data_error(probability: Tensor, tokens: int) -> float:
    """``𝓔_T = Σ p(x)(1 − p(x))^T``: what is never seen among T tokens, the error of a memory without limits. In [0, 1].

    Raises:
        TypeError, ValueError: no distribution, fewer than one token.
    """
    doors.distribution(probability)
    doors.count(tokens, "tokens")
    p = probability.double()
    return float((p * (tokens * torch.log1p(-p)).exp()).sum())


def unseen_mass(alpha: float, tokens: int) -> float:
    """``𝓔_T`` of infinitely many inputs, to rounding.

    Frequent inputs are summed one by one. From the rank on where T p(x) < 1/8 the binomial series of ``(1 − p)^T`` is summed over
    all ranks by Hurwitz's ζ: ``Σ_k (T choose k)(−1)^k ζ(α(k + 1), rank)/ζ(α)^(k + 1)``.

    Raises:
        TypeError, ValueError: α ≤ 1, fewer than one token.
    """
    doors.tail(alpha)
    doors.count(tokens, "tokens")
    from scipy.special import binom, zeta

    total = float(zeta(alpha))
    rank = int((8 * tokens / total) ** (1 / alpha)) + 1
    if rank > 10**8:
        raise ValueError(f"T = {tokens} tokens reach {rank} inputs one by one, more than 10⁸; use finite_data_law(alpha, tokens), exact to 1/T.")
    p = torch.arange(1, rank, dtype=torch.float64) ** -alpha / total
    head = float((p * (tokens * torch.log1p(-p)).exp()).sum())
    order = np.arange(min(tokens, 24) + 1)
    return head + float((binom(tokens, order) * (-1.0) ** order * zeta(alpha * (order + 1), rank) / total ** (order + 1.0)).sum())


def finite_data_law(alpha: float, tokens: float) -> float:
    """``𝓔_T ≈ (1/α) ζ(α)^(−1/α) Γ(1 − 1/α) T^(−1 + 1/α)``: the law that ``unseen_mass`` follows, with relative error of order 1/T.

    The exponent is that of Proposition 4 of arXiv 2310.02984; the factor is the integral of ``p e^(−Tp)`` over ranks.

    Raises:
        ValueError: α ≤ 1, tokens that are not positive.
    """
    doors.tail(alpha)
    doors.positive(tokens, "tokens")
    from scipy.special import zeta

    return float(zeta(alpha)) ** (-1 / alpha) * math.gamma(1 - 1 / alpha) / alpha * tokens ** (1 / alpha - 1)
