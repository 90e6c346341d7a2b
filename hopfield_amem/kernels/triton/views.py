"""Tensors as templates take them: a pointer and strides, rows contiguous."""

from __future__ import annotations

from torch import Tensor


def view(tensor: Tensor) -> tuple:
    """A (batch, heads, rows, width) tensor as templates take it."""
    tensor = rowwise(tensor)
    return tensor, tensor.stride(0), tensor.stride(1), tensor.stride(2)


def rowwise(tensor: Tensor) -> Tensor:
    """Rows contiguous, and near enough that offsets inside a tile fit 32 bits."""
    near = tensor.stride(-2) * 256 < 2**31
    return tensor if near and (tensor.stride(-1) == 1 or tensor.shape[-1] == 1) else tensor.contiguous()
