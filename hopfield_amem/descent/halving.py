"""Steps that never raise an energy: the step of a sample is halved until it does not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..energies.truth import settled

HALVINGS = 6  # how often a step is halved before a sample stays where it is


@torch.no_grad()
def longest(fine: Callable[[Tensor], Tensor], state: Tensor, velocity: Tensor, size: Tensor, *, whole: Tensor | None = None) -> Tensor:
    """The longest of the steps ``size, size/2, …, size/2⁶`` of every sample that ends where it is fine to be, or 0. -> (samples)

    Args:
        fine: whether samples may be in these states, with any leading dimensions before those of the samples: (..., samples, ...) -> (..., samples), boolean.
        state, velocity: (samples, ...); a step leads to ``state + step · velocity``.
        size: (samples).
        whole: whether it is fine where the whole step ends, (samples), where that has been looked at.

    Eager mode halves no more often than some sample needs to; compiled, every halving is computed at once, which is fewer operations to compile.
    """
    halvings = torch.arange(HALVINGS + 1, dtype=size.dtype, device=size.device).view(-1, *[1] * size.ndim)
    sizes = size * 0.5**halvings
    ends = lambda steps: state + steps[(..., *[None] * (state.ndim - size.ndim))] * velocity
    if torch.compiler.is_compiling():
        found = fine(ends(sizes))
    else:
        looked = [] if whole is None else [whole]
        while len(looked) <= HALVINGS and not (looked and settled(torch.stack(looked).any(0))):
            looked.append(fine(ends(sizes[len(looked)])))
        found = torch.stack(looked)
    first = found.int().argmax(0, keepdim=True)
    return torch.where(found.any(0), sizes.gather(0, first).squeeze(0), 0.0)
