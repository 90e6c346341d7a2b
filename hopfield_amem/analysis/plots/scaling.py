"""Figures of the scaling laws of associative memories: errors against width and data, exponents, association maps, learning."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..scaling.dynamics import Dynamics
from ..scaling.exponents import Exponents, Finding
from ..scaling.learning import Learned
from ..scaling.maps import AssociationMaps
from ..scaling.paths import LearningPaths
from ..scaling.sweep import Sweep
from .base import COLOURS, MARKERS, finish, panels

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))
CROWDED = 24  # inputs from which on an association map names only some of them


def recall_errors(found: Sweep) -> Figure:
    """Error against d, a panel for each amount of data: means with two standard errors, the fitted law, and the closed form where there is one."""
    figure, places = panels(len(found.tokens))
    for place, amount in zip(places, found.tokens, strict=True):
        for turn, name in enumerate(found.schemes):
            _scheme(place, found, (name, amount), turn)
        place.set(xscale="log", yscale="log")
        place.set_title("all data" if amount is None else f"T = {amount:,}", fontsize=10)
        place.grid(alpha=0.25, which="both")
        place.tick_params(labelsize=8)
    key = [Line2D([], [], color=_colour(turn), marker=_marker(turn), linestyle="", markersize=5) for turn in range(len(found.schemes))]
    names = list(found.schemes)
    if found.laws:
        key, names = [*key, Line2D([], [], color="black", linestyle="-")], [*names, "fitted power law"]
    if bool(found.predicted.isfinite().any()):
        key, names = [*key, Line2D([], [], color="black", linestyle=":")], [*names, "closed form"]
    task = found.task
    finish(figure, places, f"N = {task.inputs:,}, M = {task.classes:,}, α = {task.alpha:g}", ("width d", "recall error"), (key, names))
    return figure


def _scheme(place, found: Sweep, which: tuple[str, int | None], turn: int) -> None:
    """One scheme in one panel. An error of 0 has no place on a logarithmic axis and is left out."""
    name, amount = which
    errors = found.errors[found.schemes.index(name), found.tokens.index(amount)].numpy()
    dims, mean = np.array(found.dims, dtype=float), errors.mean(-1)
    spread = 2 * errors.std(-1, ddof=1) / errors.shape[-1] ** 0.5 if errors.shape[-1] > 1 else np.zeros_like(mean)
    there = mean > 0
    low = np.minimum(spread, 0.9 * mean)
    place.errorbar(
        dims[there], mean[there], (low[there], spread[there]), color=_colour(turn), marker=_marker(turn), markersize=4, linestyle="", capsize=2, linewidth=1
    )
    if which in found.laws:
        place.plot(dims, found.laws[which](dims), color=_colour(turn), linewidth=1)
    predicted = found.predicted[found.schemes.index(name)].numpy()
    if amount is None and np.isfinite(predicted).any():
        place.plot(dims, np.where(predicted > 0, predicted, np.nan), color=_colour(turn), linestyle=":", linewidth=1.6)


def exponent_fits(found: Exponents) -> Figure:
    """Measured exponents with their intervals beside those of theory, one row each."""
    figure = Figure(figsize=(8.5, 0.32 * len(found.findings) + 1.4), layout="constrained")
    place = figure.subplots()
    for height, row in enumerate(reversed(found.findings)):
        _finding(place, row, height)
    place.set_yticks(range(len(found.findings)), [row.name for row in reversed(found.findings)], fontsize=8)
    place.set_xlabel("exponent s of error ∝ d^−s or T^−s")
    place.grid(alpha=0.25, axis="x")
    key = [Line2D([], [], color=COLOURS[0], marker="o", linestyle="-"), Line2D([], [], color=COLOURS[1], marker="|", markersize=12, linestyle="")]
    figure.legend(key, ["fitted, 95 % interval", "theory"], loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def _finding(place, row: Finding, height: int) -> None:
    low, high = -row.law.interval[1], -row.law.interval[0]
    place.plot([low, high], [height, height], color=COLOURS[0], linewidth=1.5)
    place.plot([-row.law.exponent], [height], color=COLOURS[0], marker="o", markersize=5, linestyle="")
    place.plot([row.theory.value], [height], color=COLOURS[1], marker="|", markersize=14, markeredgewidth=2, linestyle="")


def association_heat_maps(maps: AssociationMaps) -> Figure:
    """``softmax_y(u_yᵀ W e_x)`` before and after, one scale; the pairs that were seen are framed, dots mark the right class."""
    figure = Figure(figsize=(9, 1.2 + 0.45 * maps.task.classes), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for place, chart, name in zip(axes, (maps.before, maps.after), ("before", f"after {len(maps.seen):,} tokens"), strict=True):
        picture = place.imshow(chart.mT.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        for x, y in maps.pairs:
            place.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=COLOURS[1], linewidth=2))
        place.plot(range(maps.task.inputs), maps.task.labels.numpy(), linestyle="", marker=".", color=COLOURS[0], markersize=4)
        every = 1 if maps.task.inputs <= CROWDED else -(-maps.task.inputs // CROWDED)
        place.set_xticks(range(0, maps.task.inputs, every), [str(x + 1) for x in range(0, maps.task.inputs, every)], fontsize=8)
        place.set_title(name, fontsize=10)
        place.set_xlabel("input x")
    axes[0].set_yticks(range(maps.task.classes))
    axes[0].set_ylabel("class y")
    figure.colorbar(picture, ax=list(axes), label="softmax of u·We")
    key = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2), Line2D([], [], color=COLOURS[0], marker=".", linestyle="")]
    figure.legend(key, ["pair seen", "right class"], loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def learning_dynamics(found: Dynamics) -> Figure:
    """Loss and error, margins of the inputs, and ηλ/2 against the edge of stability, step by step."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    steps = range(len(found.losses))
    left.plot(steps, found.losses.numpy(), color=COLOURS[0], label="cross-entropy")
    left.plot(steps, found.errors.numpy(), color=COLOURS[1], linestyle="--", label="recall error")
    left.legend(fontsize=8)
    shown = min(found.margins.shape[1], len(COLOURS))
    for x in range(shown):
        middle.plot(steps, found.margins[:, x].numpy(), color=_colour(x), linestyle=DASHES[x % len(DASHES)], label=f"x = {x + 1}")
    middle.axhline(0, color="black", linewidth=0.6)
    middle.legend(fontsize=8)
    right.plot(steps, found.stability.numpy(), color=COLOURS[2])
    right.axhline(1, color="black", linestyle=":", label="edge of stability")
    right.legend(fontsize=8)
    names = ("loss, error", "margin m(x)" if shown == found.margins.shape[1] else f"margin m(x), first {shown} inputs", "ηλ/2")
    for place, name in zip((left, middle, right), names, strict=True):
        place.set(xlabel="step", ylabel=name)
        place.grid(alpha=0.25)
    return figure


