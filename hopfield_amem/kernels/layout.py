"""Leading dimensions folded to one batch dimension, or to batch and heads, and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Layout:
    """Fold (..., rows, columns) tensors to (batch, rows, columns), or to (batch, heads, rows, columns).

    A leading dimension in which only the queries vary is folded into the rows, so that one memory of shape (n, d)
    serves queries of any shape as a single large batch of rows, without a copy. Where rows differ in what they see (causal
    reads, a presence per query) ``folded`` repeats the memory, while ``grouped`` lets heads share it. All steps are differentiable.
    """

    def __init__(self, state: Tensor, keys: Tensor, values: Tensor | None, presence: Tensor | None, aligned: bool, *leads: torch.Size):
        """``aligned`` says that rows differ in what they see; ``leads`` are leading shapes of further tensors of the memory."""
        presence = presence.unsqueeze(0) if presence is not None and presence.ndim == 1 else presence
        self.tensors = state, keys, values, presence
        shapes = [*leads, *(t.shape[:-2] for t in (state, keys, values, presence) if t is not None)]
        self.lead = torch.broadcast_shapes(*shapes)
        self.rows = state.shape[-2]
        per_query = aligned or (presence is not None and presence.shape[-2] > 1)
        shapes = [*leads, *(t.shape[:-2] for t in (keys, values, presence) if t is not None)]
        memory = [self._padded(shape) for shape in shapes]
        self.shared = [k for k in range(len(self.lead)) if not per_query and all(shape[k] == 1 for shape in memory)]
        self.kept = [k for k in range(len(self.lead)) if k not in self.shared]

    def folded(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """State (b, rows, e), keys (b, n, e), values (b, n, v) and presence (b, rows or 1, n or 1)."""
        state, keys, values, presence = self.tensors
        state = self._rowed(state).reshape(self._count(self.kept), self._count(self.shared) * self.rows, state.shape[-1])
        return (
            state,
            self.batched(keys),
            None if values is None else self.batched(values),
            None if presence is None else self.batched(presence),
        )

    def joined(self) -> tuple[Tensor | None, ...]:
        """``folded``, with one entry of keys, values and presence for every few consecutive members that share it."""
        state, keys, values, _ = self.tensors
        state = self._rowed(state).reshape(self._count(self.kept), self._count(self.shared) * self.rows, state.shape[-1])
        return state, self.entries(keys), self.entries(values), self._gates()

    def entries(self, tensor: Tensor | None) -> Tensor | None:
        """Of a (..., rows, columns) tensor of the memory one for each group of heads that shares it: (b / group, rows, columns)"""
        tensor = self.once(tensor)
        return None if tensor is None else tensor.flatten(0, 1)

    def grouped(self, *vectors: tuple[Tensor | None, int]) -> list[Tensor | None]:
        """State (b, h, rows, e), keys and values (b, h / group, n, ·), presence (b, h, rows or 1, n or 1).

        Heads that share a memory stand in one group, and nothing is repeated: broadcast dimensions stay views. ``vectors``
        are further tensors with the number of their trailing dimensions; they become (b, h, ...).
        """
        state, keys, values, presence = self.tensors
        state = self._rowed(state).reshape(*self._sizes(), self._count(self.shared) * self.rows, state.shape[-1])
        return [state, self.once(keys), self.once(values), self._every(presence, 2), *(self._every(*vector) for vector in vectors)]

    def once(self, tensor: Tensor | None) -> Tensor | None:
        """Of a (..., rows, columns) tensor of the memory one for each group of heads that shares it: (b, h / group, rows, columns)"""
        if tensor is None:
            return None
        first, split = self._cuts()
        shape, kept = self._padded(tensor.shape[:-2]), self.kept[:split]
        tensor = tensor.reshape((*(shape[k] for k in kept), *tensor.shape[-2:]))
        tensor = tensor.expand((*(self.lead[k] for k in kept), *tensor.shape[-2:]))
        return tensor.reshape(self._count(kept[:first]), self._count(kept[first:]), *tensor.shape[-2:])

    def gate(self) -> Tensor | None:
        """The presence, one for all heads where they share it, (b, h or 1, rows or 1, n or 1)"""
        gate = self._every(self.tensors[3], 2)
        return gate[:, :1] if gate is not None and self._uniform() <= self._cuts()[0] else gate

    def _gates(self) -> Tensor | None:
        """The presence with one entry for every few consecutive members that share it, (b or fewer, rows or 1, n or 1)"""
        gate = self.gate()
        return None if gate is None else (gate if self._uniform() else gate[:1]).flatten(0, 1)

    def unfolded(self, result: Tensor) -> Tensor:
        """(b, rows, columns) or (b, h, rows, columns) -> (..., q, columns)"""
        order = [*self.kept, *self.shared]
        result = result.reshape(*(self.lead[k] for k in order), self.rows, result.shape[-1])
        back = [order.index(k) for k in range(len(order))]
        return result.permute(*back, len(order), len(order) + 1)

    def batched(self, tensor: Tensor) -> Tensor:
        """Expand a (..., rows, columns) tensor of the memory over the kept dimensions (the shared ones have size 1) and join them."""
        shape = [1 if k in self.shared else size for k, size in enumerate(self.lead)]
        return tensor.expand(*shape, *tensor.shape[-2:]).reshape(self._count(self.kept), *tensor.shape[-2:])

    def _rowed(self, state: Tensor) -> Tensor:
        """The state with its shared dimensions next to its rows."""
        last = len(self.lead)
        return state.expand(*self.lead, *state.shape[-2:]).permute(*self.kept, *self.shared, last, last + 1)

    def _cuts(self) -> tuple[int, int]:
        """How many kept dimensions are batch, and how many come before those in which keys and values do not vary. Heads are all but the batch."""
        memory = [self._padded(t.shape[:-2]) for t in self.tensors[1:3] if t is not None]
        split, uniform = self._constant(memory), self._uniform()
        return (uniform if uniform == split else max(split - 1, 0)), split

    def _uniform(self) -> int:
        """How many kept dimensions come before those in which the presence does not vary."""
        presence = self.tensors[3]
        return 0 if presence is None else self._constant([self._padded(presence.shape[:-2])])

    def _constant(self, shapes: list[list[int]]) -> int:
        """How many kept dimensions come before those in which all these shapes are 1."""
        split = len(self.kept)
        while split and all(shape[self.kept[split - 1]] == 1 for shape in shapes):
            split -= 1
        return split

    def _sizes(self) -> tuple[int, int]:
        """Batch and heads."""
        first, _ = self._cuts()
        return self._count(self.kept[:first]), self._count(self.kept[first:])

    def _every(self, tensor: Tensor | None, trailing: int) -> Tensor | None:
        """Expanded over all kept dimensions: (b, h, ...)"""
        if tensor is None:
            return None
        inner = tensor.shape[tensor.ndim - trailing :]
        shape = self._padded(tensor.shape[: tensor.ndim - trailing])
        tensor = tensor.reshape((*(shape[k] for k in self.kept), *inner)).expand((*(self.lead[k] for k in self.kept), *inner))
        return tensor.reshape((*self._sizes(), *inner))

    def _count(self, dims: list[int]) -> int:
        return math.prod([self.lead[k] for k in dims])

    def _padded(self, shape: torch.Size) -> list[int]:
        return [1] * (len(self.lead) - len(shape)) + list(shape)
