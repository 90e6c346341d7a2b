"""Stored memories that never lie in memory as a whole: their file is written piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from .energies import Memory, ReadEnergy, checks
from .storage import metadata, replacing

NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}  # of the file format


def write_memory(path: str | Path, spec: ReadEnergy | Memory, pieces: Iterable[tuple[Tensor, Tensor | None]], slots: int) -> None:
    """``save_memory`` of patterns that never lie in memory together: pieces of keys (k, d) and values (k, v), or None, that hold ``slots`` slots in all.

    The file is written beside ``path`` and takes its place at the end.

    Raises:
        ValueError: pieces that do not fit each other or ``slots``, NaN or Inf, a β that is a tensor, a spec that a file cannot hold.
        TypeError: pieces of a wrong kind.
    """
    if type(slots) is not int or slots < 1:
        raise ValueError(f"slots is the number of slots in all pieces, an integer of at least one, got {slots!r}.")
    read = spec.read if isinstance(spec, Memory) else spec
    if not isinstance(read, ReadEnergy) or isinstance(read.beta, Tensor):
        raise ValueError(f"A file is written with a ReadEnergy, or a Memory, whose beta is a number, got {spec!r}.")
    about, written, first, start = metadata(spec), 0, None, []
    with replacing(path) as temporary, open(temporary, "r+b") as file:
        for keys, values in pieces:
            named = {"keys": keys} | ({} if values is None else {"values": values})
            checks.inputs(read, keys, keys, values, None)
            shape = {name: (tensor.dtype, tuple(tensor.shape[1:])) for name, tensor in named.items()}
            if any(tensor.ndim != 2 for tensor in named.values()):
                raise ValueError(f"Pieces are keys (k, d) and values (k, v), got { ({name: tuple(tensor.shape) for name, tensor in named.items()}) }.")
            if first is None:
                first, start = shape, _begun(file, about, named, slots)
            if shape != first or written + len(keys) > slots:
                raise ValueError(f"Pieces must be alike and hold {slots} slots in all; after {written} came {shape} with {len(keys)} more, first {first}.")
            for at, tensor in zip(start, named.values(), strict=True):
                checks.contents(None, {"a piece": tensor}, tensor)
                file.seek(at + written * _row(tensor))
                file.write(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
            written += len(keys)
        if written != slots:
            raise ValueError(f"The pieces hold {written} slots, not the {slots} that were promised.")


def _row(tensor: Tensor) -> int:
    """Bytes of one slot."""
    return tensor.shape[1] * tensor.element_size()


def _begun(file, about: dict[str, str], named: dict[str, Tensor], slots: int) -> list[int]:
    """Write the header of the file format: the length of a JSON text, the text, then tensors one after the other. -> where each begins"""
    header: dict[str, object] = {"__metadata__": about}
    offset, starts = 0, []
    for name, tensor in named.items():
        if tensor.dtype not in NAMES:
            raise ValueError(f"A file holds {', '.join(map(str, NAMES))}, got {name} in {tensor.dtype}.")
        size = slots * _row(tensor)
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": [slots, tensor.shape[1]], "data_offsets": [offset, offset + size]}
        starts.append(offset)
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    return [8 + len(text) + start for start in starts]
