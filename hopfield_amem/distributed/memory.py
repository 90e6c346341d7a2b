"""A memory that is written and read at run time, and whose patterns are spread over ranks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..descent.loop import descend
from ..energies import ReadEnergy, checks
from ..energies.truth import full_precision
from ..kernels import Gates, computation, nearest
from ..layers.pattern_store import PatternStore
from . import checkpoint
from .agreement import agreed, replicated
from .engine import Sharded
from .found import Found
from .ranks import Ranks
from .retrieve import retrieve, supported


class ShardedMemory(PatternStore):
    """Patterns ξ_μ, with values or without, spread over ranks: stored where they are given, recalled from all, as by a ``PatternMemory`` that held them all.

    All methods are joined by every rank, in the same order; what a rank holds, ``patterns``, ``values`` and ``ids``, is its own. Ids count through all ranks.

    Args:
        dim: width d of the patterns.
        energy: the read energy, as for ``distributed.retrieve``. Its β is a number: it is not determined from data that lie on many ranks.
        ranks: the processes. None: all.

    Raises:
        ValueError: an energy that cannot be read over ranks, that has no step, or that a descent may follow to infinity.
    """

    def __init__(self, dim: int, energy: ReadEnergy, ranks: Ranks | None = None, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None):
        super().__init__(dim, device=device, dtype=dtype)
        if not isinstance(energy, ReadEnergy) or isinstance(energy.beta, Tensor):
            raise ValueError(f"A memory is built from a ReadEnergy whose beta is a number, got {energy!r}.")
        supported(energy)
        checks.step(energy)
        if checks.at_risk(energy) or energy.similarity.rests:
            raise ValueError(
                f"A descent of {energy} cannot be followed over ranks: it must have a lowest energy whatever the patterns are, and settle at a sum over "
                "slots. Use Log() or Simplex(), or confine the state with Sphere() or Hypercube(); Manhattan() settles at medians."
            )
        self.spec, self.ranks = energy, Ranks() if ranks is None else ranks

    @torch.no_grad()
    def store(self, patterns: Tensor, values: Tensor | None = None) -> Tensor:
        """Keep patterns (n, d) and values (n, v), or none, on this rank; n may be 0 where another rank has some. -> their ids (n,)

        Raises:
            ValueError, TypeError: tensors that do not fit the memory or each other, or that hold NaN or Inf; on every rank where one rank's do not.
        """

        def check() -> dict[str, object]:
            self._check(self.spec, patterns, values)
            return {"width of values": None if values is None else values.shape[1], "dtype of patterns": patterns.dtype}

        agreed(self.ranks, self._ids, check)
        counts = self.ranks.counts(len(patterns), self._ids.device)
        first = self._next
        self._next = first + sum(counts[: self.ranks.rank])
        ids = self._append(patterns, values)
        self._next = first + sum(counts)
        return ids

    @torch.no_grad()
    def deal(self, patterns: Tensor, values: Tensor | None = None) -> Tensor:
        """Of patterns (n, d) that every rank was given alike, keep this rank's share on it, n / ranks of them. -> the ids of that share

        Raises:
            ValueError, TypeError: as for ``store``; patterns or values that differ from rank to rank.
        """

        def check() -> dict[str, object]:
            self._check(self.spec, patterns, values)
            return {"patterns": replicated(patterns), "values": None if values is None else replicated(values)}

        agreed(self.ranks, self._ids, check)
        share = slice(*(len(patterns) * k // self.ranks.size for k in (self.ranks.rank, self.ranks.rank + 1)))
        return self.store(patterns[share], None if values is None else values[share])

    def total(self) -> int:
        """The number of patterns on all ranks; ``len(memory)`` is that of this rank."""
        return sum(self.ranks.counts(len(self), self._ids.device))

    @torch.no_grad()
    def recall(self, query: Tensor, *, steps: int = 100, tolerance: float = 1e-5) -> Found:
        """Let queries (..., q, d), equal on all ranks, settle among all patterns until they rest, ``‖Δx‖ ≤ tolerance·‖x‖``, and read what they hold there.

        Raises:
            ValueError, TypeError: queries that do not fit or hold NaN or Inf, a memory that is empty on all ranks.
            RankLost: a rank died, or did not come.
        """

        def check() -> dict[str, object]:
            self._asked(query)
            if not (isinstance(steps, int) and steps >= 1 and tolerance >= 0):
                raise ValueError(f"A descent takes at least one step and a tolerance of at least 0, got {steps!r} and {tolerance!r}.")
            return {"energy": str(self.spec), "query": replicated(query), "steps": steps, "tolerance": tolerance}

        agreed(self.ranks, self._ids, check)
        width = int(self.ranks.largest(torch.tensor(-1 if self.values is None or not self._count else self.values.shape[1], device=self._ids.device)))
        if not self.total():
            raise ValueError("This memory is empty on all ranks, so there is nothing to recall. Store patterns first: memory.store(patterns).")
        dtype, (start, _) = computation(query, self.patterns[:0])
        with full_precision(query):
            path = descend(start, Sharded(self.spec, self.patterns.to(dtype), Gates(), self.ranks).settle, steps, tolerance, False)
        state = path.state.to(dtype)
        similarity, ids = self.nearest(state, 2)
        margin = similarity[..., 0] - similarity[..., 1] if ids.shape[-1] > 1 else torch.full_like(similarity[..., 0], math.inf)
        values = None
        if width >= 0:
            held = self.values if self.values is not None and self._count else state.new_zeros(len(self), width)
            values = retrieve(self.spec, state, self.patterns, held, ranks=self.ranks)
        return Found(state, path.steps, path.residual <= tolerance, ids[..., 0], margin, values)

    @torch.no_grad()
    def nearest(self, query: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
        """Similarities and ids of the most similar patterns on all ranks, most similar first. (..., q, d) -> (..., q, min(count, total)) twice

        Raises:
            ValueError, TypeError: queries that do not fit or hold NaN or Inf, a count below 1.
        """

        def check() -> dict[str, object]:
            self._asked(query)
            if type(count) is not int or count < 1:
                raise ValueError(f"count is how many patterns to find, an integer of at least 1, got {count!r}.")
            return {"energy": str(self.spec), "query": replicated(query), "count": count}

        agreed(self.ranks, self._ids, check)
        best, index = nearest(self.spec, query, self.patterns, count=count)
        columns = zip(*(self.ranks.rows(part.mT) for part in (best, self.ids[index])), strict=True)
        scores, ids = (torch.cat(parts, -2).mT for parts in zip(*columns, strict=True))
        best, chosen = scores.topk(min(count, scores.shape[-1]), -1)
        return best, ids.gather(-1, chosen)

    @torch.no_grad()
    def forget(self, ids: Tensor | list[int]) -> None:
        """Remove patterns by their ids, given alike on all ranks, on whichever rank they are.

        Raises:
            ValueError: ids that are no whole numbers, or that no rank holds; then nothing is removed.
        """
        agreed(self.ranks, self._ids, lambda: {"ids": self._named(ids).tolist()})
        gone = self._named(ids)
        held = self.ranks.largest(torch.isin(gone, self.ids).long()) > 0
        if not bool(held.all()):
            raise ValueError(f"No rank holds a pattern under {gone[~held][:5].tolist()}: ids come from store() and recall(), and end when they are forgotten.")
        self._keep(~torch.isin(self.ids, gone))

    def _asked(self, query: Tensor) -> None:
        """Raise ValueError or TypeError for queries that cannot be answered. They are few, and read here on a GPU too: a descent waits for it anyway."""
        checks.inputs(self.spec, query, self.patterns, None, None)
        checks.contents(None, {"query": query}, query.detach().cpu())

    def save(self, folder: str | Path) -> None:
        """Write what all ranks hold to one folder that they share, by ``torch.distributed.checkpoint``. A checkpoint there is replaced when all have written.

        Raises:
            ValueError, OSError: a folder that holds something else, or that a rank could not write to; the checkpoint that was there stays.
        """
        rows = {"patterns": self.patterns, "ids": self.ids} | ({} if self.values is None else {"values": self.values})
        checkpoint.save(folder, self.ranks, rows, self._next)

    def load(self, folder: str | Path) -> None:
        """Hold what was saved instead, by however many ranks; every rank takes its share of the parts.

        torch describes a checkpoint by a pickle; nothing that it may hold is executed.

        Raises:
            ValueError, OSError: no checkpoint of such a memory there, one of another width, a damaged one, or one that a rank could not read.
        """
        rows, self._next = checkpoint.load(folder, self.ranks, self._keys)
        patterns, values, ids = rows
        self._fill(patterns, values, ids)

    def get_extra_state(self) -> dict[str, Any]:
        """What this rank holds, for ``state_dict``, under the rank's own name, so that a checkpoint of all ranks keeps every part."""
        return {f"rank {self.ranks.rank}": super().get_extra_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Hold what this rank held when it was saved."""
        name = f"rank {self.ranks.rank}"
        if name not in state:
            raise ValueError(f"This state holds {', '.join(state)}, but nothing of {name}. With another number of ranks use save() and load().")
        super().set_extra_state(state[name])
