"""Contexts to learn from: linear regression, token by token, split over heads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import seeds


@dataclass(frozen=True)
class Contexts:
    """Independent contexts of pairs ``k ~ N(0, I), v = W k + σε`` with one W ~ N(0, 1/d), and probes q of length one at which memories are read.

    The covariances of keys and values are constant, as the claim of a fixed limit asks for.

    Args:
        count: contexts.
        length: tokens of each.
        probes: queries at which memories are read.
        noise: σ ≥ 0.
        first: the first token that is looked at, ≥ 8; from there on ``points`` tokens at equal ratios, the last at 8/9 of the length.
        points: ≥ 3.
        seed: of everything that is drawn; contexts of different seeds share nothing.

    Raises:
        ValueError, TypeError: numbers out of range, or not whole where they count.
    """

    count: int = 64
    length: int = 4096
    probes: int = 8
    noise: float = 0.3
    first: int = 64
    points: int = 12
    seed: int = 0

    def __post_init__(self):
        for name in ("count", "length", "probes", "first", "points"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int):
                raise TypeError(f"{name} of contexts must be a whole number, got {getattr(self, name)!r}.")
        seeds.check(self.seed)
        if self.count < 1 or self.probes < 1 or not 0 <= self.noise < math.inf or self.points < 3 or not 8 <= self.first < self.length:
            raise ValueError(f"Contexts need count ≥ 1, probes ≥ 1, noise ≥ 0, points ≥ 3 and 8 ≤ first < length; got {self}.")
        if len(set(self.times.tolist())) < 3:
            raise ValueError(f"Between token {self.first} and token {self.length} there are fewer than three to look at.")

    @property
    def times(self) -> Tensor:
        """The tokens that are looked at, ascending, without repetitions."""
        last = self.length * 8 // 9
        return torch.logspace(math.log10(self.first), math.log10(max(last, 1)), self.points, dtype=torch.float64).round().long().unique()


def window_end(times: Tensor) -> Tensor:
    """The last token, 9/8 t, of the window over which the update at token t is averaged; never t itself."""
    return times + torch.div(times, 8, rounding_mode="floor").clamp_min(1)


@dataclass(frozen=True)
class Drawn:
    """Tokens of some contexts, split over heads: keys and values (contexts, heads, t, d/heads), probes q (heads, probes, d/heads).

    Attributes:
        covariance: ``Cov(v, k) q`` of every head, to which, times a number (``Learner.limit``), memories that average tend.
    """

    keys: Tensor
    values: Tensor
    probes: Tensor
    covariance: Tensor


def drawn(contexts: Contexts, width: int, heads: int, part: slice) -> Drawn:
    """Contexts of a part of all, the same whatever part they are asked for with.

    Raises:
        ValueError: a width that is not a positive multiple of the heads.
    """
    own = head_width(width, heads)
    common = torch.Generator().manual_seed(contexts.seed)
    options = {"generator": common, "dtype": torch.float64}
    teacher = torch.randn(width, width, **options) / math.sqrt(width)
    probes = torch.nn.functional.normalize(torch.randn(contexts.probes, width, **options), dim=-1)
    keys, noise = (torch.stack(draws) for draws in zip(*(_one(contexts, width, i) for i in range(contexts.count)[part]), strict=True))
    probes = _split(probes, heads)
    blocks = torch.stack([block[:, i * own : (i + 1) * own] for i, block in enumerate(teacher.chunk(heads))])  # W seen by each head
    return Drawn(_split(keys, heads), _split(keys @ teacher.mT + contexts.noise * noise, heads), probes, probes @ blocks.mT)


def head_width(width: int, heads: int) -> int:
    """The width of one head. Raises ValueError where the width is not a positive multiple of the heads."""
    if not all(isinstance(number, int) and number >= 1 for number in (width, heads)) or width % heads:
        raise ValueError(f"A width is a positive multiple of the number of heads, got width={width!r} and heads={heads!r}.")
    return width // heads


def _one(contexts: Contexts, width: int, index: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seeds.mixed(contexts.seed, index))
    keys, noise = torch.randn(2, contexts.length, width, generator=generator, dtype=torch.float64)
    return keys, noise


def _split(rows: Tensor, heads: int) -> Tensor:
    """(..., n, d) -> (..., heads, n, d/heads)"""
    return rows.unflatten(-1, (heads, -1)).transpose(-2, -3)
