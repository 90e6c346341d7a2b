"""How a read is cut: the tensors of a memory, and the tiles of scores between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energies.separations.derivative import vjp
from ..energies.similarities.similarity import Dot, Similarity
from .gates import kept
from .rule import Rule
from .sharing import Sharing

ELEMENTS = 2**18  # scores alive at once, 1 MiB in float32: a few such tiles fit a core's cache
VALUE, BASELINE = 1, 2  # what a read needs beside its output: Q for an energy, u for a backward pass


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
class Cut:
    """The tensors of a read, folded, and how they are cut into tiles. Keys are lifted tile by tile.

    Keys, values and origin, and the presence, may have fewer entries than there are members: one for every few consecutive ones (``Sharing``).
    States come lifted and warmed: ``score = state · lift(key)``. For a similarity that is no inner product they come as they
    are with β in an additional last column.
    """

    rule: Rule
    state: Tensor  # (b, q, e)
    keys: Tensor  # (b or fewer, n, d)
    values: Tensor | None  # (as keys, n, v); None reads the leading ``width`` columns of the lifted keys
    presence: Tensor | None  # (b or fewer, q or 1, n or 1)
    width: int
    reach: int = 0  # query i sees the slots i − reach + 1 … i; 0: all
    bias: Tensor | None = None  # (b, 1, n), added to the scores
    origin: Tensor | None = None  # (as keys, 1, d), subtracted from the keys
    seed: Tensor | None = None  # of dropout
    rate: float = 0.0
    budget: int = ELEMENTS  # scores alive at once

    @property
    def identity(self) -> bool:
        """Whether keys are their own lift, so that gradients may be summed in place."""
        return isinstance(self.rule.similarity, Dot) or not self.rule.similarity.inner

    @property
    def causal(self) -> bool:
        return self.reach > 0

    @property
    def columns(self) -> int:
        """Width of what is read."""
        return self.width if self.values is None else self.values.shape[-1]

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Batch and query ranges whose tiles fit the budget."""
        batch, queries = self.state.shape[:2]
        rows = max(1, min(queries, 512 if self.causal else 1024))  # a causal block goes up to its last query: shorter ones skip more
        width = max(1, self.keys.shape[1])
        rows, width = (max(1, min(rows, self.budget // width)), width) if self.rule.whole else (rows, min(width, 1024))
        together = max(1, self.budget // (rows * width))
        for b in range(0, batch, together):
            for i in range(0, queries, rows):
                yield slice(b, b + together), slice(i, i + rows)

    def tiles(self, b: slice, i: slice) -> Iterator[slice]:
        """Slot ranges for one block; under causality only from the first query's reach up to the last query."""
        batch, queries = self.state[b, i].shape[:2]
        width = max(1, self.keys.shape[1]) if self.rule.whole else max(64, self.budget // max(1, batch * queries))
        last = min(self.keys.shape[1], i.stop) if self.reach else self.keys.shape[1]
        for j in range(max(0, i.start - self.reach + 1) if self.reach else 0, last, width):
            yield slice(j, min(j + width, last))

    def sharing(self, tensor: Tensor, b: slice) -> Sharing:
        """Whose entries of a tensor some members have."""
        return Sharing(b, self.state.shape[0], tensor.shape[0])

    def slots(self, b: slice, j: slice) -> tuple[Tensor, Tensor]:
        """Lifted keys and values of a tile, (b, j, ·)"""
        share = self.sharing(self.keys, b)
        lifted = share.spread(self.lifted((share.entries, j)))
        return lifted, lifted[..., : self.width] if self.values is None else share.spread(self.values[share.entries, j])

    def shown(self, member: Tensor, slot: Tensor) -> Tensor:
        """What single slots of single members hold, (..., v)"""
        index = member // (self.state.shape[0] // self.keys.shape[0]), slot
        return self.lifted(index)[..., : self.width] if self.values is None else self.values[index]

    def lifted(self, index: tuple) -> Tensor:
        """Keys at an index, seen from the origin and lifted."""
        keys = self.centred(index)
        return self.rule.similarity.lift_keys(keys) if self.rule.similarity.inner else keys

    def centred(self, index: tuple) -> Tensor:
        """Keys at an index, seen from the origin."""
        keys = self.keys[index]
        if self.origin is None:
            return keys
        return keys - (self.origin[index[0]] if isinstance(index[0], slice) else self.origin.squeeze(1)[index[0]])

    def score(self, b: slice, i: slice, j: slice, lifted: Tensor) -> Tensor:
        """Scores of a tile, (b, i, j), in fresh memory."""
        state = self.state[b, i]
        score = torch.bmm(state, lifted.mT) if self.rule.similarity.inner else warmed(self.rule.similarity, state, lifted)
        score = score.clamp_(max=0.0) if self.rule.capped else score
        return score if self.bias is None else score.add_(self.bias[b, :, j])

    def kept(self, b: slice, i: slice, j: slice) -> Tensor | None:
        """What dropout multiplies the weights of a tile with, (b, i, j); None without dropout."""
        if self.seed is None:
            return None
        ranges = (range(part.start, min(part.stop, size)) for part, size in ((b, self.state.shape[0]), (i, self.state.shape[1]), (j, self.keys.shape[1])))
        member, query, slot = (torch.arange(r.start, r.stop, device=self.state.device) for r in ranges)
        return kept(self.seed, member[:, None, None], query[:, None], slot, self.rate).to(self.state.dtype)

    def lower(self, index: tuple, d_lifted: Tensor, d_keys: Tensor) -> None:
        """Add the gradient of lifted keys at an index to that of the keys."""
        if self.identity:
            d_keys[index] += d_lifted
        else:
            _, pullback = vjp(self.rule.similarity.lift_keys, self.centred(index))
            d_keys[index] += pullback(d_lifted)[0]

    def gate(self, b: slice, i: slice, j: slice) -> Tensor | None:
        """Presence of a tile, broadcastable to (b, i, j), or None when every slot is there."""
        gate = None
        if self.presence is not None:
            share = self.sharing(self.presence, b)
            gate = self.presence[share.entries]
            gate = gate[:, i] if gate.shape[1] > 1 else gate
            gate = share.spread(gate[:, :, j] if gate.shape[2] > 1 else gate)
        if self.reach and (j.stop > i.start + 1 or j.start < i.stop - self.reach):
            rows = torch.arange(i.start, min(i.stop, self.state.shape[1]), device=self.state.device)
            ago = rows.unsqueeze(-1) - torch.arange(j.start, j.stop, device=self.state.device)
            past = (ago >= 0) & (ago < self.reach)
            gate = past.unsqueeze(0) if gate is None else gate * past
        return gate


def warmed(similarity: Similarity, state: Tensor, keys: Tensor) -> Tensor:
    """``β S(x, ξ)`` of a similarity that is no inner product; β rides in the last column of the state."""
    return state[..., -1:] * similarity(state[..., :-1], keys)
