"""Beyond Scaling Laws, on small transformers trained here: the radius of patterns, the plateau of the loss, the best size of data.

Niu, Bai, Deng & Han 2024 (arXiv 2405.08707), section 6; the propositions are in beyond_scaling_laws.py.

python examples/papers/beyond_scaling_laws_trained.py           seconds
python examples/papers/beyond_scaling_laws_trained.py --full    docs/papers/beyond_scaling_laws_trained.md
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce

from hopfield_amem.analysis import take
from hopfield_amem.analysis.memorization import Text, Training, language_model, parameters, train
from hopfield_amem.analysis.memory_model import ball_partition, loss_bound, model_data_balance, pattern_radius, pattern_radius_reference, select_data_size
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS

PAPER = Paper("Beyond scaling laws: trained transformers", "2405.08707", "5 minutes on one core")
LENGTH, ACTIVATIONS = 16, 4096
SIZES, WIDTHS = (128, 512, 2048, 4096, 8192), (16, 32, 64)
EVERY, WINDOW = 10, 50  # steps to a point of the curve; steps before the least validation loss that the paper's rule looks at
Records = list[dict[str, Any]]


def work(scale: Scale) -> Reproduction:
    """Train, measure, and compare with what the paper says."""
    sizes, widths = scale.pick((64, 256), SIZES), scale.pick((16,), WIDTHS)
    steps = scale.pick(60, 400)
    asked = [{"width": width, "examples": size, "steps": steps, "seed": 0, "radius": size == sizes[-1]} for size in sizes for width in widths]
    runs = take(trained, asked, folder=scale.runs, title="transformers")
    balance = best_sizes(runs)
    claims = (*radius_claims(runs), *plateau_claims(runs), balance_claim(balance))
    return Reproduction(claims, figure(runs, balance), {"runs": runs, "best sizes": balance})


def trained(config: dict[str, Any]) -> dict[str, Any]:
    """A GPT-like model of two layers, trained on so many windows of CPython's documentation, one token a byte."""
    corpus = Text(length=LENGTH)(config["examples"], config["seed"])
    torch.manual_seed(config["seed"])
    model = language_model(corpus.symbols, config["width"], layers=2)
    rows = torch.cat([corpus.training, corpus.validation])[: ACTIVATIONS // LENGTH, :-1]
    before = radius_of(model, rows) if config["radius"] else None
    found = train(model, corpus, Training(config["steps"], 32, evaluations=config["steps"] // EVERY))
    counts = parameters(model)
    blocks = counts["parameters attention"] + counts["parameters feed-forward"]
    return {"parameters": blocks, "curve": found.curve, "radii": before and radius_of(model, rows), "untrained radii": before}


@torch.no_grad()
def radius_of(model: Any, rows: torch.Tensor) -> dict[str, float]:
    """r of what the last layer makes of every token: number of activations -> half the median distance of nearest neighbours."""
    states = model.states(rows)
    distinct = torch.unique(states.reshape(-1, states.shape[-1]), dim=0)  # equal prefixes have equal states
    found = pattern_radius(distinct)
    return {str(count): float(0.5 * np.median(distances)) for count, distances in zip(found.counts, found.distances, strict=True)}


def best_sizes(runs: Records) -> dict[str, Any]:
    """D* of every width by the paper's rule, ``min{D : MSE(L_train, L_min-val) < σ²}``, and the exponent of N ∝ D*^k."""
    chosen, errors = {}, {}
    for width in sorted({run["width"] for run in runs}):
        of = {run["examples"] * LENGTH: run for run in runs if run["width"] == width}
        training = {size: np.repeat([point[1] for point in run["curve"]], EVERY).tolist() for size, run in of.items()}
        validation = {size: {point[0]: point[2] for point in run["curve"] if point[0] >= WINDOW} for size, run in of.items()}
        found = select_data_size(training, validation, window=WINDOW)
        errors[width] = dict(zip(map(int, found.sizes), found.errors, strict=True))
        if found.chosen is not None:
            chosen[width] = (next(iter(of.values()))["parameters"], found.chosen)
    enough = len({size for _, size in chosen.values()}) > 2
    fit = model_data_balance(*map(list, zip(*chosen.values(), strict=True))).fit if enough else None
    return {"chosen": chosen, "errors": errors, "exponent": fit.exponent if fit else None, "interval": list(fit.interval) if fit else None}


def last_loss(run: dict[str, Any]) -> float:
    """Training loss at the end, nats to a byte."""
    return float(np.mean([point[1] for point in run["curve"][-5:]]))


def largest(runs: Records) -> Records:
    """One run to a width, on the most data."""
    most = max(run["examples"] for run in runs)
    return [run for run in runs if run["examples"] == most]


def radius_claims(runs: Records) -> tuple[Claim, ...]:
    shown = largest(runs)
    radii = [list(run["radii"].values()) for run in shown]
    ratios = [found[-1] / pattern_radius_reference(run["width"]) for run, found in zip(shown, radii, strict=True)]
    before = [list(run["untrained radii"].values())[-1] / pattern_radius_reference(run["width"]) for run in shown]
    widths = ", ".join(str(run["width"]) for run in shown)
    falls = all(all(np.diff(found) <= 0) for found in radii)
    return (
        Claim(
            "r, half the distance to the nearest activation, over √(n/2πe)",
            "10/7.74 = 1.3 (GPT-2 medium, n = 1024)",
            ", ".join(f"{ratio:.2f}" for ratio in ratios) + f" at n = {widths}",
            judged(all(0.77 < ratio < 1.3 for ratio in ratios), all(0.5 < ratio < 2 for ratio in ratios)),
        ),
        Claim(
            "that r is the mark of stored patterns",
            "r ≈ √(n/2πe) follows from memorising",
            "untrained: " + ", ".join(f"{ratio:.2f}" for ratio in before),
            judged(all(not 0.5 < ratio < 2 for ratio in before)),
        ),
        Claim(
            "distances shrink as the sample grows",
            "25 % to 100 % of the activations",
            "; ".join(f"{found[0]:.2f} → {found[-1]:.2f}" for found in radii),
            judged(falls),
        ),
    )


def plateau_claims(runs: Records) -> tuple[Claim, ...]:
    losses = {run["examples"]: [last_loss(other) for other in runs if other["examples"] == run["examples"]] for run in runs}
    every = [loss for found in losses.values() for loss in found]
    run = largest(runs)[-1]
    bounds = loss_bound(math.log(run["examples"]) + ball_partition(run["width"], list(run["radii"].values())[-1]).log_value)
    said = ", ".join(f"{np.mean(found):.2f} at {size * LENGTH / 1000:.0f} kB" for size, found in losses.items())
    below = np.mean([loss < 1 for loss in every])
    return (
        Claim(
            "the training loss has a plateau around 1",
            "≈ 1 (2M tokens, 6 and 10 layers)",
            said,
            judged(all(abs(loss - 1) < 0.3 for loss in every), sum(abs(loss - 1) < 0.3 for loss in every) > len(every) / 2),
        ),
        Claim(
            "log Z + 1/Z ≥ 1 bounds the loss of a token",
            "no training loss below 1",
            f"{below:.0%} of runs end below 1, the least at {min(every):.2f} nats a byte",
            judged(below == 0),
        ),
        Claim(
            f"the bound at the measured r (n = {run['width']}, d = {run['examples']:,}), as printed and consistent",
            "about the loss",
            f"{bounds.printed.value:.3g} and {bounds.consistent.value:.3g}; loss {last_loss(run):.2f}",
            judged(abs(bounds.printed.value - last_loss(run)) < 0.3),
        ),
    )


def balance_claim(found: dict[str, Any]) -> Claim:
    sizes = ", ".join(f"{size / 1000:.0f} kB for N = {count:,}" for count, size in found["chosen"].values())
    if found["exponent"] is None:
        return Claim("N ∝ D*², D* by the paper's rule", "k = 2 (its Table 3: 1.90)", f"D* = {sizes or 'none'}: too few different ones for a fit", "not tested")
    low, high = found["interval"]
    return Claim(
        "N ∝ D*², D* by the paper's rule",
        "k = 2 (its Table 3: 1.90)",
        f"k = {found['exponent']:.2f} [{low:.2f}, {high:.2f}]; D* = {sizes}",
        judged(abs(found["exponent"] - 2) < 0.3, low <= 2 <= high),
    )


def figure(runs: Records, balance: dict[str, Any]) -> Figure:
    """Radii against the sample, before and after training; loss against data; the paper's rule."""
    drawn = Figure(figsize=(12, 4.2), layout="constrained")
    left, middle, right = drawn.subplots(1, 3)
    for colour, marker, run in zip(COLOURS, MARKERS, largest(runs), strict=False):
        for radii, dash, name in ((run["radii"], "-", "trained"), (run["untrained radii"], ":", "untrained")):
            counts = [int(count) for count in radii]
            left.plot(
                counts,
                np.array(list(radii.values())) / pattern_radius_reference(run["width"]),
                color=colour,
                marker=marker,
                linestyle=dash,
                label=f"n = {run['width']}, {name}",
            )
    left.axhline(1, color="black", linewidth=1, label="√(n/2πe)")
    left.set(xlabel="activations", ylabel="r / √(n/2πe)", yscale="log", ylim=(0.2, 2.5), title="radius of the patterns")
    for colour, marker, width in zip(COLOURS, MARKERS, sorted({run["width"] for run in runs}), strict=False):
        of = [run for run in runs if run["width"] == width]
        middle.plot(
            [run["examples"] * LENGTH for run in of], [last_loss(run) for run in of], color=colour, marker=marker, linestyle="", label=f"training, n = {width}"
        )
        ends = [min(point[2] for point in run["curve"]) for run in of]
        middle.plot([run["examples"] * LENGTH for run in of], ends, color=colour, marker=marker, fillstyle="none", linestyle="", label="least validation")
        right.plot(list(balance["errors"][width]), list(balance["errors"][width].values()), color=colour, marker=marker, label=f"n = {width}")
    middle.axhline(1, color="black", linestyle="--", linewidth=1, label="the printed bound")
    middle.set(xscale="log", xlabel="data D, bytes", ylabel="nats per byte", title="loss at the end")
    right.axhline(0.04, color="black", linestyle="--", linewidth=1, label="σ² = 0.04")
    right.set(xscale="log", yscale="log", xlabel="data D, bytes", ylabel="MSE of training and least validation loss", title="the rule for D*")
    for place in (left, middle, right):
        place.legend(fontsize=7.5, frameon=False)
        place.grid(alpha=0.25)
    return drawn


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
