"""Rotary positions: keys and queries turn with their place, so that their product knows the distance (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, position: Tensor, base: float) -> Tensor:
    """Turn the pair ``(x_i, x_{i+d/2})`` by ``position · base^(−2i/d)``; lengths stay. (..., T, d), (T,) -> (..., T, d)"""
    half = x.shape[-1] // 2
    wide = torch.promote_types(x.dtype, torch.float32)
    frequency = base ** -(torch.arange(half, device=x.device, dtype=wide) / half)
    angle = position.to(wide).unsqueeze(-1) * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
