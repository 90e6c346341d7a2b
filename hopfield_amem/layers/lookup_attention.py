"""Lookup with projections and heads: the memory is weights, and tokens ask it as in attention."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..descent import Descent, FixedPoint
from ..energies import ReadEnergy
from .associative import Association
from .attention import HopfieldAttention
from .wiring import Wiring


class LookupAttention(HopfieldAttention):
    """``y_i = W_O Σ_μ p_μ(x_i W_Q) (ξ_μ W_V)`` in every head, with learned slots ξ: attention to a memory that is the same for every input.

    (The lookup of Ramsauer et al. 2020, arXiv 2008.02217. Without projections and with one head it is ``HopfieldLookup``.)

    Args:
        dim, heads, energy, descent: as in ``HopfieldAttention``.
        slots: number of learned slots n.
        wiring: as in ``HopfieldAttention``. A width for the tokens of the values, ``sources=(None, v, None)``, gives every slot a target of its own;
            without it values are made of the slots themselves.

    Shapes: (..., q, dim) -> (..., q, dim). Parameters: those of ``HopfieldAttention``, ``stored`` (n, dim) and, where asked for, ``targets`` (n, v).

    Raises:
        ValueError: as in ``HopfieldAttention``, or no slots.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        energy: ReadEnergy | None = None,
        descent: Descent = FixedPoint(steps=1),
        *,
        slots: int,
        wiring: Wiring = Wiring(),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if slots < 1:
            raise ValueError(f"A lookup needs at least one slot, got slots={slots}.")
        stored, own, out = wiring.sources
        stored = dim if stored is None else stored
        wiring = replace(wiring, sources=(stored, stored if own is None else own, out))
        super().__init__(dim, heads, energy, descent, wiring=wiring, device=device, dtype=dtype)
        self.stored = nn.Parameter(torch.empty(slots, stored, device=device, dtype=dtype))
        self.targets = None if own is None else nn.Parameter(torch.empty(slots, own, device=device, dtype=dtype))
        self._draw()

    def reset_parameters(self) -> None:
        """As ``HopfieldAttention``; slots and targets are drawn like tokens of unit variance."""
        super().reset_parameters()
        if hasattr(self, "stored"):
            self._draw()

    def _draw(self) -> None:
        """Slots and targets of unit variance."""
        for slots in (self.stored, self.targets):
            if slots is not None:
                nn.init.normal_(slots)

    def forward(self, query: Tensor, *, presence: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Read the learned slots. (..., q, dim) -> (..., q, dim). ``presence`` (..., q, slots) as in ``HopfieldAttention``."""
        return super().forward(query, presence=presence)

    def associate(self, query: Tensor, *_: None, presence: Tensor | None = None, causal: bool | int = False) -> Association:  # type: ignore[override]
        return super().associate(query, self.stored, self.targets, presence=presence, causal=causal)

    def extra_repr(self) -> str:
        return f"slots={len(self.stored)}, {super().extra_repr()}"
