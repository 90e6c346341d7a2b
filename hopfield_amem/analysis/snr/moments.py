"""Mean and typical value of the summed squares of a kernel over N − 1 independent keys, from the law of one score."""

from __future__ import annotations

import math

import numpy as np

from .averaged import LengthAveraged
from .closed import closed_form
from .kernel import Kernel
from .laws import PANELS, ScoreLaw, nodes

ACCURACY, SETTLED, MOST = 1e-10, 1e-3, 2**14  # of the logarithm of an integral: aimed at, and the least that is taken; panels


def log_mean(kernel: Kernel, law: ScoreLaw | LengthAveraged) -> tuple[float, str]:
    """``log E[κ²/κ_ii²]`` of one key, and how it was found."""
    own = 0.0 if isinstance(law, LengthAveraged) else kernel.own(law.own)
    value = None if kernel.level else closed_form(kernel.energy.separation, law)
    if value is not None:
        return value, "closed form" if value < math.inf else "closed form, which diverges or leaves the range of floats"
    if isinstance(law, LengthAveraged):
        from .lengths import log_mean_over_lengths

        return log_mean_over_lengths(kernel, law)
    value, change = quadrature(kernel, law)
    return value - 2 * own, f"quadrature to {max(change, 1e-14):.0e}"


def quadrature(kernel: Kernel, law: ScoreLaw) -> tuple[float, float]:
    """``log E κ²`` and by how much it changed when panels were halved for the last time: a kernel of one's own may bend or jump anywhere."""
    panels, change = PANELS, np.inf
    value = integral(kernel, law, panels)
    while change > ACCURACY and panels < MOST:
        panels *= 2
        finer = integral(kernel, law, panels)
        change = 0.0 if finer == value else abs(finer - value)  # both −∞ where the kernel vanishes
        value = finer
    if change > SETTLED:
        raise ValueError(f"The quadrature of {kernel.energy} does not settle (its logarithm still moves by {change:.1g}): measure it, or use a smaller β.")
    return value, change


def integral(kernel: Kernel, law: ScoreLaw, panels: int) -> float:
    score, logs = nodes(law, kernel, kernel.bends, panels)
    return float(np.logaddexp.reduce(logs + 2 * kernel(score)))


def log_typical(kernel: Kernel, law: ScoreLaw, others: int) -> float:
    """What ``log Σ_{j≠i} κ_j²/κ_ii²`` of so many other keys stays below in one memory of two: an estimate.

    The largest of the terms stands at its median u, the others count with their mean below u, ``u + (N − 2) E[κ² | κ² < u]``. Where no single key matters this
    is the mean; where steep kernels freeze (Derrida 1981's random energies) it is what the nearest few make. Tested against measured medians to a factor of
    1.4 where it freezes, 1.16 elsewhere (``tests/test_snr.py``).
    """
    if others == 0:
        return -math.inf
    score, logs = nodes(law, np.zeros_like, kernel.bends)  # where keys are, not where κ² has its mean
    square = 2 * kernel(score)
    order = np.argsort(-square, kind="stable")
    square, chance = square[order], np.exp(logs[order])
    above = -math.expm1(-math.log(2) / others)  # the chance that one key beats the median largest of all
    beyond = chance.cumsum()
    first = min(int(np.searchsorted(beyond, above)), len(square) - 1)
    largest, square, chance = square[first], square[first:], chance[first:]
    chance[0] = max(0.0, beyond[first] - above)
    with np.errstate(divide="ignore"):
        rest = np.logaddexp.reduce(np.log(chance) + square) - math.log1p(-above) if others > 1 else -math.inf
    total = np.logaddexp(largest, (math.log(others - 1) if others > 1 else 0.0) + rest)
    if not total < math.inf:
        raise ValueError(f"The kernel of {kernel.energy} overflows at scores that occur. Use a higher temperature, that is, a smaller β.")
    return float(total) - 2 * kernel.own(law.own)
