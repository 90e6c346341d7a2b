"""Where a state of the mean field is, and how often a query there counts as recalled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from ...energies import ReadEnergy
from .task import Task, of_bits

normal = NormalDist().cdf


@dataclass(frozen=True)
class Position:
    """Where a state is, and what the others did in the step that led there.

    Attributes:
        own: a of ``x = a ξ₁ + y``, y across ξ₁.
        across, noise: lengths, in units of ‖ξ‖, of what is left in y of the query's damage, and of what the other patterns put there.
        wrong: on the hypercube the probability that a bit is wrong; None elsewhere.
        groups: of the other patterns, (groups,) each: "weight" of one slot, its "product" x·ξ at the step's start, its "square" ‖ξ‖², and their "count".
    """

    own: float
    across: float
    noise: float
    wrong: float | None = None
    groups: dict[str, Tensor] | None = None

    @property
    def rest(self) -> float:
        """``‖y‖²/‖ξ‖²``"""
        return self.across * self.across + self.noise * self.noise


def started(energy: ReadEnergy, dim: int, task: Task) -> tuple[float, float]:
    """Where queries start; damaged bits are ±1 again on the hypercube."""
    if task.corruption is None or not (of_bits(energy) and task.ensemble.signs):
        return task.start(dim)
    own = task.corruption.agreement(dim)
    return own, 1 - own**2


def success_rate(task: Task, dim: int, position: Position, load: float) -> float:
    """How often a query that rests at this position counts as recalled among ``load`` patterns."""
    if task.success == "ε-close":
        return float(math.hypot(1 - position.own, math.sqrt(position.rest)) <= task.tolerance)
    if task.success == "argmax":
        return _nearest_rate(task, dim, position)
    if task.success == "one bit":
        return 1 - (_wrong_sign(task, position) if position.wrong is None else position.wrong)
    right = _within(task, dim, position) if position.wrong is None else 1 - position.wrong
    return right ** (dim * (load if task.success == "all patterns" else 1))


def _wrong_sign(task: Task, position: Position) -> float:
    """How often a coordinate has the wrong sign: patterns of ±1, or normal coordinates."""
    spread = math.sqrt(position.rest)
    if not task.ensemble.signs:
        return math.atan2(spread, position.own) / math.pi
    return normal(-position.own / spread) if spread > 0 else float(position.own <= 0)


def _within(task: Task, dim: int, position: Position) -> float:
    """How often a coordinate is within the tolerance, times the largest of a pattern's coordinates."""
    peak = 1.0 if task.ensemble.signs else math.sqrt(2 * math.log(dim))
    limit, short, spread = task.tolerance * peak, 1 - position.own, math.sqrt(position.rest)
    if not task.ensemble.signs:  # normal coordinates fall short in proportion
        short, spread = 0.0, math.hypot(short, spread)
    if spread == 0:
        return float(abs(short) <= limit)
    return max(0.0, normal((limit - short) / spread) - normal((-limit - short) / spread))


def _nearest_rate(task: Task, dim: int, position: Position) -> float:
    """How often no other pattern is nearer: none of those expected to be, ``exp(−Σ count · P(x·ξ − ½‖ξ‖² exceeds that of the own pattern))``."""
    square = task.ensemble.median_square(dim)
    groups = position.groups
    if groups is None or not bool((groups["count"] > 0).any()):
        return 1.0
    mean = groups["weight"] * groups["square"] + position.own * groups["product"] - 0.5 * groups["square"]
    spread = (position.rest * square * (square + groups["square"]) / dim).clamp_min(1e-300).sqrt()
    exceeds = torch.special.ndtr((mean - (position.own - 0.5) * square) / spread)
    return math.exp(-float((groups["count"] * exceeds).sum()))
