"""Leading dimensions folded to batch and heads, (b, h, t, ·), and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .tokens import Tokens


class Folding:
    """What is written has the leading dimensions of keys, values, rates, decays and state. A dimension in which only queries vary is a group
    of queries that share a memory: it becomes part of the heads of the queries, ``hq = h · g``."""

    def __init__(self, tokens: Tokens):
        beta = tokens.memory.read.beta
        shapes = [tokens.query.shape[:-2], *([beta.shape] if isinstance(beta, Tensor) else [])]
        self.full = torch.broadcast_shapes(tokens.lead, *shapes)
        self.memory = [1] * (len(self.full) - len(tokens.lead)) + list(tokens.lead)
        self.shared = [k for k, size in enumerate(self.full) if self.memory[k] == 1 and size != 1]
        self.kept = [k for k in range(len(self.full)) if k not in self.shared]
        sizes = [self.memory[k] for k in self.kept]
        self.batch = sizes[0] if len(sizes) > 1 else 1
        self.heads = math.prod(sizes[1:]) if len(sizes) > 1 else math.prod(sizes)
        self.groups = math.prod([self.full[k] for k in self.shared])

    def memories(self, rows: Tensor) -> Tensor:
        """A tensor of the memory, (..., t, ·) -> (b, h, t, ·)"""
        return rows.expand(*self.memory, *rows.shape[-2:]).reshape(self.batch, self.heads, *rows.shape[-2:])

    def folded(self, rows: Tensor | None) -> Tensor | None:
        """The same where there may be none."""
        return None if rows is None else self.memories(rows)

    def flat(self, amounts: Tensor | None) -> Tensor | None:
        """(..., t) -> (b, h, t)"""
        return None if amounts is None else amounts.expand(*self.memory, amounts.shape[-1]).reshape(self.batch, self.heads, amounts.shape[-1])

    def queries(self, rows: Tensor) -> Tensor:
        """(..., t, ·) -> (b, h · g, t, ·)"""
        rows = rows.expand(*self.full, *rows.shape[-2:]).permute(*self.kept, *self.shared, -2, -1)
        return rows.reshape(self.batch, self.heads * self.groups, *rows.shape[-2:])

    def unfolded(self, rows: Tensor) -> Tensor:
        """(b, h, t, ·) -> (..., t, ·), of the memory"""
        return rows.reshape(*self.memory, *rows.shape[-2:])

    def answers(self, rows: Tensor) -> Tensor:
        """(b, h · g, t, ·) -> (..., t, ·), of the queries"""
        order = [*self.kept, *self.shared]
        rows = rows.reshape(*(self.full[k] for k in order), *rows.shape[-2:])
        back = [order.index(k) for k in range(len(order))]
        return rows.permute(*back, len(order), len(order) + 1)
