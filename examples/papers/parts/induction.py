"""The task of Birth of a Transformer, and its transformer of two layers (Bietti et al. 2023, arXiv 2306.00802).

Characters follow each other as in a text, but after each of five triggers always comes the character that a sequence has chosen for it. Bigrams can be stored
in weights; what follows a trigger must be found in context, by an induction head. Embeddings and read-out are random and frozen, so that every learned matrix
is an associative memory between known vectors.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hopfield_amem import presets
from hopfield_amem.analysis.memorization import Text
from hopfield_amem.analysis.scaling import memory_recall_probe
from hopfield_amem.layers import HopfieldAttention, Wiring

TRIGGERS, SYMBOLS = 5, 64  # the most frequent characters of the text are triggers, and only so many characters are kept


@dataclass(frozen=True)
class Bigrams:
    """Sequences of the task: the law of a text's bigrams, (symbols, symbols), and of its characters, (symbols,), the most frequent first."""

    follows: Tensor
    single: Tensor

    @classmethod
    def of_text(cls) -> Bigrams:
        rows = Text(length=256)(300, 0).training[:, 1:]
        kept = [symbol for symbol, _ in Counter(rows.flatten().tolist()).most_common(SYMBOLS)]
        number = torch.full((257,), -1).index_put((torch.tensor(kept),), torch.arange(len(kept)))
        first, second = number[rows[:, :-1]].flatten(), number[rows[:, 1:]].flatten()
        both = (first >= 0) & (second >= 0)
        counts = torch.zeros(len(kept), len(kept)).index_put((first[both], second[both]), torch.ones(int(both.sum())), accumulate=True) + 0.01
        return cls(counts / counts.sum(1, keepdim=True), counts.sum(1) / counts.sum())

    def sequences(self, count: int, length: int, chosen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sequences (count, length + 1), and which of the ``length`` predicted characters were met after the same trigger before: those context tells.

        What a sequence puts after its triggers is drawn by the law ``chosen``, (symbols,); None is all alike.
        """
        outputs = torch.randint(SYMBOLS, (count, TRIGGERS)) if chosen is None else torch.multinomial(chosen.expand(count, -1), TRIGGERS, replacement=True)
        now, rows = torch.multinomial(self.single, count, replacement=True), []
        seen, told = torch.zeros(count, TRIGGERS + 1, dtype=torch.bool), []
        for _ in range(length + 1):
            rows.append(now)
            trigger = now.clamp(max=TRIGGERS)  # the last: no trigger
            told.append(seen.gather(1, trigger[:, None]).squeeze(1) & (trigger < TRIGGERS))
            seen = seen.scatter(1, trigger[:, None], True)
            after = torch.multinomial(self.follows[now], 1).squeeze(1)
            now = torch.where(trigger < TRIGGERS, outputs.gather(1, trigger.clamp(max=TRIGGERS - 1)[:, None]).squeeze(1), after)
        return torch.stack(rows, 1), torch.stack(told[:-1], 1)


class TwoLayers(nn.Module):
    """Two layers of one-headed attention with ``W_Q = 1``, a linear feed-forward memory after the second; embeddings, positions, read-out random and frozen."""

    def __init__(self, length: int, dim: int):
        super().__init__()
        for name, shape in (("embeddings", (SYMBOLS, dim)), ("positions", (length, dim)), ("unembeddings", (SYMBOLS, dim))):
            self.register_buffer(name, torch.randn(shape) / math.sqrt(dim))
        wiring = Wiring(static=("query",), bias=False)
        self.layers = nn.ModuleList(HopfieldAttention(dim, 1, presets.log_sum_exp(1.0), wiring=wiring) for _ in range(2))
        for layer in self.layers:
            layer.log_beta.requires_grad_(False)
        self.feed_forward = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.feed_forward.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embeddings[tokens] + self.positions
        for layer in self.layers:
            x = x + layer(x, causal=True)
        return (x + self.feed_forward(x)) @ self.unembeddings.T

    @torch.no_grad()
    def write_keys(self, gain: float) -> None:
        """Write the induction head: ``W_K¹ = g Σ_t p_t p_(t−1)ᵀ`` finds the position before, ``W_K² = g Σ_k e_k (W_O¹ W_V¹ e_k)ᵀ`` what followed k."""
        (first, second), triggers = self.layers, self.embeddings[:TRIGGERS]
        first.keys.weight.copy_(gain * self.positions[1:].T @ self.positions[:-1])
        second.keys.weight.copy_(gain * triggers.T @ first.output(first.values(triggers)))

    @torch.no_grad()
    def probes(self, bigrams: Bigrams) -> dict[str, float]:
        """Shares of right answers of the three memories of an induction head, and how far the feed-forward memory is from the bigrams (nats)."""
        (first, second), e = self.layers, self.embeddings
        written = first.output(first.values(e))  # what the first layer leaves of a token that it attends to
        triggers = torch.arange(TRIGGERS)
        believed = (self.feed_forward(e[TRIGGERS:]) @ self.unembeddings.T).log_softmax(-1)
        law = bigrams.follows[TRIGGERS:]
        distance = (law * (law.log() - believed)).sum(-1)
        return {
            "previous": memory_recall_probe(first.keys.weight.T, self.positions[1:], self.positions[:-1]),
            "induction": memory_recall_probe(second.keys.weight.T, e[:TRIGGERS], written, targets=triggers),
            "output": memory_recall_probe(second.output.weight @ second.values.weight, e, self.unembeddings),
            "bigrams": float((bigrams.single[TRIGGERS:] * distance).sum() / bigrams.single[TRIGGERS:].sum()),
        }
