"""Learning associative memories with gradient descent: margins, sharpness, oscillations, and what too small a memory forgets.

Cabannes, Simsek & Bietti 2024 (arXiv 2402.18724). W learns associations x → f(x) between fixed embeddings by full-batch descent on cross-entropy.
What the paper finds in a transformer: gradient_descent_dynamics_transformer.py.

python examples/papers/gradient_descent_dynamics.py           seconds
python examples/papers/gradient_descent_dynamics.py --full    docs/papers/gradient_descent_dynamics.md
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce

from hopfield_amem.analysis import scaling, take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.analysis.scaling import Dynamics

PAPER = Paper("Learning associative memories with gradient descent", "2402.18724", "3 minutes on one core")
TWO = (10.0, 1.0)  # rates of the two particles
RATES, WIDTHS, PARTICLES = (3.0, 10.0, 20.0, 100.0), (3, 5, 10), 5  # the paper's code has rates up to 20
CROWDS, DIRECTIONS = (3, 10, 30), 3600


def work(scale: Scale) -> Reproduction:
    """All experiments, their claims and the figure."""
    two = {rate: scaling.two_particles(rate=rate, steps=35) for rate in TWO}
    alone = orthogonal(scale.pick(300, 20_000))
    seeds = scale.pick(2, 20)
    asked = [{"dim": dim, "rate": rate, "seed": seed} for dim in WIDTHS for rate in RATES for seed in range(seeds)]
    several = take(few_particles, asked, folder=scale.runs, title="five particles")
    asked = [{"inputs": count, "steps": scale.pick(60, 400), "seed": seed} for count in CROWDS for seed in range(scale.pick(3, 40))]
    crowded = take(too_many_particles, asked, folder=scale.runs, title="too many particles")
    claims = (two_claim(two), *alone_claims(alone), *several_claims(several), *crowded_claims(crowded))
    numbers = {"two": {rate: found.to_json() for rate, found in two.items()}, "orthogonal": alone, "several": several, "crowded": crowded}
    return Reproduction(claims, figure(two, alone, several, crowded), numbers)


def orthogonal(steps: int, probability: float = 0.75, rate: float = 0.05) -> dict[str, Any]:
    """Two orthogonal inputs: the margin of the frequent one, at ten times, beside the flow ``m + e^m = 1 + 2pηt``."""
    shares = torch.tensor([probability, 1 - probability], dtype=torch.float64)
    eye, memory, done = torch.eye(2, dtype=torch.float64), None, 0
    times, measured = sorted({round(t) for t in np.geomspace(1, steps, 12)}), []
    for time in times:
        found = scaling.learning_dynamics(eye, eye, torch.arange(2), shares, rate=rate, steps=time - done, start=memory)
        memory, done = found.memory, time
        measured.append(float(found.margins[-1, 0]))
    flow = [scaling.orthogonal_margin(probability, rate, time) for time in times]
    return {"times": times, "margins": measured, "flow": flow}


def few_particles(config: dict[str, Any]) -> dict[str, Any]:
    """Five inputs of five classes, α = 1, random embeddings, 100 steps: settings of the paper's code."""
    task = scaling.ZipfTask(PARTICLES, PARTICLES, 1.0)
    inputs, outputs = scaling.random_embeddings(PARTICLES, PARTICLES, config["dim"], generator=torch.Generator().manual_seed(config["seed"]))
    found = scaling.learning_dynamics(inputs, outputs, task.labels, task.probability, rate=config["rate"], steps=100)
    beyond = (found.losses.diff() > 0) & (found.stability[:-1] > 1)
    return {"loss": float(found.losses[-1]), "error": float(found.errors[-1]), "rises": found.oscillations, "rises beyond the edge": int(beyond.sum())}


