"""Figures of memorization against scale."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..memorization.fits import curve_of, plateaus
from ..memorization.laws import LITERATURE
from ..memorization.result import Memorization
from .base import COLOURS, MARKERS


def memorised(found: Memorization) -> Figure:
    """Memorised bits against bits of data for the kind of run with the most sizes, the loss on other data below; beside them every kind, per parameter.

    Dashed: the capacity measured for each size (its bits per parameter in the legend). The grey band: what 3.5 to 3.6 bits per parameter
    (Morris et al. 2025, arXiv 2505.24832) would be. Dotted: everything memorised, and what a reference expects.
    """
    kinds = found.kinds()
    main = max(kinds, key=lambda kind: len({record["parameters"] for record in kinds[kind].records}))
    figure = Figure(figsize=(11, 8), layout="constrained")
    (bits, each), (losses, told) = figure.subplots(2, 2, sharex="col")
    _bits(bits, kinds[main], main)
    _losses(losses, kinds[main])
    _per_parameter(each, kinds)
    _membership(told, kinds)
    figure.suptitle("How many bits of its data a model holds, and the loss on data it never saw", fontsize=13)
    return figure


def _per_parameter(place, kinds: dict[str, Memorization]) -> None:
    """Bits memorised against bits of data, both per parameter: one curve for all sizes where capacity is proportional to parameters."""
    loads = [record["data bits"] / record["parameters"] for part in kinds.values() for record in part.records]
    for (kind, part), colour, marker in zip(kinds.items(), itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False):
        points = sorted((r["data bits"] / r["parameters"], r["memorised bits"] / r["parameters"]) for r in part.records)
        alone = len({record["parameters"] for record in part.records}) == 1
        place.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=4.5, lw=1 if alone else 0, label=kind)
    place.axhspan(*LITERATURE, color="grey", alpha=0.25, lw=0, label="3.5–3.6: GPT-2, 10⁶ steps")
    all_of_it = np.geomspace(min(loads), max(*loads, LITERATURE[1]))
    place.plot(all_of_it, all_of_it, ":", color="black", lw=1)
    place.set(xscale="log", ylim=(0, 4))
    place.set_ylabel("memorised bits per parameter", fontsize=9)
    place.set_xlabel("bits of data per parameter", fontsize=9)
    place.set_title("all kinds, per parameter", fontsize=10)
    _dress(place)


def _membership(place, kinds: dict[str, Memorization]) -> None:
    """How well the loss tells members, against bits of data per parameter."""
    for (kind, part), colour, marker in zip(kinds.items(), itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False):
        points = sorted((r["data bits"] / r["parameters"], r["membership"]["AUROC"]) for r in part.records)
        place.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=4.5, lw=0, label=kind)
    place.axhline(0.5, color="black", ls=":", lw=1)
    place.set(xscale="log", ylim=(0.45, 1.03))
    place.set_ylabel("AUROC of telling members by their loss", fontsize=9)
    place.set_xlabel("bits of data per parameter", fontsize=9)
    _dress(place)


def _bits(place, part: Memorization, kind: str) -> None:
    full = plateaus(part.records)
    sizes = sorted({record["parameters"] for record in part.records})
    for i, size in enumerate(sizes):
        curve = curve_of(part.records, size, "memorised bits")
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        label = f"{size:,} parameters" + (f": {np.mean(full[size]) / size:.2f} bits each" if size in full else "")
        place.plot([given for given, _ in curve], [np.mean(held) for _, held in curve], color=colour, marker=marker, ms=4.5, label=label)
        for bits, values in curve:
            place.scatter([bits] * len(values), values, s=7, color=colour, alpha=0.6)
        if size in full:
            place.axhline(np.mean(full[size]), color=colour, ls="--", lw=0.8)
    for size, end in ((sizes[0], "smallest"), (sizes[-1], "largest"))[: len(sizes)]:
        place.axhspan(LITERATURE[0] * size, LITERATURE[1] * size, color="grey", alpha=0.25, lw=0)
        place.annotate(
            f"3.5–3.6 bits per parameter, {end}", (0.01, LITERATURE[1] * size), xycoords=("axes fraction", "data"), fontsize=7, va="bottom", color="dimgrey"
        )
    given = np.array(sorted({record["data bits"] for record in part.records}))
    place.plot(given, given, ":", color="black", lw=1, label="all of the data")
    place.set(xscale="log", yscale="log")
    place.set_title(kind, fontsize=10)
    place.set_ylabel("memorised bits", fontsize=9)
    _dress(place)


def _losses(place, part: Memorization) -> None:
    for i, size in enumerate(sorted({record["parameters"] for record in part.records})):
        curve = curve_of(part.records, size, "validation loss")
        colour = COLOURS[i % len(COLOURS)]
        place.plot(
            *zip(*((given, np.mean(losses)) for given, losses in curve), strict=True),
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            ms=4.5,
            label=f"{size:,} parameters",
        )
        capacity = plateaus(part.records).get(size)
        if capacity:
            place.axvline(np.mean(capacity), color=colour, ls="--", lw=0.8)
    place.axhline(np.mean([record["reference loss"] for record in part.records]), color="black", ls=":", lw=1, label="reference")
    place.set(xscale="log", yscale="log")
    place.set_ylabel("loss on other data, nats per token", fontsize=9)
    place.set_xlabel("bits of data (dashed: measured capacity)", fontsize=9)
    _dress(place)


def _dress(place) -> None:
    place.grid(True, which="both", alpha=0.2)
    place.tick_params(labelsize=8, which="both")
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    place.legend(fontsize=7, frameon=False)


def surfaces(found: Memorization) -> Figure:
    """Maps over model size and data size of one kind of run: training loss, loss on other data, memorised share of the data, exact recall."""
    sizes = sorted({record["parameters"] for record in found.records})
    examples = sorted({record["examples"] for record in found.records})
    measures = {
        "training loss, nats per token": lambda r: r["training loss"],
        "loss on other data": lambda r: r["validation loss"],
        "memorised share of the data": lambda r: r["memorised bits"] / r["data bits"],
        "rows recalled exactly": lambda r: r["exact"],
    }
    figure = Figure(figsize=(12.5, 3.6), layout="constrained")
    for place, (name, measure) in zip(figure.subplots(1, len(measures)), measures.items(), strict=True):
        grid = np.full((len(sizes), len(examples)), np.nan)
        for (i, size), (j, count) in ((a, b) for a in enumerate(sizes) for b in enumerate(examples)):
            values = [measure(r) for r in found.records if r["parameters"] == size and r["examples"] == count]
            grid[i, j] = np.mean(values) if values else np.nan
        losses = "loss" in name
        image = place.imshow(
            np.ma.masked_invalid(grid), origin="lower", aspect="auto", cmap="viridis", norm=LogNorm() if losses and np.nanmin(grid) > 0 else None
        )
        bar = figure.colorbar(image, ax=place, location="bottom", shrink=0.9)
        bar.ax.tick_params(labelsize=7)
        bar.ax.xaxis.set_major_formatter("{x:g}")
        bar.ax.xaxis.set_minor_formatter(NullFormatter())
        place.set_xticks(range(len(examples)), [str(count) for count in examples], fontsize=7)
        place.set_yticks(range(len(sizes)), [f"{size:,}" for size in sizes], fontsize=7)
        place.set_title(name, fontsize=9.5)
        place.set_xlabel("examples", fontsize=8)
        place.set_facecolor("lightgrey")
    figure.axes[0].set_ylabel("parameters", fontsize=8)
    return figure
