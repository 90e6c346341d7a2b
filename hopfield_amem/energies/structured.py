"""One line per paper, sparse and structured: reads from a few patterns, from subsets of them, and among distributions."""

from __future__ import annotations

from .read import ReadEnergy
from .scalings.level import Level
from .scalings.scaling import Log
from .scalings.simplex import Simplex
from .scalings.subsets import SequentialSubsets, TopK
from .separations.activation import Softplus
from .separations.occupation import Clipped, ConjugatePower
from .separations.separation import Exp
from .similarities.distributions import JensenShannon, KullbackLeibler, ReverseKullbackLeibler
from .similarities.similarity import Dot


def normmax(alpha: float = 2.0, beta: float = 1.0) -> ReadEnergy:
    """``½‖x‖² − max_p (p·βΞx − ‖p‖_α)/β``, weights by normmax (Blondel et al. 2020, arXiv 1901.02324; Santos et al. 2024, arXiv 2411.08590)."""
    return ReadEnergy(Dot(), ConjugatePower(alpha), Level(), beta=beta)


def k_subsets(total: int = 2, beta: float = 1.0) -> ReadEnergy:
    """Sparse k-subsets: weights in [0, 1] that sum to k, by SparseMAP (Santos et al. 2024, arXiv 2411.08590). It reads the sum of k patterns."""
    return ReadEnergy(Dot(), Clipped(), Simplex(total), beta=beta)


def fermi_dirac(total: int = 2, beta: float = 1.0) -> ReadEnergy:
    """k-subsets by entropy: the occupation ``1/(1 + exp(τ − βξ·x))`` of the slots by k particles.

    The smooth twin of ``k_subsets`` (of Santos et al. 2024, arXiv 2411.08590).
    """
    return ReadEnergy(Dot(), Softplus(), Simplex(total), beta=beta)


def sequential_k_subsets(total: int = 2, transition: float = 0.0, beta: float = 1.0) -> ReadEnergy:
    """``½‖x‖² − log Σ_(|y|=k) exp(βy·Ξx + t Σ y_μ y_(μ+1))/β``: Gibbs marginals of sequential k-subsets (Santos et al. 2024, arXiv 2411.08590)."""
    return ReadEnergy(Dot(), Exp(), SequentialSubsets(total, transition), beta=beta)


def top_k(count: int = 8, beta: float = 1.0) -> ReadEnergy:
    """Softmax over the k most similar patterns (top-k retrieval: Hu et al. 2024, nonparametric Hopfield models, arXiv 2404.03900)."""
    return ReadEnergy(Dot(), Exp(), TopK(count), beta=beta)


def hard_max() -> ReadEnergy:
    """``½‖x‖² − max x·ξ``: the nearest pattern, β → ∞ of all normalised energies (the max separation of Millidge et al. 2022, arXiv 2202.04557)."""
    return top_k(1)


def kullback_leibler(beta: float = 1.0) -> ReadEnergy:
    """``−log Σ exp(−β KL(ξ‖x))/β`` over distributions (Millidge et al. 2022, arXiv 2202.04557); settles at means."""
    return ReadEnergy(KullbackLeibler(), Exp(), Log(), beta=beta)


def reverse_kullback_leibler(beta: float = 1.0) -> ReadEnergy:
    """``−log Σ exp(−β KL(x‖ξ))/β`` over distributions (Millidge et al. 2022, arXiv 2202.04557); settles at geometric means."""
    return ReadEnergy(ReverseKullbackLeibler(), Exp(), Log(), beta=beta)


def jensen_shannon(beta: float = 1.0) -> ReadEnergy:
    """``−log Σ exp(−β JS(x, ξ))/β`` over distributions (Millidge et al. 2022, arXiv 2202.04557)."""
    return ReadEnergy(JensenShannon(), Exp(), Log(), beta=beta)
