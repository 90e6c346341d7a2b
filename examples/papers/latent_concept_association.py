"""Latent concept association: a one-layer transformer whose value matrix is an associative memory, and contexts that hijack it.

Jiang, Rajendran, Ravikumar & Aragam 2024 (arXiv 2406.18400). The task and the transformer are in parts/latent_concepts.py: contexts are drawn near a concept
that they leave out, and the model is to say it. It never sees it: it has to recall it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from parts.latent_concepts import BITS, TOKENS, OneLayer, best, concepts, constructed, contexts, hamming, neighbours
from reproduction import Claim, Paper, Reproduction, Scale, Seeds, captioned, judged, reproduce
from torch import Tensor, nn

from hopfield_amem.analysis import take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS

PAPER = Paper(
    "Do LLMs dream of elephants (when told not to)? Latent concept association and associative memory in transformers", "2406.18400", "4 minutes on 1 core"
)
CLUSTER = 2  # the first bits that the concepts of a cluster share
SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8)  # of a context that speaks of something else
BATCH, RATE, ASKED = 64, 3e-3, 2048  # contexts of a training step, learning rate, contexts of an evaluation


def trained(config: dict[str, Any]) -> OneLayer:
    """Adam on fresh contexts."""
    torch.manual_seed(config["seed"])
    model, likelihood = OneLayer(config["dim"], config["value"]), neighbours(config["shared"])
    model.embedding.requires_grad_(config["embedding"] == "trained")
    if config["attention"] == "uniform":
        model.attention.keys.weight.requires_grad_(False).zero_()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
    for _ in range(config["steps"]):
        target = torch.randint(TOKENS, (BATCH,))
        loss = nn.functional.cross_entropy(model(contexts(target, likelihood, config["length"], config["noise"])), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def learn(config: dict[str, Any]) -> dict[str, Any]:
    """One trained transformer: its accuracy beside the best possible, its embeddings by Hamming distance, whom it attends to, how it is hijacked."""
    with torch.enable_grad():
        model = trained(config)
    likelihood = neighbours(config["shared"])
    target = torch.arange(ASKED) % TOKENS
    context = contexts(target, likelihood, config["length"], config["noise"])
    apart = hamming()
    products = model.embedding @ model.embedding.T
    values = torch.linalg.svdvals(model.embedding)
    weights = model.attention.association(model.embedding[context][:, -1:], model.embedding[context])[:, 0, 0]
    kin = (concepts()[context][..., : config["shared"]] == concepts()[target][:, None, : config["shared"]]).all(-1)
    return {
        "accuracy": float((model(context).argmax(-1) == target).float().mean()),
        "best": float((best(context, likelihood, config["noise"]) == target).float().mean()),
        "products": [float(products[apart == distance].mean()) for distance in range(BITS + 1)],
        "correlation": float(torch.corrcoef(torch.stack([products[apart > 0], apart[apart > 0]]))[0, 1]),
        "leading": float(values[: BITS + 1].square().sum() / values.square().sum()),
        "attended": float((weights * kin).sum(-1).mean()), "present": float(kin.float().mean()),
        **{f"hijacked {share:g}": hijacked(model, likelihood, config["length"], share) for share in SHARES},
    }  # fmt: skip


@torch.no_grad()
def hijacked(model: OneLayer, likelihood: Tensor, length: int, share: float) -> float:
    """How often a false target is preferred to the true one when so large a share of the context speaks of the false one: the efficacy score."""
    true = torch.arange(ASKED) % TOKENS
    false = (true + torch.randint(1, TOKENS, true.shape)) % TOKENS
    count = round(share * length)
    context = torch.cat([contexts(false, likelihood, count), contexts(true, likelihood, length - count)], -1) if count else contexts(true, likelihood, length)
    logits = model(context)
    return float((logits.gather(-1, false[:, None]) > logits.gather(-1, true[:, None])).float().mean())


VARIANTS = {
    "all trained": {}, "value matrix = identity": {"value": "identity"}, "embeddings random, not trained": {"embedding": "frozen"},
}  # fmt: skip
NOISY = {"shared": CLUSTER, "noise": 0.5}  # half of the tokens are any, the others come from the target's cluster


def by_length(lengths: list[int]) -> dict[str, list[float]]:
    """Accuracy of value matrices that are written down, not trained, and of what knows the distribution."""
    torch.manual_seed(0)
    written = {
        f"orthonormal, d = {TOKENS}": constructed(torch.eye(TOKENS)), "random, d = 16": constructed(nn.functional.normalize(torch.randn(TOKENS, 16), dim=-1)),
        f"the bits, d = {BITS}": constructed(concepts() / math.sqrt(BITS)),
    }  # fmt: skip
    likelihood, target = neighbours(), torch.arange(ASKED) % TOKENS
    found: dict[str, list[float]] = {"best possible": [], **{name: [] for name in written}}
    for length in lengths:
        context = contexts(target, likelihood, length)
        with torch.no_grad():
            said = {"best possible": best(context, likelihood), **{name: model(context).argmax(-1) for name, model in written.items()}}
        for name, guess in said.items():
            found[name].append(float((guess == target).float().mean()))
    return found


def work(scale: Scale) -> Reproduction:
    lengths, dims, seeds = scale.pick([16, 64], [4, 8, 16, 32, 64, 128, 256]), scale.pick([8, TOKENS], [4, 8, 16, TOKENS, 2 * TOKENS]), scale.pick(1, 2)
    base = {"value": "trained", "embedding": "trained", "attention": "trained", "shared": 0, "noise": 0.0, "length": 32, "steps": scale.pick(60, 600)}
    kinds = {(name, dim): {**base, **change, "dim": dim} for name, change in VARIANTS.items() for dim in dims}
    kinds |= {(way, TOKENS): {**base, **NOISY, "attention": way, "dim": TOKENS} for way in ("trained", "uniform")}
    asked = [{**kind, "seed": seed} for kind in kinds.values() for seed in range(seeds)]
    records = take(learn, asked, folder=scale.runs)
    runs = {key: records[seeds * k : seeds * (k + 1)] for k, key in enumerate(kinds)}
    written = by_length(lengths)
    figure = drawn(lengths, written, dims, runs)
    numbers = {"lengths": lengths, "written": written, "runs": [{"kind": name, "dim": dim, "found": found} for (name, dim), found in runs.items()]}
    return Reproduction(tuple(claims(lengths, written, dims, runs)), figure, numbers)


def claims(lengths, written, dims, runs):
    """What the paper says beside what is found."""
    few = max(dim for dim in dims if dim < TOKENS)
    free, bare, fixed = VARIANTS

    def of(name: str, dim: int, what: str) -> Seeds:
        return Seeds.of(runs[name, dim], what)

    stored = written[f"orthonormal, d = {TOKENS}"]
    ours = f"{stored[-1]:.4f} ({lengths[0]} tokens: {stored[0]:.2f}, the best possible {written['best possible'][0]:.2f})"
    what = f"a written value matrix, orthonormal embeddings, uniform attention, {lengths[-1]} tokens (theorem)"
    yield Claim(what, "error → 0 in long contexts", ours, judged(stored[-1] > 0.999, stored[-1] > 0.95))
    value, none = of(free, TOKENS, "accuracy"), of(bare, TOKENS, "accuracy")
    yield Claim(f"the value matrix is the memory: trained, not the identity (d = {TOKENS})", "needed", f"{value} against {none}", judged(value.low > none.high))
    value, none = of(free, few, "accuracy"), of(fixed, few, "accuracy")
    verdict = judged(value.low > none.high + 0.2, value.low > none.high)
    yield Claim(f"embeddings must be trained where d < tokens (d = {few})", "crucial", f"{value} against {none}", verdict)
    line, bare_line = of(free, few, "correlation"), of(bare, few, "correlation")
    ours = f"correlation {line}; {bare_line} without a value matrix"
    yield Claim(f"their inner products fall with the Hamming distance (d = {few})", "a falling line", ours, judged(line.high < -0.9, line.high < 0))
    leading, bare_leading, chance = (of(name, few, "leading") for name in (free, bare, fixed))
    ours = f"{leading}; {bare_leading} without a value matrix; random ones {chance}"
    what = f"embeddings of low rank: what {BITS + 1} of {few} singular directions hold"
    yield Claim(what, "low rank", ours, judged(leading.low > 0.9, leading.low > chance.high + 0.1))
    attended, present = (of("trained", TOKENS, what) for what in ("attended", "present"))
    chosen, alike = (of(way, TOKENS, "accuracy") for way in ("trained", "uniform"))
    ours = f"weight {attended} where {present.mean:.2f} of the tokens are; accuracy {chosen} against {alike} of uniform attention"
    verdict = judged(attended.low > present.high and chosen.low > alike.high, attended.low > present.high)
    yield Claim("attention selects the tokens of the right cluster among noise", "filters noise", ours, verdict)
    turned = [of(free, TOKENS, f"hijacked {share:g}") for share in SHARES]
    ours = "; ".join(f"{share:.0%}: {turn.mean:.2f}" for share, turn in zip(SHARES, turned, strict=True))
    verdict = judged(turned[0].high < 0.1 and turned[-1].low > 0.9, turned[-1].low > turned[0].high)
    yield Claim("context hijacking: the false target preferred, by its share of the context", "rises with repetition", ours, verdict)


def drawn(lengths, written, dims, runs) -> Figure:
    """Written memories by length, trained ones by width, embeddings by distance, hijacking."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    stored, learned, geometry, turned = figure.subplots(2, 2).flatten()
    few = max(dim for dim in dims if dim < TOKENS)
    for k, (name, rates) in enumerate(written.items()):
        style = {"color": "black", "linestyle": "--"} if name == "best possible" else {"color": COLOURS[k], "marker": MARKERS[k]}
        stored.semilogx(lengths, rates, label=name, base=2, **style)
    for k, name in enumerate(VARIANTS):
        look = {"color": COLOURS[k], "marker": MARKERS[k], "label": name}
        found = [Seeds.of(runs[name, dim], "accuracy") for dim in dims]
        spread = [[one.mean - one.low for one in found], [one.high - one.mean for one in found]]
        learned.errorbar(dims, [one.mean for one in found], spread, capsize=3, **look)
        products = [sum(run["products"][distance] for run in runs[name, few]) for distance in range(BITS + 1)]
        geometry.plot(range(BITS + 1), [product / products[0] for product in products], **look)
        turned.plot(SHARES, [Seeds.of(runs[name, TOKENS], f"hijacked {share:g}").mean for share in SHARES], **look)
    learned.axhline(runs["all trained", TOKENS][0]["best"], color="black", linestyle="--", label="best possible")
    learned.axvline(TOKENS, color="grey", linestyle=":")
    learned.set_xscale("log", base=2)
    captioned(
        (stored, "written value matrices, uniform attention", "length of the context", "accuracy"),
        (learned, f"trained, {TOKENS} tokens, contexts of 32", "width d (dotted: as many as tokens)", "accuracy"),
        (geometry, f"embeddings, d = {few}", "Hamming distance of the concepts", "mean inner product / squared norm"),
        (turned, f"hijacking, d = {TOKENS}", "share of the context about a false target", "prefers the false target"),
    )
    return figure


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
