"""First derivatives of functions of tensors, in a form that composes with every other transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def vjp(function: Callable[..., Any], *primals: Tensor) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """The value of a function and the map from cotangents of the value to gradients of the arguments."""
    value, pullback, *_ = torch.func.vjp(function, *primals)
    return value, pullback


def jvp(function: Callable[..., Any], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> tuple[Any, Any]:
    """The value of a function and its derivative along the tangents."""
    value, moved, *_ = torch.func.jvp(function, primals, tangents)
    return value, moved


def slope(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """The derivative of an elementwise function, or the gradient of every one of several independent scalars."""
    value, pullback = vjp(function, point)
    return pullback(torch.ones_like(value))[0]


def elementwise(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """The derivative of an elementwise function.

    Forward mode among hooks on saved tensors (``checkpoint(use_reentrant=False)``, ``save_on_cpu``), where ``torch.func`` refuses reverse mode; also while
    a graph is traced, which does not tell whether it will run among such hooks, and where ``torch.export`` makes constants of what reverse mode returns.
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return _forward(function, point)
    try:
        return slope(function, point)
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        return _forward(function, point)


def _forward(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    return jvp(function, (point,), (torch.ones_like(point),))[1]
