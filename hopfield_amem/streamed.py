"""Memories larger than the memory of a machine: slots stay in a file, and go by piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from .energies import Log, Memory, ReadEnergy, Simplex, checks
from .energies.truth import full_precision
from .kernels import Streamed, computation, gated, nearest
from .kernels.cut import Rule
from .kernels.spread import Part, Spread, averages, searched, threshold
from .storage import load_spec, metadata, opened, replacing

NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}  # of the file format
PIECE = 2**26  # bytes of a piece


class StreamedMemory:
    """A file of ``save_memory`` or ``write_memory``, read where it lies: exact, with no more than a piece of it in memory. Forward only.

    The file is mapped into memory a piece at a time, so that the resident size does not grow with it; the system keeps what it has room for.
    ``Sum``, softmax weights and every ``Log`` take one pass over the file for each step; other ``Simplex`` weights take one for every step of the search
    for their threshold, about ten.

    Args:
        path: of the file: patterns (n, d), values (n, v) or none, a presence per slot or none.
        piece: bytes of a piece.
        device: where the reading is done, whatever fits there.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no such memory, that has leading dimensions, or whose scaling needs whole rows of scores.
    """

    def __init__(self, path: str | Path, *, piece: int = PIECE, device: torch.device | str = "cpu"):
        self.path, self.device = Path(path), torch.device(device)
        spec = load_spec(path)
        self.spec = spec.read if isinstance(spec, Memory) else spec
        with opened(path) as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            self.dtype = file.get_slice("keys")[:0].dtype
        if len(shapes["keys"]) != 2 or len(shapes.get("values", (0, 0))) != 2 or shapes.get("presence", shapes["keys"][:1]) != shapes["keys"][:1]:
            raise ValueError(f"Streamed from a file are patterns (n, d), values (n, v) and a presence (n,), got {shapes}.")
        self.slots, self.dim = shapes["keys"]
        self.width = shapes["values"][1] if "values" in shapes else None
        self._soft = "presence" in shapes
        self._together = max(1, piece // ((self.dim + (self.width or 0)) * self.dtype.itemsize))
        rule = Rule(self.spec.similarity, self.spec.separation, self.spec.scaling)
        if rule.whole:
            raise ValueError(f"{self.spec.scaling} weighs whole rows of scores together, which pieces do not hold. Use Sum, Log or Simplex with total 1.")
        scaling = Log() if rule.exponential and isinstance(self.spec.scaling, Simplex) else self.spec.scaling  # softmax by threshold is softmax
        self._read = ReadEnergy(self.spec.similarity, self.spec.separation, scaling, self.spec.confinement, self.spec.beta)

    def __len__(self) -> int:
        return self.slots

    @torch.no_grad()
    def retrieve(self, query: Tensor, *, steps: int = 1) -> Tensor:
        """``hopfield_amem.retrieve`` of all slots in the file, without gradient: what the values say, or without values where the states settle.

        (..., q, d) -> (..., q, v) or (..., q, d)

        Raises:
            ValueError, TypeError: queries that do not fit the file; steps below 1; NaN or Inf.
        """
        if type(steps) is not int or steps < 1:
            raise ValueError(f"steps must be an integer of at least 1 (one step is attention), got {steps!r}.")
        self._checked(query)
        dtype, (state,) = computation(query)
        if self.width is None or steps > 1:
            checks.step(self.spec)
            if self.spec.similarity.rests:
                raise ValueError(
                    f"A state settles at a weighted median of all slots under {self.spec.similarity}, no sum over pieces. Read values, in one step."
                )
        with full_precision(state):
            for _ in range(steps if self.width is None else steps - 1):
                state = self._swept(state, False)
            result = (state if self.width is None else self._swept(state, True)).to(dtype)
        checks.contents(self.spec, {"query": query}, result)
        return result

    @torch.no_grad()
    def nearest(self, query: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
        """Similarities and numbers of the most similar slots in the file, most similar first. (..., q, d) -> (..., q, min(count, n)) twice"""
        self._checked(query)
        best, index, first = query.new_empty(*query.shape[:-1], 0), torch.empty(*query.shape[:-1], 0, dtype=torch.long, device=query.device), 0
        for part in self._pieces(query.dtype):
            near, where = nearest(self.spec, query, part.keys, presence=part.gates.presence, count=count)
            best, index = torch.cat([best, near], -1), torch.cat([index, where + first], -1)
            best, chosen = best.topk(min(count, best.shape[-1]), -1)
            index, first = index.gather(-1, chosen), first + part.keys.shape[-2]
        return best, index

    def _swept(self, state: Tensor, valued: bool) -> Tensor:
        """One read of all pieces: of values, or where the states settle."""
        if searched(self._read):
            spread = _OverPieces(lambda: self._pieces(state.dtype, valued))
            tau, alive = threshold(self._read, state, spread)
            found = averages(self._read, state, tau, spread)
            return (
                found
                if valued
                else self._read.confinement.minimise(found, alive.to(state.dtype).unsqueeze(-1) if self._read.similarity.massive else None, state)
            )
        read = Streamed(self._read, state)
        for part in self._pieces(state.dtype, valued):
            read.add(part.keys, part.values, presence=part.gates.presence)
        return read.read()

    def _pieces(self, dtype: torch.dtype, valued: bool = False) -> Iterator[Part]:
        """The slots, so many together; at least one piece, which may be empty. The file is opened anew for each, which lets go of the one before."""
        for first in range(0, max(1, self.slots), self._together):
            rows = slice(first, min(first + self._together, self.slots))
            with opened(self.path) as file:
                names = ["keys", *(["values"] if valued else []), *(["presence"] if self._soft else [])]
                held = {name: file.get_slice(name)[rows].to(self.device) for name in names}
            presence = held.pop("presence", None)
            found = {name: tensor.to(dtype) for name, tensor in held.items()}
            yield Part(found["keys"], found.get("values"), gated(presence, None, False, 0.0, self.device))

    def _checked(self, query: Tensor) -> None:
        like = torch.empty(0, self.dim, dtype=self.dtype, device=self.device)
        checks.inputs(self.spec, query, like, None, None)


class _OverPieces(Spread):
    """Measures of one piece after the other."""

    def __init__(self, pieces: Callable[[], Iterable[Part]]):
        self.pieces = pieces

    def highest(self, measure: Callable[[Part], Tensor]) -> Tensor:
        best = None
        for part in self.pieces():
            found = measure(part)
            best = found if best is None else torch.maximum(best, found)
        assert best is not None
        return best

    def total(self, measure: Callable[..., Tensor], *given: Tensor) -> Tensor:
        total = None
        for part in self.pieces():
            found = measure(part, *given)
            total = found if total is None else total.add_(found)
        assert total is not None
        return total


def write_memory(path: str | Path, spec: ReadEnergy | Memory, pieces: Iterable[tuple[Tensor, Tensor | None]], slots: int) -> None:
    """``save_memory`` of patterns that never lie in memory together: pieces of keys (k, d) and values (k, v), or None, that hold ``slots`` slots in all.

    The file is written beside ``path`` and takes its place at the end.

    Raises:
        ValueError: pieces that do not fit each other or ``slots``, NaN or Inf, a β that is a tensor, a spec that a file cannot hold.
    """
    read = spec.read if isinstance(spec, Memory) else spec
    if not isinstance(read, ReadEnergy) or isinstance(read.beta, Tensor):
        raise ValueError(f"A file is written with a ReadEnergy, or a Memory, whose beta is a number, got {spec!r}.")
    about, written, first, start = metadata(spec), 0, None, []
    with replacing(path) as temporary, open(temporary, "r+b") as file:
        for keys, values in pieces:
            named = {"keys": keys} | ({} if values is None else {"values": values})
            shape = {name: (tensor.dtype, tensor.shape[1:]) for name, tensor in named.items()}
            checks.inputs(read, keys, keys, values, None)
            if first is None:
                first, start = shape, _begun(file, about, named, slots)
            if shape != first or keys.ndim != 2 or written + len(keys) > slots:
                raise ValueError(f"Pieces must be alike and hold {slots} slots in all; after {written} came {shape} with {len(keys)} more, first {first}.")
            for at, tensor in zip(start, named.values(), strict=True):
                checks.contents(None, {"a piece": tensor}, tensor)
                file.seek(at + written * tensor[:1].nbytes)
                file.write(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
            written += len(keys)
        if written != slots or not slots:
            raise ValueError(f"The pieces hold {written} slots, not the {slots} that were promised (at least one).")


def _begun(file, about: dict[str, str], named: dict[str, Tensor], slots: int) -> list[int]:
    """Write the header of the file format: the length of a JSON text, the text, then tensors one after the other. -> where each begins"""
    header: dict[str, object] = {"__metadata__": about}
    offset, starts = 0, []
    for name, tensor in named.items():
        if tensor.dtype not in NAMES:
            raise ValueError(f"A file holds {', '.join(map(str, NAMES))}, got {name} in {tensor.dtype}.")
        size = slots * tensor[:1].nbytes
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": [slots, tensor.shape[1]], "data_offsets": [offset, offset + size]}
        starts.append(offset)
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    return [8 + len(text) + start for start in starts]
