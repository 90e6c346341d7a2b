"""What runs the kernels: a GPU, or Triton's interpreter on CPU tensors (``TRITON_INTERPRET=1``, set before the first use)."""

from __future__ import annotations

import torch
import triton
from triton import knobs

EMULATED: bool = bool(knobs.runtime.interpret)
"""Whether kernels are interpreted: decided when this module is imported, as Triton decides it when a kernel is defined."""


def precision(dtype: torch.dtype) -> str:
    """Precision of matrix products: float32 by three tf32 products (or one, where ``torch.set_float32_matmul_precision`` allows it)."""
    if EMULATED:
        return "ieee"
    return "tf32x3" if dtype == torch.float32 and _exact() else "tf32"


def _exact() -> bool:
    """Whether float32 products keep float32's precision; torch has an older and a newer switch, and refuses to read one after the other was set."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:
        return torch.backends.cuda.matmul.fp32_precision != "tf32"


def processors(device: torch.device) -> int:
    """How many programs run at once."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def capability(device: torch.device) -> int:
    """Compute capability, 90 for 9.0 (also where there is no GPU)."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def _patched_interpreter() -> None:
    """Triton up to 3.7 cannot take a loop bound from numpy 2.4, where arrays of one element stopped being numbers."""
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.reshape(-1)[0]))

    interpreter._patch_lang_tensor = patched


if EMULATED and tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8):
    _patched_interpreter()
