"""How many dimensions a memory needs for so many keys at a given SNR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...energies import ReadEnergy, Separation
from .exact import inverse_snr
from .inverse import InverseSNR
from .keys import GaussianKeys, Keys

LARGEST = 2**24
STATISTICS = ("mean", "typical")


@dataclass(frozen=True)
class RequiredDim:
    """The least number of dimensions, and SNR⁻¹ there. Prints both, and whether that mean is one that hardly ever occurs."""

    dim: int
    noise: InverseSNR

    def __str__(self) -> str:
        return f"d = {self.dim}: {self.noise}"


def required_dim(
    energy: ReadEnergy | Separation | Callable[[int], ReadEnergy],
    count: int,
    snr: float = 1.0,
    *,
    keys: Callable[[int], Keys] = GaussianKeys,
    statistic: str = "mean",
) -> RequiredDim:
    """The least d at which SNR⁻¹ of N stored keys is at most 1/snr: O(N) for linear and ReLU kernels, O(N^(1/n)) for powers, O(log² N) for softmax at τ = √d.

    Found by doubling and bisection on ``inverse_snr``, whose mean is exact; where it is rare the dimension is, too, and the result says so:
    ``statistic="typical"`` then asks for what one memory in two needs.

    Args:
        energy: an energy, a separation, or what makes one for d: ``lambda d: presets.log_sum_exp(d**-0.5)``.
        count: N ≥ 1.
        snr: > 0.
        keys: the ensemble for d.
        statistic: "mean" or "typical".

    Raises:
        ValueError: snr ≤ 0, N < 1, no dimension up to 2²⁴ that is enough (at a fixed τ ≤ 1 the mean noise of Gaussian keys grows with d); as ``inverse_snr``.
    """
    if not snr > 0 or statistic not in STATISTICS:
        raise ValueError(f"required_dim needs an SNR > 0 and 'mean' or 'typical', got snr={snr!r}, statistic={statistic!r}.")
    least = 2 if keys(2) != GaussianKeys(2) else 1

    def at(dim: int) -> InverseSNR:
        return inverse_snr(energy if isinstance(energy, (ReadEnergy, Separation)) else energy(dim), count, keys(dim))

    def enough(dim: int) -> bool:
        found = at(dim)
        noise = found.mean if statistic == "mean" else found.typical
        return noise is not None and noise * snr <= 1 + 1e-12  # rounding must not cost a dimension

    low, high = least - 1, least
    while not enough(high):
        if high >= LARGEST:
            raise ValueError(f"No dimension up to {LARGEST} reaches an SNR of {snr:g} for {count} keys: raise the temperature with d, or ask for less.")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return RequiredDim(high, at(high))
