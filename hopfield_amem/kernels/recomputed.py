"""Parts of a read that are computed again for its gradient, so that nothing of them is kept in between; of tensors that are what they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Given = TypeVar("Given")
Found = TypeVar("Found")


def recomputed(function: Callable[[Given], Found], given: Given, read: Mapping[str, object]) -> Found:
    """``function(given)``, computed again where a gradient is asked for. ``read`` names the tensors that it reads; other objects there are passed over.

    Raises:
        RuntimeError: in ``backward``, where one of them was written to since, as autograd does of a tensor that it saved. (As there, what leaves no
            trace goes unseen: writing to ``.data``, and steps of fused optimizers.)
    """
    if not torch.is_grad_enabled():
        return function(given)
    tensors = {name: (tensor, version(tensor)) for name, tensor in read.items() if isinstance(tensor, Tensor)}

    def unchanged(given: Given) -> Found:
        for name, (tensor, before) in tensors.items():
            if version(tensor) != before:
                raise RuntimeError(
                    f"{name} was changed in place between a read and its gradient, for which it is read again. Call backward() before an optimizer step "
                    f"or whatever else writes to it, or read from {name}.clone()."
                )
        return function(given)

    return checkpoint(unchanged, given, use_reentrant=False, preserve_rng_state=False)  # type: ignore[return-value]


def version(tensor: Tensor) -> int | None:
    """What changes when a tensor is written to; None for tensors of inference mode, which do not count."""
    return None if tensor.is_inference() else tensor._version
