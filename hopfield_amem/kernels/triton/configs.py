"""One table of tile configurations, and the choice among them."""

from __future__ import annotations

from enum import IntFlag, auto
from typing import Any, NamedTuple

import torch

from .machine import capability
from .operands import Operands
from .spec import Shape


class Config(NamedTuple):
    """A tile and how many warps and pipeline stages work on it."""

    shape: Shape
    warps: int
    stages: int


class Serves(IntFlag):
    """What a tile serves without spilling registers or exceeding shared memory: how laden the registers are beside the products, on
    GPUs with products of warp groups (compute capability 9.0 and up) and on older ones."""

    LIGHT = auto()
    LADEN = auto()  # terms per slot, or leaves of more than a few operations
    HEAVY = auto()  # scores not affine in the product, a factor per slot, or gates per pair
    OLDER_LIGHT = auto()
    OLDER_LADEN = auto()
    OLDER_HEAVY = auto()


L, M, H, OL, OM, OH = Serves
NONE = Serves(0)  # every tile spills: three tf32 products of 256 columns hold both halves of an operand; the last of a row serves what none does


class Tile(NamedTuple):
    """Queries and slots of a tile, warps, stages, and what it serves."""

    queries: int
    slots: int
    warps: int
    stages: int
    serves: Serves = L | M | H | OL | OM | OH


# (role, bytes of an element, widest vector) -> survivors of `benchmarks/kernels.py --search`, the preferred first
TABLE: dict[tuple[str, int, int], tuple[Tile, ...]] = {
    ("forward", 2, 64): (
        Tile(128, 128, 8, 3, L | M),
        Tile(128, 128, 8, 2, L | M),
        Tile(128, 64, 8, 3, H | OL | OM),
        Tile(128, 64, 8, 2, H | OL | OM),
        Tile(128, 32, 8, 2, OH),
        Tile(32, 32, 4, 2, OH),
    ),
    ("forward", 2, 128): (
        Tile(128, 128, 8, 2, L),
        Tile(128, 64, 8, 3, L | M | OL),
        Tile(128, 64, 8, 2, M),
        Tile(64, 64, 4, 2, OL),
        Tile(128, 32, 8, 2, H | OM | OH),
        Tile(64, 32, 4, 2, H | OM | OH),
    ),
    ("forward", 2, 256): (Tile(128, 32, 8, 2, L | M | H), Tile(32, 32, 4, 2, L | M | OL | OM), Tile(16, 32, 4, 2, H | OM | OH)),
    ("forward", 4, 64): (Tile(64, 32, 4, 2, L | M), Tile(32, 32, 4, 2, OL | OM | OH), Tile(16, 32, 4, 2, H)),
    ("forward", 4, 128): (Tile(16, 32, 4, 2),),
    ("forward", 4, 256): (Tile(16, 32, 8, 2, NONE),),
    ("queries", 2, 64): (Tile(128, 64, 8, 2, L | M | H | OL | OM), Tile(128, 64, 8, 3, L | M | H | OL), Tile(128, 32, 8, 2, OM | OH), Tile(32, 32, 4, 2, OH)),
    ("queries", 2, 128): (
        Tile(128, 64, 8, 2, L | M),
        Tile(128, 64, 8, 3, L | M),
        Tile(128, 32, 8, 2, H | OL),
        Tile(64, 32, 4, 2, H | OL),
        Tile(32, 32, 4, 2, OM | OH),
        Tile(16, 32, 4, 2, OM | OH),
    ),
    ("queries", 2, 256): (Tile(32, 32, 4, 2, L | M | OL | OM), Tile(16, 32, 4, 2, H | OH)),
    ("queries", 4, 64): (Tile(64, 32, 4, 2, L), Tile(32, 32, 4, 2, OL), Tile(16, 32, 4, 2, H | OM | OH), Tile(16, 16, 4, 1, M)),
    ("queries", 4, 128): (Tile(16, 32, 4, 2, L | OL), Tile(16, 16, 4, 1, M | H | OM | OH)),
    ("queries", 4, 256): (Tile(16, 32, 8, 1, NONE),),
    ("slots", 2, 64): (
        Tile(128, 64, 8, 2, L | M),
        Tile(128, 64, 8, 3, L | M),
        Tile(128, 32, 8, 2, H | OL | OM),
        Tile(64, 32, 4, 2, H | OL),
        Tile(32, 32, 4, 2, OM | OH),
        Tile(16, 32, 4, 2, OH),
    ),
    ("slots", 2, 128): (Tile(128, 64, 8, 2, L), Tile(128, 32, 8, 2, L | M), Tile(32, 32, 4, 2, M | H | OL | OM | OH), Tile(16, 32, 4, 2, H | OL | OM | OH)),
    ("slots", 2, 256): (Tile(16, 32, 4, 2, L | M | OL | OM | OH), Tile(16, 16, 4, 1, H)),
    ("slots", 4, 64): (Tile(16, 32, 4, 2),),
    ("slots", 4, 128): (Tile(16, 16, 4, 1),),
    ("slots", 4, 256): (Tile(16, 16, 8, 1, NONE),),
    ("solve", 2, 64): (Tile(64, 64, 4, 2, L | M | OL | OM), Tile(32, 32, 4, 2, H | OH)),
    ("solve", 2, 128): (Tile(64, 64, 4, 2, L | OL), Tile(64, 64, 8, 2, M), Tile(32, 32, 4, 2, H | OM | OH)),
    ("solve", 2, 256): (Tile(32, 32, 4, 2, L | M | OL), Tile(16, 16, 4, 2, H | OM | OH)),
    ("solve", 4, 64): (Tile(16, 16, 4, 1),),
    ("solve", 4, 128): (Tile(16, 16, 8, 1),),
    ("solve", 4, 256): (Tile(16, 16, 8, 1, NONE),),
    ("transposed", 2, 64): (Tile(64, 64, 4, 2, L | M | OL), Tile(32, 32, 4, 2, H | OM | OH)),
    ("transposed", 2, 128): (Tile(64, 64, 4, 2, L), Tile(64, 64, 8, 2, M), Tile(32, 32, 4, 2, H | OL), Tile(16, 16, 4, 2, OM | OH)),
    ("transposed", 2, 256): (Tile(32, 32, 4, 2, L | M | OL), Tile(16, 16, 4, 2, H | OM | OH)),
    ("transposed", 4, 64): (Tile(16, 16, 4, 1),),
    ("transposed", 4, 128): (Tile(16, 16, 8, 1),),
    ("transposed", 4, 256): (Tile(16, 16, 8, 1, NONE),),
}
ELEMENTWISE = Tile(16, 16, 8, 1)  # |x − ξ| of a tile holds queries × slots × width numbers
FEW = 64  # up to this many queries the blocks are narrow and the slots are split
NARROW = Tile(16, 128, 4, 3)
SOLVES = ("solve", "transposed")


