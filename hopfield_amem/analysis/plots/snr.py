"""Figures of the retrieval SNR."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from . import base

if TYPE_CHECKING:
    from ..snr import InverseSNR, SNRPoint, SNRSweep

BLUE, RED, GREEN = base.COLOURS[0], base.COLOURS[1], base.COLOURS[2]
SHADE = {"facecolor": "#D9D9D9", "edgecolor": "white", "hatch": "//", "linewidth": 0.0}


def inverse_snr_curves(sweep: SNRSweep) -> Figure:
    """SNR⁻¹ along the axis of a sweep, one panel per memory; shaded where the printed formula is off by more than a factor of two from what occurs."""
    figure, panels = base.panels(len(sweep.curves))
    for place, (name, points) in zip(panels, sweep.curves.items(), strict=True):
        _panel(place, points)
        place.set_title(name, fontsize=9)
    key = [
        Line2D([], [], color=BLUE, linewidth=2), Line2D([], [], color=GREEN, linestyle="-.", linewidth=1.6),
        Line2D([], [], color=RED, linestyle=":", linewidth=2), Line2D([], [], color="black", marker="o", linestyle="", markersize=4),
        Line2D([], [], color="black", marker="D", linestyle="", fillstyle="none"),
        Patch(**SHADE),
    ]  # fmt: skip
    names = ["mean, computed", "typical, computed", "as printed", "measured mean", "measured median", "printed fails"]
    base.finish(figure, panels, "Noise of retrieval", (sweep.axis, "SNR⁻¹"), (key, names), across=3)
    return figure


def _panel(place, points: tuple[SNRPoint, ...]) -> None:
    x = [point.at for point in points]
    _line(place, x, [None if p.computed is None else p.computed.log_mean for p in points], color=BLUE, linewidth=2)
    _line(place, x, [None if p.computed is None else p.computed.log_typical for p in points], color=GREEN, linestyle="-.", linewidth=1.6)
    _line(place, x, [None if p.printed is None else p.printed.log_mean for p in points], color=RED, linestyle=":", linewidth=2)
    for point in points:
        if point.measured is not None:
            _measured(place, point.at, point.measured)
    for left, right in _shaded(points):
        place.axvspan(left, right, **SHADE, zorder=-1)
    if len(x) > 1 and min(x) > 0:
        place.set_xscale("log")
    place.yaxis.set_major_formatter(lambda exponent, _: f"$10^{{{exponent:g}}}$")
    place.grid(alpha=0.25)
    place.tick_params(labelsize=8)


def _line(place, x: list[float], logs: list[float | None], **style) -> None:
    """Logarithms to base ten, because a float does not hold the values."""
    y = [math.nan if log is None or not math.isfinite(log) else log / math.log(10) for log in logs]
    place.plot(x, y, **style)


def _measured(place, x: float, found: InverseSNR) -> None:
    if math.isfinite(found.log_mean):
        mean = found.log_mean / math.log(10)
        low, high = (end / math.log(10) if math.isfinite(end) else mean for end in found.interval or (math.inf, math.inf))
        place.errorbar([x], [mean], [[max(mean - low, 0.0)], [max(high - mean, 0.0)]], color="black", marker="o", markersize=3.5, capsize=2, linewidth=1)
    if found.log_typical is not None and math.isfinite(found.log_typical):
        place.plot([x], [found.log_typical / math.log(10)], color="black", marker="D", markersize=5, fillstyle="none")


def _shaded(points: tuple[SNRPoint, ...]) -> list[tuple[float, float]]:
    """Spans around the places where the printed formula fails, up to the middle between neighbours."""
    x = [point.at for point in points]
    between = [math.sqrt(a * b) if min(a, b) > 0 else 0.5 * (a + b) for a, b in pairwise(x)]
    edges = [x[0], *between, x[-1]]
    return [(edges[i], edges[i + 1]) for i, point in enumerate(points) if point.printed_fails]
