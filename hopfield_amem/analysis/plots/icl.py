"""Figures of in-context learning as the context grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from . import base

if TYPE_CHECKING:
    from ..icl import InContextUpdates

DASHES = ("-", "--", "-.", ":")


def updates(found: InContextUpdates) -> Figure:
    """``‖ΔW_t‖`` against t, one panel per memory, each curve beside the claim of 1/t through its middle; titles say whether it holds."""
    names = list(dict.fromkeys(curve.memory for curve in found.curves))
    shapes = list(dict.fromkeys((curve.width, curve.heads) for curve in found.curves))
    styles: dict = {shape: {"color": base.COLOURS[i % 7], "marker": base.MARKERS[i % 7], "linestyle": DASHES[i % 4]} for i, shape in enumerate(shapes)}
    figure, panels = base.panels(len(names))
    for place, name in zip(panels, names, strict=True):
        curves = [curve for curve in found.curves if curve.memory == name]
        for curve in curves:
            times, mean = curve.times.numpy(), curve.update.mean(0).numpy()
            if curve.fit is None:
                mean = np.where(mean > 0, mean, np.nan)  # a logarithmic axis has no place for them
            place.plot(times, mean, markersize=3.5, linewidth=1.4, **styles[curve.width, curve.heads])
            if curve.fit is None:
                continue
            middle = np.exp(np.log(mean * times).mean())
            place.plot(times, middle / times, color="black", linestyle=(0, (1, 1)), linewidth=1)
        exponents = [curve.fit.exponent for curve in curves if curve.fit is not None]
        place.set_title(f"{name}: {_verdict([curve.verdict for curve in curves])}\nexponent {_range(exponents)}", fontsize=9)
        moves = any(bool((curve.update > 0).any()) for curve in curves)
        place.set(xscale="log", yscale="log" if moves else "linear")
        place.xaxis.set_minor_formatter(NullFormatter())
        place.grid(alpha=0.25)
        place.tick_params(which="both", labelsize=8)
    key = [Line2D([], [], markersize=4, **styles[shape]) for shape in shapes] + [Line2D([], [], color="black", linestyle=(0, (1, 1)))]
    texts = [f"width {width}, {heads} head{'s' * (heads > 1)}" for width, heads in shapes]
    base.finish(figure, panels, "What token t changes in the memory", ("token t", "update ‖ΔW_t‖ at the probes"), (key, [*texts, "the claim, 1/t"]), across=3)
    return figure


def _verdict(verdicts: list[str]) -> str:
    counts = {"as 1/t": verdicts.count("yes"), "not": verdicts.count("no"), "unclear": verdicts.count("unclear"), "no law": verdicts.count("no law")}
    said = [(name, count) for name, count in counts.items() if count]
    return {"not": "not as 1/t"}.get(said[0][0], said[0][0]) if len(said) == 1 else ", ".join(f"{count} {name}" for name, count in said)


def _range(exponents: list[float]) -> str:
    if not exponents:
        return "–"
    low, high = (f"{value:.2f}".replace("-", "−") for value in (min(exponents), max(exponents)))
    return low if low == high else f"{low} to {high}"
