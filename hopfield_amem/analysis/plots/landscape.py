"""Figures of landscapes: energies on a plane, over basins of attraction."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..depth import Depth
from ..landscape import FixedPoints, Landscape, Paths
from . import base


def landscapes(panels: Mapping[str, Landscape], images: Tensor, title: str) -> Figure:
    """Energy contours over basins of attraction.

    Images (n, h, w) of the patterns stand where they project to, framed in the colour of their basin.
    """
    across = min(2, len(panels))
    figure = Figure(figsize=(5.2 * across + 0.6, 4.7 * math.ceil(len(panels) / across) + 0.9), layout="constrained")
    axes = figure.subplots(math.ceil(len(panels) / across), across, squeeze=False).flatten()
    for place, (name, field) in zip(axes, panels.items(), strict=False):
        _landscape(place, field, images)
        place.set(xlabel="first principal component", ylabel="second principal component")
        place.set_title(name, fontsize=10)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    figure.suptitle(title, fontsize=12)
    return figure


def _landscape(place, field: Landscape, images: Tensor) -> None:
    count = len(field.patterns)
    palette = _palette(count)
    x, y = field.horizontal.numpy(), field.vertical.numpy()
    place.pcolormesh(
        x, y, field.basin.numpy() + 1, cmap=ListedColormap(["white", *palette]), vmin=-0.5, vmax=count + 0.5, alpha=0.45, shading="nearest", rasterized=True
    )
    _borders(place, x, y, field.basin.numpy())
    _contours(place, field)
    for point, image, colour in zip(field.patterns.numpy(), images.numpy(), palette, strict=True):
        thumbnail = OffsetImage(image, cmap="gray_r", zoom=2.1, interpolation="nearest")
        place.add_artist(AnnotationBbox(thumbnail, tuple(point), pad=0.15, bboxprops={"linewidth": 2.5, "edgecolor": colour}))
    place.set_aspect("equal")


def surface(field: Landscape, paths: Paths | None = None) -> Figure:
    """Contours of E over the basins of its attractors (stars; stored patterns are numbered squares), with descents from their dots on."""
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    place = figure.subplots()
    x, y, count = field.horizontal.numpy(), field.vertical.numpy(), len(field.rest)
    palette = _palette(count)
    owner = field.attractor.numpy()
    place.pcolormesh(x, y, owner + 1, cmap=ListedColormap(["white", *palette]), vmin=-0.5, vmax=count + 0.5, alpha=0.35, shading="nearest", rasterized=True)
    _borders(place, x, y, owner)
    _contours(place, field)
    for path in () if paths is None else paths.coordinates.transpose(0, 1).numpy():
        place.plot(*path.T, color="black", linewidth=1.1)
        place.plot(*path[0], color="black", marker="o", markersize=4)
    place.scatter(*field.rest.numpy().T, marker="*", s=110, facecolor="gold", edgecolor="black", linewidth=0.8, zorder=3)
    for number, point in enumerate(field.patterns.numpy()):
        place.plot(*point, color="black", marker="s", markersize=3.5, zorder=4)
        place.annotate(str(number), point, (5, 5), textcoords="offset points", fontsize=8)
    place.set(xlabel="first direction of the plane", ylabel="second direction of the plane", aspect="equal", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    place.set_title("energy (contours, dark is low) and basins of its attractors (★)\nwhite: no attractor is reached", fontsize=10)
    return figure


def fixed_points(found: FixedPoints) -> Figure:
    """Depth of every fixed point against how many starts it drew: minima as dots, saddles as crosses, coloured by the distance to a stored pattern."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    place = figure.subplots()
    saddle = np.zeros(len(found.state), bool) if found.curvature is None else (found.negative() > 0).numpy()
    limits = {"vmin": 0.0, "vmax": max(float(found.distance.max()), 1e-12) if len(saddle) else 1.0, "cmap": "cividis"}
    for kind, marker, name in ((~saddle, "o", "minimum"), (saddle, "X", "saddle")):
        if kind.any():
            points = found.count.numpy()[kind], found.energy.numpy()[kind]
            drawn = place.scatter(*points, c=found.distance.numpy()[kind], marker=marker, s=55, edgecolor="black", linewidth=0.6, label=name, **limits)
    if len(saddle):
        figure.colorbar(drawn, ax=place, label="distance to the nearest stored pattern")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    place.set(xlabel="starts that came to rest there", ylabel="energy E(x)", xscale="log")
    place.set_title(f"{len(saddle)} fixed points", fontsize=10)
    place.grid(alpha=0.25)
    return figure


def energy_by_layer(depth: Depth) -> Figure:
    """Energy of the queries in every layer, median and quartiles, and the share whose nearest pattern is their own."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    place = figure.subplots()
    low, middle, high = np.quantile(depth.energy.numpy(), (0.25, 0.5, 0.75), axis=1)
    layers = np.arange(len(middle))
    place.fill_between(layers, low, high, color=base.COLOURS[0], alpha=0.25, linewidth=0, label="quartiles")
    place.plot(layers, middle, color=base.COLOURS[0], marker=base.MARKERS[0], label="median energy")
    place.set(xlabel="layer", ylabel="distance energy in units of the patterns' spacing")
    place.xaxis.set_major_locator(MaxNLocator(integer=True))
    place.grid(alpha=0.25)
    if depth.identified is not None:
        other = place.twinx()
        other.plot(layers, depth.identified.numpy(), color=base.COLOURS[1], marker=base.MARKERS[1], linestyle="--", label="own pattern nearest")
        other.set(ylabel="share of queries", ylim=(-0.02, 1.02))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def _palette(count: int) -> list:
    """Colours, again from the first where there are more than eight: borders tell neighbours apart."""
    return [to_rgba(base.COLOURS[i % len(base.COLOURS)]) for i in range(count)]


def _borders(place, x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> None:
    for k in np.unique(owner) if np.ptp(owner) else ():
        place.contour(x, y, owner == k, levels=[0.5], colors="black", linewidths=0.7)


def _contours(place, field: Landscape) -> None:
    energy = np.ma.masked_invalid(field.energy.numpy())
    if energy.count() and energy.max() > energy.min():
        lines = place.contour(field.horizontal.numpy(), field.vertical.numpy(), energy, levels=14, cmap="Greys_r", linewidths=0.9)
        place.clabel(lines, lines.levels[::3], fontsize=6.5, fmt="%.2f")