def learning_curve(found: Learned) -> Figure:
    """Cross-entropy of every batch, before its step."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    place = figure.subplots()
    place.plot(range(len(found.losses)), found.losses.numpy(), color=COLOURS[0], marker="." if len(found.losses) < 60 else "")
    place.set(xlabel="step", ylabel="cross-entropy of the batch", title=f"recall error at the end {found.error:.4f}")
    place.grid(alpha=0.25)
    return figure


def learning_paths(found: LearningPaths) -> Figure:
    """Mean recall error at every step, within two standard errors, of what SGD learns and of what equation 16 says it stores."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    place = figure.subplots()
    draw_learning_paths(place, found, ("SGD", "equation 16"))
    place.legend(fontsize=8)
    return figure


def draw_learning_paths(place, found: LearningPaths, labels: tuple[str, str | None], turn: int = 0) -> None:
    """The same on axes that are there; without a name equation 16 is left out."""
    steps, mean = range(found.errors.shape[1]), found.errors.mean(0).numpy()
    spread = 2 * found.errors.std(0).numpy() / len(found.errors) ** 0.5 if len(found.errors) > 1 else 0 * mean
    place.plot(steps, mean, color=_colour(turn), label=labels[0])
    place.fill_between(steps, mean - spread, mean + spread, color=_colour(turn), alpha=0.2, linewidth=0)
    if labels[1]:
        place.plot(steps, found.approximated.mean(0).numpy(), color=_colour(turn), linestyle="--", label=labels[1])
    place.set(xlabel="step", ylabel="recall error")
    place.grid(alpha=0.25)


def _colour(turn: int) -> str:
    return COLOURS[turn % len(COLOURS)]


def _marker(turn: int) -> str:
    return MARKERS[turn % len(MARKERS)]
