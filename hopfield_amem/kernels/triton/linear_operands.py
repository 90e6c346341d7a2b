"""The operands of a linear memory as its templates want them, and how its chunks are cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from . import configs
from .configs import Config, padded
from .machine import EMULATED, precision
from .spec import Memory, Mode, Shape
from .views import rowwise, view

EVEN, SCALAR, CHANNEL = range(3)  # as in ``templates.linear_parts``


class Block(NamedTuple):
    """Columns of keys and of values that a program takes at once, warps, stages."""

    width: int
    columns: int
    warps: int
    stages: int


class Cut(NamedTuple):
    """Rows of a chunk, and the blocks of each kernel; the scans take all columns of the keys."""

    rows: int
    solve: Block
    scan: Block
    scan_back: Block
    outputs: Block
    outputs_back: Block
    gradients: Block


S, C = False, True
# (bytes of an element, widest vector, whether registers are short) -> how chunks are cut: a decay per channel takes many, and older GPUs multiply in them
TABLE: dict[tuple[int, int, bool], Cut] = {
    (2, 64, S): Cut(64, Block(64, 64, 4, 2), Block(64, 32, 4, 2), Block(64, 32, 8, 2), Block(64, 64, 4, 2), Block(64, 64, 4, 2), Block(64, 64, 8, 2)),
    (2, 128, S): Cut(64, Block(64, 64, 4, 2), Block(128, 32, 4, 2), Block(128, 32, 8, 2), Block(64, 64, 4, 2), Block(64, 64, 4, 2), Block(64, 64, 8, 2)),
    (2, 256, S): Cut(32, Block(64, 64, 4, 2), Block(256, 32, 4, 1), Block(256, 32, 4, 1), Block(64, 64, 4, 2), Block(64, 64, 4, 2), Block(64, 64, 8, 2)),
    (2, 64, C): Cut(32, Block(32, 64, 4, 2), Block(64, 32, 4, 2), Block(64, 32, 4, 2), Block(32, 64, 4, 2), Block(32, 64, 4, 2), Block(64, 64, 8, 1)),
    (2, 128, C): Cut(32, Block(32, 64, 4, 2), Block(128, 32, 4, 2), Block(128, 32, 4, 2), Block(32, 64, 4, 2), Block(32, 64, 4, 2), Block(64, 64, 8, 1)),
    (2, 256, C): Cut(32, Block(32, 64, 4, 2), Block(256, 32, 8, 1), Block(256, 32, 8, 1), Block(32, 64, 4, 2), Block(32, 64, 4, 2), Block(64, 64, 8, 1)),
    (4, 64, S): Cut(32, Block(32, 32, 4, 1), Block(64, 32, 4, 1), Block(64, 32, 4, 1), Block(32, 32, 4, 1), Block(32, 32, 4, 1), Block(64, 32, 8, 1)),
    (4, 128, S): Cut(16, Block(32, 32, 4, 1), Block(128, 32, 8, 1), Block(128, 32, 8, 1), Block(32, 32, 4, 1), Block(32, 32, 4, 1), Block(64, 32, 4, 1)),
    (4, 256, S): Cut(16, Block(32, 32, 4, 1), Block(256, 16, 8, 1), Block(256, 16, 8, 1), Block(32, 32, 4, 1), Block(32, 32, 4, 1), Block(64, 32, 4, 1)),
    (4, 64, C): Cut(32, Block(32, 32, 4, 1), Block(64, 16, 4, 1), Block(64, 16, 4, 1), Block(16, 32, 4, 1), Block(32, 32, 4, 1), Block(64, 16, 8, 1)),
    (4, 128, C): Cut(16, Block(32, 32, 8, 1), Block(128, 16, 8, 1), Block(128, 16, 8, 1), Block(32, 32, 8, 1), Block(32, 32, 4, 1), Block(32, 32, 8, 1)),
    (4, 256, C): Cut(16, Block(32, 32, 8, 1), Block(256, 16, 8, 1), Block(256, 16, 8, 1), Block(32, 32, 8, 1), Block(32, 32, 4, 1), Block(32, 32, 8, 1)),
}


@dataclass
class Linear:
    """Tensors of a linear memory: queries (b, g·h, t, d), keys and erase keys (b, h, t, d), values (b, h, t, v), rates (b, h, t),
    decay log γ (b, h, t, 1 or d), state (b, h, d, v). Without an erase rate nothing is erased; without erase keys the keys are."""

    query: Tensor | None
    keys: Tensor
    values: Tensor
    write_rate: Tensor | None
    erase_rate: Tensor | None
    erase: Tensor | None
    decay: Tensor | None
    state: Tensor | None

    def __post_init__(self):
        self.query = None if self.query is None else rowwise(self.query)
        self.keys, self.values = rowwise(self.keys), rowwise(self.values)
        self.erase = self.erase if self.erase is not None and self.erase_rate is not None else None
        self.erase = None if self.erase is None else rowwise(self.erase)
        flat = lambda vector: None if vector is None else vector.float().contiguous()
        self.write_rate, self.erase_rate, self.state = flat(self.write_rate), flat(self.erase_rate), flat(self.state)
        self.decay = None if self.decay is None else self.decay.float()
        if self.decay is not None:
            self.decay = self.decay.contiguous() if self.decay.shape[-1] == 1 else rowwise(self.decay)

    @property
    def width(self) -> int:
        return self.keys.shape[-1]

    @property
    def columns(self) -> int:
        return self.values.shape[-1]

    @property
    def heads(self) -> int:
        return self.keys.shape[1]

    @property
    def members(self) -> int:
        return self.keys.shape[0] * self.heads

    @property
    def group(self) -> int:
        return 1 if self.query is None else self.query.shape[1] // self.heads

    @property
    def rows(self) -> int:
        return self.keys.shape[2]

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.cut.rows)

    @property
    def channels(self) -> bool:
        """Whether decay is per channel; of one channel, decay is one number per row."""
        return self.decay is not None and self.decay.shape[-1] > 1

    @property
    def kept(self) -> torch.dtype:
        """The dtype of states between chunks: float16's range is too small for sums over a sequence."""
        return torch.float32 if self.keys.dtype == torch.float16 else self.keys.dtype

    @cached_property
    def cut(self) -> Cut:
        widest = max(padded(self.width), padded(self.columns), 64)
        laden = self.channels or not 90 <= configs.capability(self.keys.device) < 120
        return TABLE[self.kept.itemsize, min(256, widest), laden]

    @property
    def mode(self) -> Mode:
        return Mode("dot", precision(self.keys.dtype), EMULATED, self.keys.dtype == torch.float16)

    def memory(self, starts: bool = False, reads: bool = True, shown: bool = False, ends: bool = False) -> Memory:
        decay = EVEN if self.decay is None else CHANNEL if self.channels else SCALAR
        reads = reads and self.query is not None
        exact = "ieee" if EMULATED else "tf32x3"
        return Memory(decay, self.erase_rate is not None, self.erase is None, self.write_rate is not None, starts, reads, shown, ends, exact)

    def config(self, role: str) -> Config:
        """The configuration of a kernel for this memory."""
        block: Block = getattr(self.cut, role)
        width = padded(self.width) if role.startswith("scan") else min(block.width, padded(self.width))
        columns = min(block.columns, padded(self.columns))
        shape = Shape(self.cut.rows, self.cut.rows, width, columns, bool(self.width % width or self.columns % columns))
        return Config(shape, block.warps, block.stages)

    def sizes(self) -> tuple[int, ...]:
        return self.rows, self.width, self.columns, self.heads, self.group, self.chunks

    @property
    def way(self) -> Tensor:
        """What is erased."""
        return self.keys if self.erase is None else self.erase

    def view(self, tensor: Tensor | None) -> tuple | None:
        return None if tensor is None else view(tensor)

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return self.keys.new_empty(self.keys.shape[0], self.heads, *shape, dtype=dtype or self.keys.dtype)
