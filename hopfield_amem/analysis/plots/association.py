"""Figures of a transformer read as memories."""

from __future__ import annotations

import numpy as np
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from ..association import CLASSES
from ..inspection import NUMERALS, FeedForwards, Heads, Inspection
from .base import COLOURS

KINDS = ("#E69F00", "#F0E442", "#56B4E9", "#0072B2")  # classes I to IV, Okabe & Ito 2008: warm averages, cold retrieves
CROWDED = 24  # heads or layers beyond which numerals no longer fit their cells


def association_heads(inspection: Inspection, title: str = "Attention heads and feed-forward blocks, read as memories") -> Figure:
    """Four maps, layers × heads, of what the heads retrieve; below, bars of how many of their slots the feed-forward blocks use.

    The maps: effective number of slots, class of the metastable state (Ramsauer et al. 2020, arXiv 2008.02217), weight on the first token and on
    what is no slot, margin. Cells without a head, or without a query that counts, are grey.

    Raises:
        ValueError: an inspection without heads.
    """
    heads, blocks = inspection.heads, inspection.feed_forwards
    if not heads.layers:
        raise ValueError("This inspection has no attention heads to draw. Print it: the feed-forward blocks are in its table.")
    layers, count = heads.effective.shape
    high, wide = 1.5 + 0.2 * min(max(layers, 6), 48), max(3.3, 0.5 + 0.2 * min(count, 48))
    figure = Figure(figsize=(4 * wide, high + (2.1 if blocks.blocks else 0.2)), layout="constrained")
    parts = figure.subfigures(2 if blocks.blocks else 1, 1, height_ratios=(high, 1.9) if blocks.blocks else (1,), squeeze=False)[:, 0]
    _maps(parts[0], heads)
    if blocks.blocks:
        _usage(parts[1].subplots(), blocks)
    figure.suptitle(title, fontsize=13)
    return figure


def _maps(part, heads: Heads) -> None:
    effective, classes, sink, margin = part.subplots(1, 4)
    most, top = (float(x.nan_to_num().max()) for x in (heads.visible, heads.margin))
    bar = _map(part, effective, heads.effective, LogNorm(1, max(2.0, most)), f"slots, logarithmic; a query sees {most:.3g} on average")
    bar.ax.xaxis.set_major_formatter("{x:g}")
    _map(part, sink, heads.first + heads.null, Normalize(0, 1), "share of the weight")
    _map(part, margin, heads.margin, PowerNorm(0.5, 0, top or 1.0), "βΔ, median of the queries; square-root scale")
    _classes(part, classes, heads.kind)
    outside = " or a sink" if heads.null.nan_to_num().max() > 0 else ""
    titles = ("effective number of slots, 1/Σp²", "class of the metastable state", f"weight on the first token{outside}", "margin, nearest to second nearest")
    for place, title in zip((effective, classes, sink, margin), titles, strict=True):
        place.set_facecolor("lightgrey")
        place.set_title(title, fontsize=9.5)
        place.set_xlabel("head", fontsize=8, labelpad=1)
        _whole(place.xaxis, place.yaxis)
    effective.set_ylabel("layer", fontsize=8)


def _map(part, place, values: Tensor, norm: Normalize, unit: str) -> Colorbar:
    """One map with its scale below."""
    image = place.imshow(np.ma.masked_invalid(values.numpy()), cmap="viridis", norm=norm, aspect="auto", interpolation="nearest")
    bar = part.colorbar(image, ax=place, location="bottom", pad=0.02, aspect=28)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    return bar


def _classes(part, place, kinds: Tensor) -> None:
    colours, norm = ListedColormap(KINDS), BoundaryNorm(np.arange(0.5, 5), 4)
    image = place.imshow(np.ma.masked_equal(kinds.numpy(), 0), cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    bar = part.colorbar(image, ax=place, location="bottom", pad=0.02, aspect=28, ticks=list(CLASSES))
    bar.ax.tick_params(labelsize=7.5, length=0)
    bar.ax.set_xticklabels(["I  k > N/2\nall, average", "II  k > N/8\nmany", "III  k > N/32\nsome", "IV  fewer\nfew, one"])
    bar.set_label("k of N slots hold 90 % of the weight; median query", fontsize=8)
    if max(kinds.shape) <= CROWDED:
        for (layer, head), kind in np.ndenumerate(kinds.numpy()):
            place.text(head, layer, NUMERALS[int(kind)], ha="center", va="center", fontsize=6.5, color="white" if kind == 4 else "black")


def _whole(*axes) -> None:
    """Ticks at whole numbers only."""
    for axis in axes:
        axis.set_tick_params(labelsize=7.5)
        axis.get_major_locator().set_params(integer=True)


def _usage(place, blocks: FeedForwards) -> None:
    shares = {
        "active at a token": blocks.active,
        "effective number at a token, (Σ|a|)²/Σa²": blocks.effective / blocks.slots,
        "never active at any token": blocks.dead,
    }
    number = np.arange(len(blocks.blocks))
    for j, ((name, share), colour) in enumerate(zip(shares.items(), COLOURS, strict=False)):
        bars = place.bar(number + 0.27 * (j - 1), share.numpy(), 0.25, label=name, color=colour)
        if len(number) <= CROWDED / 2:
            place.bar_label(bars, [f"{x:.2g} %" for x in (100 * share).tolist()], fontsize=7, padding=1)
    sizes = sorted(set(blocks.slots.tolist()))
    place.set_title(f"feed-forward blocks, {sizes[0]}{f' to {sizes[-1]}' * (len(sizes) > 1)} slots each", fontsize=9.5)
    place.set(ylim=(0, 1.12), xlim=(-0.6, len(number) - 0.4))
    place.set_xlabel("block", fontsize=8, labelpad=1)
    place.set_ylabel("share of the slots", fontsize=8)
    place.tick_params(labelsize=7.5)
    _whole(place.xaxis)
    place.grid(axis="y", alpha=0.25)
    place.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
