"""How a mixer addresses and writes its memory: small specs, checked at the door."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..energies import Delta, Memory


@dataclass(frozen=True)
class Addressing:
    """How tokens become keys and queries.

    Args:
        norm: length that keys (and erase keys) are given, or None for raw ones. With √2 and rate 1 a linear write reflects, which is what
            swaps the contents of two keys.
        taps: length of a short causal convolution over all that is projected. 0: none.
        rotary: base of the rotary positions of keys and queries, for example 1e4. None: no positions.
        memories: how many memories the heads share, a divisor of their number. None: one for each.
    """

    norm: float | None = 1.0
    taps: int = 0
    rotary: float | None = None
    memories: int | None = None

    def __post_init__(self):
        if self.norm is not None and not 0 < self.norm < math.inf:
            raise ValueError(f"The norm of the keys must be positive and finite, or None for raw keys, got {self.norm!r}.")
        if self.taps < 0 or (self.memories is not None and self.memories < 1):
            raise ValueError(f"Addressing needs taps ≥ 0 and memories ≥ 1, got taps={self.taps}, memories={self.memories}.")
        if self.rotary is not None and not 1 < self.rotary < math.inf:
            raise ValueError(f"The base of rotary positions must be above 1 and finite, got {self.rotary!r}.")


@dataclass(frozen=True)
class Writing:
    """How strongly a token is written, what it erases, how much is forgotten.

    Args:
        rate: a fixed rate b. None: learned, ``b_t = limit · σ(x_t) / max(κ₁(k_t, k_t), 1)``, where the memory erases at all.
        limit: the largest ``b κ₁(k, k)`` of a learned rate. 2 allows reflections (Grazzi et al. 2024, arXiv 2411.12537), 1 only erases. Weights
            that sum to one count as κ₁ = 1, and there no limit exceeds 1.
        erase: whether a token erases at a key of its own, w_t, instead of where it writes. No rate then guarantees that writes contract.
        decay: fixed decays γ, one per memory. None: learned from the token, where the memory forgets.
    """

    rate: float | None = None
    limit: float = 2.0
    erase: bool = False
    decay: tuple[float, ...] | None = None

    def __post_init__(self):
        if self.rate is not None and not 0 <= self.rate < math.inf:
            raise ValueError(f"A fixed rate must be a finite number ≥ 0, or None for a learned one, got {self.rate!r}.")
        if not 0 < self.limit <= 2:
            raise ValueError(f"Writes contract only for 0 ≤ b κ₁(k, k) ≤ 2: limit must lie in (0, 2], got {self.limit!r}.")
        if self.decay is not None and not all(0 < gamma <= 1 for gamma in self.decay):
            raise ValueError(f"Decays lie in (0, 1], got {self.decay!r}.")


def retention(memories: int) -> tuple[float, ...]:
    """The fixed decays ``1 − 2^(−5−h)`` of RetNet (Sun et al. 2023, arXiv 2307.08621), for ``Writing(decay=…)``."""
    return tuple(1 - 2.0 ** (-5 - head) for head in range(memories))


def widths(dim: int, heads: int, head_dim: int | tuple[int, int] | None) -> tuple[int, int]:
    """Widths of a head's keys and values. Raises ValueError when they do not fit."""
    if dim < 1 or heads < 1:
        raise ValueError(f"dim and heads must be positive, got dim={dim}, heads={heads}.")
    if head_dim is None and dim % heads:
        raise ValueError(f"dim={dim} does not divide into heads={heads}; give head_dim.")
    if isinstance(head_dim, tuple) and len(head_dim) != 2:
        raise ValueError(f"head_dim is one width, or those of keys and values, got {head_dim!r}.")
    key, value = head_dim if isinstance(head_dim, tuple) else 2 * (dim // heads if head_dim is None else head_dim,)
    if key < 1 or value < 1:
        raise ValueError(f"Keys and values need a positive width, got head_dim={head_dim!r}.")
    return key, value


def check(memory: Memory, heads: int, key: int, addressing: Addressing, writing: Writing) -> None:
    """Raise ValueError when a memory cannot be mixed in this way."""
    if not isinstance(memory, Memory):
        raise ValueError(f"A mixer is built from a Memory or a ReadEnergy, for example presets.delta_net(), got {memory!r}.")
    if any(isinstance(energy.beta, torch.Tensor) for energy in (memory.read, memory.predictor)):
        raise ValueError("A layer is built from energies whose beta is a number; scale the queries to learn it.")
    memories = addressing.memories or heads
    if heads % memories:
        raise ValueError(f"heads={heads} cannot share memories={memories}: the number of memories must divide the number of heads.")
    if addressing.rotary is not None and key % 2:
        raise ValueError(f"Rotary positions turn pairs of channels: the width of keys must be even, got {key}.")
    if addressing.rotary is not None and memory.decay == "channel":
        raise ValueError("Decay per channel undoes rotary positions: the two channels of a pair fade apart, and distance no longer decides. Use one of them.")
    if writing.decay is not None and (memory.decay is None or len(writing.decay) != memories):
        raise ValueError(
            f"Decays {writing.decay!r} need a memory that forgets and one value for each of {memories} memories; this memory has decay={memory.decay!r}."
        )
    if writing.erase and type(memory.write) is not Delta:
        raise ValueError(f"Erase keys need a memory that is written by Delta(), got {memory.write}.")
    if writing.rate is not None and memory.slope != 0 and addressing.norm is not None:
        _contracts(memory, addressing.norm, writing.rate, key)


def _contracts(memory: Memory, norm: float, rate: float, key: int) -> None:
    probe = norm * torch.eye(1, key, dtype=torch.float64)
    report = memory.check_stability(probe, torch.full((1,), rate, dtype=torch.float64))
    if not report.stable:
        raise ValueError(f"The fixed rate {rate:g} is {report} Keys have norm {norm:g} here.")
