"""Euclidean distances from differences, not from products, in which near points would drown."""

from __future__ import annotations

import torch
from torch import Tensor


def distances(points: Tensor, others: Tensor) -> Tensor:
    """``‖x − y‖`` of every pair. (..., q, d), (..., n, d) -> (..., q, n)"""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
