"""Birth of a Transformer (Bietti, Cabannes, Bouchacourt, Jégou & Bottou): the memories inside of a two-layer transformer, as they are learned.

Characters follow each other as in a text, but after each of five triggers always comes the character that a sequence has chosen for it. Bigrams can be stored
in weights; what follows a trigger must be found in context, by an induction head. Embeddings and read-out are random and frozen, so that every learned matrix
is an associative memory between known vectors, which a probe can ask at any time.
"""

from __future__ import annotations

import math
from statistics import fmean

import torch
from matplotlib.figure import Figure
from parts.induction import TRIGGERS, Bigrams, TwoLayers
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from torch.nn.functional import cross_entropy

from hopfield_amem.analysis import take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS

PAPER = Paper("Birth of a Transformer: A Memory Viewpoint", "2306.00802", "3 minutes on one core")
MASTERED = 0.5  # the share of right answers from which a memory counts as learned
PROBES = {"W_O²": "output", "W_K²": "induction", "W_K¹": "previous"}  # in the order in which they are said to be learned


def born(config: dict) -> dict:
    """Train on fresh sequences; along the way probes, and the losses and accuracy on characters that context tells and on others."""
    torch.manual_seed(config["seed"])
    bigrams, model = Bigrams.of_text(), TwoLayers(config["length"], config["dim"])
    learned = [part for part in model.parameters() if part.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=config["rate"])
    curve = []
    for step in range(config["steps"] + 1):
        tokens, told = bigrams.sequences(config["batch"], config["length"])
        logits = model(tokens[:, :-1])
        losses = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").unflatten(0, told.shape)
        if step % config["every"] == 0:
            right = logits.argmax(-1) == tokens[:, 1:]
            free = tokens[:, :-1] >= TRIGGERS
            means = {name: float(losses[those].detach().mean()) for name, those in (("told", told), ("free", free))}
            curve.append({"step": step, **means, "accuracy": float(right[told].double().mean()), **model.probes(bigrams)})
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    return {"curve": curve}


def halfway(curve: list[dict], name: str) -> int:
    """The step at which half of the whole fall of a loss is done."""
    middle = (curve[0][name] + min(point[name] for point in curve)) / 2
    return next(point["step"] for point in curve if point[name] <= middle)


def mastered(curve: list[dict], name: str) -> float:
    """The step from which on a memory always gives ``MASTERED`` of its answers right, infinity where that never comes."""
    learned = math.inf
    for point in reversed(curve):
        if point[name] < MASTERED:
            break
        learned = point["step"]
    return learned


def said(steps: list[float]) -> str:
    return "/".join("never" if step == math.inf else str(step) for step in steps)


def claims(curves: list[list[dict]]) -> tuple[Claim, ...]:
    free, told = ([halfway(curve, name) for curve in curves] for name in ("free", "told"))
    when = {shown: [mastered(curve, name) for curve in curves] for shown, name in PROBES.items()}
    order = [outputs <= keys <= previous < math.inf for outputs, keys, previous in zip(*when.values(), strict=True)]
    last = [output < previous for output, previous in zip(when["W_O²"], when["W_K¹"], strict=True)]
    sooner = [one < other for one, other in zip(free, told, strict=True)]
    ends = {shown: [curve[-1][name] for curve in curves] for shown, name in PROBES.items()}
    accuracy, worst = [curve[-1]["accuracy"] for curve in curves], [min(values) for values in zip(*ends.values(), strict=True)]
    left = [curve[-1]["bigrams"] / curve[0]["bigrams"] for curve in curves]
    return (
        Claim("global bigrams are learned fast, the induction head slowly", "bigrams first", f"half of the loss gone at step {said(free)}, "
              f"where context tells at {said(told)}", judged(all(sooner), any(sooner))),
        Claim("characters that context tells are predicted in the end", "nearly always", f"{min(accuracy):.1%} to {max(accuracy):.1%}",
              judged(min(accuracy) > 0.9, max(accuracy) > 0.5)),
        Claim("the three memories of the induction head are there: share of right answers", "near 1",
              ", ".join(f"{shown} {fmean(shares):.2f}" for shown, shares in ends.items()), judged(min(worst) > 0.9, max(worst) > 0.5)),
        Claim("they are learned in the order W_O², W_K², W_K¹", "that order", f"{MASTERED:.0%} right from step "
              + ", ".join(f"{said(steps)} ({shown})" for shown, steps in when.items()), judged(all(order), all(last))),
        Claim("the feed-forward memory stores the bigrams: its distance from them", "close", f"KL falls to {min(left):.0%} to {max(left):.0%} of its start",
              judged(max(left) < 0.1, max(left) < 0.5)),
    )  # fmt: skip


def drawn(curves: list[list[dict]]) -> Figure:
    """Losses, probes and the feed-forward memory against the steps: means over the seeds, every seed thin."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    parts = (
        ("loss, nats", {"other characters": "free", "where context tells": "told"}),
        ("share of right answers", {**PROBES, "predictions where context tells": "accuracy"}),
        ("KL of the feed-forward memory, nats", {"": "bigrams"}),
    )
    for place, (label, lines) in zip(figure.subplots(1, 3), parts, strict=True):
        for index, (words, name) in enumerate(lines.items()):
            every = [[point[name] for point in curve] for curve in curves]
            steps = [point["step"] for point in curves[0]]
            for one in every:
                place.plot(steps, one, color=COLOURS[index], linewidth=0.7, alpha=0.5)
            mean = [fmean(values) for values in zip(*every, strict=True)]
            place.plot(steps, mean, color=COLOURS[index], marker=MARKERS[index], markevery=max(1, len(steps) // 8), label=words)
        place.set(xlabel="steps of training", ylabel=label, ylim=(0, None))
        if len(lines) > 1:
            place.legend(frameon=False, fontsize=8)
    return figure


def work(scale: Scale) -> Reproduction:
    small, full = (16, 32, 8, 20, 5), (32, 128, 32, 640, 20)
    size = dict(zip(("length", "dim", "batch", "steps", "every"), scale.pick(small, full), strict=True)) | {"rate": 0.005}
    records = take(born, [size | {"seed": seed} for seed in range(scale.pick(2, 3))], folder=scale.runs)
    curves = [record["curve"] for record in records]
    return Reproduction(claims(curves), drawn(curves), {"size": size, "curves": curves})


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
