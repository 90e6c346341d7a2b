"""Memories learned by stochastic gradients on cross-entropy, in the setting of the experiments of arXiv 2310.02984, to the last digit.

Logits are ``(e_x W) U`` with N(0, 1/d) entries everywhere. What is trained is the matrix alone ("matrix"), the matrix and both embeddings
("learnable"), or both embeddings around a ReLU and no matrix ("exponential": ``relu(e_x) U``). Tokens are used once, in the order drawn; the error
is that over the population.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..result import Result
from . import doors
from .zipf import ZipfTask, zipf

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("matrix", "learnable", "exponential")
OPTIMIZERS = ("sgd", "sign", "adam")
FLOOR = 1e-6  # in the layer norm v/√(‖v‖² + 1e-6)


@dataclass(frozen=True)
class Learning:
    """How a memory is learned.

    Attributes:
        model: what is trained, one of ``MODELS``: see the module.
        optimizer: "sgd", with the rate as it is; "sign", g/(|g| + 1e-8), which is Adam with β = (0, 0); or "adam", with β = (0.9, 0.999). The last two divide
            the rate by d for the matrix and by √d for embeddings.
        rate: η.
        batch: tokens to a step.
        layer_norm: whether ``v/√(‖v‖² + 1e-6)`` follows the matrix (or the ReLU).

    Raises:
        TypeError, ValueError: an unknown model or optimizer, a rate that is not positive, a batch below one.
    """

    model: str = "matrix"
    optimizer: str = "sgd"
    rate: float = 1.0
    batch: int = 1024
    layer_norm: bool = False

    def __post_init__(self):
        for given, there, what in ((self.model, MODELS, "model"), (self.optimizer, OPTIMIZERS, "optimizer")):
            if given not in there:
                raise ValueError(f"The {what} must be one of {', '.join(map(repr, there))}, got {given!r}.")
        doors.positive(self.rate, "rate")
        doors.count(self.batch, "batch")


@dataclass(frozen=True)
class Learned(Result):
    """A memory after learning.

    Attributes:
        task: the data.
        learning: how it was learned.
        error: over the population, in [0, 1].
        losses: cross-entropy of each batch before its step, (steps,).
        memory: W (d, d) for scores ``u_yᵀ W e_x``; None where there is none ("exponential").
        inputs: E, (N, d).
        outputs: U, (M, d).
    """

    task: ZipfTask
    learning: Learning
    error: float
    losses: Tensor
    memory: Tensor | None = field(repr=False)
    inputs: Tensor = field(repr=False)
    outputs: Tensor = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        how = self.learning
        return [
            {
                "model": how.model, "optimizer": how.optimizer, "rate": how.rate, "batch": how.batch, "layer norm": how.layer_norm,
                "d": self.inputs.shape[1], "steps": len(self.losses), "last loss": float(self.losses[-1]), "error": self.error,
            }
        ]  # fmt: skip

    def plot(self) -> Figure:
        from ..plots.scaling import learning_curve

        return learning_curve(self)


def grid_run(
    *, model: str = "matrix", optimizer: str = "SGD", lr: float = 1.0, batch: int = 1024, dim: int = 10, samples: int = 10_240, seed: int = 42,
    layer_norm: bool = False,
) -> float:  # fmt: skip
    """The recall error of one run of the authors' published grid: N = 100, M = 5, α = 2; equal to theirs to the last digit on a CPU.

    Args:
        model: "matrix", "learnable" or "exponential".
        optimizer: "SGD", or "Adam" as in their grid, which has β = (0, 0) and so is sign descent.
        lr: 0.1, 1, 10 or 100 in their grid.
        batch: 16, 64, 256 or 1024 there.
        dim: 10, 20, 50, 100, 200, 500 or 1000 there.
        samples: number of tokens, a multiple of the batch; 1,024, 10,240 or 102,400 there.
        seed: 42 to 51 there.
        layer_norm: on or off.

    Raises:
        TypeError, ValueError: what there is not, numbers that are not positive, samples that are no multiple of the batch.
    """
    known = {"sgd": "sgd", "adam": "sign"}
    if str(optimizer).lower() not in known:
        raise ValueError(f"The grid was run with the optimizers 'SGD' and 'Adam', got {optimizer!r}.")
    learning = Learning(model, known[optimizer.lower()], lr, batch, layer_norm)
    return learn(ZipfTask(100, 5, 2.0), dim, learning, samples=samples, seed=seed).error


def learn(task: ZipfTask, dim: int, learning: Learning | None = None, *, samples: int = 10_240, seed: int = 42) -> Learned:
    """Learn the classes of Zipf data from tokens that are used once, in float32.

    Drawn in the order of the authors' experiments from one generator: W (where there is one), E, U, then the tokens.

    Args:
        task: N, M, α.
        dim: d.
        learning: how; None is ``Learning()``, one epoch of SGD on the matrix.
        samples: number of tokens T, a multiple of the batch.
        seed: of everything random, at least 0.

    Raises:
        TypeError, ValueError: numbers below one, samples that are no multiple of the batch.
    """
    how = learning or Learning()
    for value, name, least in ((dim, "dim", 1), (samples, "samples", 1), (seed, "seed", 0)):
        doors.count(value, name, least)
    if samples % how.batch:
        raise ValueError(f"samples must be a multiple of the batch, since each token is used once: got {samples} tokens in batches of {how.batch}.")
    generator = torch.Generator().manual_seed(seed)
    parts = _initial(task, dim, how, generator)
    probability = zipf(task.inputs, task.alpha, dtype=torch.float32)
    tokens = torch.multinomial(probability, samples, replacement=True, generator=generator)
    optimizer, losses = _optimizer(parts, how), []
    for batch in tokens.split(how.batch):
        loss = torch.nn.functional.cross_entropy(_logits(parts, batch, how), batch % task.classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    with torch.no_grad():
        wrong = _logits(parts, torch.arange(task.inputs), how).argmax(-1) != task.labels
    found = {name: part.detach() for name, part in parts.items()}
    memory = found["memory"].mT if "memory" in found else None
    return Learned(task, how, float(probability[wrong].sum()), torch.stack(losses), memory, found["inputs"], found["outputs"].mT)


def _initial(task: ZipfTask, dim: int, how: Learning, generator: torch.Generator) -> dict[str, Tensor]:
    """What the model has, drawn in this order, with gradients for what it trains."""
    shapes = {"memory": (dim, dim), "inputs": (task.inputs, dim), "outputs": (dim, task.classes)}
    if how.model == "exponential":
        del shapes["memory"]
    trained = {"matrix": ("memory",), "learnable": tuple(shapes), "exponential": ("inputs", "outputs")}[how.model]
    return {name: (torch.randn(*shape, generator=generator) / math.sqrt(dim)).requires_grad_(name in trained) for name, shape in shapes.items()}


def _optimizer(parts: dict[str, Tensor], how: Learning) -> torch.optim.Optimizer:
    """SGD, or Adam with rates for matrices and embeddings."""
    trained = {name: part for name, part in parts.items() if part.requires_grad}
    if how.optimizer == "sgd":
        return torch.optim.SGD(trained.values(), lr=how.rate)
    dim = parts["inputs"].shape[1]
    groups = [{"params": [part], "lr": how.rate / (dim if name == "memory" else math.sqrt(dim))} for name, part in trained.items()]
    return torch.optim.Adam(groups, betas=(0.0, 0.0) if how.optimizer == "sign" else (0.9, 0.999))


def _logits(parts: dict[str, Tensor], tokens: Tensor, how: Learning) -> Tensor:
    embedded = parts["inputs"][tokens]
    hidden = embedded @ parts["memory"] if "memory" in parts else embedded.relu()
    if how.layer_norm:
        hidden = hidden / ((hidden**2).sum(1) + FLOOR).sqrt().unsqueeze(1)
    return hidden @ parts["outputs"]
