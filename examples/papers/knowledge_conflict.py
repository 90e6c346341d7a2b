"""Knowledge conflict: what the weights hold against what the context says, as two memories whose energies add.

Kim et al. 2025 (arXiv 2510.02370): which properties of the training data make a model use both memories well. Facts are pairs of a key and a value, documents
lists of facts, and a query asks for the value of one key. In their terms: repetition (the fact that is asked for stands in the document), inconsistency (some
of these say a wrong value; what is asked for stays the true one), skew (facts come by Zipf's law).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from parts.two_memories import TwoMemories, fresh
from reproduction import Claim, Paper, Reproduction, Scale, Seeds, captioned, judged, reproduce
from torch import Tensor, nn

from hopfield_amem.analysis import take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS

PAPER = Paper("How training data shapes the use of parametric and in-context knowledge in language models", "2510.02370", "4 minutes on 1 core")
FACTS, VALUES, DIM, SLOTS = 2048, 64, 64, 512  # keys, possible values, width, memories of the feed-forward block
LENGTH, BATCH, RATE, ASKED = 16, 128, 2e-3, 1024  # facts in a document, of a step, learning rate, of an evaluation
BANDS = ((0, 16), (16, 64), (64, 256), (256, 1024), (1024, 2048))  # ranks of the facts, the most frequent first
REPEATS, BLUNTED = (1, 2, 4, 8), (1.0, 0.5, 0.25, 0.125)  # how often the context repeats itself; what β of attention is multiplied by


def truth() -> Tensor:
    """The value of every fact. (facts,)"""
    return torch.randint(VALUES, (FACTS,), generator=torch.Generator().manual_seed(1))


def frequency(skew: float) -> Tensor:
    """How often a fact comes, ∝ rank^−skew. (facts,)"""
    return torch.arange(1, FACTS + 1).double().pow(-skew).float()


def wrong(values: Tensor) -> Tensor:
    """Another value for each."""
    return (values + torch.randint(1, VALUES, values.shape)) % VALUES


def documents(config: dict[str, Any], true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The facts that are asked for (b,), the facts of their documents (b, n) and the values these give them (b, n)."""
    facts = torch.multinomial(frequency(config["skew"]), BATCH * (LENGTH + 1), replacement=True).view(BATCH, -1)
    asked, listed = facts[:, 0], facts[:, 1:].clone()
    listed = torch.where(listed == asked[:, None], torch.randint(FACTS, listed.shape), listed)
    if config["repetition"]:
        listed[:, 0] = asked  # the order of a document does not matter to attention without positions
    said = true[listed]
    false = torch.rand(said.shape) < config["inconsistency"]
    return asked, listed, torch.where(false, wrong(said), said)


