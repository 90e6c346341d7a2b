"""SNR⁻¹ of several memories along N, d or a temperature: exact, printed and measured side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...energies import ReadEnergy, Separation
from .. import seeds
from ..result import Result
from ..runs import progress
from .exact import inverse_snr, printed_inverse_snr
from .inverse import InverseSNR
from .keys import Keys
from .measure import measured_inverse_snr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Setting = tuple[ReadEnergy | Separation, int, Keys | Tensor]
TWOFOLD = math.log(2)  # a printed formula that is off by more has failed


@dataclass(frozen=True)
class SNRPoint:
    """SNR⁻¹ at one place of a sweep: computed, as printed and measured, as far as there is each."""

    at: float
    computed: InverseSNR | None
    printed: InverseSNR | None
    measured: InverseSNR | None

    @property
    def printed_fails(self) -> bool | None:
        """Whether the printed formula is off from what typically occurs by more than a factor of two; None where nothing is printed, or known."""
        typical = next((found.log_typical for found in (self.computed, self.measured) if found is not None and found.log_typical is not None), None)
        if self.printed is None or typical is None:
            return None
        return self.printed.log_mean != typical and not abs(self.printed.log_mean - typical) <= TWOFOLD


@dataclass(frozen=True)
class SNRSweep(Result):
    """SNR⁻¹ against one axis, one curve per memory. Its figure shades where a printed formula fails."""

    axis: str
    curves: dict[str, tuple[SNRPoint, ...]]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"memory": name, self.axis: point.at, **found.row(), "printed fails": point.printed_fails if found is point.printed else None}
            for name, points in self.curves.items()
            for point in points
            for found in (point.computed, point.printed, point.measured)
            if found is not None
        ]

    def plot(self) -> Figure:
        from ..plots.snr import inverse_snr_curves

        return inverse_snr_curves(self)


def snr_sweep(cases: Mapping[str, Callable[[Any], Setting]], along: Sequence[float], *, axis: str = "N", trials: int = 0, seed: int = 0) -> SNRSweep:
    """SNR⁻¹ of memories along N, d, a temperature, or whatever their cases make of it, with a progress bar on a terminal.

    ``snr_sweep({"softmax": lambda n: (presets.log_sum_exp(0.125), n, GaussianKeys(64))}, [16, 64, 256])``

    Args:
        cases: name -> what makes energy, N and keys for a place.
        along: the places.
        axis: what they are called.
        trials: of Monte Carlo at every place; 0 for none.
        seed: of the trials, a whole number ≥ 0.

    Raises:
        ValueError: no case, no place; as ``inverse_snr`` and ``measured_inverse_snr``. What cannot be computed must at least be measured.
    """
    if not cases or not len(along):
        raise ValueError("A sweep needs at least one memory and one place.")
    seeds.check(seed)
    with progress("SNR", len(cases) * len(along)) as advance:
        curves = {name: tuple(_advanced(_point(at, make(at), trials, seed), advance) for at in along) for name, make in cases.items()}
    return SNRSweep(axis, curves)


def _advanced(point: SNRPoint, advance: Callable[[], None]) -> SNRPoint:
    advance()
    return point


def _point(at: float, setting: Setting, trials: int, seed: int) -> SNRPoint:
    energy, count, keys = setting
    measured = measured_inverse_snr(energy, count, keys, trials=trials, seed=seed) if trials else None
    try:
        computed = inverse_snr(energy, count, keys)
    except ValueError:
        if measured is None:
            raise
        computed = None
    try:
        printed = None if isinstance(keys, Tensor) else printed_inverse_snr(energy, count, keys)
    except ValueError:
        printed = None
    return SNRPoint(at, computed, printed, measured)
