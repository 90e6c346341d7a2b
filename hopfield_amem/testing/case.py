"""What the laws of read energies are asked of: one random case, read on every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energies import Hypercube, Probability, ReadEnergy
from ..kernels import retrieve
from .report import DoesNotApply, close

BACKENDS = ("reference", "chunked")


@dataclass(frozen=True)
class Case:
    """Random patterns, queries and values in float64, of unit variance and inside the confinement's allowed set."""

    energy: ReadEnergy
    query: Tensor  # (q, d)
    keys: Tensor  # (n, d)
    values: Tensor  # (n, v)
    presence: Tensor  # (n,)

    @classmethod
    def random(cls, energy: ReadEnergy, dim: int, slots: int, seed: int) -> Case:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        keys = random(slots, dim)
        query = keys[:3] + 0.3 * random(3, dim)
        presence = torch.rand(slots, generator=generator, dtype=torch.float64)
        presence[1] = 0
        project, inside = energy.confinement.project, energy.similarity.nonnegative or energy.similarity.massive
        if isinstance(energy.confinement, Probability) and inside:  # projected normals meet in a few corners
            query, keys = query.softmax(-1), keys.softmax(-1)
        elif isinstance(energy.confinement, (Hypercube, Probability)):  # what settles, settles in corners
            keys = energy.confinement.minimise(keys, None, keys)
        return cls(energy, project(query), project(keys), random(slots, 2), presence)

    @property
    def steps(self) -> bool:
        return self.energy.similarity.steps


def needs_steps(case: Case) -> None:
    """Leave out a law about steps that this energy does not take."""
    if not case.steps:
        raise DoesNotApply("its similarity has no closed-form step")


def read(case: Case, backend: str, **changes: Tensor | None) -> Tensor:
    """What the queries read, with some of what they are given changed."""
    given: dict = {"keys": case.keys, "values": case.values, "presence": case.presence} | changes
    return retrieve(case.energy, case.query, **given, backend=backend)


def everywhere(law: str, case: Case, pair: Callable[[str], tuple[Tensor, Tensor]]) -> None:
    """Raise unless both of a pair are the same on every backend."""
    for backend in BACKENDS:
        close(law, *pair(backend))
