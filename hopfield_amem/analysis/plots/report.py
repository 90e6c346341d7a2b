"""Figures of the report on memorization: each chart narrow enough for a phone, and all of them in one picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from textwrap import fill
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter

from ..memorization.laws import LITERATURE
from ..memorization.reporting.bounds import short
from ..memorization.reporting.rules import BINDINGS
from .base import COLOURS, MARKERS
from .memory_model import draw_balance

if TYPE_CHECKING:
    from ..memorization.reporting.report import MemorizationReport
    from ..memorization.reporting.sizes import ModelSize, Study

SIZE = (3.6, 4.5)  # inches: on a phone of 360 pixels 8 points are about 9 pixels
LOOKS = {"data": ("o", COLOURS[0]), "capacity": ("s", COLOURS[1]), "structure": ("D", COLOURS[2]), "training": ("^", COLOURS[3])}
DASHES = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
SMALL = 8


@dataclass(frozen=True)
class Chart:
    """One chart of a page: its caption, what it shows in words for those who do not see it, and how it is drawn."""

    title: str
    words: str
    draw: Callable[[Axes], None]

    def svg(self) -> str:
        """The chart as an SVG document, the same for the same numbers."""
        figure = Figure(figsize=SIZE, layout="constrained")
        self.draw(figure.subplots())
        with matplotlib.rc_context({"svg.hashsalt": "hopfield_amem", "svg.fonttype": "path"}):
            FigureCanvasSVG(figure).print_svg(text := StringIO(), metadata={"Date": None, "Creator": None})
        document = text.getvalue()
        return document[document.index("<svg") :]  # without a document type, which names an address


def charts(study: Study) -> Iterator[Chart]:
    """All charts of one kind of run."""
    words = "; ".join(f"{size.name}: at most {short(size.capacity)} bits, {size.bits_per_parameter:.2f} per parameter" for size in study.sizes)
    title = "Memorised bits per parameter against bits of data per parameter"
    yield Chart(title, f"Every model size in one chart. {words}.", lambda place: per_parameter(place, study))
    for size in study.sizes:
        lines = "; ".join(f"{name}: {short(bits)} bits" for name, bits in size.bounds.items())
        held = ", ".join(f"{short(point.memorised)} of {short(point.data_bits)}" for point in size.points)
        text = f"Bits memorised of the bits of data: {held}. Lines: most memorised, {short(size.capacity)} bits; {lines}."
        yield Chart(f"{size.name}: memorised bits against data bits", text, lambda place, size=size: memorised(place, size))
    for name, measure in (("Training loss", "training"), ("Validation loss", "validation")):
        values = [value for size in study.sizes for point in size.points if (value := getattr(point, measure)) is not None]
        if values:
            text = f"{name} in nats per token, from {min(values):.3g} to {max(values):.3g}, over {len(study.sizes)} model sizes and their data sizes."
            yield Chart(f"{name} over model size and data size", text, lambda place, measure=measure: surface(place, study, measure))
    if study.balance is not None:
        pairs = "; ".join(f"{short(n)} parameters at {short(d)} tokens" for n, d in zip(study.balance.parameters, study.balance.data, strict=True))
        yield Chart(f"Model–data balance: parameters against the {study.balanced}", f"{pairs}.", lambda place: balance(place, study))


def per_parameter(place: Axes, study: Study) -> None:
    """All model sizes, both axes divided by their parameters: one curve, where capacity is a number of bits per parameter."""
    for turn, size in enumerate(study.sizes):
        x, y = (np.array([getattr(point, name) for point in size.points]) / size.parameters for name in ("data_bits", "memorised"))
        place.plot(x, y, color=COLOURS[turn % len(COLOURS)], marker=MARKERS[turn % len(MARKERS)], markersize=5, linewidth=1.3, label=size.name)
    reach = np.array([point.data_bits / size.parameters for size in study.sizes for point in size.points])
    place.plot(ends := [reach.min(), reach.max()], ends, color="black", linestyle=":", linewidth=1, label="all of the data")
    place.axhspan(*LITERATURE, color="#767676", alpha=0.6, linewidth=2, label=f"literature, {LITERATURE[0]}–{LITERATURE[1]}")
    if study.capacity is not None:
        low, high = study.capacity.interval or (study.capacity.value,) * 2
        place.axhline(study.capacity.value, color="black", linewidth=1.2, label=f"measured, {study.capacity.value:.2f}")
        place.axhspan(low, high, color="black", alpha=0.12, linewidth=0)
    _dress(place, "bits of data per parameter", "memorised bits per parameter", 1 + (len(study.sizes) > 5))


def memorised(place: Axes, size: ModelSize) -> None:
    """One model size: every data size with its sign, and the lines of its capacity."""
    x = np.array([point.data_bits for point in size.points])
    place.plot(x, [point.memorised for point in size.points], color="#555555", linewidth=1.2, zorder=2)
    for binds, (marker, colour) in LOOKS.items():
        mine = [point for point in size.points if point.binds == binds]
        if mine:
            ranges = np.array([[point.memorised - point.low, point.high - point.memorised] for point in mine]).T
            data, bits = [point.data_bits for point in mine], [point.memorised for point in mine]
            place.errorbar(data, bits, ranges, fmt=marker, color=colour, markersize=6, capsize=2, label=BINDINGS[binds], zorder=3)
    place.plot(ends := [x.min(), x.max()], ends, color="black", linestyle=":", linewidth=1, label="all of the data")
    place.axhline(size.capacity, color="black", linewidth=1.3, label=f"most memorised: {size.bits_per_parameter:.2f} a parameter")
    low, high = (ratio * size.parameters for ratio in LITERATURE)
    place.axhspan(low, high, color="#767676", alpha=0.6, linewidth=2, label=f"literature: {LITERATURE[0]}–{LITERATURE[1]} a parameter")
    for (name, bits), dash, colour in zip(size.bounds.items(), DASHES, (COLOURS[0], COLOURS[2], COLOURS[1]), strict=False):
        place.axhline(bits, color=colour, linestyle=dash, linewidth=1.4, label=name)
    _dress(place, "bits of data", "memorised bits")


def surface(place: Axes, study: Study, measure: str) -> None:
    """A loss over model size and data size, every cell with its number."""
    given = sorted({point.data_bits for size in study.sizes for point in size.points})
    grid = np.full((len(study.sizes), len(given)), np.nan)
    for row, size in enumerate(study.sizes):
        for point in size.points:
            value = getattr(point, measure)
            grid[row, given.index(point.data_bits)] = np.nan if value is None else value
    shown = np.ma.masked_invalid(grid)
    place.set_facecolor("#d9d9d9")
    image = place.imshow(shown, origin="lower", aspect="auto", cmap="cividis")
    middle = float(shown.min() + shown.max()) / 2
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value) and len(given) <= 10:
            place.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=SMALL - 1, color="white" if value < middle else "black")
    step = max(1, len(given) // 8)
    place.set_xticks(range(0, len(given), step), [short(bits) for bits in given[::step]], fontsize=SMALL, rotation=45)
    place.set_yticks(range(len(study.sizes)), [short(size.parameters) for size in study.sizes], fontsize=SMALL)
    place.set_xlabel("bits of data", fontsize=9)
    place.set_ylabel("parameters", fontsize=9)
    bar = place.figure.colorbar(image, ax=place, location="bottom")
    bar.set_label(f"{measure} loss, nats per token", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def balance(place: Axes, study: Study) -> None:
    """Parameters against the best data size, with the exponents that theory allows."""
    if study.balance is not None:
        draw_balance(place, study.balance)
        place.set_xlabel(f"{study.balanced}, tokens", fontsize=9)
        place.set_ylabel("parameters N", fontsize=9)
        place.grid(alpha=0.25)
        place.tick_params(which="both", labelsize=SMALL)
        place.tick_params(axis="x", which="both", rotation=45)


def whole(found: MemorizationReport) -> Figure:
    """Every chart of every kind of run, a band for each kind."""
    bands = [(study.name, list(charts(study))) for study in found.studies]
    across = max(min(4, len(band)) for _, band in bands)
    heights = [-(-len(band) // across) for _, band in bands]
    figure = Figure(figsize=(SIZE[0] * across, (SIZE[1] + 0.3) * sum(heights) + 0.4 * len(bands)), layout="constrained")
    parts = figure.subfigures(len(bands), 1, height_ratios=heights, squeeze=False)[:, 0]
    for (name, band), part in zip(bands, parts, strict=True):
        _band(part, name, band, across)
    return figure


def _band(part: SubFigure, name: str, band: list[Chart], across: int) -> None:
    part.suptitle(name, fontsize=13)
    places = part.subplots(-(-len(band) // across), across, squeeze=False).flatten()
    for place, chart in zip(places, band, strict=False):
        chart.draw(place)
        place.set_title(fill(chart.title, 40), fontsize=9)
    for place in places[len(band) :]:
        place.remove()


def _dress(place: Axes, horizontal: str, vertical: str, columns: int = 1) -> None:
    place.set(xscale="log", yscale="log")
    place.set_xlabel(horizontal, fontsize=9)
    place.set_ylabel(vertical, fontsize=9)
    place.tick_params(labelsize=SMALL)
    for axis in (place.xaxis, place.yaxis):
        axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    place.grid(alpha=0.25)
    place.legend(fontsize=SMALL, frameon=False, loc="upper center", bbox_to_anchor=(0.42, -0.16), ncols=columns, columnspacing=1.0, handlelength=1.8)
