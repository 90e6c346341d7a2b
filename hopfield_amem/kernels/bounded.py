"""Reads in bounded memory, whatever streams them: what one sweep over the slots gives, put together as settle, read, energy and force."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..energies import Dot, Manhattan, ReadEnergy
from ..energies.read import as_amount
from .cut import ELEMENTS
from .gates import Gates, kept
from .layout import Layout


class Bounded:
    """Reads of one memory, extra memory O(queries·d + slots·d). A subclass says how one sweep is made (``stream``)."""

    def __init__(self, energy: ReadEnergy, keys: Tensor, gates: Gates):
        self.spec, self.gates, self.dim = energy, gates, keys.shape[-1]
        self.presence = as_amount(gates.presence, keys)
        self.origin = energy.similarity.origin(keys)
        self.keys = keys

    def stream(self, state: Tensor, values: Tensor | None, mass: bool = False, value: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        """``Σ p v`` (``Σ p ξ`` of shifted keys without values), Q where asked for, and ``Σ p`` (..., q, 1) where asked for."""
        raise NotImplementedError

    def settle(self, state: Tensor) -> Tensor:
        if isinstance(self.spec.similarity, Manhattan):
            return self._medians(state)
        pull, mass, _ = self.pull(state)
        return self.spec.confinement.minimise(pull, mass, state)

    def read(self, state: Tensor, values: Tensor) -> Tensor:
        if values is self.keys and isinstance(self.spec.similarity, Dot):
            return self.stream(state, None)[0]  # one gradient instead of two
        output, _, mass = self.stream(state, values, mass=self.spec.divides)
        return output if mass is None else self.spec.averaged(output, mass)

    def energy(self, state: Tensor) -> Tensor:
        return self.spec.confinement(state) - self.value(state) / self.spec.inverse_temperature(1, state)

    def value(self, state: Tensor) -> Tensor:
        """Q of every query."""
        return self.stream(state, None, value=True)[1]

    def force(self, state: Tensor) -> Tensor:
        pull, mass, _ = self.pull(state)
        return self.spec.similarity.force(state, pull, mass)

    def pull(self, state: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """``Σ p ξ``, ``Σ p`` (None unless the similarity is massive) and Q."""
        massive = self.spec.similarity.massive
        certain = self.spec.scaling.normalised(self.spec.separation) and not self.gates.dropout
        pull, value, mass = self.stream(state, None, mass=massive and not certain)
        if massive and certain:
            mass = (value != -math.inf).to(pull.dtype).unsqueeze(-1)
        return pull if mass is None or self.origin is None else pull + mass * self.origin, mass, value

    def centred(self, state: Tensor) -> Tensor:
        return state if self.origin is None else state - self.origin

    def _medians(self, state: Tensor) -> Tensor:
        """Weighted medians, from the full rows of a few queries at a time."""
        queries, slots = state.shape[-2], self.keys.shape[-2]
        presence = self.gates.amounts(queries, slots, state.device) if self.gates.reach else self.presence
        bias = None if self.gates.bias is None else self.gates.bias.to(state.dtype).unsqueeze(-2)
        beta = self.spec.beta[..., None, None] if isinstance(self.spec.beta, Tensor) else None
        leads = [t.shape[:-2] for t in (bias, beta) if t is not None]
        layout = Layout(state, self.keys, None, presence, self.gates.aligned, *leads)
        (states, keys, _, gates), (bias, beta) = layout.folded(), (None if t is None else layout.batched(t) for t in (bias, beta))
        together = max(1, 4 * ELEMENTS // max(1, keys.shape[1] * keys.shape[2]))

        def settled(b: int, i: int) -> Tensor:
            gate = None if gates is None else gates[b, i : i + together] if gates.shape[1] > 1 else gates[b]
            part = states[b, i : i + together]
            spec = self.spec if beta is None else self.spec.at(beta[b, 0, 0])
            weights = spec.weights(part, keys[b], presence=gate, bias=None if bias is None else bias[b, 0])
            if self.gates.seed is not None:
                rows, columns = (torch.arange(count, device=part.device) for count in weights.shape)
                weights = weights * kept(self.gates.seed, torch.full_like(columns, b), i + rows.unsqueeze(-1), columns, self.gates.dropout).to(weights.dtype)
            return self.spec.settled(weights, part, keys[b])

        blocks = [torch.cat([settled(b, i) for i in range(0, max(1, states.shape[1]), together)]) for b in range(states.shape[0])]
        return layout.unfolded(torch.stack(blocks)) if blocks else layout.unfolded(states)
