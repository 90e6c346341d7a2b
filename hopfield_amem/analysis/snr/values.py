"""Values that have a mean: the noise that it adds to an unnormalised memory."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...energies import ReadEnergy, Separation
from ...energies.scalings.scaling import is_exponential
from .exact import check_keys
from .inverse import exponential
from .kernel import Kernel, checked, factors
from .keys import Keys
from .laws import PANELS, nodes


def value_bias(energy: ReadEnergy | Separation, count: int, keys: Keys) -> float:
    """``(N − 1)(N − 2) (E_k[κ(k, k_i)]/κ(k_i, k_i))²``, by quadrature: what values of mean μ add to SNR⁻¹ is this times ``‖μ‖²/E‖v‖²``.

    ``inverse_snr`` is for values of mean 0, as are the formulas of arXiv 2505.19488, §2.1. With a mean the answers of the N − 1 others no longer cancel:
    nothing for odd kernels such as the linear one, ``N²/(2πd)`` for ReLU, ``N² e^(d/τ² − 2d/τ)`` for softmax before it is normalised. Centring the values
    removes it, and normalised weights only ever shift an answer towards μ.

    Args:
        energy: as in ``inverse_snr``; weights that are κ up to a common factor.
        count: N ≥ 1, the key asked for included.
        keys: ``GaussianKeys(d)``, ``SphericalKeys(d)``; of ``AveragedGaussianKeys(d)`` the key asked for is the typical one.

    Returns:
        The number, 0 for fewer than two others, inf beyond floats.

    Raises:
        ValueError, TypeError: as ``inverse_snr``; keys of one's own, weights that depend on all slots at once.
    """
    energy = checked(energy, count)
    check_keys(keys)
    if not factors(energy):
        raise ValueError(f"The weights of {energy} depend on all slots at once: there is no kernel whose mean could add up.")
    if count < 3:
        return 0.0
    law, kernel = keys.typical(energy), Kernel(energy)
    score, logs = nodes(law, lambda score: 0.5 * kernel(score), kernel.bends, 4 * PANELS)  # where the density times κ matters, not times κ²
    signs = 1.0 if is_exponential(energy.separation) else energy.separation.slope(torch.from_numpy(score)).sign().numpy()
    relative = logs + kernel(score) - kernel.own(law.own)
    top = float(relative.max())
    mean = abs(float((signs * np.exp(relative - top)).sum()))
    return 0.0 if mean == 0 else exponential(math.log(count - 1) + math.log(count - 2) + 2 * (top + math.log(mean)))
