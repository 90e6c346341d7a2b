"""Scores among slots of which some are deleted: presence 0 takes a slot out, without gradient, whatever its score.

Everywhere scores are (..., q, n), and the presence is broadcastable to them, with values in [0, 1], or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def has_slot(score: Tensor, presence: Tensor | None) -> Tensor:  # (..., q)
    if presence is None:
        return torch.full(score.shape[:-1], score.shape[-1] > 0, device=score.device)
    there = (presence > 0).expand(*presence.shape[:-1], score.shape[-1]).any(-1)
    return there.expand(score.shape[:-1])


def largest(score: Tensor, presence: Tensor | None) -> Tensor:  # (..., q)
    """The largest score of a slot that is there, without gradient; 0 for rows that hold none."""
    if score.shape[-1] == 0:
        return score.detach().sum(-1)
    top = kept(score.detach(), presence, -math.inf).amax(-1)
    return torch.where(top == -math.inf, 0.0, top)


def kept(score: Tensor, presence: Tensor | None, fill: float) -> Tensor:
    """The scores, with ``fill`` in place of those of deleted slots."""
    return score if presence is None else torch.where(presence > 0, score, fill)


def masked(function: Callable[[Tensor], Tensor], score: Tensor, presence: Tensor | None) -> Tensor:
    """``a · f(s)``, exactly 0 and without gradient where the presence a is 0, whatever f does to that score."""
    if presence is None:
        return function(score)
    term = function(kept(score, presence, 0.0))
    return torch.where(presence > 0, term if presence.dtype == torch.bool else presence * term, 0.0)
