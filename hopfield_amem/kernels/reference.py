"""The definition: every matrix in full, any energy. Every other path must equal this one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..energies import ReadEnergy
from ..energies.read import as_amount
from .gates import Gates


class Reference:
    """Reads of one memory by the methods of the energy itself."""

    def __init__(self, energy: ReadEnergy, keys: Tensor, gates: Gates):
        self.spec, self.keys, self.gates = energy, keys, gates

    def settle(self, state: Tensor) -> Tensor:  # (..., q, d) -> (..., q, d)
        return self.spec.settled(self._weights(state), state, self.keys)

    def read(self, state: Tensor, values: Tensor) -> Tensor:  # (..., q, d), (..., n, v) -> (..., q, v)
        weights = self._weights(state, values.shape[:-2])
        return self.spec.averaged(weights @ values, weights.sum(-1, keepdim=True))

    def energy(self, state: Tensor) -> Tensor:  # (..., q, d) -> (..., q)
        return self.spec(state, self.keys, presence=self._presence(state), bias=self.gates.bias)

    def value(self, state: Tensor) -> Tensor:  # (..., q, d) -> (..., q)
        """Q of every query."""
        score = self.spec.scores(state, self.keys, self.gates.bias)
        return self.spec.scaling.value(self.spec.separation, score, as_amount(self._presence(state), state))

    def force(self, state: Tensor) -> Tensor:  # (..., q, d) -> (..., q, d)
        """``Σ p ∇ₓS``, what the stored patterns pull a state with."""
        return self.spec.similarity.force(state, *self.spec.similarity.pull(self._weights(state), self.keys))

    def _weights(self, state: Tensor, lead: tuple[int, ...] = ()) -> Tensor:
        score = self.spec.scores(state, self.keys, self.gates.bias)
        weights = self.spec.scaling.weights(self.spec.separation, score, as_amount(self._presence(state), state))
        if not self.gates.dropout:
            return weights
        keep = self.gates.kept(torch.broadcast_shapes(weights.shape[:-2], lead), weights.shape[-2], weights.shape[-1], weights.dtype)
        return weights if keep is None else weights * keep

    def _presence(self, state: Tensor) -> Tensor | None:
        return self.gates.amounts(state.shape[-2], self.keys.shape[-2], state.device)
