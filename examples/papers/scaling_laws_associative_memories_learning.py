"""Scaling laws for associative memories, what gradients store: association pictures, step sizes, equation 16, sign and normalised descent.

Cabannes, Dohmatob & Bietti 2024 (arXiv 2310.02984), the experiments on how a matrix W is learned; beside scaling_laws_associative_memories.py.

python examples/papers/scaling_laws_associative_memories_learning.py           seconds
python examples/papers/scaling_laws_associative_memories_learning.py --full    docs/papers/scaling_laws_associative_memories_learning.md
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from parts.paired import lead
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from torch import Tensor

from hopfield_amem.analysis import scaling, take
from hopfield_amem.analysis.plots.base import COLOURS
from hopfield_amem.analysis.plots.scaling import draw_learning_paths
from hopfield_amem.analysis.scaling import UPDATES, LearningPaths, ZipfTask

PAPER = Paper("Scaling laws for associative memories: what gradients store", "2310.02984", "2 minutes on one core")
STORED, SEEN, POPULATION, LARGE = ZipfTask(10, 5, 1.0), ZipfTask(10, 5, 1.5), ZipfTask(10, 5, 2.0), ZipfTask(100, 5, 2.0)
SNAPSHOTS = (0, 1, 2, 3, 6, 10, 99)


def work(scale: Scale) -> Reproduction:
    """All experiments, their claims and the figure."""
    trials, draws, long = scale.pick(5, 100), scale.pick(2, 30), scale.pick(150, 1000)
    stored = {(rho, dim): [stored_map(rho, seed, dim) for seed in range(trials)] for rho in (0.0, 1.0) for dim in (10, 50)}
    one = [scaling.association_maps(SEEN, 5, tokens=1, seed=seed) for seed in range(trials)]
    many = {count: scaling.association_maps(SEEN, 5, tokens=count).after for count in (20, 1000)}
    schedules = {"η = 10": [10.0] * long, "η = 0.1": [0.1] * long, "η = 10, then 0.3": [10.0] * 100 + [0.3] * (long - 100)}
    rates = {name: scaling.learning_paths(SEEN, 5, rates=schedule, trials=trials) for name, schedule in schedules.items()}
    large = scaling.learning_paths(LARGE, 10, rates=[1.0] * scale.pick(20, 100), batch=1000, trials=trials)
    asked = [{"update": update, "seed": seed, "steps": scale.pick(12, 99)} for update in UPDATES for seed in range(draws)]
    updates = take(descended, asked, folder=scale.runs, title="full-batch descent")
    claims = (*picture_claims(stored, one), *rate_claims(rates), approximation_claim(large), *update_claims(updates))
    numbers = {"rates": {name: found.to_json() for name, found in rates.items()}, "equation 16": large.to_json(), "updates": updates}
    return Reproduction(claims, figure({"stored": stored, "SGD": many}, rates, large, updates), numbers)


def stored_map(rho: float, seed: int, dim: int) -> Tensor:
    """``softmax(E Wᵀ Uᵀ)`` of what is stored by q = p̂^ρ from T = 1000 tokens. -> (N, M)"""
    inputs, outputs = scaling.random_embeddings(10, 5, dim, generator=torch.Generator().manual_seed(seed))
    weights = scaling.PowerScheme(rho).weights(STORED.frequencies(1000, 1, seed=seed)[0], STORED.labels, dim)
    return scaling.association_map(scaling.store(inputs, outputs, STORED.labels, weights), inputs, outputs)


def descended(config: dict[str, Any]) -> dict[str, Any]:
    """Full-batch descent at rate 1 from W = 0, N = 10, M = 5, d = 10, α = 2: errors, and what is associated at some steps."""
    inputs, outputs = scaling.random_embeddings(10, 5, 10, generator=torch.Generator().manual_seed(config["seed"]))
    memory, done, maps = None, 0, {0: scaling.association_map(torch.zeros(10, 10), inputs, outputs).tolist()}
    errors: list[float] = []
    for until in [step for step in SNAPSHOTS[1:] if step < config["steps"]] + [config["steps"]]:
        found = scaling.learning_dynamics(
            inputs, outputs, POPULATION.labels, POPULATION.probability, rate=1.0, steps=until - done, update=config["update"], start=memory
        )
        errors += found.errors[:-1].tolist()
        memory, done = found.memory, until
        maps[until] = scaling.association_map(memory, inputs, outputs).tolist()
    errors.append(float(found.errors[-1]))
    recalled = next((step for step, error in enumerate(errors) if error < 1e-6), None)
    return {"errors": errors, "maps": maps, "all recalled after": recalled}


def picture_claims(stored: dict[tuple[float, int], list[Tensor]], one: list[Any]) -> tuple[Claim, ...]:
    """What the pictures show, counted over draws."""
    right = {drawn: np.mean([float((chart.argmax(-1) == STORED.labels).double().mean()) for chart in charts]) for drawn, charts in stored.items()}
    raised = np.mean([float(maps.after[maps.pairs[0]] > maps.before[maps.pairs[0]]) for maps in one])
    moved = np.mean([float((maps.after - maps.before).abs().sum() - (maps.after - maps.before)[maps.seen[0]].abs().sum()) for maps in one])
    own = np.mean([float((maps.after - maps.before)[maps.seen[0]].abs().sum()) for maps in one])
    return (
        Claim(
            "q = 1 against q = p, N = 10, T = 1000, d = 10 and 50: inputs recalled",
            "q = p drowns what is rare",
            "; ".join(f"{right[0.0, dim]:.0%} against {right[1.0, dim]:.0%}" for dim in (10, 50)),
            judged(all(right[0.0, dim] > right[1.0, dim] for dim in (10, 50))),
        ),
        Claim("one token of SGD raises its pair …", "the framed pair brightens", f"in {raised:.0%} of draws", judged(raised == 1)),
        Claim(
            "… and moves inputs that were not seen (d = 5 < N)",
            "interference",
            f"nine others together {moved / own:.1f} times as much",
            judged(moved > own, moved > 0.1 * own),
        ),
    )


def rate_claims(rates: dict[str, LearningPaths]) -> tuple[Claim, ...]:
    """Errors at the end, and how much they change from token to token, in the same draws of embeddings and tokens."""
    large, small, lowered = (found.errors for found in rates.values())
    said = f"{float(large[:, -1].mean()):.3f} against {float(small[:, -1].mean()):.3f}"
    noise = [errors[:, -100:].diff().abs().mean(-1) for errors in (large, lowered)]
    change = f"change at a token {float(noise[0].mean()):.4f}, lowered {float(noise[1].mean()):.4f}; error {float(lowered[:, -1].mean()):.3f}"
    return (
        Claim(
            f"large steps store alike (N = 10, d = 5, batch 1, T = {len(rates['η = 10'].rates):,})",
            "η = 10 errs less than η = 0.1",
            said,
            _above((small - large)[:, -1]),
        ),
        Claim("… and make noise, which lowering them ends", "η = 10, then 0.3", change, _above(noise[0] - noise[1])),
    )


def _above(differences: Tensor) -> Any:
    """Whether paired differences are above 0 by two standard errors, or at least in their mean."""
    ahead = lead(differences.tolist())
    return judged(ahead > 2, ahead > 0)


def approximation_claim(found: LearningPaths) -> Claim:
    ours, theirs = found.errors.mean(0)[1:], found.approximated.mean(0)[1:]
    off = float((theirs / ours - 1).abs().max())
    said = f"{float(ours[0]):.3f} → {float(ours[-1]):.3f} learned, {float(theirs[0]):.3f} → {float(theirs[-1]):.3f} by equation 16; up to {off:.0%} apart"
    return Claim("equation 16 says what SGD stores (N = 100, d = 10, batch 1000)", "q ≈ f^(Tp)(0), errors alike", said, judged(off < 0.2, off < 0.75))


def update_claims(runs: list[dict[str, Any]]) -> tuple[Claim, ...]:
    errors = {update: np.mean([run["errors"] for run in runs if run["update"] == update], 0) for update in UPDATES}
    when = {update: np.median([run["all recalled after"] or np.inf for run in runs if run["update"] == update]) for update in UPDATES}
    said = ", ".join(f"{update} {errors[update][10]:.4f}" for update in UPDATES)
    steps = ", ".join(f"{update} {when[update]:g}" for update in UPDATES).replace("inf", f"more than {len(errors['sign']) - 1}")
    return (
        Claim(
            "descent by signs recalls the tail sooner: error after 10 steps", "sign below gradient", said, judged(errors["sign"][10] < errors["gradient"][10])
        ),
        Claim("normalised descent, too", "normalised below gradient", said, judged(errors["normalised"][10] < errors["gradient"][10])),
        Claim(
            "steps until all ten are recalled (median)",
            "fewer by sign and normalised",
            steps,
            judged(max(when["sign"], when["normalised"]) < when["gradient"], min(when["sign"], when["normalised"]) < when["gradient"]),
        ),
    )


def figure(pictures: dict[str, Any], rates: dict[str, LearningPaths], large: LearningPaths, runs: list[dict[str, Any]]) -> Figure:
    """Pictures of associations above, recall errors along the path below."""
    drawn = Figure(figsize=(11.5, 7.6), layout="constrained")
    upper, lower = drawn.subfigures(2, 1, height_ratios=(1.25, 1))
    frame = lambda update: next(run for run in runs if run["update"] == update)["maps"]
    charts = {"stored, q = 1": pictures["stored"][0.0, 10][0], "stored, q = p": pictures["stored"][1.0, 10][0]}
    charts |= {f"SGD, {count} tokens": chart for count, chart in pictures["SGD"].items()}
    kept = {int(step): step for step in frame("gradient")}
    for update, steps in (("gradient", (1, 10)), ("sign", (1, 10))):
        charts |= {f"{update}, step {step}": torch.tensor(frame(update)[kept[step]]) for step in steps}
    for place, (name, chart) in zip(upper.subplots(2, 4).flatten(), charts.items(), strict=True):
        image = place.imshow(chart.mT, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        place.plot(range(10), STORED.labels, linestyle="", marker=".", color=COLOURS[1])
        place.set(xlabel="input x", ylabel="class y", xticks=range(0, 10, 3), xticklabels=range(1, 11, 3), yticks=range(5))
        place.set_title(name, fontsize=10)
    upper.colorbar(image, ax=upper.axes, label="softmax of u·We; dots: f(x)")
    left, middle, right = lower.subplots(1, 3)
    for turn, (name, found) in enumerate(rates.items()):
        draw_learning_paths(left, found, (name, None), turn)
    draw_learning_paths(middle, large, ("SGD", "equation 16"))
    for colour, update in zip(COLOURS, UPDATES, strict=False):
        right.plot(np.mean([run["errors"] for run in runs if run["update"] == update], 0), color=colour, label=update)
    left.set(xscale="symlog", yscale="log", title="step size: N = 10, d = 5, batch 1")
    middle.set(yscale="log", title="N = 100, d = 10, batch 1000")
    right.set(xlabel="step", ylabel="recall error", xscale="symlog", yscale="symlog", title="full batch: N = 10, d = 10")
    right.set_yscale("symlog", linthresh=1e-3)
    for place in (left, middle, right):
        place.legend(fontsize=8, frameon=False)
        place.grid(alpha=0.25)
    return drawn


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
