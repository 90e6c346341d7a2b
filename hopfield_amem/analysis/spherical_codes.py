"""Spherical codes: how far apart memories can be, found and bounded.

The minimal separation of M directions is ``Δ_min = 1 − max_{i≠j} cos(ξ_i, ξ_j)``. A memory of unit vectors is at its best when it is a spherical code of
largest Δ_min, in the space where similarities are taken (U-Hop+, Hu et al. 2024, arXiv 2410.23126).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..energies import checks
from ..layers.learned_kernel import separation_loss

STEPS = 1500
TEMPERATURES = 0.03, 0.001  # of the separation loss, first and last: warmer, all starts fall to one smooth optimum; at the last only closest pairs count
RATE = 0.05  # of the first steps, on the unit sphere; falls with the temperature


def minimal_separation(points: Tensor) -> Tensor:
    """``Δ_min = 1 − max_{i≠j} cos(ξ_i, ξ_j)`` of directions. (..., n, d) -> (...)

    Raises:
        ValueError, TypeError: fewer than two points.
    """
    checks.floating("points", points)
    if points.shape[-2] < 2:
        raise ValueError(f"A separation is between at least two points, got {tuple(points.shape)}.")
    unit = normalize(points, dim=-1)
    own = torch.eye(points.shape[-2], dtype=torch.bool, device=points.device)
    return 1 - (unit @ unit.mT).masked_fill(own, -math.inf).amax((-2, -1))


@torch.inference_mode(False)
@torch.enable_grad()
def spherical_code(count: int, dim: int, *, starts: int = 16, seed: int = 0) -> Tensor:
    """Points on the unit sphere of ``dim`` dimensions that are far apart: the best of several descents of the separation loss. -> (count, dim), float64

    The temperature falls until only the closest pairs count. A heuristic: it finds the best known codes of up to 24 points in three dimensions within 1 % of
    their separation (``tests/test_learned_similarity.py``), and promises nothing beyond.

    Raises:
        ValueError: fewer than two points, fewer than two dimensions, no start.
    """
    if count < 2 or dim < 2 or starts < 1:
        raise ValueError(f"A spherical code needs at least two points, two dimensions and one start, got count={count}, dim={dim}, starts={starts}.")
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(starts, count, dim, generator=generator, dtype=torch.float64)
    points = normalize(points, dim=-1).requires_grad_()
    optimizer = torch.optim.Adam([points])
    first, last = TEMPERATURES
    for step in range(STEPS):
        temperature = first * (last / first) ** (step / (STEPS - 1))
        optimizer.param_groups[0]["lr"] = RATE * temperature / first
        optimizer.zero_grad()
        (temperature * separation_loss(points, temperature)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            points.copy_(normalize(points, dim=-1))
    found = points.detach()
    return found[minimal_separation(found).argmax()]


def spherical_code_bounds(count: int, dim: int) -> tuple[float, float]:
    """Lower and upper bounds on the largest Δ_min of ``count`` points on the unit sphere of ``dim`` dimensions.

    ``½[(√π/M) Γ((D+1)/2)/Γ(D/2+1)]^(2/(D−1)) ≤ Δ_min ≤ 2[(2√π/M) Γ((D+1)/2)/Γ(D/2)]^(1/(D−1))`` (U-Hop+, arXiv 2410.23126). Only for many points: the upper
    one may exceed what any angle gives, 2.

    Raises:
        ValueError: fewer than two points or two dimensions.
    """
    if count < 2 or dim < 2:
        raise ValueError(f"The bounds are for at least two points in at least two dimensions, got count={count}, dim={dim}.")
    above, below, half = math.lgamma((dim + 1) / 2), math.lgamma(dim / 2 + 1), math.lgamma(dim / 2)
    share = 0.5 * math.log(math.pi) - math.log(count)
    lower = 0.5 * math.exp(2 / (dim - 1) * (share + above - below))
    upper = 2 * math.exp(1 / (dim - 1) * (share + math.log(2) + above - half))
    return lower, upper


def separating_beta(separation: float, count: int, radius: float) -> float:
    """The least β for which ``Δ_min ≥ log(2(M − 1)/R)/β``: one step of ``log_sum_exp`` then moves a stored unit vector by at most R (arXiv 2410.23126;
    Ramsauer et al. 2020, arXiv 2008.02217, Theorem 5).

    Raises:
        ValueError: a separation or a radius that is not positive, no pattern.
    """
    if not separation > 0 or not radius > 0 or count < 1:
        raise ValueError(f"separating_beta needs Δ > 0, R > 0 and M ≥ 1, got separation={separation!r}, radius={radius!r}, count={count!r}.")
    return max(0.0, math.log(2 * (count - 1) / radius)) / separation if count > 1 else 0.0
