"""What is known about memorised bits: the capacity law of Morris et al. 2025 (arXiv 2505.24832), its membership formula, and what no model can exceed."""

from __future__ import annotations

import math

from .corpus import bits_of

BITS_PER_PARAMETER = 3.54
"""α of the "expected" values in the tables of arXiv 2505.24832: the measured ones lie around it, 3.51 ± 0.1 in bfloat16 and 3.83 ± 0.1 in float32."""

LITERATURE = (3.5, 3.6)
"""Typical bits per parameter of GPT-2 models after 10⁶ steps (arXiv 2505.24832)."""


def predicted_memorization(parameters: float, sequences: float, length: int, vocabulary: int, alpha: float = BITS_PER_PARAMETER) -> float:
    """Bits ``min(n · S · log₂ V, α · parameters)`` that a model memorises of n uniform random sequences (arXiv 2505.24832, tables of S and V).

    Raises:
        ValueError: numbers that are not positive.
    """
    _check(parameters=parameters, sequences=sequences, alpha=alpha)
    return min(sequences * bits_of(vocabulary, length), alpha * parameters)


def attainable_memorization(sequences: int, length: int, vocabulary: int) -> float:
    """Bits ``k (b − log₂ k)``, ``k = min(n, 2^b/e)``, ``b = S log₂ V``: the most that any model can have memorised of n sequences against the uniform law.

    The sequences are distinct, and each is scored whole and on its own. Their probabilities sum to one at most, so that ``−Σ log₂ p_i ≥ k log₂ k`` over any
    k of them: even a model that knows them does not know which one comes next. Sequences below the uniform law count nothing (``unintended_memorization``),
    so that a model may serve k of n; all n are best while ``n ≤ 2^b/e``. Net bits, without that maximum, are ``n (b − log₂ n)`` at most.
    """
    _check(sequences=sequences)
    bits = bits_of(vocabulary, length)
    most = max(bits - math.log2(math.e), 0.0)  # log₂ of the k that is best of any number
    served = sequences if math.log2(sequences) <= most else 2.0**most
    return served * (bits - math.log2(served))


def double_descent_size(parameters: float, length: int, vocabulary: int, alpha: float = BITS_PER_PARAMETER) -> float:
    """Sequences ``α · parameters/(S log₂ V)`` whose bits are the model's capacity: from there on the loss on other data falls (arXiv 2505.24832, §4)."""
    _check(parameters=parameters, alpha=alpha)
    return alpha * parameters / bits_of(vocabulary, length)


def membership_f1(sequences: float, length: int, vocabulary: int, parameters: float) -> float:
    """F1 of telling members of the training data by their loss, ``½(1 + 1.34 σ(−0.034(r − 33.14)))``, r bits of data per parameter, at most 1.

    The formula of arXiv 2505.24832 as its own numbers have it (0.55, 0.75, 0.95 at the sizes it predicts for); with the printed argument, capacity over
    data size, F1 would rise with more data and tend to 1.006 (docs/errata.md). Fitted there to GPT-2 on text, V = 50,257 and S = 64; elsewhere an
    extrapolation. It falls to 0.5, where F1 at the best threshold (``membership``) stays at 2/3: near chance the two are not comparable.
    """
    _check(sequences=sequences, parameters=parameters)
    return membership_f1_at(sequences * bits_of(vocabulary, length) / parameters)


def membership_f1_at(ratio: float) -> float:
    """``membership_f1`` of r bits of data per parameter."""
    return min(0.5 * (1 + 1.34 / (1 + math.exp(min(0.034 * (ratio - 33.14), 700.0)))), 1.0)


def _check(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} is a positive, finite number, got {number!r}.")
