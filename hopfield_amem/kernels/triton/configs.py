"""One table of tile configurations, and the choice among them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .prepare import Operands
from .spec import Shape


class Config(NamedTuple):
    """A tile and how many warps and pipeline stages work on it."""

    shape: Shape
    warps: int
    stages: int


class Tile(NamedTuple):
    """Queries and slots of a tile, warps, stages."""

    queries: int
    slots: int
    warps: int
    stages: int


# (role, bytes of an element, widest vector) -> survivors of `make kernels`, the default first
TABLE: dict[tuple[str, int, int], tuple[Tile, ...]] = {
    ("forward", 2, 64): (Tile(128, 128, 8, 3), Tile(128, 64, 4, 3), Tile(64, 64, 4, 3)),
    ("forward", 2, 128): (Tile(128, 128, 8, 2), Tile(128, 64, 8, 3), Tile(64, 64, 4, 3)),
    ("forward", 2, 256): (Tile(128, 64, 8, 2), Tile(64, 32, 4, 2)),
    ("forward", 4, 64): (Tile(64, 64, 4, 2), Tile(64, 32, 4, 3)),
    ("forward", 4, 128): (Tile(64, 32, 4, 2), Tile(32, 32, 4, 2)),
    ("forward", 4, 256): (Tile(32, 32, 8, 2), Tile(16, 32, 4, 1)),
    ("queries", 2, 64): (Tile(128, 64, 8, 2), Tile(64, 64, 4, 2)),
    ("queries", 2, 128): (Tile(128, 64, 8, 2), Tile(64, 64, 4, 2)),
    ("queries", 2, 256): (Tile(64, 32, 8, 2), Tile(32, 32, 4, 2)),
    ("queries", 4, 64): (Tile(64, 32, 4, 2), Tile(32, 32, 4, 2)),
    ("queries", 4, 128): (Tile(32, 32, 4, 2), Tile(32, 32, 8, 1)),
    ("queries", 4, 256): (Tile(16, 32, 8, 1), Tile(16, 16, 4, 1)),
    ("slots", 2, 64): (Tile(128, 64, 8, 2), Tile(64, 64, 4, 2)),
    ("slots", 2, 128): (Tile(128, 64, 8, 2), Tile(64, 64, 4, 2)),
    ("slots", 2, 256): (Tile(32, 32, 8, 2), Tile(32, 32, 8, 1)),
    ("slots", 4, 64): (Tile(32, 64, 8, 2), Tile(32, 32, 4, 2)),
    ("slots", 4, 128): (Tile(32, 32, 8, 1), Tile(16, 32, 4, 1)),
    ("slots", 4, 256): (Tile(16, 16, 4, 1),),
}
ELEMENTWISE = Tile(16, 16, 4, 1)  # |x − ξ| of a tile holds queries × slots × width numbers
FEW = 64  # up to this many queries the blocks are narrow and the slots are split
NARROW = Tile(16, 128, 4, 3)


def candidates(role: str, read: Operands) -> tuple[Tile, ...]:
    """The configurations that serve a read, the default first."""
    if read.mode.pair == "distance":
        return (ELEMENTWISE,)
    widest = max(padded(read.width), padded(read.columns), 64)
    size = 2 if read.keys.element_size() == 2 else 4
    role = {"threshold": "forward", "merge": "forward"}.get(role, role)
    found = TABLE[role, size, min(256, widest)]
    if role == "forward" and read.queries <= FEW and size == 2 and widest <= 128:
        return (NARROW, *found)
    return found


def choose(role: str, read: Operands) -> Config:
    """The configuration of a kernel for a read."""
    return config(candidates(role, read)[0], read)


def config(tile: Tile, read: Operands) -> Config:
    width, columns = padded(read.width), padded(read.columns)
    shape = Shape(tile.queries, tile.slots, width, columns, width != read.width or columns != read.columns)
    return Config(shape, tile.warps, tile.stages)


def padded(width: int) -> int:
    """The next power of two, at least 16: what a matrix product takes."""
    return max(16, 1 << (width - 1).bit_length())


def run(kernel: Any, grid: tuple[int, ...], config: Config, *arguments: Any, **constants: Any) -> None:
    with torch.no_grad():
        kernel[grid](*arguments, **constants, num_warps=config.warps, num_stages=config.stages)
