"""Exact reads in bounded memory, for every energy: extra memory O(queries·d + slots·d), never queries × slots."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..energies import Dot, Manhattan, ReadEnergy
from ..energies.read import as_amount
from .cut import ELEMENTS, VALUE
from .layout import Layout
from .operators import streamed
from .reference import causal_presence


class Chunked:
    """Reads of one memory in bounded memory."""

    def __init__(self, energy: ReadEnergy, keys: Tensor, presence: Tensor | None, causal: bool):
        self.spec, self.causal, self.dim = energy, causal, keys.shape[-1]
        self.presence = as_amount(presence, keys)
        self.origin = energy.similarity.origin(keys)
        self.keys = keys
        self.shifted = keys if self.origin is None else keys - self.origin

    def settle(self, state: Tensor) -> Tensor:
        if isinstance(self.spec.similarity, Manhattan):
            return self._medians(state)
        pull, mass, _ = self.pull(state)
        return self.spec.confinement.minimise(pull, mass, state)

    def read(self, state: Tensor, values: Tensor) -> Tensor:
        if values is self.keys and isinstance(self.spec.similarity, Dot):
            return self._stream(state, None, self.dim)[0]  # one gradient instead of two
        if not self.spec.divides:
            return self._stream(state, values, 0)[0]
        summed = self._stream(state, torch.cat([values, torch.ones_like(values[..., :1])], -1), 0)[0]
        return self.spec.averaged(summed[..., :-1], summed[..., -1:])

    def energy(self, state: Tensor) -> Tensor:
        value = self._stream(state, None, 1, VALUE)[1]
        return self.spec.confinement(state) - value / self.spec.inverse_temperature(1, state)

    def force(self, state: Tensor) -> Tensor:
        pull, mass, _ = self.pull(state)
        return self.spec.similarity.force(state, pull, mass)

    def pull(self, state: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """``Σ p ξ``, ``Σ p`` (None unless the similarity is massive) and Q."""
        similarity, scaling = self.spec.similarity, self.spec.scaling
        if not similarity.massive:
            pull, value = self._stream(state, None, self.dim)
            return pull, None, value
        if scaling.normalised(self.spec.separation):
            pull, value = self._stream(state, None, self.dim)
            mass = (value != -math.inf).to(pull.dtype).unsqueeze(-1)
        else:
            pull, value = self._stream(state, None, self.dim + 1)
            pull, mass = pull[..., :-1], pull[..., -1:]
        return pull if self.origin is None else pull + mass * self.origin, mass, value

    def _stream(self, state: Tensor, values: Tensor | None, width: int, needs: int = 0) -> tuple[Tensor, Tensor]:
        """``Σ p v`` (``Σ p`` times the leading ``width`` lifted columns without values) and Q: (..., q, columns), (..., q)"""
        energy, beta = self.spec, self.spec.inverse_temperature(2, state)
        state = state if self.origin is None else state - self.origin
        if energy.similarity.inner:
            lifted = beta * energy.similarity.lift_state(state)
        else:
            warmth = torch.ones_like(state[..., :1]) * beta
            lifted = torch.cat([state.expand(*warmth.shape[:-1], self.dim), warmth], -1)
        layout = Layout(lifted, self.shifted, values, self.presence, self.causal)
        output, value = streamed(layout.folded(), energy.name, width, self.causal, needs)
        return layout.unfolded(output), layout.unfolded(value.unsqueeze(-1)).squeeze(-1)

    def _medians(self, state: Tensor) -> Tensor:
        """Weighted medians, from the full rows of a few queries at a time."""
        presence = causal_presence(self.presence, state.shape[-2], self.keys.shape[-2], state.device) if self.causal else self.presence
        layout = Layout(state, self.keys, None, presence, False)
        states, keys, _, gates = layout.folded()
        together = max(1, 4 * ELEMENTS // max(1, keys.shape[1] * keys.shape[2]))
        blocks = []
        for b in range(states.shape[0]):
            rows = []
            for i in range(0, max(1, states.shape[1]), together):
                gate = None if gates is None else gates[b, i : i + together] if gates.shape[1] > 1 else gates[b]
                rows.append(self.spec.settle(states[b, i : i + together], keys[b], presence=gate))
            blocks.append(torch.cat(rows))
        return layout.unfolded(torch.stack(blocks)) if blocks else layout.unfolded(states)
