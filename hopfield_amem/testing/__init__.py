"""The laws every energy must obey, usable on your own in one line: ``check_energy(energy)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..energies import Network, ReadEnergy
from .case import Case
from .laws import LAWS
from .networks import NETWORK_LAWS, Moving
from .report import LawBroken, LawReport, checked
from .scalars import SCALAR_LAWS, Scalar

__all__ = ["LAWS", "NETWORK_LAWS", "SCALAR_LAWS", "LawBroken", "LawReport", "check_energy"]


def check_energy(energy: ReadEnergy | Network | Callable[[Tensor, Tensor], Tensor], dim: int = 4, slots: int = 7, seed: int = 0) -> LawReport:
    """Check the laws of an energy on random patterns in float64, gradients included; of a ``ReadEnergy`` on every backend.

    Args:
        energy: the spec; its β must be a number, and sensible for patterns of unit variance. Or any function ``E(state, memories)`` of shapes
            (..., q, d), (n, d) -> (..., q), of which fewer laws are asked. Or a ``Network``, in float32 where functions of its
            own hold single precision.
        dim, slots: size of the random memory; second derivatives are checked too, so keep it small. A network has its own sizes.
        seed: of the random patterns.

    Raises:
        LawBroken: with the law and the violation.
        ValueError: no energy, a β that is a tensor, a memory too small to check.
    """
    if isinstance(energy, Network):
        return checked(energy, NETWORK_LAWS, Moving.random(energy, seed))
    read = isinstance(energy, ReadEnergy)
    if not callable(energy) or (read and isinstance(energy.beta, Tensor)):
        raise ValueError(f"check_energy needs a ReadEnergy whose beta is a number, a Network, or a function E(state, memories), got {energy!r}.")
    if slots < 6 or dim < 1:
        raise ValueError(f"check_energy needs at least 6 slots and 1 dimension, got slots={slots}, dim={dim}.")
    if isinstance(energy, ReadEnergy):
        return checked(energy, LAWS, Case.random(energy, dim, slots, seed))
    generator = torch.Generator().manual_seed(seed)
    memories = torch.randn(slots, dim, generator=generator, dtype=torch.float64)
    state = memories[:3] + 0.3 * torch.randn(3, dim, generator=generator, dtype=torch.float64)
    return checked(energy, SCALAR_LAWS, Scalar(energy, state, memories))
