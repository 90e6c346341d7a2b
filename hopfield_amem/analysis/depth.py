"""Energy against depth: how near the hidden states of a trained network come, layer by layer, to those of what it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..energies import presets
from ..energies.distances import distances
from .result import Result

TWINS = 1e-6  # patterns that differ by less, of the largest number, are one


@dataclass(frozen=True)
class Depth(Result):
    """What ``energy_by_depth`` finds. Prints as a table.

    Attributes:
        energy: ``−log Σ_μ exp(−½‖x − ξ_μ‖²/r²)`` of every query in every layer, (layers, q), without dimension: about 0 at a pattern that is alone.
        nearest: ``min_μ ‖x − ξ_μ‖/r``, (layers, q).
        radius: r, the (lower) median distance of a pattern to the nearest one that differs, (layers,).
        identified: share of the queries whose nearest pattern is their own, (layers,); None where their own is not known.
    """

    energy: Tensor
    nearest: Tensor
    radius: Tensor
    identified: Tensor | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One row per layer: medians over the queries."""
        medians = zip(self.energy.median(-1).values.tolist(), self.nearest.median(-1).values.tolist(), self.radius.tolist(), strict=True)
        found = [{"layer": layer, "energy": energy, "nearest/r": nearest, "r": radius} for layer, (energy, nearest, radius) in enumerate(medians)]
        return found if self.identified is None else [row | {"identified": share} for row, share in zip(found, self.identified.tolist(), strict=True)]

    def plot(self):
        """Energy against layer: median and quartiles."""
        from .plots.landscape import energy_by_layer

        return energy_by_layer(self)

    def __str__(self) -> str:
        return f"{self.table()}\nmedians of {self.energy.shape[1]} queries"


@torch.no_grad()
def energy_by_depth(states: Sequence[Tensor], patterns: Sequence[Tensor], own: Tensor | None = None) -> Depth:
    """The distance energy of hidden states among those of the patterns, in every layer.

    Niu et al. 2024 (arXiv 2405.08707, §4) read a layer as a step down its distance energy. Each layer's energy is taken at the temperature that the
    layer's own patterns set, ``β = 1/r²``, r their median distance to the nearest one that differs, so that layers of different scale compare. That a
    trained network descends is the paper's model, not a theorem: this measures it.

    Args:
        states: hidden states of the queries, one tensor (q, width) per layer.
        patterns: hidden states of what is remembered, one tensor (n, width) per layer, n ≥ 2.
        own: index of every query's own pattern, (q,), for queries that are damaged patterns.

    Raises:
        ValueError: another number of layers, widths that differ, fewer than two patterns, or patterns that are all the same.
    """
    if len(states) != len(patterns) or not len(states):
        raise ValueError(f"Give hidden states of the same layers for queries and patterns, got {len(states)} and {len(patterns)}.")
    queries = len(states[0])
    if any(len(x) != queries for x in states) or (own is not None and own.shape != (queries,)):
        raise ValueError(
            f"Every layer has the same queries, and own one index for each: {[len(x) for x in states]}, {None if own is None else tuple(own.shape)}."
        )
    if not queries:
        raise ValueError("There is no query whose energy could be taken.")
    if own is not None and not bool(((own >= 0) & (own < len(patterns[0]))).all()):
        raise ValueError(f"own must index the {len(patterns[0])} patterns, got {int(own.min())} to {int(own.max())}.")
    found = [_layer(x.double(), known.double(), layer) for layer, (x, known) in enumerate(zip(states, patterns, strict=True))]
    energy, nearest, radius, which = (torch.stack(part) for part in zip(*found, strict=True))
    identified = None if own is None else (which == own.to(which.device)).double().mean(-1)
    return Depth(energy, nearest, radius, identified)


def _layer(x: Tensor, patterns: Tensor, layer: int) -> tuple[Tensor, ...]:
    if x.ndim != 2 or patterns.ndim != 2 or x.shape[-1] != patterns.shape[-1] or len(patterns) < 2:
        raise ValueError(f"Layer {layer} needs states (q, width) and at least two patterns (n, width), got {tuple(x.shape)} and {tuple(patterns.shape)}.")
    if not bool(x.isfinite().all() & patterns.isfinite().all()):
        raise ValueError(f"The hidden states of layer {layer} hold NaN or Inf: there is no energy of them.")
    apart = distances(patterns, patterns)
    apart = torch.where(apart > TWINS * patterns.abs().amax(), apart, torch.inf).amin(-1)
    if not bool(apart.isfinite().any()):
        raise ValueError(f"The patterns of layer {layer} are all the same: their distances set no scale.")
    radius = apart.median()
    distance, which = distances(x, patterns).min(-1)
    return presets.distance(1.0)(x / radius, patterns / radius), distance / radius, radius, which
