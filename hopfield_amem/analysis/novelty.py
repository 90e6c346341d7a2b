"""Memorised, spurious, generalised: what generated samples are to the data they were generated from (Pham et al. 2025, arXiv 2505.21777)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..energies.distances import distances
from ..kernels.rows import fitting
from .diffusion import Diffusion
from .result import Result

KINDS = ("memorised", "spurious", "generalised")


@dataclass(frozen=True)
class Novelty(Result):
    """Which of three kinds every sample is; exactly one is True for each. Prints as shares.

    Attributes:
        memorised: within δ_m of a training sample, (q,).
        spurious: not memorised, but within δ_s of another generated sample: an attractor that no training sample made alone, (q,).
        generalised: neither, (q,).
        to_training: distance to the nearest training sample, (q,).
        to_generated: distance to the nearest other generated sample, (q,); +∞ where there is no other.
    """

    memorised: Tensor
    spurious: Tensor
    generalised: Tensor
    to_training: Tensor
    to_generated: Tensor

    def rows(self) -> list[dict[str, Any]]:
        """One row per sample: its kind and its two distances."""
        which = torch.stack([getattr(self, kind) for kind in KINDS]).int().argmax(0).tolist()
        pairs = zip(which, self.to_training.tolist(), self.to_generated.tolist(), strict=True)
        return [{"kind": KINDS[i], "to training": near, "to generated": other} for i, near, other in pairs]

    def plot(self):
        """Every sample by its distances to the training data and to the other generated samples."""
        from .plots.uses import kinds

        return kinds(self)

    def __str__(self) -> str:
        if not self.memorised.numel():
            return "no samples"
        return f"{self.memorised.numel()} samples: " + ", ".join(f"{float(getattr(self, kind).double().mean()):.0%} {kind}" for kind in KINDS)


def novelty(generated: Tensor, training: Tensor, *, memorised: float, spurious: float, others: Tensor | None = None) -> Novelty:
    """Label generated samples by nearest neighbours: memorised if ``d(x, training) ≤ δ_m``; else spurious if ``d(x, generated) ≤ δ_s``; else generalised.

    The criterion of Pham et al. 2025 (arXiv 2505.21777) with Euclidean distances; both thresholds are in the units of the data and have no default,
    for they decide. In few dimensions dense data come within any δ_m of everything: choose it below their spacing.

    Args:
        generated: samples to label, (q, d).
        training: what they were generated from, (n, d).
        memorised: δ_m ≥ 0.
        spurious: δ_s ≥ 0.
        others: further generated samples (m, d) in which to look for neighbours; None: the labelled ones among each other, none its own neighbour.

    Raises:
        ValueError: shapes that do not fit, no training sample, negative thresholds.
    """
    given = (generated, training) if others is None else (generated, training, others)
    if any(t.ndim != 2 or t.shape[-1] != generated.shape[-1] for t in given) or len(training) == 0:
        raise ValueError(f"novelty needs samples (q, d), training samples (n, d) and others (m, d) of one width, got {[tuple(t.shape) for t in given]}.")
    if not all(t.is_floating_point() and bool(t.isfinite().all()) for t in given):
        raise ValueError("novelty compares finite floating-point samples; some are integers, NaN or infinite. A sampler that diverged has generated nothing.")
    if not memorised >= 0 or not spurious >= 0:
        raise ValueError(f"The thresholds δ_m and δ_s are distances of at least 0, got {memorised!r} and {spurious!r}.")
    to_training = _nearest(generated, training, False)
    to_generated = _nearest(generated, generated if others is None else others, others is None)
    copied = to_training <= memorised
    shared = ~copied & (to_generated <= spurious)
    return Novelty(copied, shared, ~copied & ~shared, to_training, to_generated)


def recovery_level(diffusion: Diffusion, data: Tensor, *, within: float, share: float = 0.9, trials: int = 10, seed: int = 0) -> Tensor:
    """The critical noise level of every training sample: the highest from which, and from every lower one, it still comes back.

    A sample with noise σ_k is taken down the remaining levels ``trials`` times; it comes back where it ends within ``within`` of itself in at least the
    ``share`` of the trials. (n, d) -> (n,), levels of the diffusion; 0 for a sample that never does. It is the size of the sample's basin (the critical time
    of Pham et al. 2025, arXiv 2505.21777).

    Raises:
        ValueError: trials or a share out of range, data of a wrong shape.
    """
    if data.ndim != 2 or not isinstance(trials, int) or trials < 1 or not 0 < share <= 1 or not within >= 0:
        given = f"{tuple(data.shape)}, {trials}, {share}, {within}"
        raise ValueError(f"recovery_level needs data (n, d), trials ≥ 1, a share in (0, 1] and within ≥ 0, got {given}.")
    generator = torch.Generator(data.device).manual_seed(seed)
    critical = data.new_zeros(len(data))
    alive = torch.ones(len(data), dtype=torch.bool, device=data.device)
    for k in range(len(diffusion.levels) - 1, -1, -1):
        level = diffusion.levels[k]
        noise = torch.randn(trials, *data.shape, generator=generator, dtype=data.dtype, device=data.device)
        back = Diffusion(diffusion.levels[k:])(data + level * noise, data).state
        alive = alive & (((back - data).norm(dim=-1) <= within).double().mean(0) >= share)
        critical = torch.where(alive, level, critical)
        if not bool(alive.any()):
            break
    return critical


def _nearest(samples: Tensor, others: Tensor, itself: bool) -> Tensor:
    """Distance to the nearest of the others, (q,); ``itself`` says that sample i is their i-th, which does not count."""
    found = []
    together = fitting(len(others))
    for start in range(0, len(samples), together):
        part = samples[start : start + together]
        distance = distances(part, others)
        if itself:
            distance[torch.arange(len(part)), start + torch.arange(len(part))] = torch.inf
        found.append(distance.amin(-1) if len(others) else part.new_full((len(part),), torch.inf))
    return torch.cat(found) if found else samples.new_zeros(0)
