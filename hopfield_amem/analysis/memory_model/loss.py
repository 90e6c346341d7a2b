"""The lower bound on the cross-entropy, as it is printed and as it is when the layer's energy and its density are kept apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..estimate import Estimate

SOURCE = "arXiv 2405.08707, §5"
SHARED = "the loss is −log density of whole sequences of latents, not the token-level cross-entropy; patterns well separated, validation a subset of training"


@dataclass(frozen=True)
class LossBound:
    """What ``log Z_t`` says about the loss. Both are heuristics; their assumptions say which step is missing.

    Attributes:
        printed: ``log Z + 1/Z ≥ 1``, least at Z = 1.
        consistent: ``log Z``, without a lower bound: a differential entropy may be negative.
    """

    printed: Estimate
    consistent: Estimate


def loss_bound(log_partition: float) -> LossBound:
    """The loss of a layered memory from ``log Z_t``, as printed and in its consistent form (Niu et al. 2024, arXiv 2405.08707, §5).

    The printed ``L ≈ log Z + 1/Z`` takes ``E_t(ρ) = 1/Z`` from writing the layer's *energy* as its *normalised density*, ``E_t = exp(−g_t)/Z``, and yet
    ``Z = ∫ exp(−g_t)`` for the normaliser of ``exp(−E_t)``. With ``E_t = g_t`` in both places a pattern has energy 0, and L = log Z.

    Args:
        log_partition: ``log Z_t``, for example ``log d + ball_partition(n, r).log_value``.

    Raises:
        ValueError: a logarithm that is NaN or infinite.
    """
    if not math.isfinite(log_partition):
        raise ValueError(f"log Z must be a finite number, got {log_partition!r}. Give its logarithm: Z itself under- or overflows.")
    inverse = math.exp(-log_partition) if log_partition > -700 else math.inf
    value = log_partition + inverse
    printed = Estimate(
        value, assumption=f"the layer's energy taken for its density; {SHARED}", kind="heuristic", success="ε-close", reference=SOURCE,
        log_value=math.log(value) if value < math.inf else -log_partition,
    )  # fmt: skip
    consistent = Estimate(log_partition, assumption=SHARED, kind="heuristic", success="ε-close", reference=f"{SOURCE}, with E_t = g_t throughout")
    return LossBound(printed, consistent)
