"""Figures of detectors and of generated samples."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..detection import Detection
from ..novelty import KINDS, Novelty
from . import base


def characteristic(found: Detection) -> Figure:
    """Share of the inliers that pass against the share of the outliers that do, for every threshold."""
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    place = figure.subplots()
    place.plot(found.passed, found.kept, color=base.COLOURS[0], linewidth=1.8)
    place.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    place.plot(found.false_positive_rate, found.accept, color=base.COLOURS[1], marker=base.MARKERS[1], label=f"FPR{100 * found.accept:g}")
    place.set(xlabel="share of the outliers that pass", ylabel="share of the inliers that pass", aspect="equal")
    place.set_title(str(found), fontsize=10)
    place.legend(frameon=False, loc="lower right")
    place.grid(alpha=0.25)
    return figure


def kinds(found: Novelty) -> Figure:
    """Generated samples by their two distances, one marker per kind."""
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    place = figure.subplots()
    other = found.to_generated.numpy()
    furthest = np.max(other, where=np.isfinite(other), initial=0.0)
    for kind, colour, marker in zip(KINDS, base.COLOURS, base.MARKERS, strict=False):
        chosen = getattr(found, kind).numpy()
        heights = np.minimum(other[chosen], furthest)  # a sample without another one stands at the top
        label = f"{kind}, {chosen.mean() if len(chosen) else 0:.0%}"
        place.scatter(found.to_training.numpy()[chosen], heights, color=colour, marker=marker, s=18, linewidth=0, label=label)
    place.set(xlabel="distance to the nearest training sample", ylabel="distance to the nearest other generated sample")
    place.legend(frameon=False)
    place.grid(alpha=0.25)
    return figure
