"""Pictures of folders of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from .base import COLOURS

if TYPE_CHECKING:
    from ..runs import Status


def draw_status(found: Status) -> Figure:
    """Runs per state, as bars with their numbers."""
    figure = Figure(figsize=(6.5, 2.4), layout="constrained")
    place = figure.subplots()
    counts = found.counts
    bars = place.barh(list(counts), list(counts.values()), color=[COLOURS[i] for i in (2, 1, 5, 6, 4)])
    place.bar_label(bars, padding=3, fontsize=9)
    place.invert_yaxis()
    place.set_xlabel("runs", fontsize=9)
    place.margins(x=0.1)
    place.spines[["top", "right"]].set_visible(False)
    return figure
