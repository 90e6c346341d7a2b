"""SNR⁻¹ computed: exactly for kernels of independent keys, exactly for keys that are given, by mean field for weights with a threshold, and as printed."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...energies import Level, ReadEnergy, Separation, Simplex
from ...energies.checks import foreign
from .closed import printed_form
from .inverse import InverseSNR
from .kernel import Kernel, checked, factors, log_kernel
from .keys import AveragedGaussianKeys, GaussianKeys, Keys, SphericalKeys
from .laws import ScoreLaw, nodes
from .moments import log_mean, log_typical

SOURCE = "arXiv 2505.19488, §2.1"
ASKED = 2048  # so many of the keys that are given are asked for, at most
ELEMENTS = 2**22  # scores alive at once


def inverse_snr(energy: ReadEnergy | Separation, count: int, keys: Keys | Tensor) -> InverseSNR:
    """``SNR⁻¹ = (N − 1) E_k[κ(k, k_i)²]/κ(k_i, k_i)²`` of a stored key that is asked for, exactly.

    κ is the retrieval weight before it is normalised, F′; what all weights are divided by cancels. Values are independent, of mean 0 and one length. By a
    closed form where one is registered (``snr.closed``), else by quadrature over the law of the score.

    The mean may be one that hardly ever occurs: at small τ rare, near keys make all of it. The result says so (``rare``) and estimates what is typical.

    A mean that diverges is inf (``AveragedGaussianKeys``: κ = sⁿ in d ≤ 2n dimensions, softmax from β = (1 + √2)/2 on).

    Args:
        energy: S, F, Q and β; or a separation alone, for inner products at β = 1. With ``Simplex`` and ``Level`` the threshold depends on all keys, and the
            result is a mean field, an approximation.
        count: N ≥ 1, the key asked for included.
        keys: ``GaussianKeys(d)``, ``AveragedGaussianKeys(d)``, ``SphericalKeys(d)``, or your own, (n, d) with n ≥ 2, for example captured from a model: then
            the mean is over them, each asked for among the others, and N − 1 others count as exchangeable with the n − 1 that are there. Of more than 2,048
            keys so many are asked for, evenly spaced, and the result is "measured". The typical value is the median over them for N = n, and else None: it
            is no multiple of that median, and ``measured_inverse_snr`` takes N ≤ n keys at random.

    Raises:
        ValueError, TypeError: N < 1, a β that is not one number, keys with NaN, a kernel that is 0 at its own key or overflows, a similarity without a known
            law or a scaling other than ``Sum``, ``Log``, ``Simplex`` and ``Level`` (measure those).
    """
    energy = checked(energy, count)
    if isinstance(keys, Tensor):
        return _of_given(energy, count, keys)
    check_keys(keys)
    if not factors(energy):
        return _mean_field(energy, count, keys)
    if count == 1:
        return InverseSNR(-math.inf, -math.inf, "exact", assumption="one key alone meets no noise", reference=SOURCE)
    kernel = Kernel(energy)
    found = [(chance, *log_mean(kernel, law)) for chance, law in keys.laws(energy)]
    mean = float(np.logaddexp.reduce([chance + value for chance, value, _ in found])) + math.log(count - 1)
    typical = log_typical(kernel, keys.typical(energy), count - 1)
    return InverseSNR(mean, typical, "exact", assumption=f"independent keys, {keys}; {found[0][2]}", reference=SOURCE)


def printed_inverse_snr(energy: ReadEnergy | Separation, count: int, keys: Keys) -> InverseSNR:
    """SNR⁻¹ as the literature prints it, N in place of N − 1: an approximation, with its condition in ``assumption``. It knows no typical value.

    Printed are powers and rectified powers, exponentials, SiLU and GELU at β = 1/√d for ``GaussianKeys``; exponentials for ``SphericalKeys``. The condition
    is no guard: where it fails the formula is returned all the same, to be compared (``snr_sweep`` shades where it is off).

    Raises:
        ValueError, TypeError: as ``inverse_snr``; no printed formula.
    """
    energy = checked(energy, count)
    check_keys(keys)
    laws = keys.laws(energy) if factors(energy) else []
    found = printed_form(energy.separation, laws[0][1]) if len(laws) == 1 else None
    if found is None:
        raise ValueError(f"No formula is printed for {energy} at {keys}. inverse_snr computes it, measured_inverse_snr measures it.")
    return InverseSNR(math.log(count) + found.log_per_key, None, "approximation", assumption=found.condition, reference=SOURCE)


def check_keys(keys: Keys) -> None:
    """Raise where keys are neither of an ensemble nor a tensor."""
    if not isinstance(keys, Keys):
        raise TypeError(f"keys are GaussianKeys(d), AveragedGaussianKeys(d), SphericalKeys(d) or a tensor (n, d) of your own; got {foreign(keys)}.")


def given_keys(keys: Tensor) -> Tensor:
    """Keys of the user's own in float64, checked."""
    if not keys.is_floating_point() or keys.ndim != 2 or len(keys) < 2 or keys.shape[1] < 1:
        raise ValueError(f"Your own keys are a floating-point tensor (n, d) with n ≥ 2 and d ≥ 1, got {keys.dtype} of shape {tuple(keys.shape)}.")
    if not bool(keys.isfinite().all()):
        raise ValueError("The keys hold NaN or Inf: the model that they were captured from overflowed, or padding was captured with them. Leave such rows out.")
    return keys.detach().cpu().double()


