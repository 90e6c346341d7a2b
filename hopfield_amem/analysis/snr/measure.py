"""SNR⁻¹ measured: keys drawn, weights taken from the energy itself, the mean with an interval, the median beside it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...energies import ReadEnergy, Separation
from .. import seeds
from .exact import check_keys, given_keys
from .inverse import InverseSNR
from .kernel import checked, factors, log_kernel
from .keys import Keys

ELEMENTS = 2**22  # numbers of keys alive at once
RESAMPLES = 2000


@torch.no_grad()
def measured_inverse_snr(
    energy: ReadEnergy | Separation, count: int, keys: Keys | Tensor, *, trials: int = 300, confidence: float = 0.95, seed: int = 0
) -> InverseSNR:
    """Monte Carlo SNR⁻¹: ``Σ_{j≠i} p_j²/p_i²`` in so many memories of N keys, p the energy's own weights, whatever its factors.

    The mean over trials has an interval by bootstrap (percentiles), the median one by order statistics. Where rare keys make the mean (``rare``), no number of
    trials that one can run holds them, and the interval lies below the true mean: trust the median there.

    Args:
        keys: an ensemble, or your own keys (n, d), of which every trial takes N ≤ n at random, without replacement.
        trials: ≥ 2.
        confidence: of both intervals, in (0, 1).
        seed: a whole number ≥ 0.

    Raises:
        ValueError, TypeError: as ``inverse_snr``; trials or a confidence out of range, more keys asked for than are given.
    """
    energy = checked(energy, count)
    if not isinstance(trials, int) or trials < 2 or not 0 < confidence < 1:
        raise ValueError(f"A measurement needs at least two trials and a confidence in (0, 1), got trials={trials!r}, confidence={confidence!r}.")
    seeds.check(seed)
    if isinstance(keys, Tensor):
        keys = given_keys(keys)
        if count > len(keys):
            raise ValueError(f"There are {len(keys)} keys to take N = {count} from. Capture more of them, or use inverse_snr, which extrapolates.")
    else:
        check_keys(keys)
    generator = torch.Generator().manual_seed(seed)
    if count == 1:
        return InverseSNR(-math.inf, -math.inf, "measured", assumption="one key alone meets no noise")
    noise = np.array([_trial(energy, *_drawn(keys, count, generator)) for _ in range(trials)])
    named = f"{len(keys)} given keys" if isinstance(keys, Tensor) else str(keys)
    return _summary(noise, confidence, f"{trials} memories of {named}", seed)


def _drawn(keys: Keys | Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """The key asked for (1, d) and the others, in parts that are made when they are asked for."""
    if isinstance(keys, Tensor):
        chosen = torch.randperm(len(keys), generator=generator)[:count]
        return keys[chosen[:1]], [keys[part] for part in chosen[1:].split(max(1, ELEMENTS // keys.shape[1]))]
    asked, rows = keys.asked(1, generator), max(1, ELEMENTS // keys.dim)
    sizes = [min(rows, count - 1 - first) for first in range(0, count - 1, rows)]
    return asked, _Parts(keys, sizes, generator)  # type: ignore[return-value]


class _Parts:
    """Keys drawn part by part, so that only scores are kept of many."""

    def __init__(self, keys: Keys, sizes: list[int], generator: torch.Generator):
        self.keys, self.sizes, self.generator = keys, sizes, generator

    def __iter__(self):
        return (self.keys.draw(size, self.generator) for size in self.sizes)


def _trial(energy: ReadEnergy, asked: Tensor, others: list[Tensor]) -> float:
    """``log Σ_{j≠i} p_j²/p_i²`` of one memory."""
    own = energy.scores(asked, asked)[0]
    scores = torch.cat([own, *(energy.scores(asked, part)[0] for part in others)])
    if factors(energy):
        logs = log_kernel(energy, scores)
    else:
        logs = energy.scaling.weights(energy.separation, scores[None])[0].abs().log()
    if bool((logs == math.inf).any()) or bool(logs.isnan().any()):
        raise ValueError(f"A weight of {energy} overflowed in float64. Use a smaller β.")
    return math.inf if float(logs[0]) == -math.inf else float((2 * (logs[1:] - logs[0])).logsumexp(0))


def _summary(noise: np.ndarray, confidence: float, assumption: str, seed: int) -> InverseSNR:
    """Mean and median of the trials, from their logarithms."""
    from scipy.stats import binom

    top = noise.max()
    if not np.isfinite(top):  # nothing but silence, or a trial in which the key asked for had no weight
        return InverseSNR(float(top), float(np.median(noise)), "measured", (float(top), float(top)), assumption=assumption)
    size = np.exp(noise - top)
    draws = np.random.default_rng(seed).integers(len(size), size=(RESAMPLES, len(size)))
    tails = 0.5 * (1 - confidence), 0.5 * (1 + confidence)
    with np.errstate(divide="ignore"):
        low, high = (float(x) for x in np.log(np.quantile(size[draws].mean(1), tails)) + top)
    ranks = binom.ppf(tails, len(noise), 0.5).astype(int)
    ordered = np.sort(noise)
    middle = float(ordered[max(ranks[0] - 1, 0)]), float(ordered[min(ranks[1], len(noise) - 1)])
    mean = float(np.log(size.mean()) + top)
    return InverseSNR(mean, float(np.median(noise)), "measured", (low, high), middle, assumption, "measured_inverse_snr")
