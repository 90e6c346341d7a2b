"""How the update of a memory falls as its context grows, fitted, and held against the claim of 1/t."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..power_laws import PowerLaw, power_law
from ..result import Result
from .contexts import Contexts, drawn, head_width
from .learners import Learner, learners
from .trace import sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM, TOLERANCE = -1.0, 0.1
"""The exponent that is claimed, and how far from it one may be and still be called it."""

ELEMENTS = 2**22  # answers alive at once


@dataclass(frozen=True)
class UpdateCurve:
    """What tokens change in one memory.

    Attributes:
        memory: its name.
        width: of keys and values, all heads together.
        heads: among which they are split.
        times: tokens t that were looked at.
        update: ``‖ΔW_t‖``, (contexts, points).
        level: ``‖W_t‖``.
        error: ``‖W_t − W*‖²``, W* the limit of the memory (``Learner.limit``).
        fit: ``‖ΔW_t‖ ∝ t^exponent``, the interval by bootstrap over contexts; None where nothing was updated at some of the times, and there is no law.
    """

    memory: str
    width: int
    heads: int
    times: Tensor
    update: Tensor
    level: Tensor
    error: Tensor
    fit: PowerLaw | None

    @property
    def relative(self) -> float | None:
        """The exponent of ``‖ΔW_t‖/‖W_t‖``; None where one of them vanishes."""
        return _exponent(self.times, self.update / self.level)

    @property
    def approach(self) -> float | None:
        """The exponent of ``‖W_t − W*‖²``: −1 where an average is on its way to W*, above where that is not (yet) where it goes."""
        return _exponent(self.times, self.error)

    @property
    def holds(self) -> bool | None:
        """Whether the update falls as 1/t: True where the interval of the exponent lies within 0.1 of −1, False where none of it does or there is no law.

        None where the interval reaches across: more contexts decide.
        """
        if self.fit is None:
            return False
        low, high = (end - CLAIM for end in self.fit.interval)
        if low >= -TOLERANCE and high <= TOLERANCE:
            return True
        return False if high < -TOLERANCE or low > TOLERANCE else None

    @property
    def verdict(self) -> str:
        """``holds`` in a word: "yes", "no", "unclear", or "no law" without a fit."""
        return "no law" if self.fit is None else {True: "yes", False: "no", None: "unclear"}[self.holds]


def _exponent(times: Tensor, size: Tensor) -> float | None:
    """Slope of log-log least squares of the means over contexts; None where a mean is not positive and finite."""
    if not _has_law(size):
        return None
    return float(np.polyfit(np.log(times.numpy()), np.log(size.mean(0).numpy()), 1)[0])


def _has_law(size: Tensor) -> bool:
    """Whether the means over contexts have a logarithm. (contexts, points)"""
    return bool(size.isfinite().all() and (size.mean(0) > 0).all())


@dataclass(frozen=True)
class InContextUpdates(Result):
    """Updates of several memories, widths and numbers of heads as the context grows."""

    curves: tuple[UpdateCurve, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [_row(curve) for curve in self.curves]

    def plot(self) -> Figure:
        from ..plots.icl import updates

        return updates(self)


def _row(curve: UpdateCurve) -> dict[str, Any]:
    exponent, (low, high) = (None, (None, None)) if curve.fit is None else (curve.fit.exponent, curve.fit.interval)
    return {
        "memory": curve.memory, "width": curve.width, "heads": curve.heads, "exponent": exponent, "low": low, "high": high, "1/t": curve.verdict,
        "relative exponent": curve.relative, "error exponent": curve.approach,
    }  # fmt: skip


def in_context_updates(
    memories: Mapping[str, Learner] | Callable[[int], Mapping[str, Learner]] = learners, *, widths: Sequence[int] = (8,), heads: Sequence[int] = (1,),
    contexts: Contexts | None = None,
) -> InContextUpdates:  # fmt: skip
    """The update ``ΔW_t`` that token t brings to a memory, against t: does ever more context teach ever less?

    The claim of "Understanding Transformer from the Perspective of Associative Memory" (arXiv 2505.19488, §2.2.2), as reconstructed: the normalised memory of
    softmax attention is a running mean, ``S_t = S_{t−1} + (v_t φ(k_t)ᵀ − S_{t−1})/t``, so that token t moves it by O(1/t) and it converges to
    ``S* = E[v φ(k)ᵀ]``, a fixed function of the query. What is measured is the memory as fixed probes see it, ``W_t q = S_t φ(q)``, which needs no features.

    Args:
        memories: name -> learner; or what makes them for the width of one head.
        widths: of keys and values.
        heads: into how many equal slices they are split.
        contexts: the task and how much of it; None: ``Contexts()``, 64 contexts of 4,096 tokens, some minutes on one core.

    Raises:
        ValueError: no memory, width or head; widths that are no positive multiples of the heads; a memory whose growing reads are no prefix sums.
    """
    contexts = Contexts() if contexts is None else contexts
    if not len(widths) or not len(heads):
        raise ValueError("in_context_updates needs at least one width and one number of heads.")
    curves = []
    for width in widths:
        for split in heads:
            named = memories if isinstance(memories, Mapping) else memories(head_width(width, split))
            curves += [_curve(name, learner, (width, split), contexts) for name, learner in named.items()]
    if not curves:
        raise ValueError("in_context_updates needs at least one memory.")
    return InContextUpdates(tuple(curves))


def _curve(name: str, learner: Learner, shape: tuple[int, int], contexts: Contexts) -> UpdateCurve:
    width, heads = shape
    head_width(width, heads)
    together = max(1, ELEMENTS // (contexts.probes * contexts.length * width))
    parts = [slice(first, first + together) for first in range(0, contexts.count, together)]
    found = [sizes(learner, drawn(contexts, width, heads, part), contexts.times) for part in parts]
    update, level, error = (torch.cat(columns) for columns in zip(*found, strict=True))
    fit = power_law(contexts.times, update) if _has_law(update) else None
    return UpdateCurve(name, width, heads, contexts.times, update, level, error, fit)
