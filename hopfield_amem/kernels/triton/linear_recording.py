"""What a linear memory would launch on a GPU, written down instead of launched."""

from __future__ import annotations

import torch

from . import linear_launch
from .linear_operands import Linear
from .recording import Launch, recorded


def linear_launches(given: Linear, arch: int = 90) -> list[Launch]:
    """What a linear memory and its gradients would launch."""
    with recorded(arch) as found:
        output, final, written, states = linear_launch.forward(given)
        linear_launch.backward(given, (output if output.numel() else None, final, written), written, states)
    return found


def linear_operands(
    width: int = 64, columns: int | None = None, rows: int = 4096, batch: int = 4, heads: int = 8, group: int = 1, dtype: torch.dtype = torch.bfloat16,
    decay: str = "scalar", erases: bool = True, tied: bool = True, rated: bool = True,
) -> Linear:  # fmt: skip
    """A linear memory without numbers, on the meta device. ``decay``: "" for none, "scalar", or "channel"."""

    def empty(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(batch, *shape, dtype=dtype, device="meta")

    single = torch.float32
    return Linear(
        query=empty(heads * group, rows, width),
        keys=empty(heads, rows, width),
        values=empty(heads, rows, columns or width),
        write_rate=empty(heads, rows, dtype=single) if rated else None,
        erase_rate=empty(heads, rows, dtype=single) if erases else None,
        erase=None if tied else empty(heads, rows, width),
        decay=empty(heads, rows, width if decay == "channel" else 1, dtype=single) if decay else None,
        state=empty(heads, width, columns or width, dtype=single),
    )
