"""How the recall error falls while a memory learns, step by step over many draws, beside what the storage weights of equation 16 say (arXiv 2310.02984)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..result import Result
from . import doors
from .memory import random_embeddings, recall_error, store
from .zipf import ZipfTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LearningPaths(Result):
    """Recall errors of SGD, step by step; index t is before step t, the last after all.

    Attributes:
        task: the data.
        rates: γ of every step, (steps,).
        batch: tokens to a step.
        errors: of the memories that SGD learns, (trials, steps + 1).
        approximated: of ``W = Σ q(x) u_f(x) e_xᵀ`` with q of equation 16 for the same embeddings and tokens, (trials, steps + 1).
        counts: how often each input was in each batch, (steps, trials, N).
        embeddings: E (trials, N, d) and U (trials, M, d).
        memory: W at the end, (trials, d, d).
    """

    task: ZipfTask
    rates: tuple[float, ...]
    batch: int
    errors: Tensor
    approximated: Tensor
    counts: Tensor = field(repr=False)
    embeddings: tuple[Tensor, Tensor] = field(repr=False)
    memory: Tensor = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        trials = len(self.errors)
        spread = self.errors.std(0) / trials**0.5 if trials > 1 else torch.full_like(self.errors[0], torch.nan)
        columns = {"error": self.errors.mean(0), "standard error": spread, "by equation 16": self.approximated.mean(0)}
        return [
            {"step": step, "rate": self.rates[step - 1] if step else None} | {name: float(column[step]) for name, column in columns.items()}
            for step in range(self.errors.shape[1])
        ]

    def plot(self) -> Figure:
        from ..plots.scaling import learning_paths

        return learning_paths(self)


@torch.no_grad()
def learning_paths(task: ZipfTask, dim: int, *, rates: Sequence[float], batch: int = 1, trials: int = 100, seed: int = 0) -> LearningPaths:
    """Learn W from 0 by SGD on cross-entropy, ``W ← W + γ/B Σ_(x in batch) Σ_y (1[y = f(x)] − π_y) u_y e_xᵀ``, many draws at once.

    Beside it equation 16 follows the same batches, ``q ← q + (γ c(x)/B)/(1 + e^q/(M − 1))``, c(x) how often x is in the batch: what SGD stores where embeddings
    do not overlap.

    Args:
        task: N, M, α.
        dim: d.
        rates: γ of every step, so many as there are steps; ``[10.0] * 100 + [0.3] * 900`` lowers it after a hundred.
        batch: tokens to a step, drawn afresh.
        trials: draws of embeddings and tokens.
        seed: of all draws, at least 0.

    Raises:
        TypeError, ValueError: no step, numbers below one, rates that are not positive.
    """
    rates = [float(rate) for rate in rates]
    if not rates:
        raise ValueError("rates holds the rate of every step; it is empty, so that there is no step.")
    for rate in rates:
        doors.positive(rate, "each of rates")
    for value, name, least in ((dim, "dim", 1), (batch, "batch", 1), (trials, "trials", 1), (seed, "seed", 0)):
        doors.count(value, name, least)
    generator = torch.Generator().manual_seed(seed)
    pairs = [random_embeddings(task.inputs, task.classes, dim, generator=generator) for _ in range(trials)]
    inputs, outputs = (torch.stack(part) for part in zip(*pairs, strict=True))
    drawn = np.random.default_rng(seed).multinomial(batch, task.probability.numpy(), size=(len(rates), trials))
    counts, right = torch.from_numpy(drawn), torch.eye(task.classes)[task.labels]
    memory, weights = torch.zeros(trials, dim, dim), torch.zeros(trials, task.inputs, dtype=torch.float64)
    error = lambda matrix: recall_error(matrix, inputs, outputs, task.labels, probability=task.probability)
    errors, approximated = [error(memory)], [error(memory)]
    for rate, seen in zip(rates, counts, strict=True):
        step = rate / batch * seen
        surprise = right - (inputs @ memory.mT @ outputs.mT).softmax(-1)
        memory = memory + (surprise * step.to(surprise.dtype).unsqueeze(-1) @ outputs).mT @ inputs
        weights = weights + step / (1 + weights.exp() / (task.classes - 1))
        errors.append(error(memory))
        approximated.append(error(store(inputs, outputs, task.labels, weights)))
    return LearningPaths(task, tuple(rates), batch, torch.stack(errors, -1), torch.stack(approximated, -1), counts, (inputs, outputs), memory)
