"""How models are trained: what a run takes, which rows come when, and one model by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .corpus import Corpus, positive

AHEAD = 64  # batches whose rows are drawn at once


@dataclass(frozen=True)
class Training:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) on the loss of the tokens that count, its rate warmed up and then lowered to nothing along a cosine.

    Args:
        steps: batches.
        batch: rows of a batch, taken without replacement until all were seen.
        rate: the highest learning rate.
        decay: β₂ of Adam.
        evaluations: points of the loss curves.

    Raises:
        ValueError: counts below 1, a rate that is not positive, β₂ outside [0, 1).
    """

    steps: int = 1000
    batch: int = 64
    rate: float = 0.01
    decay: float = 0.99
    evaluations: int = 10

    def __post_init__(self):
        positive(steps=self.steps, batch=self.batch, evaluations=self.evaluations)
        if not 0 < self.rate < math.inf or not 0 <= self.decay < 1:
            raise ValueError(f"The learning rate is positive and finite and β₂ lies in [0, 1), got {self.rate!r} and {self.decay!r}.")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, from 0: up over a twentieth of the steps, down along a cosine to a thousandth."""
        rise = min(1.0, (step + 1) / max(1.0, self.steps / 20))
        return self.rate * rise * max(0.5 * (1 + math.cos(math.pi * step / self.steps)), 1e-3)

    def progress(self, steps: Sequence[float]) -> Tensor:
        """How much of the training is done after so many steps, in [0, 1]: the rates of the steps taken over those of all, since a step goes as far as its rate
        lets it. The last tenth of the steps is 0.2 % of a long training, the last tenth of the training 40 % of its steps. (n,) -> (n,)"""
        done = torch.tensor([0.0, *(self.rate_at(step) for step in range(self.steps))], dtype=torch.float64).cumsum(0)
        return done[torch.tensor(list(steps)).clamp(0, self.steps).long()] / done[-1]

    def optimizer(self, tensors: list[Tensor]) -> torch.optim.Adam:
        """The optimiser of one model's tensors, or of many models' stacked ones: it works on every number by itself."""
        return torch.optim.Adam(tensors, lr=self.rate, betas=(0.9, self.decay))

    def evaluated(self, step: int) -> bool:
        """Whether the curves have a point after this step, from 0; the last one is."""
        return (step + 1) * self.evaluations // self.steps > step * self.evaluations // self.steps


@dataclass(frozen=True)
class Trained:
    """A model after its training.

    Attributes:
        model: the one given, its parameters learned.
        curve: [step, mean training loss of the batches since the last point, validation loss], nats per token.
        together: how many were trained at once.
    """

    model: nn.Module
    curve: list[list[float]]
    together: int = 1


def token_losses(logits: Tensor, tokens: Tensor, counted: Tensor) -> Tensor:
    """``−log p`` of the tokens that count. (batch, T, symbols), (batch, T + 1), (c,) -> (batch, c)"""
    chosen = tokens[:, 1:].index_select(1, counted).unsqueeze(-1)
    return -logits.index_select(1, counted).log_softmax(-1).gather(-1, chosen).squeeze(-1)


def shown(corpus: Corpus, device: torch.device | str = "cpu") -> Tensor:
    """Places of the tokens that count, as a tensor."""
    return torch.tensor(corpus.counted, device=device)


def batches(count: int, training: Training, seed: int) -> Iterator[Tensor]:
    """Indices of the rows of every batch: all rows in a random order, then all in another one. -> (batch,) each"""
    generator, left = torch.Generator().manual_seed(seed), torch.zeros(0, dtype=torch.long)
    rounds = -(-AHEAD * training.batch // count)
    for _ in range(training.steps):
        if len(left) < training.batch:
            left = torch.cat([left, torch.rand(rounds, count, generator=generator).argsort(1).flatten()])
        yield left[: training.batch]
        left = left[training.batch :]


def train(model: nn.Module, corpus: Corpus, training: Training, *, seed: int = 0) -> Trained:
    """Train one model: the plain loop."""
    optimizer = training.optimizer(list(model.parameters()))
    device = next(model.parameters()).device
    rows, counted = corpus.training.to(device), shown(corpus, device)
    held_out, curve = corpus.validation[: training.batch].to(device), Curve(training)
    for step, index in enumerate(batches(len(rows), training, seed)):
        batch = rows[index.to(device)]
        loss = token_losses(model(batch[:, :-1]), batch, counted).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        set_rate(optimizer, training.rate_at(step))
        optimizer.step()
        with evaluating(model):
            curve.add(step, loss.detach(), lambda: token_losses(model(held_out[:, :-1]), held_out, counted).mean())
    return Trained(model, curve.points()[0])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode (without dropout) for a while; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


class Curve:
    """Loss curves as they grow, of one model or of many side by side."""

    def __init__(self, training: Training):
        self.training = training
        self.total: Tensor | float = 0.0
        self.count = 0
        self.found: list[tuple[int, Tensor, Tensor]] = []

    def add(self, step: int, loss: Tensor, validation: Callable[[], Tensor]) -> None:
        """A step's training loss, () or (models,); where a point is due, the validation loss is computed."""
        self.total, self.count = self.total + loss, self.count + 1
        if self.training.evaluated(step):
            with torch.no_grad():
                self.found.append((step + 1, self.total / self.count, validation()))
            self.total, self.count = 0.0, 0

    def points(self) -> list[list[list[float]]]:
        """One curve per model, of points [step, training loss, validation loss]."""
        models = self.found[0][1].reshape(-1).shape[0]
        return [[[step, float(loss.reshape(-1)[i]), float(other.reshape(-1)[i])] for step, loss, other in self.found] for i in range(models)]
