"""Damaging images and measuring what a memory makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..energies.distances import distances
from .result import Result

DAMAGES = {"lower half": 0.5, "pixel noise": 0.3, "salt and pepper": 0.3}
"""Kinds of damage and how much of each: the share of rows removed, the standard deviation in units of the grey range, the share of pixels replaced."""


def damage(images: Tensor, kind: str, generator: torch.Generator | None = None, *, amount: float | None = None, fill: Tensor | float = 0.0) -> Tensor:
    """Damaged copies of grey images in [0, 1]. (..., h, w) -> (..., h, w)

    Args:
        images: grey levels, 0 black and 1 white.
        kind: "lower half": the lowest ``amount`` of the rows become ``fill``. "pixel noise": Gaussian noise of standard
            deviation ``amount`` on every pixel, clamped to [0, 1]. "salt and pepper": a share ``amount`` of the pixels,
            chosen independently, becomes 0 or 1 with equal probability.
        generator: source of the randomness; None is torch's global one.
        amount: see ``kind``; None takes the value in ``DAMAGES``.
        fill: what stands where rows were removed, broadcastable to the images: 0 is black, the mean image says "unknown".

    Raises:
        ValueError: an unknown kind, an amount out of range, images that are not (..., h, w) in [0, 1].
    """
    amount = _checked(images, kind, amount)
    if kind == "lower half":
        kept = images.shape[-2] - round(amount * images.shape[-2])
        row = torch.arange(images.shape[-2], device=images.device).unsqueeze(-1)
        return torch.where(row < kept, images, torch.as_tensor(fill, dtype=images.dtype, device=images.device))
    if kind == "pixel noise":
        noise = torch.randn(images.shape, generator=generator, dtype=images.dtype, device=images.device)
        return (images + amount * noise).clamp(0, 1)
    hit, colour = (torch.rand(images.shape, generator=generator, dtype=images.dtype, device=images.device) for _ in range(2))
    return torch.where(hit < amount, (colour < 0.5).to(images.dtype), images)


def _checked(images: Tensor, kind: str, amount: float | None) -> float:
    if kind not in DAMAGES:
        raise ValueError(f"Unknown damage {kind!r}. There are {', '.join(DAMAGES)}.")
    amount = DAMAGES[kind] if amount is None else amount
    limit = math.inf if kind == "pixel noise" else 1.0
    if not 0 <= amount <= limit:
        raise ValueError(f"The amount of {kind!r} must lie in [0, {limit:g}], got {amount!r}.")
    if images.ndim < 2 or not images.is_floating_point():
        raise ValueError(f"damage needs floating-point images (..., height, width), got {images.dtype} of shape {tuple(images.shape)}.")
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError(f"Grey levels must lie in [0, 1], got {float(images.min()):g} to {float(images.max()):g}. Divide by the largest grey level.")
    return amount


def exactly(state: Tensor, original: Tensor, tolerance: Tensor | float) -> Tensor:
    """Whether every coordinate is within the tolerance of the original: ``max |xᵢ − ξᵢ| ≤ ε``. (..., q, d) twice -> (..., q)

    The tolerance broadcasts against (..., q, d), so that (q, 1) gives every query its own.
    """
    return ((state - original).abs() <= tolerance).all(-1)


def identified(state: Tensor, patterns: Tensor, own: Tensor) -> Tensor:
    """Whether no stored pattern is nearer (Euclidean) than the query's own. (q, d), (n, d), (q,) -> (q,)

    Duplicates of the own pattern count as the own one.
    """
    distance = distances(state, patterns)
    return distance.gather(-1, own.unsqueeze(-1)).squeeze(-1) <= distance.amin(-1)


@dataclass(frozen=True)
class Recall(Result):
    """What became of every query: ``exact`` and ``identified``, boolean (q,). Prints as rates."""

    exact: Tensor
    identified: Tensor

    def rows(self) -> list[dict[str, Any]]:
        """One row per kind of success: its rate, with the 95 % interval of Clopper & Pearson 1934."""
        from scipy.stats import binomtest

        rows = []
        for name, hit in (("exact", self.exact), ("identified", self.identified)):
            count, of = int(hit.sum()), hit.numel()
            low, high = binomtest(count, of).proportion_ci() if of else (0.0, 1.0)
            rows.append({"success": name, "rate": count / of if of else math.nan, "low": float(low), "high": float(high), "queries": of})
        return rows

    def plot(self):
        """The rates with their intervals."""
        from .plots.recall import recall_rates

        return recall_rates(self)

    def __str__(self) -> str:
        exact, found = (float(x.double().mean()) for x in (self.exact, self.identified))
        return f"{exact:.1%} of {self.exact.numel()} queries recalled exactly, {found:.1%} identified"


def measure_recall(recall: Callable[[Tensor, Tensor], Tensor], query: Tensor, patterns: Tensor, own: Tensor, *, tolerance: Tensor | float = 1e-3) -> Recall:
    """Recall of a memory given as a function ``recall(query, patterns) -> state``. Without gradients.

    Args:
        recall: (q, d), (n, d) -> (q, d), for example ``partial(retrieve, energy, steps=5)``.
        query: damaged patterns (q, d).
        patterns: what is stored, (n, d).
        own: index of the pattern that each query is a damaged copy of, (q,).
        tolerance: largest deviation of a coordinate that still counts as exact, broadcastable to (q, d).

    Raises:
        ValueError: shapes that do not fit, an index outside the patterns, a function that does not return one state per query.
    """
    if query.ndim != 2 or patterns.ndim != 2 or query.shape[-1] != patterns.shape[-1]:
        raise ValueError(f"measure_recall needs query (q, d) and patterns (n, d), got {tuple(query.shape)} and {tuple(patterns.shape)}.")
    if own.shape != query.shape[:1] or own.is_floating_point():
        raise ValueError(f"own must hold one integer index per query, shape {tuple(query.shape[:1])}; got {own.dtype} of shape {tuple(own.shape)}.")
    if own.numel() and not bool(((own >= 0) & (own < len(patterns))).all()):
        raise ValueError(f"own must index the {len(patterns)} stored patterns, got {int(own.min())} to {int(own.max())}.")
    with torch.no_grad():
        state = recall(query, patterns)
    if not isinstance(state, Tensor) or state.shape != query.shape:
        came = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
        raise ValueError(f"recall must return one state per query, shape {tuple(query.shape)}; got {came}.")
    if not bool(state.isfinite().all()):
        raise ValueError("recall returned NaN or Inf: such states are neither recalled nor not. Look at the memory, or at its step size.")
    return Recall(exactly(state, patterns[own], tolerance), identified(state, patterns, own))
