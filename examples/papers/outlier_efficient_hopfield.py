"""Outlier-Efficient Hopfield Layers (OutEffHop, Hu et al. 2024): does a memory with an empty slot keep outliers out of a transformer's activations?

A head of softmax attention that has nothing to say must say it by weights that sum to one. Where softmax₁ = exp/(1 + Σ exp) takes its place, an energy with one
empty slot, it may read nothing. Small language models are trained with either, all else equal; outliers are counted as the paper counts them, and then
weights and activations are rounded to eight bits.
"""

from __future__ import annotations

from statistics import fmean

import torch
from matplotlib.figure import Figure
from parts.paired import paired
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from scipy.stats import kurtosis
from torch import Tensor, nn

from hopfield_amem import presets
from hopfield_amem.analysis import take
from hopfield_amem.analysis.memorization import LanguageModel, Text, Training, train
from hopfield_amem.analysis.memorization.corpus import Corpus
from hopfield_amem.analysis.memorization.models import Block
from hopfield_amem.analysis.memorization.training import shown, token_losses
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.layers import HopfieldAttention, HopfieldFFN, Wiring

PAPER = Paper("Outlier-Efficient Hopfield Layers for Large Transformer-Based Models", "2404.03828", "7 minutes on one core")
ENERGIES = {"softmax": presets.log_sum_exp, "softmax1": presets.softmax1}
HEADS, LENGTH, ROWS = 4, 64, 256  # heads of a layer, bytes of a row, held-out rows that are looked at
MEASURES = {
    "kurtosis": "average kurtosis of attention's outputs",
    "largest": "maximum infinity norm of attention's outputs",
    "loss": "held-out loss, nats per byte",
    "lost": "loss that rounding to 8 bits adds",
}


