"""Leading dimensions folded to one batch dimension and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Layout:
    """Fold (..., rows, columns) tensors to (batch, rows, columns).

    A leading dimension in which only the queries vary is folded into the rows, so that one memory of shape (n, d)
    serves queries of any shape as a single large batch of rows, without a copy. Where rows differ in what they see (causal
    reads, a presence per query) or only keys are shared, the memory is repeated. All steps are differentiable.
    """

    def __init__(self, state: Tensor, keys: Tensor, values: Tensor | None, presence: Tensor | None, aligned: bool, *leads: torch.Size):
        """``aligned`` says that rows differ in what they see; ``leads`` are leading shapes of further tensors of the memory."""
        self.tensors = state, keys, values, presence
        shapes = [*leads, *(t.shape[:-2] for t in (state, keys, values, presence) if t is not None)]
        self.lead = torch.broadcast_shapes(*shapes)
        self.rows = state.shape[-2]
        per_query = aligned or (presence is not None and presence.ndim > 1 and presence.shape[-2] > 1)
        shapes = [*leads, *(t.shape[:-2] for t in (keys, values, presence) if t is not None)]
        memory = [_padded(shape, len(self.lead)) for shape in shapes]
        self.shared = [k for k in range(len(self.lead)) if not per_query and all(shape[k] == 1 for shape in memory)]
        self.kept = [k for k in range(len(self.lead)) if k not in self.shared]

    def folded(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """State (b, rows, e), keys (b, n, e), values (b, n, v) and presence (b, rows or 1, n or 1)."""
        state, keys, values, presence = self.tensors
        order = [*self.kept, *self.shared, len(self.lead), len(self.lead) + 1]
        state = state.expand(*self.lead, *state.shape[-2:]).permute(order)
        batch = self._count(self.kept)
        state = state.reshape(batch, self._count(self.shared) * self.rows, state.shape[-1])
        return (
            state,
            self.batched(keys),
            None if values is None else self.batched(values),
            None if presence is None else self.batched(presence),
        )

    def grouped(self, *vectors: tuple[Tensor | None, int]) -> list[Tensor | None]:
        """State (b, h, rows, e), keys and values (b, h / group, n, ·), presence (b, h, rows or 1, n or 1).

        Heads that share a memory stand in one group, and nothing is repeated: broadcast dimensions stay views. ``vectors``
        are further tensors with the number of their trailing dimensions; they become (b, h, ...).
        """
        state, keys, values, presence = self.tensors
        sizes = [self.lead[k] for k in self.kept]
        memory = [_padded(t.shape[:-2], len(self.lead)) for t in (keys, values) if t is not None]
        split = len(sizes)
        while split and all(shape[self.kept[split - 1]] == 1 for shape in memory):
            split -= 1
        heads = sizes[split - 1] if split else 1
        group = math.prod(sizes[split:])
        batch = math.prod(sizes[: max(split - 1, 0)])
        order = [*self.kept, *self.shared, len(self.lead), len(self.lead) + 1]
        state = state.expand(*self.lead, *state.shape[-2:]).permute(order)
        state = state.reshape(batch, heads * group, self._count(self.shared) * self.rows, state.shape[-1])

        def every(tensor: Tensor | None, trailing: int) -> Tensor | None:
            """Expanded over all kept dimensions: (b, h, ...)"""
            if tensor is None:
                return None
            inner = tensor.shape[tensor.ndim - trailing :]
            lead = _padded(tensor.shape[: tensor.ndim - trailing], len(self.lead))
            tensor = tensor.reshape((*(lead[k] for k in self.kept), *inner)).expand((*sizes, *inner))
            return tensor.reshape((batch, heads * group, *inner))

        def once(tensor: Tensor | None) -> Tensor | None:
            """Of every memory one: (b, h / group, n, ·)"""
            if tensor is None:
                return None
            shape = _padded(tensor.shape[:-2], len(self.lead))
            tensor = tensor.reshape((*(shape[k] for k in self.kept[:split]), *tensor.shape[-2:]))
            return tensor.expand((*sizes[:split], *tensor.shape[-2:])).reshape(batch, heads, *tensor.shape[-2:])

        presence = presence.unsqueeze(0) if presence is not None and presence.ndim == 1 else presence
        return [state, once(keys), once(values), every(presence, 2), *(every(*vector) for vector in vectors)]

    def ungrouped(self, result: Tensor) -> Tensor:
        """(b, h, rows, columns) -> (..., q, columns)"""
        return self.unfolded(result.flatten(0, 1))

    def unfolded(self, result: Tensor) -> Tensor:
        """(b, rows, columns) -> (..., q, columns)"""
        order = [*self.kept, *self.shared]
        result = result.reshape(*(self.lead[k] for k in order), self.rows, result.shape[-1])
        back = [order.index(k) for k in range(len(order))]
        return result.permute(*back, len(order), len(order) + 1)

    def batched(self, tensor: Tensor) -> Tensor:
        """Expand a (..., rows, columns) tensor of the memory over the kept dimensions (the shared ones have size 1) and join them."""
        tensor = tensor.unsqueeze(0) if tensor.ndim == 1 else tensor
        shape = [1 if k in self.shared else size for k, size in enumerate(self.lead)]
        return tensor.expand(*shape, *tensor.shape[-2:]).reshape(self._count(self.kept), *tensor.shape[-2:])

    def _count(self, dims: list[int]) -> int:
        return math.prod([self.lead[k] for k in dims])


def _padded(shape: torch.Size, length: int) -> list[int]:
    return [1] * (length - len(shape)) + list(shape)
