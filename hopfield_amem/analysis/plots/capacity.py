"""Figures of capacities, and of what guards the stored patterns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from .base import COLOURS, MARKERS

if TYPE_CHECKING:
    from ..capacity.certificates import Basins, Separation
    from ..capacity.comparison import Comparison
    from ..capacity.measurement import Measurement
    from ..capacity.states import Census, SpuriousStates

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))
DRAWN = 640.0  # logarithm of the largest number that an axis takes, with its margin


def comparison(found: Comparison) -> Figure:
    """Capacity against dimension on a logarithmic axis: bounds, estimate, and measurements with their intervals."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for j, (name, estimates) in enumerate(found.series.items()):
        there = [(d, e) for d, e in zip(found.dims, estimates, strict=True) if e is not None and e.log_value is not None and -math.inf < e.log_value < DRAWN]
        dims, values = [d for d, _ in there], [math.exp(e.log_value or 0.0) for _, e in there]
        law = f", ∝ {found.growth[name]}" if name in found.growth else "" if there else ": nothing that an axis holds"
        style = {"color": COLOURS[j % len(COLOURS)], "marker": MARKERS[j % len(MARKERS)], "linestyle": DASHES[j % len(DASHES)]}
        axes.plot(dims, values, label=name + law, markersize=5, **style)
        for (d, estimate), value in zip(there, values, strict=True):
            if estimate.interval is not None and estimate.kind == "measured":
                low, high = estimate.interval
                beyond = 10 * value if high == math.inf else high  # open above: an arrow
                reach = [[max(0.0, value - low)], [max(0.0, beyond - value)]]
                axes.errorbar(d, value, reach, color=style["color"], capsize=3, lolims=high == math.inf)
    axes.set_yscale("log")
    axes.set(xlabel="dimension d", ylabel="stored patterns N")
    axes.set_xticks(found.dims)
    axes.grid(alpha=0.25)
    axes.set_title(f"{found.energy}\n{found.task}", fontsize=9)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False)
    return figure


def measurement(found: Measurement) -> Figure:
    """The rates that a capacity was found from, against the load, with their intervals; the capacity's interval shaded."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    below = [rate - low for rate, (low, _) in zip(found.rates, found.intervals, strict=True)]
    above = [high - rate for rate, (_, high) in zip(found.rates, found.intervals, strict=True)]
    axes.errorbar(found.loads, found.rates, [np.maximum(below, 0), np.maximum(above, 0)], fmt="o-", color=COLOURS[0], capsize=3, markersize=4, label="measured")
    axes.axhline(found.required, color=COLOURS[1], linestyle="--", linewidth=1.2, label="asked for")
    low, high = found.estimate.interval or (0.0, math.inf)
    axes.axvspan(max(low, 0.5), min(high, 2 * max(found.loads)), color=COLOURS[2], alpha=0.2, label="capacity")
    axes.set_xscale("log")
    axes.set(xlabel="stored patterns N", ylabel=f"rate of success: {found.estimate.success}", ylim=(-0.03, 1.03))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    return figure


def separation(found: Separation) -> Figure:
    """Δ of every stored pattern in ascending order, the threshold above which it is stored, and the error bound of one step."""
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    order = found.delta.argsort()
    rank = np.arange(1, len(order) + 1)
    left.plot(rank, found.delta[order].numpy(), "o-", color=COLOURS[0], markersize=3, label="Δ of a pattern")
    if math.isfinite(found.threshold):
        left.axhline(found.threshold, color=COLOURS[1], linestyle="--", label="stored above")
    left.set(xlabel="pattern, in order of Δ", ylabel="separation Δ")
    left.legend(fontsize=8, frameon=False)
    right.plot(rank, found.error[order].double().clamp_min(1e-300).numpy(), "s--", color=COLOURS[2], markersize=3)
    right.set_yscale("log")
    right.set(xlabel="pattern, in order of Δ", ylabel="bound on the error of one step")
    return figure


def basins(found: Basins) -> Figure:
    """How much damage is borne: the share of patterns and directions recovered, against the damage, for the mean direction and the worst."""
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    curves = (("a direction", found.radius.flatten()), ("a pattern's worst direction", found.radius.amin(-1)))
    for j, (name, radius) in enumerate(curves):
        damage = radius.sort().values.numpy()
        axes.step(damage, 1 - np.arange(len(damage)) / len(damage), where="post", color=COLOURS[j], linestyle=DASHES[j], label=name)
    axes.set(xlabel=f"damage: {found.unit}", ylabel="share recovered", ylim=(0, 1.03))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    return figure


def census(found: Census) -> Figure:
    """How many patterns are mixed where descents rest."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    sizes, counts = found.sizes.unique(return_counts=True)
    axes.bar(np.arange(len(sizes)), (counts / len(found.sizes)).numpy(), color=COLOURS[0])
    axes.set_xticks(np.arange(len(sizes)), [str(int(size)) for size in sizes], fontsize=8)
    axes.set(xlabel=f"patterns that hold {found.mass:.0%} of the weight, of {found.patterns}", ylabel="share of descents")
    return figure


def spurious(found: SpuriousStates) -> Figure:
    """Where descents come to rest: at stored patterns, their negatives, mixtures, other states."""
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes = figure.subplots()
    shares = found.shares
    bars = axes.barh(list(shares)[::-1], list(shares.values())[::-1], color=COLOURS[0])
    axes.bar_label(bars, [f"{share:.1%}" for share in list(shares.values())[::-1]], padding=2, fontsize=8)
    axes.set(xlabel="share of descents", xlim=(0, 1.15))
    return figure
