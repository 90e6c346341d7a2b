"""Figure of an audit: what the data are, what is memorised, and what could be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ..memorization.reporting.bounds import short
from .base import COLOURS

if TYPE_CHECKING:
    from ..memorization.auditing.audit import Audit

HATCHES = ("", "//", "", "..", "xx", "\\\\")


def bounds(found: Audit) -> Figure:
    """Bits of the data, bits memorised, and the bounds, as bars on a logarithmic axis."""
    shown = {name: bits for name, bits in found.bounds().items() if bits > 0}
    figure = Figure(figsize=(6.4, 0.55 * len(shown) + 1.4), layout="constrained")
    place = figure.subplots()
    bars = place.barh(list(shown), list(shown.values()), color=COLOURS[: len(shown)], edgecolor="white")
    for bar, hatch in zip(bars, HATCHES, strict=False):
        bar.set_hatch(hatch)
    place.bar_label(bars, [f" {short(bits)}" for bits in shown.values()], fontsize=9)
    place.set(xscale="log", xlabel="bits")
    place.margins(x=0.12)
    place.invert_yaxis()
    place.set_title(f"{found.load:.2g}× the model's capacity", fontsize=11)
    return figure
