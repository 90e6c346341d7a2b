"""A number together with what it means: how it is known, of which success, under which assumption."""

from __future__ import annotations

import math
from dataclasses import dataclass

KINDS = ("theorem", "heuristic", "measured")
SUCCESSES = ("one bit", "one pattern", "all patterns", "ε-close", "argmax")


@dataclass(frozen=True)
class Estimate:
    """A capacity, or any other number that is proved, estimated or measured.

    Attributes:
        value: the number, inf where it is too large for a float.
        interval: (low, high) of a measurement, None where there is none.
        assumption: under what it holds, in words.
        kind: "theorem" (proved, constants included), "heuristic" (an argument, or a law whose constants are not proved) or "measured".
        success: of what: "one bit" right, "one pattern" recalled whole, "all patterns", a state "ε-close" to its pattern, or "argmax" (the right one of all).
        reference: the source, or the command or function that measured it.
        log_value: natural logarithm of the number, for those too large for a float; −inf for one that is not positive.

    Raises:
        ValueError: a kind or success that there is not, a NaN, or an interval that does not hold the value.
    """

    value: float
    interval: tuple[float, float] | None = None
    assumption: str = ""
    kind: str = "measured"
    success: str = "one pattern"
    reference: str = ""
    log_value: float | None = None

    def __post_init__(self):
        for given, there in ((self.kind, KINDS), (self.success, SUCCESSES)):
            if given not in there:
                raise ValueError(f"Expected one of {', '.join(map(repr, there))}, got {given!r}.")
        if math.isnan(self.value) or (self.interval is not None and not self.interval[0] <= self.value <= self.interval[1]):
            raise ValueError(f"An estimate is a number within its interval, got {self.value!r} in {self.interval!r}.")
        if self.log_value is None:
            object.__setattr__(self, "log_value", math.log(self.value) if self.value > 0 else -math.inf)

    def row(self) -> dict[str, float | str | None]:
        """The estimate as a row of a table."""
        low, high = self.interval or (None, None)
        return {
            "value": self.value, "low": low, "high": high, "log value": self.log_value, "kind": self.kind, "success": self.success,
            "assumption": self.assumption, "reference": self.reference,
        }  # fmt: skip

    def __str__(self) -> str:
        number = f"{self.value:.4g}" if self.value < math.inf else f"e^{self.log_value:.4g}"
        within = f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]" if self.interval else ""
        text = f"{number}{within} ({self.kind}; {self.success}"
        return text + "".join(f"; {part}" for part in (self.assumption, self.reference) if part) + ")"
