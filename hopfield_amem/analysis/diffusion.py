"""Diffusion as memory: the score of noisy data is the force of the distance energy, and generating is descending while β grows.

Pham et al. 2025 (arXiv 2505.21777): data ξ_1 … ξ_n with noise N(0, σ²) have the density of ``presets.distance(1/σ²)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energies import ReadEnergy, checks, presets
from ..energies.distances import distances
from ..kernels import nearest, retrieve
from ..kernels.rows import fitting


def memory_at(sigma: float) -> ReadEnergy:
    """The energy whose density ``exp(−E/σ²)`` is that of data with noise of standard deviation σ: ``presets.distance(1/σ²)``."""
    if not isinstance(sigma, (int, float)) or isinstance(sigma, bool) or not 1e-150 < sigma < 1e150:
        raise ValueError(f"The noise level sigma must be positive and finite (and 1/σ² too), got {sigma!r}.")
    return presets.distance(sigma**-2)


def denoised(state: Tensor, data: Tensor, sigma: float) -> Tensor:
    """``E[ξ | x] = Σ_μ p_μ ξ_μ``, the best guess of the clean sample: one settled step of the memory. (..., q, d), (..., n, d) -> (..., q, d)"""
    return retrieve(memory_at(sigma), state, data)


def score(state: Tensor, data: Tensor, sigma: float) -> Tensor:
    """``∇ log p_σ(x) = −∇E(x)/σ² = (E[ξ | x] − x)/σ²`` of data with noise σ, exactly (Tweedie's formula). (..., q, d), (..., n, d) -> (..., q, d)"""
    return (denoised(state, data, sigma) - state) / sigma**2


@dataclass(frozen=True)
class Generated:
    """What a reverse diffusion made.

    Attributes:
        state: the samples, (..., q, d).
        trajectory: states at every noise level and the sample after the last, (levels + 1, ..., q, d), when recorded.
    """

    state: Tensor
    trajectory: Tensor | None = None


@dataclass(frozen=True)
class Diffusion:
    """The probability flow ``dx/dσ = (x − E[ξ | x])/σ`` of the exact score from the first noise level to the last, by the deterministic steps of DDIM:

        x_{k+1} = D + (σ_{k+1}/σ_k)(x_k − D),   D = E[ξ | x_k] at σ_k,   and D itself at the end

    (Song, Meng & Ermon 2021, arXiv 2010.02502; variance exploding). It is a fixed-point descent whose β = 1/σ² grows and whose steps are shortened by
    1 − σ_{k+1}/σ_k. A variance-preserving diffusion with ᾱ takes the same path at σ = √(1/ᾱ − 1), its states being √ᾱ times these (``from_alphas``).

    Args:
        levels: noise levels σ, positive and falling.

    Raises:
        ValueError: levels that are not.
    """

    levels: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "levels", tuple(float(level) for level in self.levels))
        falling = all(high > low for high, low in zip(self.levels, self.levels[1:], strict=False))
        if not self.levels or not falling:
            raise ValueError(f"A diffusion needs noise levels that fall, for example Diffusion.geometric(10.0, 0.01, 50); got {self.levels!r}.")
        for level in self.levels:
            memory_at(level)

    @classmethod
    def geometric(cls, highest: float, lowest: float, count: int) -> Diffusion:
        """Levels whose logarithms are equally far apart, both ends included."""
        if not isinstance(count, int) or count < 2 or not 0 < lowest < highest < math.inf:
            raise ValueError(f"geometric needs 0 < lowest < highest and count ≥ 2, got highest={highest!r}, lowest={lowest!r}, count={count!r}.")
        return cls(tuple(highest * (lowest / highest) ** (k / (count - 1)) for k in range(count)))

    @classmethod
    def from_alphas(cls, alphas: Tensor) -> Diffusion:
        """Of a variance-preserving schedule ``x_t = √ᾱ_t ξ + √(1 − ᾱ_t) ε``, ᾱ in (0, 1) in any order, (t,)."""
        if alphas.ndim != 1 or not bool(((alphas > 0) & (alphas < 1)).all()):
            raise ValueError(f"from_alphas needs ᾱ of shape (t,) in the open interval (0, 1), got {alphas!r}.")
        return cls(tuple((1 / alphas.double() - 1).sqrt().sort(descending=True).values.tolist()))

    @torch.no_grad()
    def __call__(self, start: Tensor, data: Tensor, *, record: bool = False) -> Generated:
        """Generate from noise: ``start = levels[0] * torch.randn(q, d)`` (plus the mean of the data). (..., q, d), (..., n, d) -> (..., q, d)

        Raises:
            ValueError, TypeError: inputs that do not fit, no data.
        """
        checks.inputs(memory_at(1.0), start, data, None, None)
        if data.shape[-2] == 0:
            raise ValueError("A diffusion needs at least one sample of data.")
        state, path = start, [start] if record else []
        for level, following in zip(self.levels, (*self.levels[1:], 0.0), strict=True):
            clean = denoised(state, data, level)
            state = torch.lerp(clean, state, following / level) if following else clean
            path += [state] if record else []
        return Generated(state, torch.stack(path) if record else None)


