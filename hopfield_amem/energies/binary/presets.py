"""One line per paper, binary: states on the hypercube, whose minima are corners. ``energies.presets`` lists them with all others."""

from __future__ import annotations

from ..confinement import Hypercube
from ..read import ReadEnergy
from ..scalings.scaling import Log, Sum
from ..separations.separation import Exp, Power, RectifiedPower
from ..similarities.similarity import Dot


def dense(degree: int = 3, beta: float = 1.0) -> ReadEnergy:
    """``−Σ max(β x·ξ, 0)ⁿ/(nβ)`` on the hypercube: dense associative memory (Krotov & Hopfield 2016, arXiv 1606.01164)."""
    return ReadEnergy(Dot(), RectifiedPower(degree), Sum(), Hypercube(), beta)


def hopfield(beta: float = 1.0) -> ReadEnergy:
    """``−Σ ½β(x·ξ)²`` on the hypercube (Hopfield 1982, PNAS 79): for β = 1/d that of ``learning.hebbian`` couplings, but for a constant."""
    return ReadEnergy(Dot(), Power(2), Sum(), Hypercube(), beta)


def polynomial(degree: int = 4, beta: float = 1.0) -> ReadEnergy:
    """``−Σ (β x·ξ)ⁿ/(nβ)`` on the hypercube, not rectified (Krotov & Hopfield 2016, arXiv 1606.01164; for even n a pattern and its negative are one)."""
    return ReadEnergy(Dot(), Power(degree), Sum(), Hypercube(), beta)


def exponential(beta: float = 1.0) -> ReadEnergy:
    """``−log Σ exp(β x·ξ)/β`` on the hypercube: exponential memory (Demircigil et al. 2017, arXiv 1702.01929).

    The paper's energy is ``−Σ exp(x·ξ)``; its logarithm has the same minima and the same ``sign(Σ p ξ)`` update, and
    does not overflow.
    """
    return ReadEnergy(Dot(), Exp(), Log(), Hypercube(), beta)
