"""Queries of every rank's own, put together for a memory that all ranks share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..energies import checks
from .agreement import agreed, differentiated, followed
from .ranks import Ranks
from .retrieve import plain


class Gathered:
    """Queries of every rank's own, each with a loss of its own, put together for a memory that all ranks share.

        asked = Gathered(query)
        mine = asked.own(retrieve(energy, asked.queries, keys, values))

    Gradients are those of the sum of all ranks' losses: what several steps of ``optimizer.step()`` on one process would see, or data parallelism without
    the division by the number of ranks.

    Args:
        query: (..., q, d), of this rank; q may differ from rank to rank.
        ranks: the processes. None: all.

    Attributes:
        queries: of all ranks, one after the other (..., Σ q, d).
    """

    def __init__(self, query: Tensor, ranks: Ranks | None = None):
        ranks = Ranks() if ranks is None else ranks

        def check() -> dict[str, object]:
            plain({"query": query})
            checks.floating("query", query)
            return {"leading dimensions and width of query": (query.shape[:-2], query.shape[-1]), "dtype of query": query.dtype}

        if not agreed(ranks, query, check, differentiated(query)):
            query = followed(query)
        counts = ranks.counts(query.shape[-2], query.device)
        self.ranks, self._mine = ranks, slice(sum(counts[: ranks.rank]), sum(counts[: ranks.rank + 1]))
        self.queries: Tensor = _Gather.apply(query, ranks, self._mine)  # type: ignore[assignment]

    def own(self, result: Tensor) -> Tensor:
        """The rows (..., q, ·) that answer this rank's queries, of what was read for all of them (..., Σ q, ·)."""
        return _Own.apply(result, self.ranks, self._mine)  # type: ignore[return-value]


class _Gather(torch.autograd.Function):
    """Rows of all ranks. The gradient that comes back is equal on all of them, so that every rank takes its own rows."""

    @staticmethod
    def forward(ctx, query, ranks, mine):  # type: ignore[override]
        ctx.mine = mine
        return torch.cat(ranks.rows(query), -2)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):  # type: ignore[override]
        return cotangent[..., ctx.mine, :].contiguous(), None, None


class _Own(torch.autograd.Function):
    """This rank's rows. Every rank must see the gradients of all rows."""

    @staticmethod
    def forward(ctx, result, ranks, mine):  # type: ignore[override]
        ctx.ranks = ranks
        return result[..., mine, :].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):  # type: ignore[override]
        return torch.cat(ctx.ranks.rows(cotangent), -2), None, None
