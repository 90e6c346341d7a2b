"""What a memory associates, drawn in the basis of its embeddings, before and after it learned from a few tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..result import Result
from . import doors
from .memory import association_map, random_embeddings
from .zipf import ZipfTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AssociationMaps(Result):
    """``softmax_y(u_yᵀ W e_x)`` before and after learning.

    Attributes:
        task: the data.
        before: (N, M).
        after: (N, M).
        seen: the tokens learned from, in order, (T,).
        memory: W after, (d, d).
    """

    task: ZipfTask
    before: Tensor
    after: Tensor
    seen: Tensor
    memory: Tensor = field(repr=False)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The distinct pairs (x, f(x)) that were seen."""
        return [(int(x), int(x) % self.task.classes) for x in self.seen.unique()]

    def rows(self) -> list[dict[str, Any]]:
        counts = self.seen.bincount(minlength=self.task.inputs).tolist()
        right = self.task.labels.unsqueeze(-1)
        before, after = (chart.gather(-1, right).squeeze(-1).tolist() for chart in (self.before, self.after))
        return [
            {"x": x + 1, "f(x)": x % self.task.classes, "seen": counts[x], "before": before[x], "after": after[x]} for x in range(self.task.inputs)
        ]  # fmt: skip

    def plot(self) -> Figure:
        from ..plots.scaling import association_heat_maps

        return association_heat_maps(self)


@torch.no_grad()
def association_maps(task: ZipfTask, dim: int, *, tokens: int, rate: float = 0.1, seed: int = 0, start: Tensor | None = None) -> AssociationMaps:
    """Learn W on T tokens, one at a time, ``W ← W + η Σ_y (1[y = f(x)] − π_y) u_y e_xᵀ``, and map what it associates before and after.

    The setting of the association pictures of arXiv 2310.02984 is ``ZipfTask(10, 5, 1.5)``, d = 5, η = 0.1, W = 0 at first.

    Args:
        task: N, M, α.
        dim: d.
        tokens: T; 1 shows what a single step does, to what was seen and to what was not.
        rate: η.
        seed: of embeddings and tokens, at least 0.
        start: W at first, (d, d), in float32; None is 0.

    Raises:
        TypeError, ValueError: numbers below one, a rate that is not positive, a start that does not fit.
    """
    for value, name, least in ((dim, "dim", 1), (tokens, "tokens", 1), (seed, "seed", 0)):
        doors.count(value, name, least)
    doors.positive(rate, "rate")
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = random_embeddings(task.inputs, task.classes, dim, generator=generator)
    seen = torch.multinomial(task.probability, tokens, replacement=True, generator=generator)
    memory = torch.zeros(dim, dim) if start is None else start.clone()
    before = association_map(memory, inputs, outputs)
    right = torch.eye(task.classes)[task.labels]
    for x in seen.tolist():
        surprise = right[x] - (outputs @ memory @ inputs[x]).softmax(-1)
        memory += rate * torch.outer(surprise @ outputs, inputs[x])
    return AssociationMaps(task, before, association_map(memory, inputs, outputs), seen, memory)
