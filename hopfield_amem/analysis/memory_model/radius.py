"""How far apart the patterns of a trained network are: nearest neighbours among the activations of its last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import seeds
from ..result import Result
from .partition import pattern_radius_reference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ELEMENTS = 2**23  # products alive at once
CANDIDATES = 4  # so many nearest by matrix products are measured exactly


@dataclass(frozen=True)
class PatternRadius(Result):
    """Distances of activations to their nearest neighbours, in growing samples, against ``2√(n/2πe)``.

    Attributes:
        counts: numbers of activations in each sample.
        distances: of every activation of a sample to its nearest neighbour there, one tensor (count,) per sample.
        dim: n, the width of an activation.
    """

    counts: tuple[int, ...]
    distances: tuple[Tensor, ...]
    dim: int

    @property
    def radius(self) -> float:
        """r, half the median distance in the whole sample."""
        return 0.5 * float(np.median(self.distances[-1]))

    @property
    def reference(self) -> float:
        """``√(n/2πe)``."""
        return pattern_radius_reference(self.dim)

    def rows(self) -> list[dict[str, Any]]:
        rows = []
        for count, found in zip(self.counts, self.distances, strict=True):
            low, median, high = np.quantile(found, [0.1, 0.5, 0.9]).tolist()
            rows.append({
                "activations": count, "mean": float(found.mean()), "median": median, "10 %": low, "90 %": high, "radius": 0.5 * median,
                "√(n/2πe)": self.reference, "coinciding": float((found == 0).double().mean()),
            })  # fmt: skip
        return rows

    def plot(self) -> Figure:
        from ..plots.memory_model import nearest_distances

        return nearest_distances(self)


@torch.no_grad()
def pattern_radius(activations: Tensor, fractions: Sequence[float] = (0.25, 0.5, 0.75, 1.0), *, seed: int = 0) -> PatternRadius:
    """Half the distance between nearest activations of a network's last layer, against the radius ``√(n/2πe)`` at which balls have volume of order one.

    Niu et al. 2024 (arXiv 2405.08707, §6.1) take n = d_emb there, although a pattern of theirs is a whole sequence, n = T_max d_emb; GPT-2 medium on
    OpenWebText has r ≈ 10 for √(1024/2πe) = 7.74. Distances shrink as a sample grows, so several sizes are measured. Neighbours are found by matrix
    products of the centred activations in float64, the four nearest of each measured exactly, in memory of O(n d) and blocks of products; where rounding of
    the products might hide a nearer one (clusters far apart), all distances are measured.

    Args:
        activations: (..., n), two at least: for example ``states_by_depth(model, tokens)[-1]`` of ``integrations.huggingface``.
        fractions: shares of the activations, ascending in (0, 1], nested at random.
        seed: of the order in which they are taken.

    Raises:
        ValueError, TypeError: fewer than two activations in a sample, NaN or Inf, squared distances without end, fractions that do not ascend in (0, 1].
    """
    if not isinstance(activations, Tensor) or not activations.is_floating_point():
        raise TypeError(f"activations are a floating-point tensor (..., n), got {getattr(activations, 'dtype', type(activations).__name__)}.")
    rows = activations.detach().reshape(-1, activations.shape[-1]) if activations.ndim and activations.numel() else activations.new_zeros(0, 1)
    shares = tuple(float(share) for share in fractions)
    if not shares or sorted(set(shares)) != list(shares) or not 0 < shares[0] <= shares[-1] <= 1:
        raise ValueError(f"fractions ascend in (0, 1], for example (0.25, 0.5, 1.0); got {fractions!r}.")
    counts = tuple(round(share * len(rows)) for share in shares)
    if counts[0] < 2:
        raise ValueError(f"Nearest neighbours need two activations in every sample, got {tuple(activations.shape)} with fractions {shares}.")
    if not bool(rows.isfinite().all()):
        raise ValueError("The activations hold NaN or Inf. Leave out the rows of padding, or compute the model in a wider dtype.")
    seeds.check(seed)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).to(rows.device)
    found = tuple(nearest_neighbours(rows[order[:count]]) for count in counts)
    if not all(bool(distances.isfinite().all()) for distances in found):
        raise ValueError("The squared distances of the activations leave the range of float64. Scale the activations down.")
    return PatternRadius(counts, found, rows.shape[-1])


def nearest_neighbours(rows: Tensor) -> Tensor:
    """Distance of every row to the nearest other one. (n, d) -> (n,), float64"""
    centred = rows.double()
    centred = centred - centred.mean(0)  # what all share would cancel in the products
    half = 0.5 * centred.square().sum(-1)
    found = [_nearest(rows, centred, half, block) for block in torch.arange(len(rows), device=rows.device).split(max(1, ELEMENTS // len(rows)))]
    return torch.cat(found).cpu()


def _nearest(rows: Tensor, centred: Tensor, half: Tensor, block: Tensor) -> Tensor:
    """Of the rows in a block, (b,): the least distance among the candidates, or among all where rounding might hide a nearer one."""
    gap = half - centred[block] @ centred.mT  # ½‖x − ξ‖² less ½‖x‖²
    gap[torch.arange(len(block), device=block.device), block] = torch.inf
    near, candidates = gap.topk(min(CANDIDATES, len(half) - 1), largest=False)
    distance = (rows[block].double().unsqueeze(1) - rows[candidates].double()).norm(dim=-1).amin(-1)
    # What is nearer than the candidates is no longer than ‖x‖ + distance, so that no product of it is further off than this (Higham 2002, §3.1).
    longest = (2 * half[block]).sqrt() + distance
    error = 2 * (centred.shape[1] + 2) * torch.finfo(torch.float64).eps * longest.square()
    hidden = (near[:, -1] + half[block] <= 0.5 * distance.square() + error) & (distance > 0) & (near.shape[1] < len(half) - 1)
    for row in hidden.nonzero().squeeze(-1).tolist():
        apart = (rows.double() - rows[block[row]].double()).norm(dim=-1)
        apart[block[row]] = torch.inf
        distance[row] = apart.amin()
    return distance