@torch.no_grad()
def commitment(trajectory: Tensor, diffusion: Diffusion, data: Tensor, *, share: float = 0.9) -> Tensor:
    """The critical noise level of each trajectory: from there on the sample of the data that it ends nearest to holds more than a share of the weight p.

    (levels + 1, q, d), (n, d) -> (q,), levels of the diffusion; 0 for a trajectory that never commits. p is the posterior probability of the clean sample;
    a sample that the data hold several times is one, with the weight of all. Computed in float64.

    Raises:
        ValueError: a trajectory that is not one of this diffusion, a share outside [0, 1).
    """
    if trajectory.ndim != 3 or len(trajectory) != len(diffusion.levels) + 1 or not 0 <= share < 1:
        raise ValueError(
            f"commitment needs the recorded trajectory (levels + 1, q, d) of its diffusion and a share in [0, 1), got {tuple(trajectory.shape)}, {share!r}."
        )
    data = data.double()
    final = data[nearest(memory_at(1.0), trajectory[-1].double(), data)[1].squeeze(-1)]
    together = fitting(len(data))
    parts = (slice(i, i + together) for i in range(0, len(final), together))
    found = [_committed(trajectory[:, part], final[part], diffusion, data, share=share) for part in parts]
    return torch.cat([*found, data.new_zeros(0)]).to(trajectory.dtype)


def _committed(path: Tensor, final: Tensor, diffusion: Diffusion, data: Tensor, *, share: float) -> Tensor:
    """The critical levels of a few trajectories (levels + 1, q, d) that end at ``final`` (q, d). -> (q,)

    The weights are taken relative to that of the final sample, ``log p_μ/p_final = [(ξ_μ − ξ)·(x − ξ) − ½‖ξ_μ − ξ‖²]/σ²``: differences, which little noise
    does not drown. Samples that equal the final one are it.
    """
    apart = distances(final, data)
    critical = final.new_zeros(len(final))
    committed = torch.ones_like(critical, dtype=torch.bool)
    for level, state in zip(reversed(diffusion.levels), path[:-1].flip(0), strict=True):
        away = state.double() - final
        along = away @ data.mT - (away * final).sum(-1, keepdim=True)
        weights = torch.softmax(torch.where(apart == 0, 0.0, along - 0.5 * apart.square()) / level**2, -1)
        committed = committed & ((weights * (apart == 0)).sum(-1) > share)
        critical = torch.where(committed, level, critical)
    return critical


def speciation_level(data: Tensor) -> float:
    """The noise level ``σ = √λ_max(Cov ξ)`` below which the single minimum of the noisy data's energy splits, to leading order. (n, d) -> σ

    At the mean of the data, with all weights equal, ``−∇² log p_σ = (1 − Cov/σ²)/σ²`` turns negative there along the first principal axis (symmetry
    breaking: Raya & Ambrogioni 2023, arXiv 2305.19693; speciation: Biroli et al. 2024, arXiv 2402.18491). Exact for two samples: half their distance.

    Raises:
        ValueError: fewer than two samples.
    """
    if data.ndim != 2 or len(data) < 2:
        raise ValueError(f"speciation_level needs at least two samples (n, d), got {tuple(data.shape)}.")
    spread = torch.linalg.matrix_norm(data.double() - data.double().mean(0), ord=2)
    return float(spread) / math.sqrt(len(data))
