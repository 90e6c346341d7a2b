"""What retrieval weights say about a memory: how many slots answer a query, how clearly, and against how much noise.

Every function takes one row per query, (..., q, n), and returns one number per query, (..., q). Weights need not sum to one: only
their ratios count. A row without any weight retrieves nothing: 0 slots, no noise to speak of (NaN).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CLASSES = {
    1: "I: very large metastable state, or the global average",
    2: "II: large metastable state",
    3: "III: medium metastable state",
    4: "IV: small metastable state, or a single pattern",
}
"""The operating classes of Ramsauer et al. 2020 (arXiv 2008.02217, section 4, "Analysis of transformer and BERT models")."""


def effective_slots(weights: Tensor) -> Tensor:
    """``(Σ|p|)² / Σp²``, for weights that sum to one ``1/Σp²``: the participation ratio, in [1, n]; 0 for a row without weight. (..., q, n) -> (..., q)

    Raises:
        TypeError, ValueError: weights that are not floating point, or have no dimension of slots.
    """
    _check(weights, "weights")
    ratio = _ratios(weights)
    return ratio.sum(-1).square() / ratio.square().sum(-1).clamp_min(1)


def metastable_size(weights: Tensor, mass: float = 0.9) -> Tensor:
    """k, the least number of slots whose weights add up to ``mass`` of the whole: the size of the metastable state. (..., q, n) -> (..., q), integer

    Ramsauer et al. 2020 (arXiv 2008.02217, section 4) take 0.90. What rounding leaves open, one millionth, counts as reached.

    Raises:
        TypeError, ValueError: as ``effective_slots``; a mass outside (0, 1].
    """
    _check(weights, "weights")
    if not 0 < mass <= 1:
        raise ValueError(f"mass is the share of the weight to be reached, in (0, 1]; got {mass!r}.")
    largest = _sorted(_ratios(weights)).flip(-1)
    reached = largest.cumsum(-1)
    short = reached < mass * (1 - 1e-6) * reached[..., -1:]
    return torch.where(largest[..., 0] > 0, 1 + short[..., :-1].sum(-1), 0)


def metastable_class(size: Tensor, slots: Tensor) -> Tensor:
    """The class of a metastable state of k slots among N: 1 for ``N/2 < k``, 2 for ``N/8 < k``, 3 for ``N/32 < k``, else 4; see ``CLASSES``.

    The bounds are those of Ramsauer et al. 2020 (arXiv 2008.02217, section 4), who look at N = 512 tokens. Below 32 slots no k would
    be small by them; a single slot, k = 1, is therefore in class 4 whatever N. The rule is monotone in k, so that for a common N
    the class of the median k, which is the paper's class of a head, is the median of the classes.

    Integer tensors that broadcast to one another. 0 where k is 0.
    """
    larger = (size * 32 > slots).to(torch.long) + (size * 8 > slots) + (size * 2 > slots)
    return torch.where(size > 1, 4 - larger, 4 * size.clamp(0, 1))


def retrieval_noise(weights: Tensor) -> Tensor:
    """``SNR⁻¹ = Σ_{μ≠*} p_μ² / p_*²``, the noise that the other slots add to what the heaviest slot * answers, in [0, n − 1]. (..., q, n) -> (..., q)

    The expectation of ``|Σ_{μ≠*} p_μ v_μ|² / |p_* v_*|²`` over independent values of mean 0 and one length: the retrieval SNR of "Understanding
    Transformer from the Perspective of Associative Memory" (arXiv 2505.19488, section 2.1), with the query's own kernel values in
    the place of their expectation over random keys. What normalises the weights cancels. NaN for a row without weight.

    Raises:
        TypeError, ValueError: as ``effective_slots``.
    """
    _check(weights, "weights")
    total = _ratios(weights).square().sum(-1)
    return torch.where(total == 0, torch.nan, (total - 1).clamp_min(0))


def score_margin(scores: Tensor, presence: Tensor | None = None) -> Tensor:
    """``βΔ``: the largest score minus the second largest among the slots that are present. (..., q, n) -> (..., q)

    Δ is Ramsauer et al.'s separation, seen from the query (arXiv 2008.02217, section 2, before Theorem 4); in units of 1/β, so that the nearest slot
    outweighs the second ``e^(βΔ)`` times when weights are exponential. NaN for a row with fewer than two slots.

    Args:
        presence: boolean, broadcastable to the scores; None is all.

    Raises:
        TypeError, ValueError: as ``effective_slots``.
    """
    _check(scores, "scores")
    if presence is not None:
        scores = torch.where(presence, scores, -torch.inf)
    if scores.shape[-1] < 2:
        return scores.new_full(scores.shape[:-1], torch.nan)
    first, second = scores.topk(2, -1).values.unbind(-1)
    return torch.where(second == -torch.inf, torch.nan, first - second)


def active_slots(activation: Tensor, threshold: float = 0.01) -> Tensor:
    """Which slots of a feed-forward memory answer: ``|a| > threshold · max |a|``. (..., m) -> (..., m), boolean

    Args:
        activation: what multiplies the values, (..., m): the input of a block's second projection.
        threshold: in [0, 1), relative to the row's largest. 0 counts every slot that is not exactly 0, the rule for ReLU.

    Raises:
        TypeError, ValueError: as ``effective_slots``; a threshold outside [0, 1).
    """
    _check(activation, "activation")
    check_threshold(threshold)
    return activation.abs() > threshold * activation.abs().amax(-1, keepdim=True)


def check_threshold(threshold: float) -> None:
    """Raise ValueError where a threshold of ``active_slots`` is outside [0, 1)."""
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is relative to the largest activation, in [0, 1); got {threshold!r}.")


def _ratios(weights: Tensor) -> Tensor:
    """|p| / max |p|, 0 where there is none, in float32 at least."""
    size = weights.abs().to(torch.promote_types(weights.dtype, torch.float32))
    top = size.amax(-1, keepdim=True)
    return size / torch.where(top == 0, 1.0, top)


def _sorted(rows: Tensor) -> Tensor:
    """Ascending. On a CPU by numpy, four times as fast as torch, which keeps the indices as well."""
    return torch.from_numpy(np.sort(rows.detach().numpy(), -1)) if rows.device.type == "cpu" else rows.sort(-1).values


def _check(rows: Tensor, name: str) -> None:
    if not rows.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {rows.dtype}.")
    if rows.ndim == 0 or rows.shape[-1] == 0:
        raise ValueError(f"{name} must hold one number per slot in their last dimension, at least one; got shape {tuple(rows.shape)}.")
