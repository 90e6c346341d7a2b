"""What is to be memorised: sequences of tokens, what was held back from them, and how many bits they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Corpus:
    """Sequences to train on, and others like them that are disjoint from those.

    Every row starts with a token that is no data (the last symbol), so that its first token is predicted, too.

    Attributes:
        training: (n, 1 + length), rows may repeat (frequent facts).
        validation: (m, 1 + length), disjoint from ``training``.
        symbols: size of the alphabet, the start included.
        bits_per_example: information of one distinct training row that no other row tells, where it is known; None for text.
        reference: (r, 1 + length), disjoint from both: what a reference model learns where no law gives ``log p`` of a row. None where one does.
        scored: which of the ``length`` predicted tokens count. Empty: all.
    """

    training: Tensor
    validation: Tensor
    symbols: int
    bits_per_example: float | None = None
    reference: Tensor | None = None
    scored: tuple[int, ...] = field(default=())

    def __post_init__(self):
        parts = {"training": self.training, "validation": self.validation, "reference": self.reference}
        for name, rows in parts.items():
            if rows is not None and (rows.dtype != torch.long or rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] != self.training.shape[1]):
                raise ValueError(f"{name} is a tensor of whole numbers (rows, 1 + length), at least one row, got {rows.dtype}, {tuple(rows.shape)}.")
            if rows is not None and not 0 <= int(rows.min()) <= int(rows.max()) < self.symbols:
                raise ValueError(f"The tokens of {name} lie in [0, {self.symbols}), got {int(rows.min())} to {int(rows.max())}.")
        if self.bits_per_example is None and self.reference is None:
            raise ValueError("What a model memorises is counted against a law (bits_per_example) or a reference model: give one of them.")
        if any(not 0 <= place < self.length for place in self.scored):
            raise ValueError(f"scored names predicted tokens, 0 to {self.length - 1}, got {self.scored}.")

    @property
    def length(self) -> int:
        """Tokens of a row that are predicted."""
        return self.training.shape[1] - 1

    @property
    def counted(self) -> tuple[int, ...]:
        """Places of the predicted tokens that count."""
        return self.scored or tuple(range(self.length))

    @property
    def distinct(self) -> Tensor:
        """Training rows, each once, in an order that has nothing to do with their tokens and is always the same: the first k are a fair sample."""
        rows = torch.unique(self.training, dim=0)  # sorted
        return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]

    @property
    def bits(self) -> float | None:
        """Information of all distinct training rows, None where it is not known."""
        return None if self.bits_per_example is None else self.bits_per_example * len(self.distinct)

    @property
    def presented(self) -> float | None:
        """Bits ``n S log₂ V`` of n rows, V without the start, by which data sizes are told in arXiv 2505.24832; None where rows repeat or count in part."""
        whole = not self.scored and len(self.distinct) == len(self.training)
        return len(self.training) * self.length * math.log2(max(self.symbols - 1, 1)) if whole else None


MakeData = Callable[[int, int], Corpus]
"""``(examples, seed) -> Corpus``."""


def started(rows: Tensor, start: int) -> Tensor:
    """Rows with the start in front. (n, length) -> (n, 1 + length)"""
    return torch.cat([torch.full((len(rows), 1), start, dtype=torch.long), rows.long()], dim=1)


def bits_of(vocabulary: int, length: int) -> float:
    """``length · log₂ V``."""
    if vocabulary < 2 or length < 1:
        raise ValueError(f"A sequence has at least one token of a vocabulary of at least two, got length={length}, vocabulary={vocabulary}.")
    return length * math.log2(vocabulary)


def positive(**numbers: int) -> None:
    """Raise ValueError where a count is no positive whole number."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} is a whole number of at least 1, got {number!r}.")
