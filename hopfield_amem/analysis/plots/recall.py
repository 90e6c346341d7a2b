"""Figures of recall, descents and training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ..recall import Recall
from . import base


def gallery(rows: Mapping[str, Sequence[Tensor]], columns: Sequence[str], title: str, *, marks: Mapping[str, str] | None = None) -> Figure:
    """Images in rows. Each row: label -> one (h, w) grey image in [0, 1] per column; an empty tensor leaves its place blank.

    ``marks`` writes a short remark to the right of a row.
    """
    count, width = len(rows), len(columns)
    figure = Figure(figsize=(0.78 * width + 4.4, 0.78 * count + 1.3))
    axes = figure.subplots(count, width, squeeze=False)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for place, image in zip(line, images, strict=True):
            place.set_axis_off()
            if image.numel():
                place.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        line[0].text(-0.2, 0.5, label, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
        line[-1].text(1.2, 0.5, (marks or {}).get(label, ""), transform=line[-1].transAxes, ha="left", va="center", fontsize=9)
    for place, name in zip(axes[0], columns, strict=True):
        place.text(0.5, 1.12, name, transform=place.transAxes, ha="center", va="bottom", fontsize=9)
    wide, high = figure.get_size_inches()
    figure.suptitle(title, y=1 - 0.14 / high, va="top", fontsize=12)
    figure.subplots_adjust(left=2.5 / wide, right=1 - 1.7 / wide, top=1 - 1.0 / high, bottom=0.1 / high, wspace=0.08, hspace=0.08)
    return figure


def energy_curves(curves: Mapping[str, Tensor], title: str, *, notes: Mapping[str, str] | None = None) -> Figure:
    """Energy along the descent, one panel each with its own axis. name -> (steps + 1, q): the queries thin, their median bold.

    Queries that no slot reaches have infinite energy and are left out.
    """
    figure, panels = base.panels(len(curves))
    for place, (name, energies) in zip(panels, curves.items(), strict=True):
        finite = energies[:, energies.isfinite().all(0)].numpy()
        steps = np.arange(len(energies))
        place.plot(steps, finite, color=base.COLOURS[0], alpha=0.25, linewidth=0.8)
        if finite.size:
            place.plot(steps, np.median(finite, 1), color=base.COLOURS[1], linewidth=2, marker="o", markersize=3.5)
        else:
            place.text(0.5, 0.5, "no query in reach", transform=place.transAxes, ha="center", va="center")
        place.set_title(name, fontsize=10)
        place.text(0.97, 0.95, (notes or {}).get(name, ""), transform=place.transAxes, ha="right", va="top", fontsize=8)
        place.xaxis.get_major_locator().set_params(integer=True)
        place.ticklabel_format(axis="y", useOffset=False)
        place.tick_params(labelsize=8)
    key = [Line2D([], [], color=base.COLOURS[1], marker="o", markersize=4, linewidth=2), Line2D([], [], color=base.COLOURS[0], alpha=0.5)]
    base.finish(figure, panels, title, ("descent step", "energy E(x)"), (key, ["median of the queries", "each query"]))
    return figure


def recall_curves(
    loads: Sequence[int], measured: Mapping[str, Mapping[str, Sequence[float]]], predicted: Mapping[str, Mapping[str, Sequence[float]]], *,
    capacity: Mapping[str, Mapping[str, float]], title: str,
) -> Figure:  # fmt: skip
    """Recall against load: name -> damage -> one rate per load. Measured solid, predicted dashed, capacity a vertical line."""
    figure, panels = base.panels(len(measured))
    for place, (name, kinds) in zip(panels, measured.items(), strict=True):
        for (kind, rates), colour in zip(kinds.items(), base.COLOURS, strict=False):
            place.plot(loads, rates, color=colour, marker="o", markersize=4, linewidth=1.8)
            place.plot(loads, predicted[name][kind], color=colour, linestyle="--", linewidth=1.2)
            if loads[0] / 3 <= capacity[name][kind] <= loads[-1] * 3:
                place.axvline(capacity[name][kind], color=colour, linestyle=":", linewidth=1.4)
        place.set(xscale="log", ylim=(-0.04, 1.04), xlim=(loads[0] / 3, loads[-1] * 3))
        place.set_title(name, fontsize=10)
        place.grid(alpha=0.25)
        place.tick_params(labelsize=8)
    kinds = list(next(iter(measured.values())))
    key = [Line2D([], [], color=c, linewidth=3) for c, _ in zip(base.COLOURS, kinds, strict=False)]
    dashes: dict = {"-": "o", "--": "", ":": ""}
    key += [Line2D([], [], color="black", linestyle=style, marker=marker, markersize=4) for style, marker in dashes.items()]
    base.finish(
        figure, panels, title, ("stored patterns N", "share of queries recalled exactly"), (key, [*kinds, "measured", "predicted", "predicted capacity (½)"])
    )
    return figure


def training(history: Mapping[str, Sequence[float]], slots: Tensor, title: str, *, captions: Sequence[str]) -> Figure:
    """Accuracy by epoch, next to slots of the memory, (m, h, w) with a caption each. Red is positive, blue negative, each on its own scale."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1), squeeze=False)[0]
    curve = left.subplots()
    for (name, values), colour in zip(history.items(), base.COLOURS, strict=False):
        curve.plot(range(len(values)), values, label=name, color=colour, linewidth=2)
    curve.set(xlabel="epoch", ylabel="accuracy")
    curve.grid(alpha=0.25)
    curve.legend(loc="lower right")
    across = math.ceil(math.sqrt(2 * len(slots)))
    places = right.subplots(math.ceil(len(slots) / across), across, squeeze=False).flatten()
    for place in places:
        place.set_axis_off()
    for place, slot, caption in zip(places, slots.numpy(), captions, strict=False):
        place.imshow(slot, cmap="RdBu_r", vmin=-abs(slot).max(), vmax=abs(slot).max(), interpolation="nearest")
        place.set_title(caption, fontsize=9)
    right.suptitle("learned slots (keys) and the digit their values name", fontsize=10)
    figure.suptitle(title, fontsize=12)
    return figure


def recall_rates(found: Recall) -> Figure:
    """Share of the queries recalled exactly and identified, with 95 % intervals."""
    figure = Figure(figsize=(4.4, 3.8), layout="constrained")
    place = figure.subplots()
    for at, (row, colour) in enumerate(zip(found.rows(), base.COLOURS, strict=False)):
        place.bar(at, row["rate"], color=colour, alpha=0.85, width=0.6)
        place.vlines(at, row["low"], row["high"], color="black", linewidth=1.5)
    place.set(ylim=(0, 1.04), ylabel=f"share of {found.exact.numel()} queries", xticks=[0, 1], xticklabels=[row["success"] for row in found.rows()])
    place.grid(alpha=0.25, axis="y")
    return figure
