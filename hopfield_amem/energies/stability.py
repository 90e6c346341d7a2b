"""Whether writing contracts: the condition under which a memory that erases does not explode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .confinement import Quadratic
from .scalings.scaling import Log, Sum, is_exponential
from .separations.separation import Exp, Power
from .similarities.similarity import Dot, Euclidean
from .truth import decided

if TYPE_CHECKING:
    from .memory import Memory
    from .read import ReadEnergy

NOTHING, EXACT, UNKNOWN = "nothing is erased", "every write is an exact minimiser", "no condition is known for this write"


class UnstableWrite(UserWarning):
    """A write that overshoots: what it erases is more than twice what is there."""


@dataclass(frozen=True, eq=False)
class Stability:
    """The gain of every token, (..., t), and the interval [0, limit] in which writes contract; no limit where none is needed or known."""

    gain: Tensor
    limit: float | None
    condition: str

    @property
    def stable(self) -> bool | None:
        """Whether every gain lies in the interval; None where no condition is known, or the numbers cannot be read (while compiling, under vmap)."""
        if self.limit is None:
            return None if self.condition == UNKNOWN else True
        slack = 1 + max(1e-3, 4 * torch.finfo(self.gain.dtype).eps)  # what normalised keys in half precision miss their norm by
        return decided(((self.gain >= 1 - slack) & (self.gain <= self.limit * slack)).all())

    def __str__(self) -> str:
        if self.limit is None or not self.gain.numel():
            return f"{ {True: 'stable', None: 'unknown'}[self.stable] }: {self.condition}"
        low, high = float(self.gain.min()), float(self.gain.max())
        if self.stable:
            return f"stable: {self.condition}; here it lies in [{low:.3g}, {high:.3g}]"
        worst = high if high - self.limit > -low else low
        factor = abs(1 - worst) if self.limit == 2 else abs(worst)
        return (
            f"unstable: writing contracts while {self.condition}, and here it reaches {worst:.3g}, so that what is written may grow by "
            f"{factor:.3g} per token. Normalise the keys, bound the rate (a sigmoid), or use ImplicitDelta()."
        )


def stability(memory: Memory, keys: Tensor, rate: Tensor | float, erase: Tensor | None) -> Stability:
    """See ``Memory.check_stability``."""
    keys, energy = keys.detach(), memory.predictor
    rate = torch.as_tensor(rate, dtype=keys.dtype, device=keys.device).detach()
    if without := _without_condition(memory):
        return Stability(torch.zeros_like(keys[..., 0]), None, without)
    if energy.divides or not isinstance(energy.scaling, Sum):
        return Stability(rate.expand(torch.broadcast_shapes(rate.shape, keys.shape[:-1])), 1.0, "0 ≤ b ≤ 1 (weights sum to one at most)")
    own = stiffness(memory, keys, keys if erase is None else erase.detach())
    tied = "κ₁(k, k)" if erase is None else "κ₁(w, k)"
    enough = "" if erase is None and _has_features(energy) else " (necessary, not sufficient)"
    return Stability(memory.write.step(rate, own) * own, 2.0, f"0 ≤ b {tied} ≤ 2{enough}")  # type: ignore[union-attr]


def stiffness(memory: Memory, keys: Tensor, erase: Tensor) -> Tensor:
    """``κ₁(w_t, k_t)`` of every token, (..., t); infinite without a gradient where it leaves the range, so that an implicit rate is 0 there, and flat."""
    energy = memory.predictor
    score = energy.inverse_temperature(1, keys) * energy.similarity(erase.unsqueeze(-2), keys.unsqueeze(-2))[..., 0, 0]
    inside = energy.separation.slope(score.detach()).isfinite()
    return torch.where(inside, energy.separation.slope(torch.where(inside, score, 0.0)), torch.inf)


def _without_condition(memory: Memory) -> str:
    """Why there is no interval to look at; empty where there is one."""
    energy = memory.predictor
    if memory.slope == 0:
        return NOTHING
    if type(memory.write).__name__ == "Ridge":
        return EXACT
    unbounded = isinstance(energy.scaling, Log) and not is_exponential(energy.separation) and not energy.divides
    return UNKNOWN if memory.slope is None or unbounded else ""


def _has_features(energy: ReadEnergy) -> bool:
    """Whether κ₁ is an inner product of features: powers and exponentials of inner products, and exponentials of distances."""
    known = isinstance(energy.separation, (Exp, Power)) if energy.similarity == Dot() else isinstance(energy.separation, Exp)
    return known and energy.similarity in (Dot(), Euclidean()) and isinstance(energy.confinement, Quadratic)
