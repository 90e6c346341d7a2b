"""Running sums over queries, so that any number of batches is looked at in the memory of one block of rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .association import active_slots, effective_slots, metastable_class, metastable_size, retrieval_noise, score_margin

MEANS = ("energy", "visible", "effective", "size", "noise", "first", "null")


@dataclass(frozen=True)
class Reading:
    """A block of queries, read: what ``HeadTally`` looks at.

    Attributes:
        energy: of every query, (batch, heads, q).
        scores: β S, with everything that is added to it, (batch, heads, q, n).
        weights: p, (batch, heads, q, n).
        presence: which slots a query sees, boolean, broadcastable to the weights.
        null: weight of what is no slot (an empty memory, a sink), (batch, heads, q).
    """

    energy: Tensor
    scores: Tensor
    weights: Tensor
    presence: Tensor
    null: Tensor


class HeadTally:
    """Sums, over all queries that had a choice, of what the heads of one attention did with them.

    A query counts when it is a token, sees at least two slots and gives weight to one, or to what is no slot; a query that gives all to that retrieves 0 slots.
    """

    def __init__(self):
        self._sums: Tensor | float = 0.0  # (MEANS, heads)
        self._queries: Tensor | int = 0  # (heads,)
        self._classes: Tensor | int = 0  # (heads, 4)
        self._margins: list[Tensor] = []  # (heads, queries) each, NaN where a query does not count: one number per query, for the median

    def add(self, reading: Reading, tokens: Tensor, first: Tensor) -> None:
        """Count a block. ``tokens``: which queries are no padding, boolean (batch, q). ``first``: index of the first token among the slots, (batch,)."""
        weights, presence = reading.weights, reading.presence.expand_as(reading.weights)
        visible, mass = presence.sum(-1), weights.abs().sum(-1)
        total = mass + reading.null
        counted = tokens.unsqueeze(-2) & (visible > 1) & (total > 0)
        size = metastable_size(weights)
        place = first[:, None, None, None].expand(*weights.shape[:-1], 1)
        found = {
            "energy": reading.energy, "visible": visible, "effective": effective_slots(weights), "size": size,
            "noise": retrieval_noise(weights).nan_to_num(0),
            "first": weights.abs().gather(-1, place).squeeze(-1) / total, "null": reading.null / total,
        }  # fmt: skip
        self._queries = self._queries + _per_head(counted, counted).sum(-1).cpu()
        self._sums = self._sums + torch.stack([_per_head(found[name], counted).cpu().double().sum(-1) for name in MEANS])
        kinds = torch.nn.functional.one_hot(metastable_class(size, visible), 5)[..., 1:] * counted.unsqueeze(-1)
        self._classes = self._classes + kinds.sum((0, 2)).cpu()
        margin = torch.where(counted, score_margin(reading.scores, presence), torch.nan)
        self._margins.append(margin.transpose(0, 1).flatten(1).cpu())

    def summary(self) -> dict[str, Tensor]:
        """Per head: the means of ``MEANS`` (noise is SNR⁻¹), the median "margin", the number of "queries", and how many were in each class, "classes"
        (heads, 4)."""
        assert isinstance(self._classes, Tensor) and isinstance(self._sums, Tensor) and isinstance(self._queries, Tensor)
        sums = dict(zip(MEANS, self._sums, strict=True))
        means = {name: total / self._queries for name, total in sums.items()} | {"noise": sums["noise"] / self._classes.sum(-1)}
        margin = torch.cat(self._margins, 1).nanmedian(1).values.double()
        return means | {"margin": margin, "queries": self._queries, "classes": self._classes}


class SlotTally:
    """Sums, over all tokens, of which slots of a feed-forward memory they used.

    Args:
        threshold: see ``active_slots``.
    """

    def __init__(self, threshold: float):
        self._threshold = threshold
        self._tokens = 0
        self._sums: Tensor | float = 0.0
        self._ever: Tensor | bool = False

    def add(self, activation: Tensor) -> None:
        """Count tokens by what multiplies the values, (tokens, slots)."""
        active = active_slots(activation, self._threshold)
        self._tokens += len(activation)
        self._sums = self._sums + torch.stack([active.sum(-1).double().sum(), effective_slots(activation).double().sum()])
        self._ever = active.any(0) | self._ever

    def summary(self) -> dict[str, float]:
        """Number of "slots" and "tokens", mean number of slots "active" and "effective" per token, and how many were never active, "dead"."""
        assert isinstance(self._sums, Tensor) and isinstance(self._ever, Tensor)
        active, effective = (self._sums / self._tokens).tolist()
        dead = int((~self._ever).sum())
        return {"slots": len(self._ever), "tokens": self._tokens, "active": active, "effective": effective, "dead": dead}


def _per_head(value: Tensor, counted: Tensor) -> Tensor:
    """What counts, one row per head. (batch, heads, q) -> (heads, batch · q)"""
    return torch.where(counted, value, 0).transpose(0, 1).flatten(1)
