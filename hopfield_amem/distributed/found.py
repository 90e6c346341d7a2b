"""What a memory that is spread over ranks recalls."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Found:
    """What all ranks together recalled, equal on every rank.

    Attributes:
        state: where the queries came to rest, (..., q, d).
        steps: that a query took, (..., q).
        converged: whether it rests, (..., q).
        ids: of the stored pattern nearest to the state, on whichever rank, (..., q).
        margin: its similarity minus that of the second nearest, (..., q): Ramsauer et al.'s Δ.
        values: ``Σ p v`` at the state, (..., q, v); None for a memory without values.
    """

    state: Tensor
    steps: Tensor
    converged: Tensor
    ids: Tensor
    margin: Tensor
    values: Tensor | None = None
