"""Slots that are read a piece at a time, so that what a piece needs beside them (its copy in another dtype, its place in memory) does not grow with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from itertools import repeat
from typing import TypeVar

import torch
from torch import Tensor

from .gates import Gates
from .recomputed import recomputed
from .spread import Part, Spread

PIECE = 2**26  # bytes of a piece
Measured = TypeVar("Measured")


class Pieces(Spread):
    """Measures of one piece after the other, of at least one. ``each`` gives what a measure gives of every piece."""

    def __init__(self, each: Callable[[Callable[[Part], Tensor]], Iterable[Tensor]]):
        self.each = each

    def highest(self, measure: Callable[[Part], Tensor]) -> Tensor:
        return reduce(torch.maximum, self.each(measure))

    def total(self, measure: Callable[..., Tensor], *given: Tensor) -> Tensor:
        return reduce(torch.add, self.each(lambda part: measure(part, *given)))


def converted(part: Part, dtype: torch.dtype, measure: Callable[[Part], Measured], beside: Mapping[str, object]) -> Iterator[Measured]:
    """What a measure gives of the slots in this dtype: at once where they have it, else piece by piece, whose copies are made again for a gradient.

    ``beside`` names what else the measure reads.

    Raises:
        RuntimeError: as ``recomputed``, in ``backward``.
    """
    if part.keys.dtype == dtype:
        yield measure(part)
        return
    room: dict[str, Tensor] = {}  # for the copies of one piece after the other: fresh pages for each take longer than the copying

    def copy(name: str, rows: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return rows.to(dtype)
        if name not in room:
            room[name] = torch.empty_like(rows, dtype=dtype)  # no piece is longer than the first
        return room[name][..., : rows.shape[-2], :].copy_(rows)

    def one(piece: Part) -> Measured:
        keys = copy("keys", piece.keys)
        values = keys if piece.values is piece.keys else None if piece.values is None else copy("values", piece.values)
        return measure(Part(keys, values, piece.gates))

    read = {"keys": part.keys, "values": part.values, **vars(part.gates), **beside}
    for piece in cut(part, dtype):
        yield recomputed(one, piece, read)


def cut(part: Part, dtype: torch.dtype) -> Iterator[Part]:
    """The slots, so many together that their copy in this dtype fits ``PIECE`` (16 of them on a GPU); one piece, which is empty, where there are none."""
    slots, lead = part.keys.shape[-2], part.keys.shape[:-2]
    each = math.prod(lead) * (part.keys.shape[-1] + (0 if part.values is None else part.values.shape[-1])) * dtype.itemsize
    room = PIECE if part.keys.device.type == "cpu" else 16 * PIECE  # a GPU sweeps a small piece faster than it is told to
    together = max(1, room // max(1, each))

    def pieces(rows: Tensor | None, dim: int) -> Iterable[Tensor | None]:
        # split at once: its gradient puts the pieces together, while that of a slice is as large as all slots
        return rows.split(together, dim) if rows is not None and rows.ndim and rows.shape[dim] == slots else repeat(rows)

    keys = part.keys.split(together, -2)
    values = keys if part.values is part.keys else pieces(part.values, -2)
    for key, value, presence, bias in zip(keys, values, pieces(part.gates.presence, -1), pieces(part.gates.bias, -1), strict=False):
        yield Part(key, value, Gates(presence, bias))
