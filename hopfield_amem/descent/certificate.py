"""What a descent returns: the state and, for every query, the evidence for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energies import Dot, Euclidean, Free, Log, Quadratic, ReadEnergy, Simplex
from ..energies.scalings.scaling import is_exponential
from ..kernels import Gates, nearest


@dataclass(frozen=True)
class Descended:
    """A state at rest (or out of steps), with a certificate per query. Nothing here is an error: read ``converged``.

    Attributes:
        state: (..., q, d).
        energy: E at the state, (..., q), without gradient. +inf where no slot is in reach.
        steps: steps this query took before it came to rest, (..., q). For ``Flow``, evaluations of the energy gradient.
        residual: ``‖x_{t+1} − x_t‖ / ‖x_{t+1}‖`` of its last step (for ``Flow`` ``‖∇E‖ / ‖x‖`` at the end), (..., q).
        converged: residual ≤ tolerance, (..., q).
        margin: similarity of the nearest stored pattern minus that of the second nearest, at the state, (..., q):
            Ramsauer et al.'s separation Δ, or None where the energy has no similarity.
        bound: upper bound on the distance of the next settled state to the nearest stored pattern, (..., q), or None where the
            theory gives none. For exponential weights ``2M x/(1 + x)`` with ``x = (N − 1) e^(−βΔ)`` and
            ``M = max ‖ξ‖``, at most the ``2M(N − 1) e^(−βΔ)`` of Ramsauer et al. 2020, Theorem 5. For scalings with a margin m 0 as soon
            as ``βΔ ≥ m``: exact retrieval (Santos et al. 2024, arXiv 2411.08590), else the trivial 2M. m is ``1/(α − 1)`` for α-entmax, 1 for
            normmax, 0 for the hard maximum.
        trajectory: states after 0, 1, … steps, (steps + 1, ..., q, d), when recorded.
        energies: their energies, (steps + 1, ..., q), when recorded.
        period: after a synchronous descent of spins 1 where the state rests, 2 where it alternates between two, 0 where neither is reached yet, (..., q);
            otherwise None.
    """

    state: Tensor
    energy: Tensor
    steps: Tensor
    residual: Tensor
    converged: Tensor
    margin: Tensor | None = None
    bound: Tensor | None = None
    trajectory: Tensor | None = None
    energies: Tensor | None = None
    period: Tensor | None = None

    def __str__(self) -> str:
        if not self.converged.numel():
            return "no queries"
        share = float(self.converged.float().mean())
        steps, energy = float(self.steps.float().mean()), float(self.energy.mean())
        text = f"{share:.0%} of {self.converged.numel()} queries converged, {steps:.1f} steps, mean energy {energy:.4g}"
        if self.period is not None and bool((self.period == 2).any()):
            text += f", {float((self.period == 2).float().mean()):.0%} alternate between two states"
        return text if self.bound is None else f"{text}, retrieval error at most {float(self.bound.max()):.2g}"


@torch.no_grad()
def certify(energy: ReadEnergy | Callable, state: Tensor, keys: Tensor, gates: Gates) -> tuple[Tensor | None, Tensor | None]:
    """Margin and retrieval-error bound of every state, None where the theory gives none."""
    if not isinstance(energy, ReadEnergy) or keys.shape[-2] == 0:
        return None, None
    top, _ = nearest(energy, state, keys, presence=gates.presence, causal=gates.reach or False, count=2)
    margin = top[..., 0] - top[..., 1] if top.shape[-1] > 1 else torch.full_like(top[..., 0], math.inf)
    margin = torch.where(top[..., 0] == -math.inf, math.nan, torch.where(margin.isnan(), math.inf, margin))
    return margin, _bound(energy, margin, keys, gates)


def _bound(energy: ReadEnergy, margin: Tensor, keys: Tensor, gates: Gates) -> Tensor | None:
    averages = (isinstance(energy.similarity, Dot) and isinstance(energy.confinement, Quadratic)) or (
        isinstance(energy.similarity, Euclidean) and isinstance(energy.confinement, Free)
    )
    if not averages or not energy.scaling.normalised(energy.separation) or gates.bias is not None:
        return None
    origin = energy.similarity.origin(keys)
    radius = (keys if origin is None else keys - origin).norm(dim=-1).amax(-1, keepdim=True)
    presence = gates.presence
    if presence is not None and presence.is_floating_point() and bool(((presence > 0) & (presence < 1)).any()):
        return (2 * radius).expand(margin.shape)  # a faded slot may lose to a further one
    gap = energy.inverse_temperature(1, margin) * margin
    if is_exponential(energy.separation) and isinstance(energy.scaling, (Log, Simplex)):
        return softmax_error(gap, keys.shape[-2] - 1, radius)
    exact = energy.scaling.margin(energy.separation)
    return torch.where(gap >= exact, 0.0, 2 * radius) if exact < math.inf else None


def softmax_error(gap: Tensor, others: int, radius: Tensor) -> Tensor:
    """``2M x/(1 + x)``, ``x = (N − 1) e^(−βΔ)``: how far the average of N vectors of length M at most, with exponential weights, is from the one whose score
    is βΔ, the ``gap``, above all others. Not above the ``2M(N − 1) e^(−βΔ)`` of Ramsauer et al. 2020 (arXiv 2008.02217, Theorem 5)."""
    return 2 * radius * torch.sigmoid(math.log(others or math.ulp(0.0)) - gap)
