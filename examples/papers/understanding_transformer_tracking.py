"""Tracking the exchange of n objects: weights written by hand for n up to twice the dimension, and models that are trained.

"Understanding Transformer from the Perspective of Associative Memory", arXiv 2505.19488, §3.2 and appendix E.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce

from hopfield_amem import Memory, ReadEnergy
from hopfield_amem.analysis import take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.energies import Delta, Dot, Sum, UnstableWrite

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # tasks, models and recipe of the study: python benchmarks/state_tracking.py --help
from tracking_construction import KERNELS, exactness
from tracking_models import Shape
from tracking_runs import placed
from tracking_tasks import Swaps
from tracking_train import Recipe, Run, train

PAPER = Paper("Understanding Transformer from the Perspective of Associative Memory: tracking exchanges", "2505.19488", "13 minutes on one core")
CELLS = (
    "Transformer", "DeltaNet", "DeltaNet, reflecting", "DeltaFormer, linear", "DeltaFormer, round", "DeltaFormer, ReLU", "DeltaFormer, exp",
    "DeltaFormer, softmax",
)  # fmt: skip
WIDTH, SOLVED = 128, 0.99


def four_exponentials() -> Memory:
    """``κ(x) = Σ_h c_h e^(a_h x)``, a = −2, −1, 1, 2, through the points x = −1, 0, 1, 2.

    That four heads which share their keys realise the round kernel is the paper's (appendix E); that they do it so is our reading.
    """
    slopes, points = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64), torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    weights = torch.linalg.solve((points[:, None] * slopes).exp(), points)
    separation = partial(_exponentials, pairs=list(zip((weights / slopes).tolist(), slopes.tolist(), strict=True)))
    return Memory(ReadEnergy(Dot(), separation, Sum()), Delta())


def _exponentials(score: torch.Tensor, pairs: list[tuple[float, float]]) -> torch.Tensor:
    return sum(weight * (slope * score).exp() for weight, slope in pairs)  # its derivative is κ


MEMORIES = {**KERNELS, "four exponentials": four_exponentials()}


def constructed(config: dict) -> dict:
    """Write n elements, exchange, read every position: the share that is right."""
    return exactness(config["elements"], WIDTH, config["exchanges"], MEMORIES[config["kernel"]])


def trained(config: dict) -> dict:
    """One layer on sequences of sixteen exchanges."""
    warnings.simplefilter("ignore", UnstableWrite)
    cell, recipe = config["cell"], Recipe((16,), config["steps"], batch=config["batch"])
    found = train(Run(Swaps(config["elements"]), cell, placed(Shape(), cell), recipe, config["seed"]))
    return {name: found[name] for name in ("accuracy", "last", "accuracy, twice as long", "parameters")} | {"steps taken": found["steps"]}


def construction_claims(rows: list[dict]) -> list[Claim]:
    """What is right at the end of many exchanges, for n up to twice the dimension, and of very many."""
    claims, short = [], min(row["exchanges"] for row in rows)
    for name, paper in (
        ("rounded to integers", "exact beyond n = d (theorem 1; its n = e^{O(d)} is not tried)"), ("linear", "exact for n ≤ d, collapses beyond"),
        ("rounded to two decimals", "the round kernel of the experiments; theorem 1 has integers"),
        ("four exponentials", "four heads realise the round kernel; how is our reading"),
    ):  # fmt: skip
        own = {row["elements"]: row["end"] for row in rows if row["kernel"] == name and row["exchanges"] == short}
        fits, beyond = [right == 1 for n, right in own.items() if n <= WIDTH], [right == 1 for n, right in own.items() if n > WIDTH]
        collapses = name == "linear" and not any(beyond)
        ours = ", ".join(f"{n}: {right:.1%}" for n, right in own.items())
        verdict = judged(all(fits) and (all(beyond) or collapses), all(fits))
        claims.append(Claim(f"by hand, κ₁ = κ₂ {name}, d = {WIDTH}, {short:,} exchanges; positions right, by n", paper, ours, verdict))
    long = [row for row in rows if row["exchanges"] > short]
    ours = "; ".join(f"{row['kernel']}, n = {row['elements']}: {row['end']:.1%}" for row in long)
    right = [row["end"] == 1 for row in long]
    return [*claims, Claim(f"by hand, {long[0]['exchanges']:,} exchanges", "exact at every length", ours, judged(all(right), any(right)))]


def training_claims(rows: list[dict]) -> list[Claim]:
    """What the paper says of trained models, each against the accuracies at all n and seeds."""
    sizes = sorted({row["elements"] for row in rows} - {2})  # two elements ask for a parity only
    lowest = {(cell, n): min(_of(rows, cell, n, "accuracy")) for cell in CELLS for n in sizes}
    solved = {cell: [lowest[cell, n] > SOLVED for n in sizes] for cell in CELLS}
    mean = {cell: _mean(value for n in sizes for value in _of(rows, cell, n, "accuracy")) for cell in CELLS}
    others = [cell for cell in CELLS if cell.startswith("DeltaFormer")]
    better = [cell for cell in others if mean[cell] > mean["Transformer"]]
    suited = [cell for cell in others if all(solved[cell])]
    said = "; ".join(f"{cell.removeprefix('DeltaFormer, ')} {mean[cell]:.3f}" for cell in others)
    at = f"n = {', '.join(map(str, sizes))}"
    reflecting = "; ".join(f"{cell}: " + ", ".join(f"{lowest[cell, n]:.3f}" for n in sizes) for cell in ("DeltaNet", "DeltaNet, reflecting"))
    ours_suited = "; ".join(f"{cell.removeprefix('DeltaFormer, ')} {', '.join(f'{lowest[cell, n]:.3f}' for n in sizes)}" for cell in others)
    flat, beaten = mean["DeltaFormer, exp"], f"mean {said}; Transformer {mean['Transformer']:.3f}"
    hurts = f"mean softmax {mean['DeltaFormer, softmax']:.3f}, exp {flat:.3f}"
    reflects = all(solved["DeltaNet, reflecting"]), any(solved["DeltaNet, reflecting"])
    return [
        Claim("trained, one layer: a suitable κ₁ follows", "one reaches 100 %", f"lowest at {at}: {ours_suited}", judged(bool(suited))),
        Claim("DeltaFormer beats the Transformer", "for almost every κ₁", beaten, judged(len(better) >= len(others) - 1, bool(better))),
        Claim("the normaliser hurts", "softmax κ₁ does worse", hurts, judged(mean["DeltaFormer, softmax"] < flat - 0.01)),
        transformer_claim(rows, sizes[-1]),
        Claim("a linear write of b κ₁(k, k) = 2 is the exchange", "Householder reflection", f"lowest at {at}: {reflecting}", judged(*reflects)),
        Claim("more layers do not help the Transformer", "yes", "takes thousands of steps a model", "not tested"),
    ]


def transformer_claim(rows: list[dict], elements: int) -> Claim:
    """What is not learned in some steps is not shown to be impossible: in part at most."""
    steps, last = max(_of(rows, "Transformer", elements, "steps taken")), max(_of(rows, "Transformer", elements, "last"))
    learns = "learns" if last >= SOLVED else "does not learn"
    ours = f"n = {elements}: {learns} within {steps} steps; last position {last:.3f}, by guessing {1 / elements:.3f}"
    return Claim("a Transformer of one layer does not follow", "none of fixed depth, n ≥ 5, unless TC⁰ = NC¹", ours, judged(False, last < SOLVED))


def _of(rows: list[dict], cell: str, elements: int, part: str) -> list[float]:
    return [row[part] for row in rows if (row["cell"], row["elements"]) == (cell, elements)]


def figure(built: list[dict], learned: list[dict]) -> Figure:
    """Share of positions that are right against n: by hand, trained, and trained at twice the length."""
    drawn = Figure(figsize=(12, 4.6), layout="constrained")
    places = drawn.subplots(1, 3, sharey=True)
    for name, colour, marker in zip(MEMORIES, COLOURS, MARKERS, strict=False):
        own = [row for row in built if row["kernel"] == name and row["exchanges"] == built[0]["exchanges"]]
        places[0].plot([row["elements"] for row in own], [row["end"] for row in own], color=colour, marker=marker, label=name)
    places[0].axvline(WIDTH, color="#999999", linewidth=1)
    places[0].set(title=f"by hand, after {built[0]['exchanges']:,} exchanges; grey: n = d", ylabel="positions that are right")
    for place, part, title in ((places[1], "accuracy", "trained, 16 exchanges"), (places[2], "accuracy, twice as long", "the same at 32 exchanges")):
        sizes = list(dict.fromkeys(row["elements"] for row in learned))
        for cell, colour, marker in zip(CELLS, COLOURS, MARKERS, strict=False):
            means = [_mean(_of(learned, cell, n, part)) for n in sizes]
            place.plot(sizes, means, color=colour, marker=marker, label=cell)
        place.plot(sizes, [1 / n for n in sizes], color="black", linestyle=":", label="guessing")
        place.set(title=title)
        ticked(place, sizes)
    ticked(places[0], sorted({row["elements"] for row in built}))
    for place in places:
        place.set(xlabel="elements n", ylim=(-0.03, 1.05))
        place.grid(alpha=0.25)
    places[0].legend(fontsize=8, loc="lower left")
    places[2].legend(fontsize=7, loc="lower left")
    return drawn


def ticked(place: Axes, sizes: list[int]) -> None:
    """A logarithmic axis that names the sizes that were measured."""
    place.set_xscale("log", base=2)
    place.set_xticks(sizes, list(map(str, sizes)), fontsize=8)


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def work(scale: Scale) -> Reproduction:
    """Constructions, then training; finished runs are kept."""
    sizes, short, long = scale.pick(([2, 16], 50, 100), ([2, 8, 32, 128, 160, 256], 2000, 10_000))
    asked = [{"elements": n, "kernel": name, "exchanges": short} for name in MEMORIES for n in sizes]
    asked += [{"elements": n, "kernel": name, "exchanges": long} for n, name in ((sizes[-1], "rounded to integers"), (sizes[-3:][0], "linear"))]
    built = take(constructed, asked, folder=scale.runs)
    steps, batch = scale.pick(({2: (2, 1), 3: (2, 1)}, 4), ({2: (200, 2), 3: (300, 2), 5: (700, 1)}, 128))  # elements: steps, seeds
    sized = [(n, most, seed) for n, (most, seeds) in steps.items() for seed in range(seeds)]
    asked = [{"elements": n, "cell": cell, "seed": seed, "steps": most, "batch": batch} for n, most, seed in sized for cell in CELLS]
    learned = take(trained, asked, folder=scale.runs)
    return Reproduction((*construction_claims(built), *training_claims(learned)), figure(built, learned), {"built": built, "trained": learned})


if __name__ == "__main__":
    torch.set_num_threads(1)
    reproduce(__file__, PAPER, work)
