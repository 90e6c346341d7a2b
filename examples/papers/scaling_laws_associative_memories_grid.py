"""Scaling laws for associative memories, the published grid: optimizer, step size, batch, layer norm, and embeddings that are learned.

Cabannes, Dohmatob & Bietti 2024 (arXiv 2310.02984): a part of their 40,320 runs, each equal to theirs to the last digit.

python examples/papers/scaling_laws_associative_memories_grid.py           seconds
python examples/papers/scaling_laws_associative_memories_grid.py --full    docs/papers/scaling_laws_associative_memories_grid.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from parts.paired import lead
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce

from hopfield_amem.analysis import scaling, take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS

PAPER = Paper("Scaling laws for associative memories: the published grid", "2310.02984", "1 minute on one core")
SEEDS, WIDTHS, TOKENS = range(42, 52), (10, 50, 100, 200), 10_240
PLAIN = {"model": "matrix", "optimizer": "SGD", "lr": 1.0, "batch": 1024, "samples": TOKENS, "layer_norm": False}
PUBLISHED = {  # means over ten seeds at d = 10, 50, 100, 200
    "SGD": ({}, (0.2030, 0.0944, 0.0730, 0.0750)),
    "Adam (sign descent)": ({"optimizer": "Adam"}, (0.0984, 0.0626, 0.0458, 0.0397)),
    "SGD, layer norm": ({"layer_norm": True}, (0.1435, 0.0932, 0.0678, 0.0566)),
    "Adam, layer norm": ({"optimizer": "Adam", "layer_norm": True}, (0.0815, 0.0406, 0.0255, 0.0239)),
    "B = 64": ({"batch": 64}, (0.0638, 0.0430, 0.0307, 0.0280)),
    "B = 16": ({"batch": 16}, (0.0531, 0.0213, 0.0185, 0.0155)),
    "B = 64, η = 0.1": ({"batch": 64, "lr": 0.1}, (0.1681, 0.0776, 0.0705, 0.0621)),
    "B = 64, η = 10": ({"batch": 64, "lr": 10.0}, (0.0401, 0.0160, 0.0124, 0.0097)),
    "B = 16, learned embeddings": ({"batch": 16, "model": "learnable"}, (0.0020, 0.0015, 0.0015, 0.0012)),
    "B = 16, no matrix (exponential)": ({"batch": 16, "model": "exponential"}, (0.0199, 0.0028, 0.0023, 0.0020)),
}
DIGITS = 5e-5 + 1e-9  # half of the last digit of the published means
RATES, BATCHES = (0.1, 1.0, 10.0, 100.0), (16, 64, 256, 1024)


def work(scale: Scale) -> Reproduction:
    """The runs, their claims and the figure."""
    seeds, widths = scale.pick(SEEDS[:1], SEEDS), scale.pick(WIDTHS[:2], WIDTHS)
    names = list(PUBLISHED)[:: scale.pick(5, 1)]
    asked = [PLAIN | PUBLISHED[name][0] | {"dim": dim, "seed": seed} for name in names for dim in widths for seed in seeds]
    asked += [PLAIN | {"lr": rate, "batch": batch, "dim": 50, "seed": seed} for rate in RATES for batch in scale.pick((64,), BATCHES) for seed in seeds]
    asked += [PLAIN | {"lr": rate, "batch": 64, "dim": 10, "seed": seed} for rate in (10.0, 100.0) for seed in seeds]
    asked = list({str(config): config for config in asked}.values())
    runs = take(grid_point, asked, folder=scale.runs, title="the published grid")
    mean = lambda **wanted: mean_error(runs, PLAIN | wanted)
    claims = (published_claim(names, widths, len(seeds), mean), *trend_claims(runs, widths))
    return Reproduction(claims, figure(names, widths, mean), {"runs": runs})


def grid_point(config: dict[str, Any]) -> dict[str, Any]:
    """One run of the published grid."""
    return {"error": scaling.grid_run(**config)}


def errors_of(runs: list[dict[str, Any]], wanted: dict[str, Any]) -> list[float]:
    """Of the runs that are as wanted, in the order of their seeds."""
    return [run["error"] for run in sorted(runs, key=lambda run: run["seed"]) if all(run[name] == value for name, value in wanted.items())]


def mean_error(runs: list[dict[str, Any]], wanted: dict[str, Any]) -> float:
    """Over the seeds of the runs that are as wanted."""
    found = errors_of(runs, wanted)
    return float(np.mean(found)) if found else float("nan")


def published_claim(names: list[str], widths: tuple[int, ...], seeds: int, mean: Callable[..., float]) -> Claim:
    """Means of ten seeds to the digits that are published; fewer seeds have other means."""
    gaps = [abs(mean(**PUBLISHED[name][0], dim=dim) - there) for name in names for dim, there in zip(widths, PUBLISHED[name][1], strict=False)]
    same, complete = sum(gap < DIGITS for gap in gaps), seeds == len(SEEDS)
    verdict = judged(same == len(gaps), same > 0.9 * len(gaps)) if complete else "not tested"
    return Claim(f"means over {seeds} seeds, rows of the figure", "their result files: ten seeds, four digits", f"{same} of {len(gaps)} equal", verdict)


def trend_claims(runs: list[dict[str, Any]], widths: tuple[int, ...]) -> list[Claim]:
    """What the paper reads off its grid, at every width of ours, where the same seed has the same embeddings and tokens."""

    def compared(what: str, paper: str, better: dict[str, Any], worse: dict[str, Any]) -> Claim:
        pairs = [[PLAIN | wanted | {"dim": dim} for wanted in (better, worse)] for dim in widths]
        leads = [lead(np.subtract(errors_of(runs, b), errors_of(runs, a))) for a, b in pairs]
        signs = ["<" if ahead > 2 else ">" if ahead < -2 else "≈" for ahead in leads]
        said = ", ".join(f"{mean_error(runs, a):.3f} {sign} {mean_error(runs, b):.3f}" for (a, b), sign in zip(pairs, signs, strict=True))
        verdict = judged(min(leads) > 2, min(leads) > 0) if any(leads) else "not tested"  # one seed settles nothing
        return Claim(what, paper, f"{said} at d = {', '.join(map(str, widths))}", verdict)

    sixteen = {"batch": 16}
    rows = [
        compared("smaller batches, the same tokens", "B = 16 better than 1024", sixteen, {}),
        compared("larger steps", "η = 10 better than 0.1 at B = 64", {"batch": 64, "lr": 10.0}, {"batch": 64, "lr": 0.1}),
        compared("Adam (sign descent)", "better than SGD", {"optimizer": "Adam"}, {}),
        compared("layer norm", "better than without", {"layer_norm": True}, {}),
        compared("learned embeddings", "remove the limit", sixteen | {"model": "learnable"}, sixteen),
    ]
    rows = [row for row in rows if "nan" not in row.ours]
    spread = {rate: [run["error"] for run in runs if (run["lr"], run["batch"], run["dim"]) == (rate, 64, 10)] for rate in (10.0, 100.0)}
    ratio = np.std(spread[100.0]) / max(float(np.std(spread[10.0])), 1e-12)
    said = "; ".join(f"η = {rate:g}: {np.mean(found):.3f} ± {np.std(found):.3f}" for rate, found in spread.items())
    rows.append(
        Claim(
            "the largest step is noisy in few dimensions (d = 10, B = 64)",
            "η = 100 scatters more than 10",
            said,
            judged(ratio > 1.5, ratio > 1),
        )
    )
    return rows


def figure(names: list[str], widths: tuple[int, ...], mean: Callable[..., float]) -> Figure:
    """The grid against width with the published points; step size and batch."""
    drawn = Figure(figsize=(10.5, 4.8), layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=(1.5, 1))
    for turn, name in enumerate(names):
        colour = COLOURS[turn % len(COLOURS)]
        left.plot(widths, [mean(**PUBLISHED[name][0], dim=dim) for dim in widths], color=colour, linestyle="-" if turn < len(COLOURS) else "--", label=name)
        left.plot(WIDTHS, PUBLISHED[name][1], color=colour, marker=MARKERS[turn % len(MARKERS)], markersize=5, fillstyle="none", linestyle="")
    left.set(xscale="log", yscale="log", xlabel="width d", ylabel="recall error", title="lines: here; marks: published", xticks=WIDTHS, xticklabels=WIDTHS)
    left.minorticks_off()
    for colour, marker, batch in zip(COLOURS, MARKERS, BATCHES, strict=False):
        right.plot(RATES, [mean(lr=rate, batch=batch, dim=50) for rate in RATES], color=colour, marker=marker, label=f"B = {batch}")
    right.set(xscale="log", yscale="log", xlabel="step size η", ylabel="recall error", title="SGD, d = 50")
    drawn.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=5, fontsize=8, frameon=False)
    right.legend(fontsize=8, frameon=False)
    for place in (left, right):
        place.grid(alpha=0.25)
    return drawn


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
