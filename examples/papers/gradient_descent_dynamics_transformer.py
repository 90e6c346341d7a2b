"""Learning associative memories with gradient descent, in a transformer: its output matrix learned alone, then all of its matrices.

Cabannes, Simsek & Bietti 2024 (arXiv 2402.18724), the experiment beyond the model with one matrix. Two layers of attention on in-context bigrams, full batches.
With every other matrix frozen, W_O² of the second layer is a matrix W between fixed vectors: the paper's own model, with inputs that attention has read.

python examples/papers/gradient_descent_dynamics_transformer.py           seconds
python examples/papers/gradient_descent_dynamics_transformer.py --full    docs/papers/gradient_descent_dynamics_transformer.md
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from parts.induction import Bigrams, TwoLayers
from parts.paired import lead
from reproduction import Claim, Paper, Reproduction, Scale, captioned, judged, reproduce
from torch import nn
from torch.nn.functional import cross_entropy

from hopfield_amem.analysis import scaling, take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS

PAPER = Paper("Learning associative memories with gradient descent: a transformer", "2402.18724", "3 minutes on one core")
ALONE, ALL = (2.0, 20.0, 50.0, 100.0, 200.0), (0.1, 0.3, 0.6, 1.0, 2.0)  # rates
PLAIN = {"orthonormal": False, "even": True}  # embeddings, and what follows a trigger
CONTROLS, CONTROL_RATE = ({"orthonormal": True}, {"even": False, "batch": 10}), 100.0  # uneven ones meet more often: fewer sequences for as many pairs
SPIKE, LOST = 1.5, 1e4  # a step that multiplies the loss by more; a loss from which none came back
SKIP, GAIN = 1e-3, 20.0  # scale of the inputs of the frozen block of W; of the keys that are written


def work(scale: Scale) -> Reproduction:
    """Both experiments, their claims and the figure."""
    seeds = range(scale.pick(1, 3))
    size = {"batch": scale.pick(6, 24), "steps": scale.pick(4, 60)}
    asked = [size | PLAIN | {"rate": rate, "seed": seed} for rate in ALONE[:: scale.pick(3, 1)] for seed in seeds]
    asked += [size | PLAIN | control | {"rate": CONTROL_RATE, "seed": seed} for control in CONTROLS for seed in seeds]
    alone = take(output_alone, asked, folder=scale.runs, title="W_O² alone")
    size = {"batch": scale.pick(4, 24), "steps": scale.pick(5, 150)}
    asked = [size | {"dim": dim, "rate": rate, "seed": seed} for dim in scale.pick((64,), (64, 128)) for rate in ALL[:: scale.pick(2, 1)] for seed in seeds]
    whole = take(all_matrices, asked, folder=scale.runs, title="all matrices")
    main = of(alone, **PLAIN)
    claims = (written_claim(main), *alone_claims(main), *control_claims(alone), *all_claims(whole))
    return Reproduction(claims, figure(main, whole), {"alone": alone, "all": whole})


def made(dim: int, length: int) -> TwoLayers:
    """A model with values and outputs from N(0, 1/d), as are its keys."""
    model = TwoLayers(length, dim)
    for layer in model.layers:
        for part in (layer.keys, layer.values, layer.output):
            nn.init.normal_(part.weight, std=dim**-0.5)
    return model


@torch.no_grad()
def output_alone(config: dict[str, Any]) -> dict[str, Any]:
    """W_O² from 0, full batch, d = 64; keys are written, all other matrices random. Logits are ``u·(x + W_O² h)``: h is read by the head, x passes beside it.

    ``[W_O², 1/c]`` on inputs ``[h, c x]`` is the same; for a small c the second block hardly moves and does not curve the loss.
    """
    torch.manual_seed(config["seed"])
    bigrams, model = Bigrams.of_text(), made(64, 32)
    first, second = model.layers
    for part in (model.embeddings, model.unembeddings, second.values.weight) if config["orthonormal"] else ():
        nn.init.orthogonal_(part)
    nn.init.eye_(second.output.weight)
    model.write_keys(GAIN)
    tokens, told = bigrams.sequences(config["batch"], 32, None if config["even"] else bigrams.single)
    embedded, targets = model.embeddings[tokens[:, :-1]] + model.positions, tokens[:, 1:]
    beside = embedded + first(embedded, causal=True)
    previous = first.association(embedded, causal=True).squeeze(1).diagonal(-1, 1, 2)
    found = (second.association(beside, causal=True).squeeze(1) * (tokens[:, None, :-1] == targets[:, :, None])).sum(-1)
    inputs, labels = torch.cat([second(beside, causal=True), SKIP * beside], -1)[told], targets[told]
    start = torch.cat([torch.zeros(64, 64), torch.eye(64) / SKIP], -1)
    shares = torch.full((len(labels),), 1 / len(labels), dtype=torch.float64)
    path = scaling.learning_dynamics(inputs, model.unembeddings, labels, shares, rate=config["rate"], steps=config["steps"], start=start)
    return {
        "points": len(labels), "attends to the one before": float(previous.mean()), "attends to what it should say": float(found[told].mean()),
        "losses": path.losses.tolist(), "stability": path.stability.tolist(), "error": float(path.errors[-1]),
        "margins": path.margins.quantile(torch.tensor([0.1, 0.5]), dim=-1).T.tolist(),
    }  # fmt: skip


def all_matrices(config: dict[str, Any]) -> dict[str, Any]:
    """Keys, values and outputs of both layers from random ones, embeddings frozen; stops where the loss leaves all bounds."""
    torch.manual_seed(config["seed"])
    bigrams, model = Bigrams.of_text(), made(config["dim"], 32)
    tokens, told = bigrams.sequences(config["batch"], 32)
    optimizer = torch.optim.SGD([part.weight for layer in model.layers for part in (layer.keys, layer.values, layer.output)], lr=config["rate"])
    losses: list[float] = []
    while len(losses) <= config["steps"] and (not losses or losses[-1] < LOST):
        loss = cross_entropy(model(tokens[:, :-1])[told], tokens[:, 1:][told])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"losses": losses, "recovers": losses[-1] < losses[0]}


def rises(run: dict[str, Any]) -> Any:
    """Which steps raised the loss, and which were spikes."""
    now, after = (np.array(run["losses"])[part] for part in (slice(-1), slice(1, None)))
    return after > now, after > SPIKE * now


def of(runs: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [run for run in runs if all(run[name] == value for name, value in wanted.items())]


def written_claim(runs: list[dict[str, Any]]) -> Claim:
    """That the head is one before anything is learned."""
    shares = [float(np.mean([run[f"attends to {what}"] for run in runs])) for what in ("the one before", "what it should say")]
    said = f"attention of {shares[0]:.0%} to the character before, then of {shares[1]:.0%} to what followed the trigger"
    return Claim("an induction head of keys that are written (recalled)", "W_K¹, W_K² as sums of outer products", said, judged(min(shares) > 0.5), own=True)


def alone_claims(runs: list[dict[str, Any]]) -> tuple[Claim, ...]:
    rates = sorted({run["rate"] for run in runs})
    counts = [np.mean([rises(run)[0].sum() for run in of(runs, rate=rate)]) for rate in rates]
    highest = [max(max(run["losses"]) / run["losses"][0] for run in of(runs, rate=rate)) for rate in rates]
    ends = [float(np.median([run["losses"][-1] for run in of(runs, rate=rate)])) for rate in rates]
    beyond = [np.array(run["stability"][:-1])[rises(run)[0]] > 1 for run in runs]
    share, total = float(np.concatenate(beyond).mean()) if sum(map(len, beyond)) else 0.0, sum(map(len, beyond))
    said = f"{_listed(counts, '.1f')} of {len(runs[0]['losses']) - 1} steps raise it at η = {', '.join(f'{rate:g}' for rate in rates)}"
    spikes, benign = judged(highest[-1] > SPIKE > highest[0]), judged(ends == sorted(ends)[::-1], min(ends) < ends[0])
    return (
        Claim("W_O² alone, d = 64: the loss oscillates", "at their rates, 20 to 200", said, judged(min(counts[1:]) > 0 == counts[0], max(counts) > 0)),
        Claim("… and spikes", "loss spikes at large rates", f"at most {_listed(highest, '.1f')} times the first loss", spikes),
        Claim("… which is benign: larger rates end lower", "faster in the end", f"losses {_listed(ends, '.3f')}", benign),
        Claim("the loss rises where ηλ/2 > 1", "the edge of stability", f"{share:.0%} of {total:,} rises", judged(share > 0.95, share > 0.7)),
    )


def control_claims(runs: list[dict[str, Any]]) -> list[Claim]:
    """What overlap and uneven frequencies do at one rate, seed by seed."""
    claims = []
    for what, with_it, without in (("overlapping embeddings", PLAIN, PLAIN | CONTROLS[0]), ("uneven frequencies", PLAIN | CONTROLS[1], PLAIN)):
        counts = [[float(rises(run)[0].sum()) for run in of(runs, rate=CONTROL_RATE, **kind)] for kind in (with_it, without)]
        said = f"{np.mean(counts[0]):.1f} rises with, {np.mean(counts[1]):.1f} without, η = {CONTROL_RATE:g}"
        verdict = judged(*(lead(np.subtract(*counts).tolist()) > bound for bound in (2, 0)))
        claims.append(Claim(f"{what} make it oscillate", "more with than without", said, verdict))
    return claims


def all_claims(runs: list[dict[str, Any]]) -> tuple[Claim, ...]:
    rates, dims = (sorted({run[name] for run in runs}) for name in ("rate", "dim"))
    groups = [of(runs, rate=rate) for rate in rates]
    spikes = [np.mean([rises(run)[1].any() for run in group]) for group in groups]
    lost = [1 - np.mean([run["recovers"] for run in group]) for group in groups]
    safe = next((turn for turn, share in enumerate(lost) if share), len(rates))  # so many rates, from the least on, at which all runs recover
    ends = [float(np.median([run["losses"][-1] for run in group])) for group in groups[:safe]]
    at, last = f"at η = {', '.join(f'{rate:g}' for rate in rates)}", rates[max(safe - 1, 0)]
    more, lower = judged(spikes == sorted(spikes) and spikes[0] < spikes[-1], spikes[0] < max(spikes)), judged(len(ends) > 1 and ends == sorted(ends)[::-1])
    what = f"all matrices, d = {' and '.join(map(str, dims))}: larger rates spike more"
    return (
        Claim(what, "the same oscillations", f"{_listed(spikes, '.0%')} of runs spike {at}", more),
        Claim("… and end lower, where all runs recover", "spikes are benign", f"losses {_listed(ends, '.2f')} up to η = {last:g}", lower),
        Claim("… at their rates, too", "η = 2 to 20", f"{_listed(lost, '.0%')} of runs never recover {at}", judged(lost[-1] == 0, lost[-1] < 1)),
    )


def _listed(numbers: list[Any], digits: str) -> str:
    return ", ".join(format(number, digits) for number in numbers)


def figure(alone: list[dict[str, Any]], whole: list[dict[str, Any]]) -> Figure:
    """W_O² alone above: loss, edge of stability, margins of one seed; all matrices below: losses of both widths, loss at the end against the rate."""
    drawn = Figure(figsize=(11.5, 6.6), layout="constrained")
    places = drawn.subplots(2, 3).flatten()
    for colour, run in zip(COLOURS, of(alone, seed=0), strict=False):
        for place, column in zip(places, (run["losses"], run["stability"], np.array(run["margins"])[:, 1]), strict=False):
            place.plot(column, color=colour, label=f"η = {run['rate']:g}")
    places[1].axhline(1, color="black", linestyle=":", label="edge of stability")
    dims = sorted({run["dim"] for run in whole})
    for place, dim in zip(places[3:5], (dims[0], dims[-1]), strict=True):
        for colour, run in zip(COLOURS, of(whole, seed=0, dim=dim), strict=False):
            place.plot(run["losses"], color=colour, label=f"η = {run['rate']:g}")
        place.set(ylim=(3e-3, 30))
    for colour, marker, dim in zip(COLOURS, MARKERS, dims, strict=False):
        points = [(run["rate"], run["losses"][-1]) for run in of(whole, dim=dim, recovers=True)]
        places[5].plot(*zip(*points, strict=True), color=colour, marker=marker, linestyle="", fillstyle="none", label=f"d = {dim}")
    captioned(
        (places[0], "W_O² alone, d = 64, one seed", "step", "cross-entropy"), (places[1], "W_O² alone: sharpness", "step", "ηλ/2"),
        (places[2], "W_O² alone: median margin", "step", "margin"), (places[3], f"all matrices, d = {dims[0]}, one seed", "step", "cross-entropy"),
        (places[4], f"all matrices, d = {dims[-1]}, one seed", "step", "cross-entropy"),
        (places[5], "all matrices: the runs that recover", "rate η", "loss at the end"),
    )  # fmt: skip
    places[5].set(xscale="log", xticks=ALL, xticklabels=[f"{rate:g}" for rate in ALL], xlim=(0.08, 2.5))
    places[5].minorticks_off()
    for place, scale in zip(places, ("log", "linear", "linear", "log", "log", "log"), strict=True):
        place.set(yscale=scale)
        place.grid(alpha=0.25)
    return drawn


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
