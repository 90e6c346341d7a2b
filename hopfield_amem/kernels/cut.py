"""How a read is cut: the rule of an energy, the tensors of a memory, and the tiles of scores between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energies.scaling import Log, Scaling, Simplex, is_exponential
from ..energies.separation import Separation

ELEMENTS = 2**19  # scores alive at once, 2 MiB in float32: fits a core's cache
VALUE, BASELINE = 1, 2  # what a read needs beside its output: Q for an energy, u for a backward pass


@dataclass(frozen=True)
class Rule:
    """What a tile needs to know of an energy: F, Q, and, unless scores are inner products, the similarity itself."""

    separation: Separation
    scaling: Scaling
    similarity: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def exponential(self) -> bool:
        """Softmax weights, under ``Log`` or ``Simplex``: normalised by a running maximum."""
        return is_exponential(self.separation) and isinstance(self.scaling, (Log, Simplex))

    @property
    def logarithmic(self) -> bool:
        return isinstance(self.scaling, Log) and not self.exponential

    @property
    def thresholded(self) -> bool:
        return isinstance(self.scaling, Simplex) and not self.exponential

    @property
    def null(self) -> float:
        """F of the empty slot: 1 where the scaling has one."""
        return float(isinstance(self.scaling, Log) and self.scaling.null_slot)

    @property
    def constant(self) -> float:
        """What ``Q`` exceeds ``log Σ eˢ`` by, for exponential rules."""
        return 1.0 if isinstance(self.scaling, Simplex) else 0.0


@dataclass
class Rows:
    """Statistics of every query: output o and baseline u (b, q, v), value Q (b, q), threshold τ (b, q, 2).

    τ is kept as the row's largest score and the distance from it, because ``(s − top) − (τ − top)`` stays exact at any β.
    """

    output: Tensor
    value: Tensor
    tau: Tensor
    baseline: Tensor


@dataclass
class Memory:
    """The tensors of a read, already lifted and folded, and how they are cut into tiles."""

    state: Tensor  # (b, q, e)
    keys: Tensor  # (b, n, e)
    values: Tensor  # (b, n, v)
    presence: Tensor | None  # (b, q or 1, n or 1)
    causal: bool
    tied: bool  # the values are the leading columns of the keys, and so are their gradients
    budget: int = ELEMENTS  # scores alive at once

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Batch and query ranges whose tiles fit the budget."""
        batch, queries = self.state.shape[:2]
        rows = max(1, min(queries, 512))
        together = max(1, self.budget // (rows * max(1, min(self.keys.shape[1], 1024))))
        for b in range(0, batch, together):
            for i in range(0, queries, rows):
                yield slice(b, b + together), slice(i, i + rows)

    def tiles(self, b: slice, i: slice) -> Iterator[slice]:
        """Slot ranges for one block; under causality only up to the last query."""
        batch, queries = self.state[b, i].shape[:2]
        width = max(64, self.budget // max(1, batch * queries))
        last = min(self.keys.shape[1], i.stop) if self.causal else self.keys.shape[1]
        for j in range(0, last, width):
            yield slice(j, min(j + width, last))

    def score(self, rule: Rule, b: slice, i: slice, j: slice) -> Tensor:
        """Scores of a tile, (b, i, j), in fresh memory."""
        state, keys = self.state[b, i], self.keys[b, j]
        return torch.bmm(state, keys.mT) if rule.similarity is None else rule.similarity(state, keys)

    def gate(self, b: slice, i: slice, j: slice) -> Tensor | None:
        """Presence of a tile, broadcastable to (b, i, j), or None when every slot is there."""
        gate = None
        if self.presence is not None:
            gate = self.presence[b]
            gate = gate[:, i] if gate.shape[1] > 1 else gate
            gate = gate[:, :, j] if gate.shape[2] > 1 else gate
        if self.causal and j.stop > i.start + 1:
            rows = torch.arange(i.start, min(i.stop, self.state.shape[1]), device=self.state.device)
            past = torch.arange(j.start, j.stop, device=self.state.device) <= rows.unsqueeze(-1)
            gate = past.unsqueeze(0) if gate is None else gate * past
        return gate