def too_many_particles(config: dict[str, Any]) -> dict[str, Any]:
    """N inputs in two dimensions, f(x) = x mod 2, U = I: the error along the path, and the least that any W has."""
    task = scaling.ZipfTask(config["inputs"], 2, 1.0)
    inputs, _ = scaling.random_embeddings(config["inputs"], 2, 2, generator=torch.Generator().manual_seed(config["seed"]))
    found = scaling.learning_dynamics(inputs, torch.eye(2), task.labels, task.probability, rate=1.0, steps=config["steps"])
    angles = torch.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)
    ways = torch.stack([angles.cos(), angles.sin()], -1)  # of W_1 − W_2, all that decides
    wrong = (inputs @ ways.mT > 0) != (task.labels == 0).unsqueeze(-1)
    path = found.errors[:: max(1, config["steps"] // 50)]
    best, least = float((task.probability @ wrong.double()).min()), float(found.errors.min())
    return {"best": best, "last": float(found.errors[-1]), "least": least, "path": path.tolist()}


def two_claim(two: dict[float, Dynamics]) -> Claim:
    fast, slow = (two[rate] for rate in TWO)
    ends = f"{float(fast.losses[-1]):.3f} and {float(slow.losses[-1]):.3f}"
    return Claim(
        "two particles, e₁·e₂ = 0.95: large rates spike, and are faster afterwards",
        "η = 10 oscillates and ends below η = 1",
        f"{fast.oscillations} and {slow.oscillations} rises, losses {ends}",
        judged(fast.oscillations > slow.oscillations == 0 and fast.losses[-1] < slow.losses[-1]),
    )


def alone_claims(found: dict[str, Any]) -> tuple[Claim, ...]:
    gap = max(abs(m - f) for m, f in zip(found["margins"], found["flow"], strict=True))
    slope = np.diff(found["margins"])[-1] / np.diff(np.log(found["times"]))[-1]
    return (
        Claim("orthogonal inputs are particles of their own", "m + e^m = 1 + 2pηt for small η", f"at most {gap:.3f} off at η = 0.05", judged(gap < 0.02)),
        Claim(
            "their margins grow like log t",
            "m ≈ log 2pηt",
            f"slope {slope:.3f} in log t at t = {found['times'][-1]:,}",
            judged(abs(slope - 1) < 0.02, abs(slope - 1) < 0.2),
        ),
    )


def several_claims(runs: list[dict[str, Any]]) -> tuple[Claim, ...]:
    rises = {rate: [run["rises"] for run in runs if run["rate"] == rate] for rate in RATES}
    loss = {rate: np.median([run["loss"] for run in runs if run["rate"] == rate and run["dim"] == 10]) for rate in RATES}
    beyond, all_rises = sum(run["rises beyond the edge"] for run in runs), max(1, sum(run["rises"] for run in runs))
    means = [float(np.mean(rises[rate])) for rate in RATES]
    return (
        Claim(
            "oscillations grow with the rate (N = 5, d = 3, 5, 10)",
            "larger rates oscillate more",
            ", ".join(f"{mean:.1f}" for mean in means) + " rises at η = 3, 10, 20, 100",
            judged(means == sorted(means) and means[0] < means[-1]),
        ),
        Claim(
            "the loss rises where ηλ/2 > 1, the edge of stability",
            "overshooting",
            f"{beyond / all_rises:.0%} of {all_rises:,} rises",
            judged(beyond > 0.95 * all_rises, beyond > 0.7 * all_rises),
        ),
        Claim(
            "d = 10 > N: the larger rate ends lower",
            "benign spikes",
            "losses " + ", ".join(f"{loss[rate]:.1e}" for rate in RATES),
            judged(loss[20.0] < loss[10.0] < loss[3.0]),
        ),
    )


def crowded_claims(runs: list[dict[str, Any]]) -> tuple[Claim, ...]:
    many = [run for run in runs if run["inputs"] == CROWDS[-1]]
    over = [run["last"] > run["best"] + 1e-9 for run in many]
    forgot = [run["last"] > run["least"] + 1e-9 for run in many]
    gap = np.mean([run["last"] - run["best"] for run in many])
    return (
        Claim(
            "too many inputs (N = 30, d = 2): cross-entropy is not recall",
            "its minimum errs more than need be",
            f"{np.mean(over):.0%} of draws, by {gap:.3f} on average",
            judged(np.mean(over) > 0.5, any(over)),
        ),
        Claim(
            "… and forgets what was recalled on the way",
            "forgetting of rare inputs",
            f"{np.mean(forgot):.0%} of draws end above their least error",
            judged(np.mean(forgot) > 0.5, any(forgot)),
        ),
    )


def figure(two: dict[float, Dynamics], alone: dict[str, Any], several: list[dict[str, Any]], crowded: list[dict[str, Any]]) -> Figure:
    """Six panels: two particles (loss, margins, edge of stability), orthogonal ones, five of them, too many."""
    drawn = Figure(figsize=(11, 6.4), layout="constrained")
    places = drawn.subplots(2, 3).flatten()
    for colour, (rate, found) in zip(COLOURS, two.items(), strict=False):
        places[0].plot(found.losses, color=colour, label=f"η = {rate:g}")
        places[2].plot(found.stability, color=colour, label=f"η = {rate:g}")
        for x, dash in enumerate(("-", "--")):
            places[1].plot(found.margins[:, x], color=colour, linestyle=dash, label=f"η = {rate:g}, p = {(0.75, 0.25)[x]}")
    places[2].axhline(1, color="black", linestyle=":", label="edge of stability")
    places[3].plot(alone["times"], alone["margins"], color=COLOURS[0], marker="o", linestyle="", label="measured")
    places[3].plot(alone["times"], alone["flow"], color="black", linewidth=1, label="m + e^m = 1 + 2pηt")
    for colour, marker, dim in zip(COLOURS, MARKERS, WIDTHS, strict=False):
        losses = [[run["loss"] for run in several if run["dim"] == dim and run["rate"] == rate] for rate in RATES]
        low, middle, high = np.quantile(losses, [0.1, 0.5, 0.9], axis=1)
        places[4].errorbar(RATES, middle, (middle - low, high - middle), color=colour, marker=marker, capsize=3, label=f"d = {dim}")
    for colour, count in zip(COLOURS, CROWDS, strict=False):
        runs = [run for run in crowded if run["inputs"] == count]
        steps = np.linspace(0, runs[0]["steps"], len(runs[0]["path"]))
        places[5].plot(steps, np.mean([run["path"] for run in runs], 0), color=colour, label=f"N = {count}")
        places[5].axhline(float(np.mean([run["best"] for run in runs])), color=colour, linestyle=":")
    places[3].set(xscale="log")
    places[4].set(xscale="log", yscale="log", xticks=RATES, xticklabels=[f"{rate:g}" for rate in RATES])
    places[4].xaxis.set_minor_formatter("")
    titles = (
        "two particles: loss",
        "two particles: margins",
        "two particles: sharpness",
        "an orthogonal particle",
        "five particles, 100 steps",
        "d = 2; dotted: best of any W",
    )
    names = (("step", "cross-entropy"), ("step", "margin"), ("step", "ηλ/2"), ("step", "margin"), ("rate η", "loss, 10–90 %"), ("step", "recall error"))
    for place, title, (across, up) in zip(places, titles, names, strict=True):
        place.set(title=title, xlabel=across, ylabel=up)
        place.legend(fontsize=8, frameon=False)
        place.grid(alpha=0.25)
    return drawn


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
