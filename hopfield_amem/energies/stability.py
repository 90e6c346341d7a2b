"""Whether writing contracts: the condition under which a memory that erases does not explode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .scaling import Sum
from .truth import readable

if TYPE_CHECKING:
    from .memory import Memory

ROUNDING = 1e-3  # what normalised keys in half precision miss their norm by


class UnstableWrite(UserWarning):
    """A write that overshoots: what it erases is more than twice what is there."""


@dataclass(frozen=True, eq=False)
class Stability:
    """The gain ``b κ₁(k, k)`` of every token, (..., t), and the interval [0, limit] in which writes contract."""

    gain: Tensor
    limit: float
    condition: str

    @property
    def stable(self) -> bool:
        """Whether every gain lies in the interval; true where the numbers cannot be read (while compiling, under vmap)."""
        inside = (self.gain >= -ROUNDING) & (self.gain <= self.limit * (1 + ROUNDING))
        return readable(inside.all(), True)

    def __str__(self) -> str:
        if self.gain.numel() == 0:
            return f"stable: no token writes ({self.condition})"
        low, high = float(self.gain.min()), float(self.gain.max())
        if self.stable:
            return f"stable: {self.condition}; here it lies in [{low:.3g}, {high:.3g}]"
        worst = float(self.gain.flatten()[int((self.gain - self.limit / 2).abs().argmax())])
        return (
            f"unstable: writing contracts while {self.condition}, and here it reaches {worst:.3g}, so that what is written may grow by "
            f"{abs(1 - worst) if self.limit == 2 else abs(worst):.3g} per token. Normalise the keys, bound the rate (a sigmoid), or use ImplicitDelta()."
        )


def stability(memory: Memory, keys: Tensor, rate: Tensor | float, erase: Tensor | None) -> Stability:
    """See ``Memory.check_stability``."""
    keys = keys.detach()
    rate = torch.as_tensor(rate, dtype=keys.dtype, device=keys.device).detach()
    if memory.slope == 0:
        return Stability(torch.zeros_like(keys[..., 0] * rate), 2.0, "nothing is erased")
    at = keys if erase is None else erase.detach()
    if not isinstance(memory.predictor.scaling, Sum):
        return Stability(rate.expand(keys.shape[:-1]), 1.0, "0 ≤ b ≤ 1 (weights sum to one at most)")
    own = stiffness(memory, keys, at)
    tied = "κ₁(k, k)" if erase is None else "κ₁(w, k)"
    return Stability(memory.write.step(rate, own) * own, 2.0, f"0 ≤ b {tied} ≤ 2")  # type: ignore[union-attr]


def stiffness(memory: Memory, keys: Tensor, erase: Tensor) -> Tensor:
    """``κ₁(w_t, k_t)`` of every token, (..., t)"""
    energy = memory.predictor
    score = energy.inverse_temperature(1, keys) * energy.similarity(erase.unsqueeze(-2), keys.unsqueeze(-2))[..., 0, 0]
    return energy.separation.slope(score)
