"""Sequences packed one after another: laid side by side for the computation, and back."""

from __future__ import annotations

import torch
from torch import Tensor


def packed(cu_seqlens: Tensor, total: int, tensors: dict[str, tuple[Tensor | None, int]]) -> tuple[dict[str, Tensor | None], Tensor]:
    """Tensors whose given axis holds all tokens, as (sequences, ...) with that axis as long as the longest, and which places are no padding.

    Raises:
        ValueError: boundaries that do not fit the sequence.
    """
    _check(cu_seqlens, total)
    index, inside = _places(cu_seqlens)

    def laid(tensor: Tensor | None, axis: int) -> Tensor | None:
        if tensor is None:
            return None
        first = tensor.movedim(axis, 0)
        return first.expand(total, *first.shape[1:])[index].movedim(1, axis)

    return {name: laid(*each) for name, each in tensors.items()}, inside


def unpacked(output: Tensor, cu_seqlens: Tensor) -> Tensor:
    """(sequences, ..., longest, v) -> (..., total, v)"""
    return output.movedim(-2, 1)[_places(cu_seqlens)[1]].movedim(0, -2)


def _places(cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """Where the tokens of every sequence lie, (sequences, longest), and which of these places it fills."""
    length = cu_seqlens.diff().unsqueeze(-1)
    place = torch.arange(int(length.max()), device=cu_seqlens.device)
    inside = place < length
    return torch.where(inside, cu_seqlens[:-1].unsqueeze(-1) + place, 0), inside


def _check(cu_seqlens: Tensor, total: int) -> None:
    if not isinstance(cu_seqlens, Tensor) or cu_seqlens.ndim != 1 or cu_seqlens.is_floating_point() or cu_seqlens.dtype == torch.bool or len(cu_seqlens) < 2:
        came = f"{cu_seqlens.dtype} {tuple(cu_seqlens.shape)}" if isinstance(cu_seqlens, Tensor) else type(cu_seqlens).__name__
        raise ValueError(f"cu_seqlens is an integer tensor (sequences + 1,) of boundaries, for example torch.tensor([0, 3, 10]), got {came}.")
    if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != total or bool((cu_seqlens.diff() < 0).any()):
        raise ValueError(f"cu_seqlens must rise from 0 to the number of tokens {total}, got {cu_seqlens.tolist()}.")
