"""Models that know what they should, and models and trainings small enough for a test."""

import torch
from torch import nn

from hopfield_amem.analysis import memorization
from hopfield_amem.analysis.memorization import (
    Training,
    language_model,
)


class Knowing(nn.Module):
    """Predicts the tokens of rows it holds as one who knows that the row is one of them; of every other row nothing."""

    def __init__(self, rows, symbols):
        super().__init__()
        self.rows, self.symbols, self.none = rows, symbols, nn.Parameter(torch.zeros(()))

    def forward(self, tokens):
        rows, length = self.rows.to(tokens), tokens.shape[1]
        agree = (rows[:, None, :length] == tokens).cumprod(-1).double()  # (stored, batch, T)
        counts = torch.einsum("nbt,ntv->btv", agree, nn.functional.one_hot(rows[:, 1 : length + 1], self.symbols).double())
        counts = torch.where(counts.sum(-1, keepdim=True) > 0, counts, 1.0)
        return counts.log()


class Recurrent(nn.Module):
    """Somebody's own model."""

    def __init__(self, symbols, width):
        super().__init__()
        self.embedding, self.memory, self.output = nn.Embedding(symbols, width), nn.GRU(width, width, batch_first=True), nn.Linear(width, symbols)

    def forward(self, tokens):
        return self.output(self.memory(self.embedding(tokens))[0])


def recurrent(symbols, width=4):
    return Recurrent(symbols, width)


TINY = Training(steps=2, batch=4)


def trainings(monkeypatch, act=lambda number: None):
    """The sizes of all stacks that are trained from now on; ``act`` is told the number of each beforehand."""
    stacks: list[int] = []
    plain = memorization.work.train_together

    def counted(models, *given, **more):
        stacks.append(len(models))
        act(len(stacks))
        return plain(models, *given, **more)

    monkeypatch.setattr(memorization.work, "train_together", counted)
    return stacks


def small(symbols, width=4, shape=(1, 2)):
    return language_model(symbols, width)
