"""Memories that are written token by token, with what they write and forget as the context grows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...energies import Dot, Euclidean, Hebbian, Log, Memory, ReadEnergy, presets
from ...energies.scalings.scaling import is_exponential
from ...kernels import SlotState, State, associate


@dataclass(frozen=True)
class Learner:
    """A memory, and how much it writes and forgets at token t = 1, 2, ….

    Args:
        memory: what is written and read; a read energy is written Hebbian.
        rate: ``rate(t, keys)`` of tokens (t,) and keys (..., t, d) -> broadcastable to (..., t); None: 1.
        decay: ``decay(t)`` in [0, 1], (t,) -> (t,), for memories that say ``decay="scalar"``.
        gain: g of the limit ``g · Cov(v, k) q`` that its distance is measured to; None: the one that is known (``limit``).

    Raises:
        ValueError: a memory that fades without a decay, or the other way round; one that fades per channel; a gain that is not finite.
    """

    memory: Memory | ReadEnergy
    rate: Callable[[Tensor, Tensor], Tensor] | None = None
    decay: Callable[[Tensor], Tensor] | None = None
    gain: float | None = None

    def __post_init__(self):
        fades = self.written.decay
        if fades == "channel" or (fades is not None) != (self.decay is not None):
            raise ValueError(f"A learner gives a decay(t) exactly where its memory has decay='scalar'; this one has {fades!r}.")
        if self.gain is not None and not math.isfinite(self.gain):
            raise ValueError(f"gain is the finite multiple of the covariance to which the memory tends, got {self.gain!r}.")

    @property
    def written(self) -> Memory:
        """The memory with its write energy."""
        return self.memory if isinstance(self.memory, Memory) else Memory(self.memory)

    @property
    def limit(self) -> float:
        """g of ``o* = g · Cov(v, k) q``, what reads tend to for keys N(0, I) and values linear in them.

        Softmax tilts Gaussian keys towards the query: by ``exp(β k·q)`` to a mean of βq, by ``exp(−½β‖k − q‖²)`` to ``βq/(1 + β)``. So g = β and β/(1 + β).
        For everything else g = 1, the covariance: averages of v kᵀ and rules that solve the regression tend to it; what does not settle has no limit.
        """
        energy = self.written.read
        if self.gain is not None:
            return self.gain
        tilts = isinstance(self.written.write, Hebbian) and self.rate is None and type(energy.scaling) is Log and is_exponential(energy.separation)
        if tilts and isinstance(energy.similarity, Dot):
            return float(energy.beta)
        return float(energy.beta / (1 + energy.beta)) if tilts and isinstance(energy.similarity, Euclidean) else 1.0

    def associate(self, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, State]:
        """What ``kernels.associate`` gives with these rates and decays. (..., t, d), (..., t, d), (..., t, v)"""
        token = torch.arange(1, keys.shape[-2] + 1, dtype=keys.dtype)
        rate = None if self.rate is None else self.rate(token, keys)
        decay = None if self.decay is None else self.decay(token)
        return associate(self.memory, query, keys, values, rate=rate, decay=decay)

    def grows(self, keys: Tensor, values: Tensor) -> bool:
        """Whether the memory keeps every token, rather than a matrix of constant size."""
        first = (keys[..., :1, :], values[..., :1, :])
        return isinstance(self.associate(first[0], *first)[1], SlotState)


def learners(dim: int) -> dict[str, Learner]:
    """The memories whose updates are compared, for keys N(0, I) of so many dimensions, read at τ = 1 (``softmax, cold``: 1/3).

    ``average`` is linear attention divided by t, ``S ← (1 − 1/t) S + (1/t) v kᵀ``. ``delta`` writes at a constant rate, b = 1/(5d), but at most 1/‖k‖²;
    ``delta, 1/t`` at ``b = 1/(t + ½‖k‖²)``; both keep b‖k‖² below 2. ``fading`` forgets one percent per token.
    """
    return {
        "softmax": Learner(presets.log_sum_exp(1.0)),
        "softmax, cold": Learner(presets.log_sum_exp(3.0)),
        "linear": Learner(presets.linear_attention()),
        "average": Learner(presets.retnet(), lambda t, k: 1 / t, lambda t: 1 - 1 / t),
        "fading": Learner(presets.retnet(), None, lambda t: torch.full_like(t, 0.99)),
        "delta": Learner(presets.delta_net(), lambda t, k: (1 / k.square().sum(-1)).clamp_max(0.2 / dim)),
        "delta, 1/t": Learner(presets.delta_net(), lambda t, k: 1 / (t + 0.5 * k.square().sum(-1))),
        "DeltaFormer": Learner(presets.delta_former(1.0)),
    }
