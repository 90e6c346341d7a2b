"""What a causal write-then-read works on: the tokens of a sequence, and the states that carry it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...energies import Hebbian, Memory, ReadEnergy, Ridge
from ...energies.memory import is_linear


class MatrixState(NamedTuple):
    """The state of a memory that is linear in its keys: ``S`` (..., d, v), of constant size."""

    memory: Tensor


class RidgeState(NamedTuple):
    """The state of an exact minimiser: ``H = Σ b k kᵀ`` (..., d, d) and ``G = Σ b k vᵀ`` (..., d, v), of constant size."""

    covariance: Tensor
    memory: Tensor


class SlotState(NamedTuple):
    """The state of any other memory, which grows: keys (..., n, d), what was written at them (..., n, v), the logarithm (..., n) of what is
    left of each where memories fade, and which of them are there (..., n), where some are not."""

    keys: Tensor
    written: Tensor
    level: Tensor | None
    presence: Tensor | None


State = MatrixState | RidgeState | SlotState


@dataclass(frozen=True)
class Tokens:
    """A sequence, checked and in the dtype of the computation; leading dimensions still broadcast."""

    memory: Memory
    query: Tensor  # (..., t, d)
    keys: Tensor  # (..., t, d)
    values: Tensor  # (..., t, v)
    write_rate: Tensor | None  # a (..., t, 1); None: 1
    erase_rate: Tensor | None  # b (..., t, 1); None: 1
    erase: Tensor | None  # w (..., t, d); None: the keys
    decay: Tensor | None  # log γ (..., t, 1), or (..., t, d) per channel
    presence: Tensor | None  # boolean (..., t); the rates of what is absent are 0, and nothing fades there
    state: State | None

    @property
    def length(self) -> int:
        return self.keys.shape[-2]

    @property
    def at(self) -> Tensor:
        """Where the memory erases, w."""
        return self.keys if self.erase is None else self.erase

    @property
    def constant(self) -> bool:
        return constant(self.memory)

    @property
    def per_channel(self) -> bool:
        return self.decay is not None and self.memory.decay == "channel"

    @property
    def cached(self) -> int:
        """How many slots were there before."""
        return self.state.keys.shape[-2] if isinstance(self.state, SlotState) else 0

    @property
    def slots(self) -> Tensor:
        """Keys of all slots, (..., c + t, d)."""
        return after(self.state.keys, self.keys) if isinstance(self.state, SlotState) else self.keys

    @property
    def lead(self) -> torch.Size:
        """Leading dimensions of what is written."""
        tensors = (self.keys, self.values, self.write_rate, self.erase_rate, self.erase, self.decay, *([] if self.state is None else self.state[:2]))
        betas = [energy.beta.shape for energy in self.predictors if isinstance(energy.beta, Tensor)]
        there = [] if self.presence is None else [self.presence.shape[:-1]]
        return torch.broadcast_shapes(*(t.shape[:-2] for t in tensors if t is not None), *betas, *there)

    @property
    def predictors(self) -> list[ReadEnergy]:
        """The energy whose inverse temperature enters what is written, if any does."""
        return [] if isinstance(self.memory.write, Hebbian) else [self.memory.predictor]

    @property
    def left(self) -> Tensor | None:
        """The logarithm of what is left, at every token, of what was there before the first; (..., t, 1 or d), in float64: its differences decide."""
        return None if self.decay is None else self.decay.double().cumsum(-2)

    def levels(self) -> Tensor | None:
        """``G`` of all slots, (..., c + t), in float64: slot j has faded by ``exp(G_i − G_j)`` when token i comes."""
        before = self.state.level if isinstance(self.state, SlotState) else None
        if self.decay is None and before is None:
            return None
        own = self.keys.new_zeros(self.length, dtype=torch.float64) if self.left is None else self.left.squeeze(-1)
        return own if not self.cached else _joined(own.new_zeros(self.cached) if before is None else -before.double(), own)

    def present(self) -> Tensor | None:
        """Which of all slots are there, (..., c + t); None: all."""
        before = self.state.presence if isinstance(self.state, SlotState) else None
        if self.presence is None and before is None:
            return None
        own = self.keys.new_ones(self.length, dtype=torch.bool) if self.presence is None else self.presence
        return own if not self.cached else _joined(own.new_ones(self.cached) if before is None else before, own)

    def grown(self, written: Tensor) -> SlotState:
        """The state after these tokens; ``written`` (..., c + t, v) of all slots."""
        levels = self.levels()
        left = None if levels is None else (levels[..., -1:] - levels).to(written.dtype)
        return SlotState(self.slots, written, left, self.present())


def constant(memory: Memory) -> bool:
    """Whether a matrix of constant size holds everything a memory was told."""
    return is_linear(memory.read) and (isinstance(memory.write, (Hebbian, Ridge)) or is_linear(memory.predictor))


def after(before: Tensor, new: Tensor) -> Tensor:
    """New rows behind those that were there. (..., c, d), (..., t, d) -> (..., c + t, d)"""
    return _joined(before.mT, new.mT).mT


def _joined(before: Tensor, own: Tensor) -> Tensor:
    """(..., c), (..., t) -> (..., c + t)"""
    lead = torch.broadcast_shapes(before.shape[:-1], own.shape[:-1])
    return torch.cat([before.expand(*lead, before.shape[-1]), own.expand(*lead, own.shape[-1])], -1)


def scaled(amount: Tensor | None, rows: Tensor) -> Tensor:
    """Rows times a number each, (..., t, 1); None: 1."""
    return rows if amount is None else amount * rows
