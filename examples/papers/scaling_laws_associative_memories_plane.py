"""Scaling laws for associative memories, two dimensions: learned embeddings, drawn in their plane, and how many classes they can tell apart.

Cabannes, Dohmatob & Bietti 2024 (arXiv 2310.02984), figure 8 and equation 17: where embeddings are learned the width d = 2 is no limit.

python examples/papers/scaling_laws_associative_memories_plane.py           seconds
python examples/papers/scaling_laws_associative_memories_plane.py --full    docs/papers/scaling_laws_associative_memories_plane.md
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from parts.paired import lead
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce

from hopfield_amem.analysis import scaling, take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.analysis.scaling import Learning, ZipfTask

PAPER = Paper("Scaling laws for associative memories: learned embeddings in two dimensions", "2310.02984", "2 minutes on one core")
SEEDS = range(42, 45)
INPUTS, ALPHA, BATCH = 100, 2.0, 1000
CLASSES = (2, 3, 5, 10, 18, 32, 56, 100)
MODELS = {"matrix": "random embeddings", "learnable": "learned embeddings"}
PICTURE = {"model": "learnable", "classes": 5, "rate": 1e-3, "steps": 10_000}  # of their figure
CURVE = {"rate": 0.1, "steps": 1000}
SLOWER = {"rate": 0.01, "steps": 10_000}  # ten times the steps of their curve, a tenth of its rate


def work(scale: Scale) -> Reproduction:
    """The picture, the curve over the number of classes, and its end with more steps; claims and figure."""
    seeds, counts = scale.pick(SEEDS[:1], SEEDS), CLASSES[:: scale.pick(4, 1)]
    shorter = lambda config: config | {"steps": scale.pick(config["steps"] // 50, config["steps"])}
    pictures = take(in_the_plane, [shorter(PICTURE) | {"seed": seed} for seed in seeds], folder=scale.runs, title="the picture")
    asked = [shorter(CURVE) | {"model": model, "classes": count, "seed": seed} for model in MODELS for count in counts for seed in seeds]
    curve = take(in_the_plane, asked, folder=scale.runs, title="classes")
    asked = [shorter(SLOWER) | {"model": "learnable", "classes": counts[-1], "seed": seed} for seed in seeds]
    slower = take(in_the_plane, asked, folder=scale.runs, title="more steps")
    claims = (*picture_claims(pictures), *curve_claims(curve, slower))
    return Reproduction(claims, figure(pictures[0], curve, slower), {"pictures": pictures, "curve": curve, "slower": slower})


def in_the_plane(config: dict[str, Any]) -> dict[str, Any]:
    """N = 100, α = 2, d = 2, Adam on fresh batches of 1000: the error, and where inputs (as W e_x) and classes (u_y) end."""
    learning = Learning(config["model"], "adam", rate=config["rate"] * 2**0.5, batch=BATCH)  # for embeddings the rate as it is named, as 1/√d is taken of it
    found = scaling.learn(ZipfTask(INPUTS, config["classes"], ALPHA), 2, learning, samples=BATCH * config["steps"], seed=config["seed"])
    answers = found.inputs @ found.memory.mT
    near = torch.nn.functional.cosine_similarity(answers, found.outputs[found.task.labels])
    margins = scaling.margins(found.memory, found.inputs, found.outputs, found.task.labels)
    places = {"answers": answers.tolist(), "outputs": found.outputs.tolist()} if config["classes"] == PICTURE["classes"] else {}
    recalled = {"error": found.error, "recalled": int((margins > 0).sum()), "cosine": float(found.task.probability @ near.double()), "cosines": near.tolist()}
    return recalled | places


def picture_claims(runs: list[dict[str, Any]]) -> tuple[Claim, ...]:
    errors, recalled = [run["error"] for run in runs], [run["recalled"] for run in runs]
    middle, mass = [float(np.median(run["cosines"])) for run in runs], [run["cosine"] for run in runs]
    said = f"{min(middle):.2f} to {max(middle):.2f} for the median input, {min(mass):.2f} to {max(mass):.2f} weighted by frequency"
    return (
        Claim(
            f"M = 5, d = 2: every input ends in the region of its class, {len(runs)} seeds",
            "no error",
            f"{min(recalled)} to {max(recalled)} of 100 inputs; errors {min(errors):.4f} to {max(errors):.4f}",
            judged(min(recalled) == INPUTS, max(errors) < 0.01),
        ),
        Claim(
            "… along the output of its class: cosine of W e_x with u_f(x)", "e_x matches u_f(x) (equation 17)", said, judged(min(middle) > 0.9, min(mass) > 0.9)
        ),
    )


def curve_claims(runs: list[dict[str, Any]], slower: list[dict[str, Any]]) -> tuple[Claim, ...]:
    counts = sorted({run["classes"] for run in runs})
    mean = {model: [mean_error(runs, model, count) for count in counts] for model in MODELS}
    ahead = [lead([a - b for a, b in zip(*(errors_of(runs, model, count) for model in MODELS), strict=True)]) for count in counts]
    learned = [run for run in runs if run["model"] == "learnable"]
    held = max([count for count in counts if all(run["recalled"] == INPUTS for run in learned if run["classes"] <= count)], default=0)
    most, later = mean["learnable"][-1], float(np.mean([run["error"] for run in slower]))
    known, finally_known = (np.mean([run["recalled"] for run in group if run["classes"] == counts[-1]]) for group in (learned, slower))
    random = f"random embeddings err by {mean['matrix'][0]:.2f} … {mean['matrix'][-1]:.2f}"
    return (
        Claim(
            f"two dimensions hold N = 100 inputs of M = {counts[0]} … {counts[-1]} classes if embeddings are learned, 1000 steps",
            "any number of associations",
            f"all inputs up to M = {held}; {known:.0f} of 100 at M = {counts[-1]}, an error of {most:.4f}; {random}",
            judged(held == counts[-1], min(ahead) > 2),
        ),
        Claim(
            f"M = {counts[-1]}: what is left goes with ten times the steps at a tenth of the rate",
            "none is lost",
            f"error {most:.4f} → {later:.4f}, {known:.0f} → {finally_known:.0f} inputs",
            judged(finally_known == INPUTS, later < most),
        ),
    )


def errors_of(runs: list[dict[str, Any]], model: str, count: int) -> list[float]:
    """In the order of seeds."""
    return [run["error"] for run in sorted(runs, key=lambda run: run["seed"]) if (run["model"], run["classes"]) == (model, count)]


def mean_error(runs: list[dict[str, Any]], model: str, count: int) -> float:
    return float(np.mean(errors_of(runs, model, count)))


def figure(picture: dict[str, Any], curve: list[dict[str, Any]], slower: list[dict[str, Any]]) -> Figure:
    """Regions of the classes with their outputs, learned inputs in them, and the error against the number of classes."""
    drawn = Figure(figsize=(12, 4.8), layout="constrained")
    left, middle, right = drawn.subplots(1, 3, width_ratios=(1, 1, 1.15))
    answers, outputs = np.array(picture["answers"]), np.array(picture["outputs"])
    _regions(left, outputs, 1.3 * float(np.abs(outputs).max()))
    for y, output in enumerate(outputs):
        left.annotate("", xy=output, xytext=(0, 0), arrowprops={"color": COLOURS[y], "width": 1.5, "headwidth": 7})
    _regions(middle, outputs, 1.15 * float(np.abs(answers).max()))
    frequent = ZipfTask(INPUTS, len(outputs), ALPHA).probability.numpy()
    for y, (colour, marker) in enumerate(zip(COLOURS, MARKERS, strict=False)):
        if y < len(outputs):
            size = 12 + 250 * np.sqrt(frequent[y :: len(outputs)])
            middle.scatter(*answers[y :: len(outputs)].T, s=size, color=colour, marker=marker, edgecolor="white", linewidth=0.5, label=f"f(x) = {y}")
    counts = sorted({run["classes"] for run in curve})
    for colour, marker, (model, label) in zip(COLOURS, MARKERS, MODELS.items(), strict=False):
        errors = np.array([errors_of(curve, model, count) for count in counts])
        right.errorbar(
            counts, errors.mean(1), (errors.mean(1) - errors.min(1), errors.max(1) - errors.mean(1)), color=colour, marker=marker, capsize=3, label=label
        )
    right.plot(counts[-1], np.mean([run["error"] for run in slower]), color="black", marker="*", markersize=9, linestyle="", label="learned, 10 × the steps")
    left.set(title="argmax of u·v over the classes, and u", xlabel="v₁", ylabel="v₂")
    middle.set(title="learned inputs, W e (size: frequency)", xlabel="v₁", ylabel="v₂")
    right.set(title="d = 2, N = 100; bars: lowest, highest seed", xlabel="classes M", ylabel="recall error")
    right.legend(fontsize=8, loc="center left")
    drawn.legend(
        *middle.get_legend_handles_labels(), loc="outside lower left", ncols=len(outputs), title="classes: arrows u, inputs x", fontsize=8, frameon=False
    )
    right.set(xscale="log", xticks=counts, xticklabels=counts, ylim=(0, 1.5))
    right.set_yscale("symlog", linthresh=1e-3)
    right.minorticks_off()
    right.grid(alpha=0.25)
    return drawn


def _regions(place: Any, outputs: np.ndarray, reach: float) -> None:
    """The plane coloured by the class that wins there."""
    across = np.linspace(-reach, reach, 300)
    winner = (np.stack(np.meshgrid(across, across), -1) @ outputs.T).argmax(-1)
    place.pcolormesh(across, across, winner, cmap=ListedColormap(COLOURS[: len(outputs)]), alpha=0.25, vmin=-0.5, vmax=len(outputs) - 0.5, rasterized=True)
    place.set_aspect("equal")


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
