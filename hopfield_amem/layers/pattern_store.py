"""Patterns that come and go: rows that grow, with numbers that are never given twice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..energies import ReadEnergy, checks


class PatternStore(nn.Module):
    """Patterns (n, d), their values (n, v) or none, and their ids (n,), oldest first; without parameters.

    Rows stand in buffers with room to spare, which double when they are full: storing one pattern at a time copies every row O(1) times on average. So up to
    twice the rows are held, and three times while buffers double; ``reserve`` makes room for as many as there will be, and no more.
    """

    def __init__(self, dim: int, **factory: Any):
        super().__init__()
        if dim < 1:
            raise ValueError(f"Patterns need a positive width, got dim={dim}.")
        self.dim, self._count, self._next, self._reserved = dim, 0, 0, 0
        self.register_buffer("_keys", torch.empty(0, dim, **factory), persistent=False)
        self.register_buffer("_values", None, persistent=False)
        self.register_buffer("_ids", torch.empty(0, device=self._keys.device, dtype=torch.long), persistent=False)

    def __len__(self) -> int:
        return self._count

    @property
    def patterns(self) -> Tensor:
        """What is stored, (n, d), oldest first."""
        return self._keys[: self._count]

    @property
    def values(self) -> Tensor | None:
        """What is stored with the patterns, (n, v)."""
        return None if self._values is None else self._values[: self._count]

    @property
    def ids(self) -> Tensor:
        """The number of every pattern, (n,), in the order of storing."""
        return self._ids[: self._count]

    def reserve(self, count: int) -> None:
        """Make room for this many patterns in all (on this rank, where they are spread over ranks), so that storing up to as many copies none of them.

        The room stays when patterns are forgotten or loaded, until another is asked for: ``reserve(len(memory))`` gives back what is not in use.

        Raises:
            ValueError: fewer than there are.
        """
        if type(count) is not int or count < self._count:
            raise ValueError(f"There is room to be made for all patterns, an integer of at least the {self._count} that are stored, got {count!r}.")
        self._fill(self.patterns, self.values, self.ids, count)
        self._reserved = count

    def _append(self, patterns: Tensor, values: Tensor | None) -> Tensor:
        """Add rows behind those that are there. -> their ids (k,)"""
        if not self._count:
            self._values = None if values is None else values.new_empty(len(self._ids), values.shape[1])
        first, last = self._count, self._count + len(patterns)
        if last > len(self._ids):
            self._fill(self.patterns, self.values, self.ids, max(last, 2 * len(self._ids)))
        ids = torch.arange(self._next, self._next + len(patterns), device=self._ids.device)
        for buffer, rows in ((self._keys, patterns), (self._values, values), (self._ids, ids)):
            if buffer is not None and rows is not None:
                buffer.data[first:last] = rows  # unseen by autograd: earlier recalls may still be differentiated, and did not see these rows
        self._count, self._next = last, self._next + len(patterns)
        return ids

    def _named(self, ids: Tensor | list[int]) -> Tensor:
        """Ids as whole numbers (k,). Raises ValueError for anything else: a mask of rows names no patterns."""
        named = torch.as_tensor(ids, device=self._ids.device).flatten()
        if len(named) and (named.dtype == torch.bool or named.is_floating_point() or named.is_complex()):
            raise ValueError(f"Ids are whole numbers, got {named.dtype}. For a mask of rows: forget(memory.ids[mask]).")
        return named.long()

    def _keep(self, rows: Tensor) -> None:
        """Drop all other rows, (n,) boolean."""
        self._fill(self.patterns[rows], None if self.values is None else self.values[rows], self.ids[rows])

    def _fill(self, patterns: Tensor, values: Tensor | None, ids: Tensor, room: int | None = None) -> None:
        """Hold these rows, in fresh buffers with room for so many; None is for them, and for as many as were reserved."""
        room = max(len(ids), self._reserved) if room is None else room

        def roomy(rows: Tensor) -> Tensor:
            buffer = rows.new_empty(room, *rows.shape[1:])
            buffer[: len(rows)] = rows
            return buffer

        self._keys, self._values, self._ids, self._count = roomy(patterns), None if values is None else roomy(values), roomy(ids), len(ids)

    def _check(self, energy: ReadEnergy, patterns: Tensor, values: Tensor | None) -> None:
        """Raise ValueError or TypeError where rows do not fit each other or those that are stored."""
        checks.floating("patterns", patterns)
        checks.inputs(energy, patterns, patterns, values, None)
        if patterns.ndim != 2 or patterns.shape[1] != self.dim or (values is not None and values.ndim != 2):
            came = tuple(patterns.shape), None if values is None else tuple(values.shape)
            raise ValueError(
                f"This memory stores patterns (n, {self.dim}), and values (n, v) or None; got {came[0]} and {came[1]}. Pictures become patterns by .flatten(1)."
            )
        if (patterns.dtype, patterns.device) != (self._keys.dtype, self._keys.device):
            raise ValueError(
                f"This memory holds {self._keys.dtype} on {self._keys.device}, got {patterns.dtype} on {patterns.device}. Convert patterns and values with "
                ".to(...), or the memory with memory.to(...)."
            )
        width = None if self.values is None else self.values.shape[1]
        if self._count and width != (None if values is None else values.shape[1]):
            raise ValueError(
                f"All patterns of a memory have values of one width, or none has: {width} before, {None if values is None else values.shape[1]} now."
            )
        for name, rows in (("patterns", patterns), ("values", values)):
            if rows is not None:
                checks.contents(None, {name: rows}, rows)

    def get_extra_state(self) -> dict[str, Any]:
        """What is stored, for ``state_dict``."""
        return {"patterns": self.patterns.clone(), "values": None if self.values is None else self.values.clone(), "ids": self.ids.clone(), "next": self._next}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Hold what another memory stored, on the device and in the dtype of this one."""
        if state["patterns"].shape[1] != self.dim:
            raise ValueError(f"This memory stores patterns (n, {self.dim}), the saved one {tuple(state['patterns'].shape)}.")
        patterns, values = (None if rows is None else rows.to(self._keys) for rows in (state["patterns"], state["values"]))
        assert patterns is not None
        self._fill(patterns, values, state["ids"].to(self._ids))
        self._next = state["next"]
