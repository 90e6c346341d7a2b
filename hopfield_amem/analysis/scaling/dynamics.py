"""Learning an associative memory by gradients with fixed embeddings: margins, sharpness, oscillation.

Cross-entropy on W over the population, ``L(W) = Σ_x p(x) (log Σ_y exp(u_yᵀ W e_x) − u_f(x)ᵀ W e_x)`` (Cabannes, Simsek & Bietti 2024,
arXiv 2402.18724). Orthogonal inputs are particles of their own, whose margins grow like log t; where inputs overlap and are not equally frequent a large
rate makes the loss oscillate before it falls. W (v, d), inputs (N, d), outputs (M, v), as in ``scaling.memory``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..result import Result
from . import doors
from .curvature import sharpness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UPDATES = ("gradient", "sign", "normalised")


@dataclass(frozen=True)
class Dynamics(Result):
    """Descent on the population, step by step; index t is before step t, the last after all.

    Attributes:
        rate: η.
        losses: cross-entropy L, (steps + 1,).
        errors: recall error, (steps + 1,).
        margins: (steps + 1, N).
        sharpness: largest eigenvalue of the Hessian of L, (steps + 1,).
        memory: W at the end, (v, d).
    """

    rate: float
    losses: Tensor
    errors: Tensor
    margins: Tensor
    sharpness: Tensor
    memory: Tensor = field(repr=False)

    @property
    def stability(self) -> Tensor:
        """``η λ_max/2``, (steps + 1,): above 1 a step of gradient descent overshoots along the steepest direction (the edge of stability)."""
        return self.rate * self.sharpness / 2

    @property
    def oscillations(self) -> int:
        """How many steps raised the loss."""
        return int((self.losses.diff() > 0).sum())

    def rows(self) -> list[dict[str, Any]]:
        columns = {"loss": self.losses, "error": self.errors, "least margin": self.margins.amin(-1), "sharpness": self.sharpness, "ηλ/2": self.stability}
        return [{"step": step} | {name: float(column[step]) for name, column in columns.items()} for step in range(len(self.losses))]

    def plot(self) -> Figure:
        from ..plots.scaling import learning_dynamics

        return learning_dynamics(self)


@torch.no_grad()
def margins(memory: Tensor, inputs: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """``m(x)``, the score of f(x) minus the best other; positive where x is recalled. -> (N,)

    Raises:
        TypeError, ValueError: what does not fit, is empty or not finite; fewer than two classes.
    """
    doors.memory(memory, inputs, outputs)
    doors.problem(inputs, outputs, labels)
    if outputs.shape[-2] < 2:
        raise ValueError("A margin needs two classes at least.")
    scores = inputs @ memory.mT @ outputs.mT
    right = scores.gather(-1, labels.unsqueeze(-1))
    return right.squeeze(-1) - scores.scatter(-1, labels.unsqueeze(-1), -math.inf).amax(-1)


@torch.no_grad()
def learning_dynamics(
    inputs: Tensor, outputs: Tensor, labels: Tensor, probability: Tensor, *, rate: float, steps: int, update: str = "gradient", start: Tensor | None = None
) -> Dynamics:
    """Full-batch descent on L: ``W ← W − η g`` ("gradient"), ``− η sign g`` ("sign") or ``− η g/‖g‖`` ("normalised").

    Args:
        inputs: E, (N, d).
        outputs: U, (M, v).
        labels: f, (N,).
        probability: p, (N,).
        rate: η.
        steps: number of steps, at least 1.
        update: one of ``UPDATES``.
        start: W at first, (v, d); None is 0.

    Raises:
        TypeError, ValueError: what does not fit, is empty or not finite; no distribution; an unknown update; numbers that are not positive.
    """
    memory = outputs.new_zeros(outputs.shape[-1], inputs.shape[-1]) if start is None else start.clone()
    doors.memory(memory, inputs, outputs)
    doors.problem(inputs, outputs, labels)
    doors.distribution(probability)
    doors.positive(rate, "rate")
    doors.count(steps, "steps")
    if update not in UPDATES:
        raise ValueError(f"The update must be one of {', '.join(map(repr, UPDATES))}, got {update!r}.")
    weight, right = probability.to(inputs.dtype), torch.nn.functional.one_hot(labels, len(outputs)).to(inputs.dtype)
    history: list[tuple[Tensor, ...]] = []
    for step in range(steps + 1):
        scores = inputs @ memory.mT @ outputs.mT
        loss = weight @ (scores.logsumexp(-1) - (scores * right).sum(-1))
        wrong = weight @ (scores.argmax(-1) != labels).to(weight.dtype)
        history.append((loss, wrong, margins(memory, inputs, outputs, labels), torch.tensor(sharpness(memory, inputs, outputs, probability=probability))))
        if step < steps:
            gradient = outputs.mT @ ((scores.softmax(-1) - right) * weight.unsqueeze(-1)).mT @ inputs
            memory = memory - rate * _direction(gradient, update)
    losses, errors, margin, sharp = (torch.stack(column) for column in zip(*history, strict=True))
    return Dynamics(rate, losses, errors, margin, sharp, memory)


def two_particles(*, rate: float, steps: int, overlap: float = 0.95, probability: float = 0.75) -> Dynamics:
    """Two inputs with ``e_1·e_2 = overlap``, each of its own class (U = I), from W = 0: the example of arXiv 2402.18724, float64.

    In ``γ = W_1 − W_2`` (rows) a step is ``γ ← γ + 2η Σ_x p_x s_x e_x σ(−s_x e_x·γ)`` with s = ±1.

    Raises:
        TypeError, ValueError: an overlap outside [−1, 1], a probability outside (0, 1), numbers that are not positive.
    """
    if not (-1 <= overlap <= 1 and 0 < probability < 1):
        raise ValueError(f"overlap must lie in [−1, 1] and probability in (0, 1), got {overlap!r} and {probability!r}.")
    inputs = torch.tensor([[1.0, 0.0], [overlap, math.sqrt(1 - overlap**2)]], dtype=torch.float64)
    shares = torch.tensor([probability, 1 - probability], dtype=torch.float64)
    return learning_dynamics(inputs, torch.eye(2, dtype=torch.float64), torch.arange(2), shares, rate=rate, steps=steps)


def orthogonal_margin(probability: float, rate: float, steps: float) -> float:
    """The margin of an orthogonal input of frequency p after t steps, in the limit of small rates: ``m + e^m = 1 + 2pηt``; it grows like log t.

    Solution of ``dm/dt = 2pη σ(−m)``, m(0) = 0, for two classes with orthonormal outputs (arXiv 2402.18724).

    Raises:
        ValueError: a probability outside (0, 1], a rate or a number of steps that is negative or not finite.
    """
    if not (0 < probability <= 1 and 0 <= rate < math.inf and 0 <= steps < math.inf):
        raise ValueError(f"Expected a probability in (0, 1], and a rate and steps that are finite and not negative; got {probability!r}, {rate!r}, {steps!r}.")
    from scipy.special import wrightomega  # ω(z) + log ω(z) = z, so that m = log ω

    return float(np.log(wrightomega(1 + 2 * probability * rate * steps)))


def _direction(gradient: Tensor, update: str) -> Tensor:
    if update == "sign":
        return gradient.sign()
    return gradient if update == "gradient" else gradient / gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny)
