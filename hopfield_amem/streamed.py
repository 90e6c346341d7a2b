"""Memories larger than the memory of a machine: slots stay in a file, and go by piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .energies import Log, Memory, ReadEnergy, Simplex, checks
from .energies.truth import full_precision
from .kernels import Streamed, computation, gated, nearest
from .kernels.pieces import PIECE, Pieces
from .kernels.rule import Rule
from .kernels.spread import Part, averages, searched, threshold
from .storage import load_spec, opened
from .storage_by_pieces import write_memory

__all__ = ["StreamedMemory", "write_memory"]


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
        ValueError: a file that is no such memory, that has leading dimensions, whose tensors do not fit each other, or whose scaling needs whole rows of
            scores; when reading also one that was replaced or changed, or that holds NaN, Inf or a presence outside [0, 1].
    """

    def __init__(self, path: str | Path, *, piece: int = PIECE, device: torch.device | str = "cpu"):
        self.path, self.device = Path(path), torch.device(device)
        spec = load_spec(path)
        self.spec = spec.read if isinstance(spec, Memory) else spec
        with opened(path) as file:
            self._version = _version(path)
            held = {name: file.get_slice(name) for name in ("keys", "values", "presence") if name in file.keys()}  # noqa: SIM118
            shapes, dtypes = {name: tuple(part.get_shape()) for name, part in held.items()}, {name: part[:0].dtype for name, part in held.items()}
        _fitting(shapes, dtypes)
        self.dtype, (self.slots, self.dim) = dtypes["keys"], shapes["keys"]
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
            spread = Pieces(lambda measure: map(measure, self._pieces(state.dtype, valued)))
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
                if _version(self.path) != self._version:
                    raise ValueError(f"{self.path} was replaced or changed since it was opened. Open it again: StreamedMemory(path).")
                names = ["keys", *(["values"] if valued else []), *(["presence"] if self._soft else [])]
                held = {name: file.get_slice(name)[rows] for name in names}
                _sound(held, first)
                held = {name: tensor.to(self.device) for name, tensor in held.items()}
            presence = held.pop("presence", None)
            found = {name: tensor.to(dtype) for name, tensor in held.items()}
            yield Part(found["keys"], found.get("values"), gated(presence, None, False, 0.0, self.device))

    def _checked(self, query: Tensor) -> None:
        like = torch.empty(0, self.dim, dtype=self.dtype, device=self.device)
        checks.inputs(self.spec, query, like, None, None)


def _version(path: str | Path) -> tuple[int, int, int, int]:
    """What changes when a file is replaced by another, or written to."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _fitting(shapes: dict[str, tuple[int, ...]], dtypes: dict[str, torch.dtype]) -> None:
    """Raise ValueError unless the tensors of a file are patterns (n, d), values (n, v) of the same dtype and a presence (n,)."""
    slots = shapes["keys"][:1]
    fits = all(len(shapes[name]) == 2 and shapes[name][:1] == slots and shapes[name][1] for name in ("keys", "values") if name in shapes)
    if not fits or shapes.get("presence", slots) != slots:
        raise ValueError(f"Streamed from a file are patterns (n, d), values (n, v) and a presence (n,), got {shapes}.")
    soft = dtypes.get("presence", torch.bool)
    if not dtypes["keys"].is_floating_point or dtypes.get("values", dtypes["keys"]) != dtypes["keys"] or not (soft == torch.bool or soft.is_floating_point):
        raise ValueError(f"Patterns and values in a file share one floating-point dtype, and a presence is boolean or floating-point, got {dtypes}.")


def _sound(held: dict[str, Tensor], first: int) -> None:
    """Raise ValueError where a piece that begins at the slot ``first`` holds NaN, Inf or a presence outside [0, 1]."""
    for name, tensor in held.items():
        checks.contents(None, {f"{name}[{first}:{first + len(tensor)}] of the file": tensor}, tensor)
    presence = held.get("presence")
    if presence is not None and not bool(((presence >= 0) & (presence <= 1)).all()):
        raise ValueError(f"presence[{first}:{first + len(presence)}] of the file must lie in [0, 1]: 1 keeps a slot, 0 deletes it.")
