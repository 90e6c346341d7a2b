"""Figures of a transformer as a layered memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .base import COLOURS, MARKERS

if TYPE_CHECKING:
    from ..memory_model import Balance, DataSelection, PatternRadius, UnitPartition

DASHES = ("-", "--", ":", "-.")


def _axes(horizontal: str, vertical: str, size: tuple[float, float] = (6.4, 4.4)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    place = figure.subplots()
    place.set(xlabel=horizontal, ylabel=vertical)
    place.grid(alpha=0.25)
    return figure, place


def patterns_needed(found: UnitPartition) -> Figure:
    """Patterns that make the partition function one, against the dimension of a pattern: exactly, and from each bound."""
    figure, place = _axes("dimension of a pattern n", "patterns d at which Z = 1")
    at_reference = all(math.isclose(r, math.sqrt(n / (2 * math.pi * math.e)), rel_tol=1e-9) for n, r in zip(found.dims, found.radii, strict=True))
    upper = "upper bound: √(πn)" if at_reference else "upper bound: 1/V_n(r)"
    columns = {"exact": found.log_exact, "lower bound": found.log_lower, "lower bound as printed": found.log_printed, upper: found.log_upper}
    for (name, logs), colour, marker, dash in zip(columns.items(), COLOURS, MARKERS, DASHES, strict=False):
        place.plot(found.dims, np.array(logs) / math.log(10), color=colour, marker=marker, linestyle=dash, label=name, markersize=5)
    place.set(xscale="log", yscale="log")
    place.yaxis.set_major_formatter(lambda exponent, _: f"$10^{{{exponent:g}}}$")
    place.legend(frameon=False)
    return figure


def nearest_distances(found: PatternRadius) -> Figure:
    """How distances to nearest neighbours are distributed, in growing samples, and twice the reference radius."""
    figure, place = _axes("distance to the nearest activation", "density")
    top = max(float(distances.max()) for distances in found.distances) or 1.0
    edges = np.linspace(0, 1.02 * max(top, 2 * found.reference), 61)
    for distances, count, colour, dash in zip(found.distances, found.counts, COLOURS, DASHES * len(found.counts), strict=False):
        place.hist(distances.numpy(), edges.tolist(), density=True, histtype="step", color=colour, linestyle=dash, linewidth=1.8, label=f"{count} activations")
    place.axvline(2 * found.reference, color="black", linewidth=1.2, label="2√(n/2πe)")
    place.legend(frameon=False)
    return figure


def balance(found: Balance) -> Figure:
    """Parameters against data on logarithmic axes, the fit, and lines of the exponents that theory allows."""
    figure, place = _axes("data D, tokens", "parameters N")
    draw_balance(place, found)
    return figure


def draw_balance(place: Axes, found: Balance) -> None:
    """The same on axes that are there."""
    data, parameters = np.array(found.data), np.array(found.parameters)
    middle = np.exp(np.log(data).mean()), np.exp(np.log(parameters).mean())
    x = np.geomspace(data.min() / 1.2, data.max() * 1.2, 20)
    for exponent, colour, dash in zip((1, 2, 4), COLOURS[1:], ("--", "-.", ":"), strict=False):
        place.plot(x, middle[1] * (x / middle[0]) ** exponent, color=colour, linestyle=dash, label=f"N ∝ D^{exponent}")
    if found.fit is not None:
        place.plot(x, found.fit(x), color=COLOURS[0], linewidth=2, label=f"fit: k = {found.fit.exponent:.2f}")
    place.plot(data, parameters, color="black", marker="o", linestyle="")
    place.set(xscale="log", yscale="log")
    place.legend(frameon=False)


def selection(found: DataSelection) -> Figure:
    """The error of every data size, the threshold, and the size that is chosen."""
    figure, place = _axes("data D", "MSE of training loss and least validation loss")
    place.plot(found.sizes, found.errors, color=COLOURS[0], marker="o")
    place.axhline(found.threshold, color=COLOURS[1], linestyle="--", label="σ²")
    if found.chosen is not None:
        place.plot([found.chosen], [found.errors[found.sizes.index(found.chosen)]], color="black", marker="s", markersize=9, fillstyle="none", label="D*")
    place.legend(frameon=False)
    return figure
