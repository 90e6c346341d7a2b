"""A memory that is written and read at run time, without training."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..descent import Descent, FixedPoint
from ..energies import ReadEnergy, presets
from ..kernels import nearest, retrieve
from .associative import own
from .pattern_store import PatternStore
from .recalled import Recalled, completed
from .temperature import tempered

SLOTS, SHARE = 1.001, 0.99  # asked for what it holds, a memory gives one pattern all but 0.05 % of the weight, for 99 of 100
DRIFT = 0.1  # the share of patterns stored or forgotten after which β from data is determined anew
FEWEST = 16  # patterns below which no capacity is estimated
ASKING, SAMPLE = 64, 128  # damaged patterns, and others beside them, that the estimate sees


class CapacityWarning(UserWarning):
    """More patterns are stored than a memory is expected to bring back."""


class PatternMemory(PatternStore):
    """Patterns ξ_μ, with values v_μ or without, that are stored, recalled and forgotten: a query descends ``E(x; ξ)``, and ``Σ p v`` is read where it rests.

    Nothing is trained and nothing is projected. Patterns may have any scale and length: the default energy is a distance, and its β follows what is stored.

    Args:
        dim: width d of the patterns.
        energy: the read energy. None: ``presets.distance()``.
        beta: a number, "data", or None. "data" is the least β at which 99 % of the stored patterns, asked for themselves, come back with all others
            together holding about 0.05 % of the weight (``layers.temperature.suited``), determined anew after every change of a tenth of the
            patterns. None: the β of the energy given, and "data" without an energy.

    Shapes: ``store`` (n, d) and (n, v), ``recall`` (..., q, d). The memory is a module whose only parameters are those that its energy's own
    functions hold: ``.to`` moves it, and what it holds travels with ``state_dict``, copies, pickles, and ``save``. Storing copies amortised O(1) rows per
    pattern, forgetting all that remain.

    Raises:
        ValueError: a width below 1, an energy or a beta of a wrong kind.

    Warns:
        CapacityWarning: where a load that has doubled since the last look passes ``capacity()``.
    """

    def __init__(
        self,
        dim: int,
        energy: ReadEnergy | None = None,
        beta: float | str | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(dim, device=device, dtype=dtype)
        if not isinstance(energy, ReadEnergy | None) or isinstance(getattr(energy, "beta", None), Tensor):
            raise ValueError(f"A memory is built from a ReadEnergy whose beta is a number, or None for presets.distance(), got {energy!r}.")
        self.given = presets.distance() if energy is None else energy
        own(self, self.given)
        self.beta = "data" if energy is None and beta is None else beta
        self._watched = self._changes = 0
        self._temper()

    @property
    def spec(self) -> ReadEnergy:
        """The energy being descended, at its β."""
        if self._changes > DRIFT * self._suits:
            self._temper()
        return self._spec

    @torch.no_grad()
    def store(self, patterns: Tensor, values: Tensor | None = None) -> Tensor:
        """Keep patterns (n, d), and values (n, v) or none, as for all that is stored. -> their ids (n,)

        Raises:
            ValueError, TypeError: tensors that do not fit the memory or each other, or that hold NaN or Inf.
        """
        self._check(self.given, patterns, values)
        ids = self._append(patterns, values)
        self._changes += len(ids)
        if self._count >= max(FEWEST, 2 * self._watched):
            self._watch()
        return ids

    def recall(self, query: Tensor, descent: Descent | None = None, *, known: Tensor | None = None) -> Recalled:
        """Let queries (..., q, d) descend among the stored patterns, and read where they come to rest.

        Args:
            query: damaged or incomplete patterns.
            descent: how they move. None: ``FixedPoint()``, until they rest.
            known: True where a feature of the query is known, (d,) or (..., q, d); what stands elsewhere does not matter. Unknown features are first
                read from the stored patterns by the known ones, then all features descend.

        Raises:
            ValueError, TypeError: an empty memory, queries that do not fit, a query of which nothing is known.
        """
        if not self._count:
            raise ValueError("This memory is empty, so there is nothing to recall. Store patterns first: memory.store(patterns).")
        if known is not None:
            query = completed(self.spec, query, self.patterns, known)
        found = (FixedPoint() if descent is None else descent)(self.spec, query, self.patterns)
        ids = self.ids[nearest(self.spec, found.state, self.patterns)[1].squeeze(-1)]
        values = None if self.values is None else retrieve(self.spec, found.state, self.patterns, self.values)
        return Recalled(**vars(found), ids=ids, values=values)

    def forward(self, query: Tensor) -> Tensor:
        """The values recalled for queries, or without values the patterns. (..., q, d) -> (..., q, v) or (..., q, d)"""
        found = self.recall(query)
        return found.state if found.values is None else found.values

    @torch.no_grad()
    def forget(self, ids: Tensor | list[int] | None = None, *, oldest: int | None = None) -> None:
        """Remove patterns by their ids, for example those that are similar to a query, ``recall(query).ids``; or so many of the ``oldest``.

        Raises:
            ValueError: neither or both are given, ids that are not stored, more than are stored.
        """
        if (ids is None) == (oldest is None):
            raise ValueError("Say what to forget: forget(ids), or forget(oldest=k).")
        if oldest is not None and (type(oldest) is not int or not 0 <= oldest <= self._count):
            raise ValueError(f"{self._count} patterns are stored, so between 0 and {self._count} can be forgotten; got oldest={oldest}.")
        gone = self.ids[:oldest] if ids is None else self._named(ids)
        unknown = gone[~torch.isin(gone, self.ids)]
        if len(unknown):
            raise ValueError(f"No pattern is stored under {unknown[:5].tolist()}: ids come from store() and recall(), and end when they are forgotten.")
        kept = ~torch.isin(self.ids, gone)
        self._changes += int((~kept).sum())
        self._keep(kept)
        self._watched = min(self._watched, self._count)

    @torch.no_grad()
    def capacity(self) -> float:
        """How many patterns like the stored ones until half of the queries fail: a heuristic, from a sample of at most 192 of them.

        Assumed are queries that lost half of their features, drawn at random, and hold those of the mean pattern instead. Recalled is a pattern
        that has more than half of the weight at such a query (``analysis.crosstalk_capacity``, with its assumptions). Milder damage, or telling which
        features are ``known``, leaves room for more. inf where a hundred thousand and twice the load still fit, or fewer than two are stored.
        """
        from ..analysis.capacity import crosstalk_capacity

        if self._count < 2:
            return math.inf
        draw = torch.Generator().manual_seed(0)
        sample = self.patterns[torch.randperm(self._count, generator=draw)[: ASKING + SAMPLE].to(self._ids.device)]
        own, others = sample.tensor_split([min(ASKING, len(sample) // 2)])
        lost = (torch.rand(own.shape, generator=draw) < 0.5).to(own.device)
        return crosstalk_capacity(self.spec, torch.where(lost, sample.mean(0), own), own, others, largest=max(10**5, 2 * self._count))

    def save(self, path: str | Path) -> None:
        """Write the memory to one safetensors file, atomically (``storage.save_memory``).

        Raises:
            ValueError: an energy made of plain functions, which a file cannot hold.
        """
        from ..storage import save_memory

        notes = {"ids": self.ids, "next": torch.tensor(self._next), "follows": torch.tensor(self.beta == "data")}
        save_memory(path, self.spec, self.patterns, self.values, extra=notes)

    @classmethod
    def load(cls, path: str | Path, *, device: torch.device | str | None = None) -> PatternMemory:
        """The memory that ``save`` wrote, or the patterns of any other stored memory (n, d) with fresh ids. β that follows the data is determined anew.

        Raises:
            FileNotFoundError, ValueError: no such file, one that is damaged or foreign, or a memory with leading dimensions.
        """
        from ..storage import load_memory

        stored = load_memory(path)
        if not isinstance(stored.spec, ReadEnergy) or stored.keys.ndim != 2 or stored.presence is not None:
            raise ValueError(f"{path} holds {stored.spec} over keys {tuple(stored.keys.shape)}: a pattern memory is a ReadEnergy over patterns (n, d).")
        notes, count = stored.extra, len(stored.keys)
        memory = cls(stored.keys.shape[1], stored.spec, "data" if notes.get("follows", False) else None, device=device, dtype=stored.keys.dtype)
        ids, following = notes.get("ids", torch.arange(count)), int(notes.get("next", count))
        memory.set_extra_state({"patterns": stored.keys, "values": stored.values, "ids": ids, "next": following})
        return memory

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self._watched = self._count
        self._temper()

    def _temper(self) -> None:
        """The energy at a β that suits what is stored now, where β follows the data."""
        self._spec, self._suits, self._changes = tempered(self.given, self.beta, self.patterns, SLOTS, SHARE), self._count, 0

    def _watch(self) -> None:
        self._watched, capacity = self._count, self.capacity()
        if self._count > capacity:
            expected = f"{self._count} patterns are stored, but about {capacity:g} like them can be recalled from queries that lost half their features"
            way_out = "Forget some, store wider or more distinct ones, or say in recall which features are known."
            warnings.warn(f"{expected} (see PatternMemory.capacity). {way_out}", CapacityWarning, stacklevel=4)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={self._count}, values={None if self.values is None else self.values.shape[1]}, beta={self.beta!r}\n{self._spec}"