def candidates(role: str, read: Operands) -> tuple[Tile, ...]:
    """The configurations that serve a read, the default first."""
    if read.mode.pair == "distance":
        return (ELEMENTWISE,)
    widest = max(padded(read.width), padded(read.columns), 64)
    size = 2 if read.keys.element_size() == 2 and not read.mode.wide else 4
    role = {"threshold": "forward", "merge": "forward"}.get(role, role)
    rows, wanted = TABLE[role, size, min(256, widest)], load(read, role)
    found = tuple(tile for tile in rows if wanted in tile.serves) or rows[-1:]
    if role == "forward" and read.queries <= FEW and size == 2 and widest <= 128:
        return (NARROW, *found)
    return found


def load(read: Operands, role: str) -> Serves:
    """How laden the kernels of a read are, on its device."""
    fold, sight = read.fold, read.sight
    heavy = not fold.affine or fold.slot_factor or sight.per_query or sight.dropout
    laden = (fold.slot_term or not read.compiled.light) + sight.presence  # both together are heavy
    fading = sight.fades + (sight.fades and sight.soft and role not in SOLVES)  # amounts that fade take an exponential of their own
    degree = (2 if heavy else laden) + fading
    grouped = 90 <= capability(read.state.device) < 120 and degree <= 2
    return (L, M, H)[min(2, degree)] if grouped else (OL, OM, OH)[min(2, degree)]


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
