"""Data whose information is known exactly: uniform random tokens, and random facts that are met as often as Zipf's law has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .corpus import Corpus, bits_of, positive, started

HELD_OUT = 512  # sequences held back


@dataclass(frozen=True)
class UniformTokens:
    """Sequences of independent uniform tokens: ``length · log₂ V`` bits each, none of which another sequence tells (Morris et al. 2025, arXiv 2505.24832).

    There V = 2048 and length 64. Nothing generalises, so that all a model knows beyond the uniform law is memorised.

    Args:
        vocabulary: V.
        length: tokens of a sequence.

    ``(examples, seed) -> Corpus``; the first sequences of a seed are the same for every number of examples.
    """

    vocabulary: int = 32
    length: int = 16
    name = "uniform"

    def __post_init__(self):
        bits_of(self.vocabulary, self.length)

    def __call__(self, examples: int, seed: int) -> Corpus:
        positive(examples=examples)
        rows = _tokens(HELD_OUT + examples, self.length, self.vocabulary, seed)
        if len(torch.unique(rows, dim=0)) < len(rows):
            raise ValueError(
                f"{examples} sequences of {self.length} tokens from {self.vocabulary} repeat each other, so that their bits are not known: use longer ones."
            )
        rows = started(rows, self.vocabulary)
        return Corpus(rows[HELD_OUT:], rows[:HELD_OUT], self.vocabulary + 1, bits_of(self.vocabulary, self.length))


@dataclass(frozen=True)
class ZipfFacts:
    """Facts key → value, met with probability ``∝ rank^−α`` (as in Cabannes et al. 2024, arXiv 2310.02984); the values are uniform random tokens.

    A sequence is the digits of the key and then the value, which alone is scored: ``length · log₂ V`` bits for every distinct fact that was met,
    however often. Validation holds keys that are never met: nothing tells their values.

    Args:
        facts: keys that may be met; as many more are held back, 512 at most.
        vocabulary: V, of digits and values alike.
        length: tokens of a value.
        alpha: exponent of the law, ≥ 0 (0: all alike).
    """

    facts: int = 4096
    vocabulary: int = 32
    length: int = 4
    alpha: float = 1.0
    name = "zipf"

    def __post_init__(self):
        bits_of(self.vocabulary, self.length)
        positive(facts=self.facts)
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"The exponent of Zipf's law is ≥ 0 and finite, got {self.alpha!r}.")

    @property
    def digits(self) -> int:
        """Tokens of a key."""
        count, digits = self.facts + min(self.facts, HELD_OUT), 1
        while self.vocabulary**digits < count:
            digits += 1
        return digits

    def __call__(self, examples: int, seed: int) -> Corpus:
        positive(examples=examples)
        held = min(self.facts, HELD_OUT)
        keys = torch.arange(self.facts + held)[:, None] // self.vocabulary ** torch.arange(self.digits) % self.vocabulary
        values = _tokens(self.facts + held, self.length, self.vocabulary, seed)
        rows = started(torch.cat([keys, values], dim=1), self.vocabulary)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed + 1))  # so that a rank is no digit
        frequency = torch.arange(1, self.facts + 1, dtype=torch.float64) ** -self.alpha
        met = torch.multinomial(frequency, examples, replacement=True, generator=torch.Generator().manual_seed(seed + 2))
        places = tuple(range(self.digits, self.digits + self.length))
        return Corpus(rows[order[met]], rows[order[self.facts :]], self.vocabulary + 1, bits_of(self.vocabulary, self.length), scored=places)


def _tokens(count: int, length: int, vocabulary: int, seed: int) -> Tensor:
    return torch.randint(vocabulary, (count, length), generator=torch.Generator().manual_seed(seed))
