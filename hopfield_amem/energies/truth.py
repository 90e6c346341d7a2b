"""Reading the truth of a condition: only where a value can be read at all, which is not while tracing or under vmap."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch._C import _functorch  # type: ignore[attr-defined]


def settled(condition: Tensor) -> bool:
    """Whether the condition holds everywhere; False where that cannot be read."""
    return _read(condition.all(), False)


def finished(condition: Tensor) -> bool:
    """Whether the condition holds everywhere, in every sample of a vmap: only for loops that then stop. False where that cannot be read."""
    if torch.compiler.is_compiling():
        return False
    while _functorch.is_batchedtensor(condition) or _functorch.is_gradtrackingtensor(condition):
        condition = _functorch.get_unwrapped(condition)
    return settled(condition)


def decided(condition: Tensor) -> bool | None:
    """The truth of a condition on any device; None where it cannot be read."""
    return None if torch.compiler.is_compiling() or condition.device.type == "meta" else _truth(condition)


def readable(condition: Tensor, otherwise: bool) -> bool:
    """The truth of a condition where reading is cheap; ``otherwise`` where it cannot be read, or costs a GPU's synchronisation."""
    return otherwise if condition.device.type != "cpu" else _read(condition, otherwise)


def known(condition: bool) -> bool:
    """The truth of a condition on sizes; False where a traced size may be any, so that one graph serves them all."""
    if not torch.compiler.is_compiling():
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)


def autocasting(device: torch.device) -> bool:
    """Whether autocast is on; there is none on the meta device."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Autocast off, where it is on: the computation keeps the dtypes of its inputs."""
    return torch.autocast(tensor.device.type, enabled=False) if autocasting(tensor.device) else nullcontext()


def _read(condition: Tensor, otherwise: bool) -> bool:
    if torch.compiler.is_compiling():
        return otherwise
    found = _truth(condition)
    return otherwise if found is None else found


def _truth(condition: Tensor) -> bool | None:
    try:
        return bool(condition)
    except RuntimeError:
        return None
