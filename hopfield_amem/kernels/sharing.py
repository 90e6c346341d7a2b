"""Members of a batch that share what they read from: a tensor with one entry for every few consecutive members."""

from __future__ import annotations

import torch
from torch import Tensor


class Sharing:
    """Some members of a batch, and their entries in a tensor where member m has entry ``m // each``; ``each`` is 1 where nothing is shared."""

    def __init__(self, members: slice, batch: int, entries: int):
        self.each = batch // max(1, entries)
        start, stop = members.start, min(members.stop, batch)
        self.count = stop - start
        first = start // max(1, self.each)
        self.offset = start - first * self.each
        self.entries = slice(first, first + -(-(self.offset + self.count) // max(1, self.each)))

    @property
    def one(self) -> bool:
        """Whether all these members have the same entry."""
        return self.entries.stop - self.entries.start == 1

    def spread(self, entries: Tensor) -> Tensor:
        """What each member has, from the entries; a view where they all have the same."""
        if self.each == 1:
            return entries
        if self.one:
            return entries.expand(self.count, *entries.shape[1:])
        return entries.repeat_interleave(self.each, 0)[self.offset : self.offset + self.count]

    def gather(self, members: Tensor) -> Tensor:
        """What the entries have in all, from what each member has."""
        if self.each == 1:
            return members
        if self.one:
            return members.sum(0, keepdim=True)
        index = (torch.arange(self.count, device=members.device) + self.offset) // self.each
        return members.new_zeros(self.entries.stop - self.entries.start, *members.shape[1:]).index_add_(0, index, members)
