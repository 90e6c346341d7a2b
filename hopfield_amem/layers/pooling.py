"""Pooling as retrieval: the queries are weights, and ask every sequence the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..descent import Descent, FixedPoint
from ..energies import ReadEnergy
from .associative import Association
from .attention import HopfieldAttention
from .wiring import Wiring


class HopfieldPooling(HopfieldAttention):
    """``y_i = W_O Σ_μ p_μ(s_i) v_μ`` with learned queries s: a set or sequence of any length becomes ``queries`` tokens.

    (Ramsauer et al. 2020, arXiv 2008.02217; with softmax the pooling by multihead attention of Lee et al. 2019, arXiv 1810.00825.)

    Args:
        dim, heads, energy, descent, wiring: as in ``HopfieldAttention``.
        queries: number of learned queries.

    Shapes: (..., n, dim) -> (..., queries, dim). Parameters: those of ``HopfieldAttention``, and ``seeds`` (queries, dim).

    Raises:
        ValueError: as in ``HopfieldAttention``, or no queries.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        energy: ReadEnergy | None = None,
        descent: Descent = FixedPoint(steps=1),
        *,
        queries: int = 1,
        wiring: Wiring = Wiring(),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if queries < 1:
            raise ValueError(f"Pooling needs at least one query, got queries={queries}.")
        super().__init__(dim, heads, energy, descent, wiring=wiring, device=device, dtype=dtype)
        self.seeds = nn.Parameter(torch.empty(queries, dim, device=device, dtype=dtype))
        nn.init.normal_(self.seeds)

    def reset_parameters(self) -> None:
        """As ``HopfieldAttention``; queries are drawn like tokens of unit variance."""
        super().reset_parameters()
        if hasattr(self, "seeds"):
            nn.init.normal_(self.seeds)

    def forward(self, tokens: Tensor, values: Tensor | None = None, *, presence: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Read the tokens, or values that stand beside them, at the learned queries. (..., n, dim) -> (..., queries, dim)"""
        return super().forward(tokens, values, presence=presence)

    def associate(  # type: ignore[override]
        self, tokens: Tensor, values: Tensor | None = None, *_: None, presence: Tensor | None = None, causal: bool | int = False
    ) -> Association:
        return super().associate(self.seeds, tokens, values, presence=presence, causal=causal)

    def extra_repr(self) -> str:
        return f"queries={len(self.seeds)}, {super().extra_repr()}"
