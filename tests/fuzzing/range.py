"""Whether the operations of a run leave the range of a dtype."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class Range(TorchDispatchMode):
    """Looks for operations on finite numbers that are infinite in a dtype and finite in float64."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.left = dtype, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        wide = tree_map(self._widened, (args, kwargs or {}))
        result = called(func, args, kwargs or {})
        if not self.left and self._infinite(result) and not any(t.isinf().any() for t in tree_leaves(wide) if isinstance(t, Tensor)):
            self.left = not self._infinite(called(func, *wide))
        return result

    def _widened(self, part):
        """A copy in float64, made before an operation may write into what it was given."""
        if isinstance(part, Tensor):
            return part.double() if part.is_floating_point() else part.clone()
        return torch.float64 if part == self.dtype else part

    def _infinite(self, result) -> bool:
        return any(bool(t.isinf().any()) for t in tree_leaves(result) if isinstance(t, Tensor) and t.dtype in (self.dtype, torch.float64))


def called(operation: Callable, args: tuple, named: dict) -> object:
    """What an operation gives. One that is not torch's own may call ``torch.func``, which does not work in a thread whose operations are watched."""
    if operation.namespace in ("aten", "prims"):
        return operation(*args, **named)

    def apart() -> object:
        with torch.no_grad():
            return operation(*args, **named)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(apart).result()
