"""Sequences packed one after another: laid side by side for the computation, and back."""

from __future__ import annotations

import torch
from torch import Tensor


def packed(cu_seqlens: Tensor, dims: int, tensor: Tensor | None, axis: int) -> Tensor | None:
    """A tensor whose ``axis`` holds all tokens, as (sequences, ...) with that axis as long as the longest; ``dims`` is how many it may have."""
    if tensor is None:
        return None
    index, _ = places(cu_seqlens)
    first = tensor.reshape(*[1] * (dims - tensor.ndim), *tensor.shape).movedim(axis, 0)
    return first.expand(int(cu_seqlens[-1]), *first.shape[1:])[index].movedim(1, axis)


def unpacked(output: Tensor, cu_seqlens: Tensor) -> Tensor:
    """(sequences, ..., longest, v) -> (..., total, v)"""
    return output.movedim(-2, 1)[places(cu_seqlens)[1]].movedim(0, -2)


def places(cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """Where the tokens of every sequence lie, (sequences, longest), and which of these places it fills."""
    length = cu_seqlens.diff().unsqueeze(-1)
    place = torch.arange(int(length.max()), device=cu_seqlens.device)
    inside = place < length
    return torch.where(inside, cu_seqlens[:-1].unsqueeze(-1) + place, 0), inside


def boundaries(cu_seqlens: Tensor, total: int) -> Tensor:
    """The boundaries as int64.

    Raises:
        ValueError: they do not fit the sequence.
    """
    if not isinstance(cu_seqlens, Tensor) or cu_seqlens.ndim != 1 or cu_seqlens.is_floating_point() or cu_seqlens.dtype == torch.bool or len(cu_seqlens) < 2:
        came = f"{cu_seqlens.dtype} {tuple(cu_seqlens.shape)}" if isinstance(cu_seqlens, Tensor) else type(cu_seqlens).__name__
        raise ValueError(f"cu_seqlens is an integer tensor (sequences + 1,) of boundaries, for example torch.tensor([0, 3, 10]), got {came}.")
    bounds = cu_seqlens.long()
    if int(bounds[0]) != 0 or int(bounds[-1]) != total or bool((bounds.diff() < 0).any()):
        raise ValueError(f"cu_seqlens must rise from 0 to the number of tokens {total}, got {bounds.tolist()}.")
    return bounds
