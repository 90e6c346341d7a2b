"""What all figures share: colours and markers that everyone can tell apart, panels, one legend, and a file written whole or not at all."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..result import write

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")  # Okabe & Ito 2008, legible to colour-blind readers
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # one to a colour, so that curves differ in print, too
ACROSS = 5  # entries of a legend in one line


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG at 150 dpi. An interrupted write leaves an older file untouched."""
    drawn = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(drawn, format="png", dpi=150)
    return write(Path(path), drawn.getvalue())


def panels(count: int) -> tuple[Figure, list]:
    """A figure of small multiples, five to a row, without the panels that nothing fills."""
    across = min(5, count)
    down = math.ceil(count / across)
    figure = Figure(figsize=(max(2.7 * across, 6.5) + 0.4, 2.25 * down + 1.3), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for place in axes[count:]:
        place.remove()
    return figure, list(axes[:count])


def finish(figure: Figure, panels: list, title: str, labels: tuple[str, str], key: tuple[list, list[str]], *, across: int = ACROSS) -> None:
    """Title, names of the axes (horizontal, vertical), and one legend (handles, texts) below all panels, so many entries in a line."""
    figure.suptitle(title, fontsize=13)
    figure.supylabel(labels[1], fontsize=10)
    for place in panels[-min(5, len(panels)) :]:
        place.set_xlabel(labels[0], fontsize=9)
    figure.legend(*key, loc="outside lower center", ncols=min(len(key[0]), across), fontsize=9, frameon=False)