def trained(config: dict[str, Any], true: Tensor) -> TwoMemories:
    """Adam with a falling rate, on fresh documents."""
    torch.manual_seed(config["seed"])
    model = TwoMemories(FACTS, VALUES, DIM, SLOTS)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"])
    for _ in range(config["steps"]):
        asked, listed, said = documents(config, true)
        loss = nn.functional.cross_entropy(model(model.keys[asked], model.keys[listed], said), true[asked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def learn(config: dict[str, Any]) -> dict[str, float]:
    """One trained model: what it takes from a context about new keys, and which memory wins where they conflict."""
    true = truth()
    with torch.enable_grad():
        model = trained(config, true)
    said = torch.randint(VALUES, (ASKED,))
    found = {"new": float((answers(model, fresh(ASKED, DIM), said, 1) == said).float().mean())}
    for band in BANDS:
        won = conflict(model, torch.randint(*band, (ASKED,)), true, repeats=1)
        found |= {f"{who} {band[0]}": share for who, share in won.items()}
    rare, trained_beta = torch.randint(*BANDS[3], (ASKED,)), model.context.log_beta.clone()
    for factor in BLUNTED:
        model.context.log_beta.copy_(trained_beta + math.log(factor))
        found |= {f"context, {repeats} times, β × {factor:g}": conflict(model, rare, true, repeats=repeats)["context"] for repeats in REPEATS}
    model.context.log_beta.copy_(trained_beta)
    read, step = model.stepped(model.keys[:64], model.keys[torch.randint(FACTS, (64, LENGTH))], torch.randint(VALUES, (64, LENGTH)))
    return found | {"apart": float((read - step).norm() / read.norm())}


def answers(model: TwoMemories, asked: Tensor, said: Tensor, repeats: int) -> Tensor:
    """What the model answers where the context gives the key that is asked for this value, so many times. (b, d), (b,) -> (b,)"""
    keys, values = model.keys[torch.randint(FACTS, (len(asked), LENGTH))], torch.randint(VALUES, (len(asked), LENGTH))
    keys[:, :repeats], values[:, :repeats] = asked[:, None], said[:, None]
    return model(asked, keys, values).argmax(-1)


def conflict(model: TwoMemories, facts: Tensor, true: Tensor, repeats: int) -> dict[str, float]:
    """Shares: what the weights know where the context is silent; who wins where it contradicts."""
    said, asked = wrong(true[facts]), model.keys[facts]
    known = answers(model, asked, said, 0) == true[facts]
    answer = answers(model, asked, said, repeats)
    return {"known": float(known.float().mean()), "weights": float((answer == true[facts]).float().mean()), "context": float((answer == said).float().mean())}


CONDITIONS = {
    "all three": {}, "no repetition": {"repetition": False}, "no inconsistency": {"inconsistency": 0.0}, "no skew": {"skew": 0.0},
}  # fmt: skip


def work(scale: Scale) -> Reproduction:
    seeds, base = scale.pick(1, 4), {"repetition": True, "inconsistency": 0.1, "skew": 1.0, "steps": scale.pick(40, 800)}
    asked = [{**base, **change, "seed": seed} for change in CONDITIONS.values() for seed in range(seeds)]
    records = take(learn, asked, folder=scale.runs)
    runs = {name: records[seeds * k : seeds * (k + 1)] for k, name in enumerate(CONDITIONS)}
    return Reproduction(tuple(claims(runs)), drawn(runs), {"runs": runs})


def claims(runs: dict[str, list[dict]]):
    """What the paper says beside what is found."""
    whole = runs["all three"]
    first, last, second = (f"{band[0]}" for band in (BANDS[0], BANDS[-1], BANDS[1]))
    frequent, rare, context = (Seeds.of(whole, who) for who in (f"weights {first}", f"weights {last}", f"context {last}"))
    ours = f"the {BANDS[0][1]} most frequent: weights {frequent}; the rarest: context {context}, weights {rare}"
    verdict = judged(frequent.low > 0.8 and context.low > 0.5 > rare.high, frequent.low > rare.high)
    yield Claim("in conflict, weights win for familiar facts and the context for unfamiliar ones (all three properties)", "so", ours, verdict)
    new = {name: Seeds.of(found, "new") for name, found in runs.items()}
    taken = "new facts taken from the context: {} without, {} with"
    ours = taken.format(new["no repetition"], new["all three"]) + "; without it no document holds the key that is asked for: useless by construction"
    yield Claim("use of the context needs repetition in documents", "needed", ours, "not tested")
    trusting, doubting = (Seeds.of(runs[name], f"weights {second}") for name in ("no inconsistency", "all three"))
    ours = f"weights win at ranks {BANDS[1][0] + 1} to {BANDS[1][1]}: {trusting} without, {doubting} with"
    verdict = judged(trusting.high < 0.5 < doubting.low, trusting.high < doubting.low)
    yield Claim("trust in the weights where they know needs inconsistency", "needed", ours, verdict)
    verdict = judged(new["no skew"].high < 0.5 * new["all three"].low and new["all three"].low > 0.4, new["no skew"].high < new["all three"].low)
    yield Claim("use of the context for new facts needs a skewed distribution", "needed", taken.format(new["no skew"], new["all three"]), verdict)
    error = max(run["apart"] for found in runs.values() for run in found)
    what = "what both memories read together is one unit step of their summed energies"
    yield Claim(what, "derived here", f"to {error:.0e}, by autograd", judged(error < 1e-5), own=True)


def drawn(runs: dict[str, list[dict]]) -> Figure:
    """Who wins by frequency, what is taken from the context under each condition, and repetition in the context at falling β."""
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    wins, new, grid = figure.subplots(1, 3)
    names = [f"{low + 1}–{high}" for low, high in BANDS]
    for k, (name, found) in enumerate(runs.items()):
        wins.plot(names, [Seeds.of(found, f"weights {band[0]}").mean for band in BANDS], color=COLOURS[k], marker=MARKERS[k], label=name)
        taken = Seeds.of(found, "new")
        new.errorbar([k], [taken.mean], [[taken.mean - taken.low], [taken.high - taken.mean]], color=COLOURS[k], marker=MARKERS[k], capsize=4)
    context = [Seeds.of(runs["all three"], f"context {band[0]}").mean for band in BANDS]
    wins.plot(names, context, "--", color=COLOURS[0], label="all three: the context wins")
    for k, factor in enumerate(BLUNTED):
        rates = [Seeds.of(runs["all three"], f"context, {repeats} times, β × {factor:g}").mean for repeats in REPEATS]
        grid.plot(REPEATS, rates, color=COLOURS[k], marker=MARKERS[k], label=f"β × {factor:g}")
    new.axhline(1 / VALUES, color="grey", linestyle=":", label="chance")
    wins.tick_params("x", rotation=20)
    new.set_xticks(range(len(runs)), list(runs), rotation=20)
    grid.set_xscale("log", base=2)
    grid.set_xticks(REPEATS, REPEATS)
    for place, top in ((wins, 1.55), (new, 1.03), (grid, 1.03)):  # room for a legend over lines that fill their panel
        place.set_ylim(-0.03, top)
    captioned(
        (wins, "conflict: the weights win", "rank of the fact (1: most frequent)", "share of conflicts"),
        (new, "facts that were never trained", "training data", "taken from the context"),
        (grid, f"conflict: the context wins, ranks {names[3]}", "times that the context says it", "share of conflicts"),
    )
    return figure


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