@torch.no_grad()
def _of_given(energy: ReadEnergy, count: int, keys: Tensor) -> InverseSNR:
    keys = given_keys(keys)
    if not factors(energy):
        raise ValueError(f"The weights of {energy} depend on all slots at once: use measured_inverse_snr(energy, count, keys).")
    asked = torch.arange(0, len(keys), max(1, math.ceil(len(keys) / ASKED)))
    noise = torch.cat([_noise(energy, keys, rows) for rows in asked.split(max(1, ELEMENTS // len(keys)))])
    share = math.log(count - 1) - math.log(len(keys) - 1) if count > 1 else -math.inf
    mean = float(noise.logsumexp(0)) - math.log(len(noise)) + share
    typical = float(noise.median()) if count == len(keys) else -math.inf if count == 1 else None
    assumption = f"mean over {len(asked)} of {len(keys)} given keys, the others exchangeable"
    return InverseSNR(mean, typical, "exact" if len(asked) == len(keys) else "measured", assumption=assumption, reference=SOURCE)


def _noise(energy: ReadEnergy, keys: Tensor, rows: Tensor) -> Tensor:
    """``log Σ_{j≠i} κ_ij²/κ_ii²`` of keys among all others. (q,) -> (q,)"""
    kernel = log_kernel(energy, energy.scores(keys[rows], keys))
    own = kernel.gather(1, rows[:, None])
    if not bool(own.isfinite().all()) or bool((kernel == math.inf).any()):
        bad = int(rows[(~own[:, 0].isfinite()) | (kernel == math.inf).any(1)][0])
        raise ValueError(f"κ of key {bad} with itself is 0, or a kernel overflows there, under {energy}. Leave out zero keys, or use a smaller β.")
    return (2 * (kernel - own)).scatter(1, rows[:, None], -math.inf).logsumexp(1)


def _mean_field(energy: ReadEnergy, count: int, keys: Keys) -> InverseSNR:
    """Weights ``F′(s − τ)`` with the level τ at which the mean of all weights, or of all F, is as it must be."""
    if not isinstance(keys, (GaussianKeys, SphericalKeys, AveragedGaussianKeys)) or type(energy.scaling) not in (Simplex, Level):
        raise ValueError(f"The weights of {energy} depend on all slots at once in a way that has no mean field here: use measured_inverse_snr.")
    law = keys.typical(energy)
    kernel = Kernel(energy, _level(energy, law, count))
    mean = log_mean(kernel, law)[0] + (math.log(count - 1) if count > 1 else -math.inf)
    assumption = f"mean field: a threshold that does not fluctuate; {keys}"
    return InverseSNR(mean, log_typical(kernel, law, count - 1), "approximation", assumption=assumption, reference="this library")


def _level(energy: ReadEnergy, law: ScoreLaw, count: int) -> float:
    """τ with ``w(s_ii − τ) + (N − 1) E w(s − τ) = total``, w = F′ (``Simplex``) or F (``Level``), by bracketing (Brent, scipy)."""
    from scipy.optimize import brentq

    simplex = isinstance(energy.scaling, Simplex)
    rise = energy.separation.slope if simplex else energy.separation
    total = energy.scaling.total if isinstance(energy.scaling, Simplex) else 1.0

    def excess(level: float) -> float:
        score, logs = nodes(law, Kernel(energy, level), Kernel(energy, level).bends)
        weights = rise(torch.from_numpy(np.append(score, law.own) - level)).numpy()
        return weights[-1] + (count - 1) * float(np.exp(logs) @ weights[:-1]) - total

    low = high = law.own
    step = 1.0
    while excess(low) < 0:
        low, step = low - step, 2 * step
    step = 1.0
    while excess(high) > 0:
        high, step = high + step, 2 * step
    return float(brentq(excess, low, high, xtol=1e-12))  # pyright: ignore[reportArgumentType]