def made(config: dict, symbols: int) -> LanguageModel:
    width = config["width"]
    energy = ENERGIES[config["kind"]]((width // HEADS) ** -0.5)
    return LanguageModel(symbols, width, [
        Block(HopfieldAttention(width, HEADS, energy, wiring=Wiring(rotary=1e4)), HopfieldFFN(width, 4 * width, presets.gelu_feed_forward()))
        for _ in range(config["layers"])
    ])  # fmt: skip


def outputs_of(modules: list[nn.Module], model: nn.Module, tokens: Tensor) -> list[Tensor]:
    """What these parts of a model put out for some tokens."""
    seen: list[Tensor] = []
    hooks = [module.register_forward_hook(lambda _, __, output: seen.append(output)) for module in modules]
    model(tokens)
    for hook in hooks:
        hook.remove()
    return seen


def loss_of(model: nn.Module, corpus: Corpus) -> float:
    rows = corpus.validation[:ROWS]
    return float(token_losses(model(rows[:, :-1]), rows, shown(corpus)).mean())


def rounded(tensor: Tensor, largest: Tensor) -> Tensor:
    """To 255 levels between ±largest, one step for the whole tensor."""
    return torch.fake_quantize_per_tensor_affine(tensor, float(largest) / 127, 0, -127, 127)


def in_eight_bits(model: LanguageModel, calibration: Tensor) -> None:
    """Round weights and inputs of every linear map, the read-out apart; the ranges of inputs are those of some training rows (W8A8, nothing is trained)."""
    linear = [module for module in model.blocks.modules() if isinstance(module, nn.Linear)]
    ranges: dict[nn.Module, Tensor] = {}
    hooks = [module.register_forward_pre_hook(lambda module, given: ranges.update({module: given[0].abs().max()})) for module in linear]
    model(calibration)
    for hook in hooks:
        hook.remove()
    for module in linear:
        module.weight.data = rounded(module.weight, module.weight.abs().max())
        module.register_forward_pre_hook(lambda module, given: (rounded(given[0], ranges[module]),))


def outliers(config: dict) -> dict:
    """Train one model; the outliers of what its attention puts out, its loss, and what rounding costs it."""
    corpus = Text(length=LENGTH)(config["examples"], 0)
    torch.manual_seed(config["seed"])
    model = made(config, corpus.symbols)
    train(model, corpus, Training(config["steps"], config["batch"], 0.005), seed=config["seed"])
    tokens = corpus.validation[:ROWS, :-1]
    with torch.no_grad():
        attention = [block.mixer for block in model.blocks]
        written = outputs_of(attention, model, tokens)
        normed = outputs_of([block.before for block in model.blocks], model, tokens)
        weights = [mixer.association(x, causal=True) for mixer, x in zip(attention, normed, strict=True)]
        before = loss_of(model, corpus)
        in_eight_bits(model, corpus.training[:ROWS, :-1])
        return {
            "kurtosis": fmean(float(kurtosis(x.flatten().numpy(), fisher=False)) for x in written),
            "largest": max(float(x.abs().amax((1, 2)).mean()) for x in written),
            "loss": before,
            "lost": loss_of(model, corpus) - before,
            "unread": fmean(float(1 - p.sum(-1).mean()) for p in weights),
            "start": fmean(float(p[..., 1:, 0].mean()) for p in weights),
        }


def by_kind(records: list[dict], measure: str) -> dict[str, list[float]]:
    return {kind: [record[measure] for record in records if record["kind"] == kind] for kind in ENERGIES}


def claims(records: list[dict]) -> tuple[Claim, ...]:
    published = {"kurtosis": "−22 %, mean of four large models", "largest": "−26 %, mean of four large models", "loss": "as good", "lost": "less"}
    result = []
    for measure, words in MEASURES.items():
        values = by_kind(records, measure)
        mean, low, high = paired(values["softmax1"], values["softmax"])
        lower = sum(empty < plain for plain, empty in zip(*values.values(), strict=True))
        plain, pairs = fmean(values["softmax"]), len(values["softmax"])
        text = f"{plain:.4g} → {plain + mean:.4g} with softmax₁; difference {mean:+.3g} [{low:+.3g}, {high:+.3g}], lower in {lower} of {pairs} pairs"
        text += ": no difference told" * (low <= 0 <= high)
        if measure == "loss":  # as good: no worse than by one hundredth, within what the seeds tell; in part where they tell no difference at all
            verdict = judged(high <= 0.01 * plain, low <= 0 <= high)
        else:
            verdict = judged(high < 0 and 2 * lower > pairs)
        result.append(Claim(words, published[measure], text, verdict))
    unread, start = by_kind(records, "unread")["softmax1"], by_kind(records, "start")
    first = {kind: f"{fmean(shares):.1%}" for kind, shares in start.items()}
    text = f"{fmean(unread):.0%} of a query's weight is on the empty slot, {first['softmax1']} on the start token; with softmax {first['softmax']}"
    less = paired(start["softmax1"], start["softmax"]).high < 0
    text += "" if less else ": no difference told"
    result.append(Claim("the empty slot takes what a head without an answer else gives to one token", "the reason for outliers", text,
                        judged(less and fmean(unread) > 0.1, less)))  # fmt: skip
    return tuple(result)


def drawn(records: list[dict]) -> Figure:
    """Every seed's pair of models, measure by measure."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for place, (measure, words) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        values = by_kind(records, measure)
        for pair in zip(*values.values(), strict=True):
            place.plot((0, 1), pair, color=COLOURS[6], linewidth=1)
        for index, points in enumerate(values.values()):
            place.plot([index] * len(points), points, MARKERS[index], color=COLOURS[index])
        place.set(xticks=(0, 1), xticklabels=("softmax", "softmax₁"), xlim=(-0.4, 1.4), ylabel=words)
    figure.suptitle("Pairs of models that differ in their attention alone, one line a seed")
    return figure


def work(scale: Scale) -> Reproduction:
    size = {
        "width": scale.pick(16, 64),
        "layers": scale.pick(1, 3),
        "steps": scale.pick(20, 500),
        "batch": scale.pick(8, 32),
        "examples": scale.pick(200, 3000),
    }
    configs = [size | {"kind": kind, "seed": seed} for seed in range(scale.pick(2, 4)) for kind in ENERGIES]
    records = take(outliers, configs, folder=scale.runs)
    keep = ("kind", "seed", *MEASURES, "unread", "start")
    return Reproduction(claims(records), drawn(records), {"size": size, "runs": [{name: record[name] for name in keep} for record in records]})


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
