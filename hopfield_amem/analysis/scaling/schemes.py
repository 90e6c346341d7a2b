"""How strongly each association is written: the storage weights q(x) of ``W = Σ q(x) u_f(x) e_xᵀ`` (arXiv 2310.02984, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from . import doors
from .prediction import optimal_threshold


class Scheme(Protocol):
    """Anything that weighs inputs by how frequent they are, in data or in truth."""

    def weights(self, frequency: Tensor, labels: Tensor, dim: int) -> Tensor:
        """q, from frequencies (..., N) and classes (N,), for embeddings of width d. -> (..., N)"""
        ...


@dataclass(frozen=True)
class PowerScheme:
    """``q(x) = p(x)^ρ`` for every input that occurs: ρ = 0 stores all alike, ρ = 1 by frequency, as one step on a huge batch does."""

    rho: float = 0.0

    def __post_init__(self):
        doors.power(self.rho)

    def weights(self, frequency: Tensor, labels: Tensor, dim: int) -> Tensor:
        return torch.where(frequency > 0, frequency**self.rho, 0.0)


@dataclass(frozen=True)
class ThresholdScheme:
    """``q(x) = p(x)^ρ 1[x ≤ P]``, on the ``P = ⌊d^growth / per⌋`` most frequent inputs that occur; ties go to the first.

    The default ρ = 0 is the optimal scheme of arXiv 2310.02984 with random embeddings. P must leave a margin: P = d does not (see ``optimal_threshold``).
    """

    rho: float = 0.0
    per: float = 8.0
    growth: float = 1.0

    def __post_init__(self):
        doors.power(self.rho)
        doors.positive(self.per, "per")
        doors.positive(self.growth, "growth")

    def kept(self, dim: int) -> int:
        """P, before it is capped by the number of inputs."""
        return math.floor(dim**self.growth / self.per)

    def weights(self, frequency: Tensor, labels: Tensor, dim: int) -> Tensor:
        return top(PowerScheme(self.rho).weights(frequency, labels, dim), frequency, self.kept(dim))


@dataclass(frozen=True)
class BestThresholdScheme:
    """``q(x) = 1[x ≤ P]`` with the P of ``optimal_threshold`` for the frequencies given, one distribution (N,)."""

    def weights(self, frequency: Tensor, labels: Tensor, dim: int) -> Tensor:
        if frequency.ndim != 1:
            raise ValueError(
                "The best threshold is searched for one distribution (N,), not for the counts of every trial. Use ThresholdScheme with finite data."
            )
        return top(PowerScheme(0.0).weights(frequency, labels, dim), frequency, optimal_threshold(frequency, labels, dim))


def top(weights: Tensor, frequency: Tensor, kept: int) -> Tensor:
    """Weights of the ``kept`` most frequent inputs, 0 elsewhere. (..., N), (..., N) -> (..., N)"""
    order = frequency.argsort(dim=-1, descending=True, stable=True)[..., :kept]
    mask = torch.zeros_like(weights, dtype=torch.bool).scatter(-1, order, True)
    return torch.where(mask, weights, 0.0)


SCHEMES: Mapping[str, Scheme] = {
    "equal": PowerScheme(0.0),
    "frequency": PowerScheme(1.0),
    "root": PowerScheme(0.5),
    "fourth root": PowerScheme(0.25),
    "top d/8": ThresholdScheme(),
    "fourth root, top d/8": ThresholdScheme(0.25),
    "top d": ThresholdScheme(per=1.0),
    "best top": BestThresholdScheme(),
}
"""By name: q = 1, p, √p, p^¼, 1[x ≤ d/8], p^¼ 1[x ≤ d/8], 1[x ≤ d] (no margin), and 1[x ≤ P] with the best P."""


def scheme(name: str | Scheme) -> Scheme:
    """A scheme by its name in ``SCHEMES``, or itself.

    Raises:
        ValueError: an unknown name.
    """
    if not isinstance(name, str):
        return name
    if name not in SCHEMES:
        raise ValueError(f"There is no scheme {name!r}. Known are {', '.join(map(repr, SCHEMES))}; or give PowerScheme(rho) or ThresholdScheme(rho, per).")
    return SCHEMES[name]


_KNOWN = {kind.__name__: kind for kind in (PowerScheme, ThresholdScheme, BestThresholdScheme)}


def described(chosen: Scheme) -> list[Any]:
    """A scheme of this file as JSON holds it: name and fields.

    Raises:
        TypeError: a scheme of another kind.
    """
    if type(chosen).__name__ not in _KNOWN:
        raise TypeError(f"A sweep keeps its runs in files and knows the schemes {', '.join(_KNOWN)}, not {chosen!r}. Pass its weights to sampled_errors.")
    return [type(chosen).__name__, asdict(chosen)]  # type: ignore[call-overload]


def from_description(description: list[Any]) -> Scheme:
    """What ``described`` described."""
    kind, fields = description
    return _KNOWN[kind](**fields)
