"""Patterns that the user gives: a name, rows to draw from, a function that draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...energies.checks import foreign
from ...energies.separations.separation import require
from .ensembles import Binary, Correlated, Ensemble, Gaussian, Spherical

Sampler = Callable[[int, torch.Generator], Tensor]


@dataclass(frozen=True, eq=False)
class Rows(Ensemble):
    """Patterns of the user, (total, d): every memory holds a random selection of the rows."""

    rows: Tensor = field(repr=False)
    key: str = field(init=False)

    def __post_init__(self):
        rows = self.rows
        if rows.ndim != 2 or not rows.is_floating_point() or rows.numel() == 0:
            raise ValueError(
                f"Patterns to draw from are floating-point rows (total, d), at least one; got {rows.dtype} of shape {tuple(rows.shape)}. "
                "Whole numbers become such rows by .float(), pictures by .flatten(1)."
            )
        kept = rows.detach().float().cpu()
        if not bool(kept.isfinite().all()):
            raise ValueError("The patterns hold NaN or Inf, or numbers beyond float32. Remove, repair or scale such rows first.")
        object.__setattr__(self, "rows", kept)
        digest = hashlib.sha256(self.rows.contiguous().numpy().tobytes()).hexdigest()[:12]
        object.__setattr__(self, "key", f"{tuple(rows.shape)} {digest}")

    @property
    def most(self) -> float:  # type: ignore[override]
        return len(self.rows)

    def draw(self, memories, count, dim, generator):
        total, width = self.rows.shape
        require(width == dim, f"The patterns have {width} features, but dim is {dim}.")
        require(count <= total, f"{count} patterns are to be stored, but there are {total} rows.")
        chosen = torch.stack([torch.randperm(total, generator=generator)[:count] for _ in range(memories)])
        return self.rows[chosen]

    def square(self, dim):
        return float(self.rows.square().sum(-1).mean())

    def __str__(self) -> str:
        return f"{len(self.rows)} given patterns"


@dataclass(frozen=True)
class Sampled(Ensemble):
    """Patterns that a function draws: ``sampler(count, generator) -> (count, d)``, rows independent of each other."""

    sampler: Sampler

    def draw(self, memories, count, dim, generator):
        patterns = self.sampler(memories * count, generator)
        if not isinstance(patterns, Tensor) or patterns.shape != (memories * count, dim):
            came = tuple(patterns.shape) if isinstance(patterns, Tensor) else type(patterns).__name__
            raise ValueError(f"The sampler must return a tensor of patterns (count, d) = {(memories * count, dim)}, got {came}.")
        if not bool(patterns.isfinite().all()):
            raise ValueError("The sampler returned NaN or Inf.")
        return patterns.float().reshape(memories, count, dim)

    def __repr__(self) -> str:
        return f"Sampled({getattr(self.sampler, '__module__', '')}.{getattr(self.sampler, '__qualname__', type(self.sampler).__name__)})"


NAMED = {"binary": Binary, "spherical": Spherical, "gaussian": Gaussian, "correlated": Correlated}


def as_ensemble(patterns: Ensemble | str | Tensor | Sampler) -> Ensemble:
    """An ensemble from its name, from rows to draw from, or from a function that draws.

    Raises:
        ValueError: an unknown name, or something else.
    """
    if isinstance(patterns, Ensemble):
        return patterns
    if isinstance(patterns, str) and patterns in NAMED:
        return NAMED[patterns]()
    if isinstance(patterns, Tensor):
        return Rows(patterns)
    if callable(patterns):
        return Sampled(patterns)
    raise ValueError(f"Patterns are {', '.join(map(repr, NAMED))}, a tensor of rows, or a function (count, generator) -> (count, d); got {foreign(patterns)}.")
