"""The rule of an energy: its S, F and Q without the tensors, which is all that a tile of scores needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

from ..energies.scalings.scaling import Log, Scaling, has_null_slot, is_exponential
from ..energies.scalings.simplex import Simplex
from ..energies.separations.separation import Separation
from ..energies.similarities.similarity import Similarity

Leaf = ModuleType | SimpleNamespace


@dataclass(frozen=True)
class Rule:
    """What a tile needs to know of an energy: S, F and Q. Inverse temperature and confinement act outside."""

    similarity: Similarity
    separation: Separation
    scaling: Scaling

    @property
    def leaf(self) -> Leaf:
        """``value``, ``slope`` and ``curvature`` of F: generated, or of the separation itself where it cannot be compiled."""
        from .compiler import leaves  # brings sympy, which takes a third of a second: on first use

        return leaves(self.separation) or SimpleNamespace(value=self.separation, slope=self.separation.slope, curvature=self.separation.curvature)

    @property
    def whole(self) -> bool:
        """Whether the scaling weighs all slots of a row together: a tile then holds full rows, of fewer queries."""
        return not self.scaling.streams(self.separation)

    @property
    def capped(self) -> bool:
        """Whether scores are products that rounding may take above 0, the highest there is."""
        return self.similarity.inner and self.similarity.highest == 0

    @property
    def exponential(self) -> bool:
        """Softmax weights, under ``Log`` or ``Simplex``: normalised by a running maximum."""
        return is_exponential(self.separation) and isinstance(self.scaling, (Log, Simplex)) and not self.whole

    @property
    def logarithmic(self) -> bool:
        return isinstance(self.scaling, Log) and not self.exponential and not self.whole

    @property
    def thresholded(self) -> bool:
        return isinstance(self.scaling, Simplex) and not self.exponential and not self.whole

    @property
    def null(self) -> float:
        """F of the empty slot: 1 where the scaling has one."""
        return float(has_null_slot(self.scaling))

    @property
    def constant(self) -> float:
        """What ``Q`` exceeds ``log Σ eˢ`` by, for exponential rules."""
        return 1.0 if isinstance(self.scaling, Simplex) else 0.0
