"""A memory whose size does not depend on how much it holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..descent import Descended, Descent, GradientDescent
from ..energies import DistributedEnergy, Features


class DistributedMemory(nn.Module):
    """Patterns as one sum of features, ``T = Σ_μ φ(ξ_μ)``, recalled by descending ``C(x) − log(φ(x)·T)/β`` (DrDAM, Hoover et al. 2024, arXiv 2410.24153).

    Distributed is its representation: every pattern lies in all of T, none in a slot of its own. (Over several ranks: ``distributed.ShardedMemory``.)

    Nothing is trained. With ``RandomFeatures`` of Y frequencies the sum over K distinct patterns carries noise of about ``√(K/2Y)``, against 1 for a pattern
    that is there: so Y is a multiple of K, and memory is saved only where patterns are longer than about two such multiples, or grow without end.

    Args:
        features: φ, for example ``RandomFeatures(dim, count, beta)``. Whoever has the same spec can read, add to and merge the memory.
        dtype: of the sum, float64 or float32.

    State: ``memory`` (2Y,) and ``count``, how many patterns it is the sum of; both travel with ``state_dict``.

    Raises:
        ValueError: no features.
    """

    memory: Tensor
    count: Tensor

    def __init__(self, features: Features, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None):
        super().__init__()
        self.spec, self.features = DistributedEnergy(features), features
        self.register_buffer("memory", torch.zeros(features.size, device=device, dtype=dtype))
        self.register_buffer("count", torch.zeros((), dtype=torch.long, device=device))

    def __len__(self) -> int:
        return int(self.count)

    @torch.no_grad()
    def store(self, patterns: Tensor) -> None:
        """Add patterns (n, d).

        Raises:
            ValueError, TypeError: patterns that do not fit the features, or hold NaN or Inf.
        """
        self._change(self.features.written(patterns), len(patterns))

    @torch.no_grad()
    def forget(self, patterns: Tensor) -> None:
        """Subtract patterns (n, d) that were stored, up to rounding as if they had never been. A sum does not know what is in it: what was never stored
        leaves a hole where it would be.

        Raises:
            ValueError, TypeError: as ``store``; more patterns than are stored.
        """
        if len(patterns) > len(self):
            raise ValueError(f"This memory holds {len(self)} patterns, so {len(patterns)} cannot be forgotten.")
        self._change(-self.features.written(patterns), -len(patterns))

    @torch.no_grad()
    def merge(self, other: DistributedMemory) -> None:
        """Add all that another memory of the same features holds.

        Raises:
            ValueError: a memory of other features.
        """
        if not isinstance(other, DistributedMemory) or other.features != self.features:
            raise ValueError(
                f"Only memories of equal features add up, drawn by the same seed: this one has {self.features}, the other {getattr(other, 'features', other)}."
            )
        self._change(other.memory, len(other))

    def recall(self, query: Tensor, descent: Descent = GradientDescent(step_size=0.5)) -> Descended:
        """Let queries (..., q, d) descend to a memory.

        Raises:
            ValueError, TypeError: an empty memory, queries that do not fit, ``FixedPoint``, which needs slots.
        """
        if not len(self):
            raise ValueError("This memory is empty, so there is nothing to recall. Store patterns first: memory.store(patterns).")
        return descent(self.spec, query, self.memory)

    def forward(self, query: Tensor) -> Tensor:
        """The states that are recalled. (..., q, d) -> (..., q, d)"""
        return self.recall(query).state

    def energy(self, state: Tensor) -> Tensor:
        """E of every state; +∞ while nothing is stored. (..., q, d) -> (..., q)"""
        return self.spec(state, self.memory)

    def _change(self, amount: Tensor, patterns: int) -> None:
        self.memory, self.count = self.memory + amount.to(self.memory), self.count + patterns
        if not len(self):
            self.memory = torch.zeros_like(self.memory)  # nothing is left but rounding

    def extra_repr(self) -> str:
        return f"{self.features}, patterns={len(self)}\n{self.spec}"
