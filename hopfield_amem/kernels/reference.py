"""The definition: every matrix in full, any energy. Every other path must equal this one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..energies import ReadEnergy


class Reference:
    """Reads of one memory by the methods of the energy itself."""

    def __init__(self, energy: ReadEnergy, keys: Tensor, presence: Tensor | None, causal: bool):
        self.spec, self.keys, self.presence, self.causal = energy, keys, presence, causal

    def settle(self, state: Tensor) -> Tensor:  # (..., q, d) -> (..., q, d)
        return self.spec.settle(state, self.keys, presence=self._gate(state))

    def read(self, state: Tensor, values: Tensor) -> Tensor:  # (..., q, d), (..., n, v) -> (..., q, v)
        return self.spec.read(state, self.keys, values, presence=self._gate(state))

    def energy(self, state: Tensor) -> Tensor:  # (..., q, d) -> (..., q)
        return self.spec(state, self.keys, presence=self._gate(state))

    def force(self, state: Tensor) -> Tensor:  # (..., q, d) -> (..., q, d)
        """``Σ p ∇ₓS``, what the stored patterns pull a state with."""
        weights = self.spec.weights(state, self.keys, presence=self._gate(state))
        return self.spec.similarity.force(state, *self.spec.similarity.pull(weights, self.keys))

    def _gate(self, state: Tensor) -> Tensor | None:
        return causal_presence(self.presence, state.shape[-2], self.keys.shape[-2], state.device) if self.causal else self.presence


def causal_presence(presence: Tensor | None, queries: int, slots: int, device: torch.device) -> Tensor:
    """Presence with every slot after its query deleted: query i sees slots 0..i (aligned at the first, as in SDPA)."""
    past = torch.ones(queries, slots, dtype=torch.bool, device=device).tril()
    if presence is None:
        return past
    return presence & past if presence.dtype == torch.bool else presence * past
