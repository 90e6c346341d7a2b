"""SNR⁻¹ as it is returned: the mean, what is typical, how they are known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..estimate import Estimate

KINDS = {"exact": "theorem", "approximation": "heuristic", "measured": "measured"}
"""How SNR⁻¹ may be known, and what ``Estimate`` calls that."""

RARE = 0.5  # a typical value below this share of the mean says that the mean is made by rare keys


@dataclass(frozen=True)
class InverseSNR:
    """``SNR⁻¹ = E|Σ_{j≠i} κ(k_j, k_i) v_j|² / (κ(k_i, k_i)² |v_i|²)``: the noise a stored key is answered with, relative to its value.

    Kept as logarithms, because steep kernels under- and overflow.

    Attributes:
        log_mean: natural logarithm of the mean over keys and values.
        log_typical: of what one memory in two stays below. Exact analyses estimate it, measurements take the median; None where that is not known.
        kind: "exact" (a closed form, or quadrature to rounding; all given keys), "approximation" (as printed, or mean field) or "measured" (drawn keys, or
            part of the given ones).
        interval: of log_mean, for measurements of drawn keys.
        typical_interval: of log_typical, for measurements.
        assumption: under what it holds, in words.
        reference: where it is from.
    """

    log_mean: float
    log_typical: float | None
    kind: str
    interval: tuple[float, float] | None = None
    typical_interval: tuple[float, float] | None = None
    assumption: str = ""
    reference: str = ""

    @property
    def mean(self) -> float:
        """The mean, inf where it overflows."""
        return exponential(self.log_mean)

    @property
    def typical(self) -> float | None:
        """The typical value."""
        return None if self.log_typical is None else exponential(self.log_typical)

    @property
    def rare(self) -> bool:
        """Whether the mean hardly ever occurs: the typical value is below half of it. At small τ rare, near keys make all of the mean (freezing)."""
        return self.log_typical is not None and self.log_mean > -math.inf and self.log_typical < self.log_mean + math.log(RARE)

    @property
    def estimate(self) -> Estimate:
        """The mean as an ``Estimate``: the square of the ε that an answer, divided by its signal, is off its value by ("ε-close"), relative to that value."""
        interval = None
        if self.interval is not None:
            interval = exponential(min(self.interval[0], self.log_mean)), exponential(max(self.interval[1], self.log_mean))
        kind = KINDS[self.kind]
        return Estimate(self.mean, interval, self.assumption, kind=kind, success="ε-close", reference=self.reference, log_value=self.log_mean)

    def row(self) -> dict[str, Any]:
        """As a row of a table: numbers, and natural logarithms for those that a float does not hold."""
        low, high = (None, None) if self.interval is None else map(exponential, self.interval)
        return {
            "mean": self.mean, "low": low, "high": high, "typical": self.typical, "log mean": self.log_mean, "log typical": self.log_typical,
            "kind": self.kind, "rare mean": self.rare,
        }  # fmt: skip

    def __str__(self) -> str:
        within = "" if self.interval is None else " [" + ", ".join(written(end) for end in self.interval) + "]"
        text = f"SNR⁻¹ = {written(self.log_mean)}{within} ({self.kind})"
        if self.log_mean == math.inf and self.log_typical is not None:
            return f"{text}, but typically {written(self.log_typical)}: the mean diverges"
        if self.rare and self.log_typical is not None:
            return f"{text}, but typically {written(self.log_typical)}: rare keys make the mean, which hardly ever occurs"
        return text if self.log_typical is None else f"{text}, typically {written(self.log_typical)}"


def exponential(log: float) -> float:
    """eˣ, inf where that overflows."""
    return math.exp(log) if log < 709 else math.inf


def written(log: float) -> str:
    """A number from its natural logarithm."""
    if log == math.inf:
        return "inf"
    if log == -math.inf or -690 < log < 690:
        return f"{math.exp(log):.3g}"
    return f"10^{log / math.log(10):.4g}"
