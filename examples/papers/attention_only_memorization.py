"""Memorization in Attention-only Transformers (Dana, Pydi & Chevaleyre): how many sequences one block of attention memorises, beside H·d_h + d.

Every one of the N² contexts of two tokens is given a random next token. A block of attention with a skip connection, nothing else, is trained on all of them;
it cannot know them all, and the share it knows is set against the number of heads H and their width d_h. Then blocks are given just H·d_h + d contexts.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from scipy.stats import linregress
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hopfield_amem.analysis import power_law, take
from hopfield_amem.analysis.capacity import attention_capacity
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.layers import HopfieldAttention, Wiring

PAPER = Paper("Memorization in Attention-only Transformers", "2411.10115", "4 minutes on one core")
CONTEXT = 2  # tokens of a context, S
BATCH, RATES = 256, (0.05, 0.001)  # contexts of a step; the learning rate, first and last
THEIRS = {  # accuracies of the published runs with 50 tokens, contexts of two, d = 10: of 1, 6, 11, … heads of width 10, and of 20 heads of widths 1 to 10
    "heads": {1: 0.130, 6: 0.324, 11: 0.506, 16: 0.685, 21: 0.861, 26: 0.963, 31: 0.997},
    "head_dim": {1: 0.081, 2: 0.110, 3: 0.155, 4: 0.209, 5: 0.288, 6: 0.357, 7: 0.453, 8: 0.546, 9: 0.639, 10: 0.804},
}
CROWDED = 0.9  # above this accuracy nearly all contexts are known, and more heads cannot show


class AttentionOnly(nn.Module):
    """Logits of the next token, ``W_U (x_S + Σ_h W_O^h Σ_s p_s v_s)``: one block of attention, asked by the last token, and a skip connection."""

    def __init__(self, tokens: int, dim: int, heads: int, head_dim: int):
        super().__init__()
        self.embedding = nn.Embedding(tokens, dim)
        self.positions = nn.Parameter(torch.randn(CONTEXT, dim))
        self.attention = HopfieldAttention(dim, heads, wiring=Wiring(head_dim=head_dim, bias=False))
        self.output = nn.Linear(dim, tokens, bias=False)

    def forward(self, contexts: Tensor) -> Tensor:
        x = self.embedding(contexts) + self.positions
        last = x[:, -1:]
        return self.output(last + self.attention(last, x)).squeeze(1)


def memorise(config: dict) -> dict:
    """Train one block on random associations; the share that it knows at the end, and its parameters."""
    torch.manual_seed(config["seed"])
    tokens, total = config["tokens"], config["contexts"]
    every = torch.tensor(list(product(range(tokens), repeat=CONTEXT)))
    contexts = every[torch.randperm(len(every))[:total]]
    answers = torch.randint(tokens, (total,))
    model = AttentionOnly(tokens, config["dim"], config["heads"], config["head_dim"])
    first, last = RATES
    optimizer = torch.optim.Adam(model.parameters(), lr=first)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, (last / first) ** (1 / config["steps"]))
    for _ in range(config["steps"]):
        rows = torch.randint(total, (BATCH,)) if total > BATCH else slice(None)
        optimizer.zero_grad()
        cross_entropy(model(contexts[rows]), answers[rows]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        accuracy = float((model(contexts).argmax(-1) == answers).double().mean())
    return {"accuracy": accuracy, "parameters": sum(part.numel() for part in model.parameters())}


def studies(scale: Scale) -> dict[str, list[dict]]:
    """The configs: accuracy against the heads, against their width, and what the bound says that a block holds."""
    tokens, dim = scale.pick((10, 4), (32, 8))
    shared = {"tokens": tokens, "dim": dim, "steps": scale.pick(60, 1200)}
    every = [shared | {"seed": seed} for seed in range(scale.pick(1, 2))]
    heads, widths = scale.pick(((1, 2, 4), (1, 2, 4)), ((1, 5, 9, 13), (2, 4, 8)))
    bound = scale.pick(((2, 2),), ((1, 8), (4, 4)))
    return {
        "heads": [one | {"contexts": tokens**CONTEXT, "heads": count, "head_dim": dim} for count in heads for one in every],
        "head_dim": [one | {"contexts": tokens**CONTEXT, "heads": heads[-1], "head_dim": width} for width in widths for one in every],
        "bound": [
            one | {"contexts": attention_capacity(count, width, dim).sequences, "heads": count, "head_dim": width} for count, width in bound for one in every
        ],
    }  # fmt: skip


def known(record: dict) -> float:
    """Contexts whose answer is memorised: those known by guessing, one in N, do not count."""
    guessed = 1 / record["tokens"]
    return max(0.0, record["contexts"] * (record["accuracy"] - guessed) / (1 - guessed))


def bound_of(record: dict) -> int:
    return attention_capacity(record["heads"], record["head_dim"], record["dim"]).sequences


def floor_of(record: dict) -> float:
    sizes = record["heads"], record["head_dim"], record["dim"]
    return attention_capacity(*sizes, tokens=record["tokens"], total=record["contexts"]).accuracy or math.nan


def means(records: list[dict], along: str, measure) -> dict[int, float]:
    """A measure against a size, mean over the seeds."""
    sizes = sorted({record[along] for record in records})
    return {size: sum(found := [measure(one) for one in records if one[along] == size]) / len(found) for size in sizes}


def published(along: str = "heads") -> list[dict]:
    """The paper's runs as records."""
    size = {"tokens": 50, "contexts": 50**CONTEXT, "dim": 10, "head_dim": 10, "heads": 20}
    return [size | {along: count, "accuracy": accuracy} for count, accuracy in THEIRS[along].items()]


def rising(records: list[dict]) -> list[dict]:
    """The runs that have something left to learn; all of them where those are too few for a line."""
    left = [record for record in records if record["accuracy"] < CROWDED]
    return left if len({record["heads"] for record in left}) > 2 else records


def line(records: list[dict]):
    """Memorised contexts against heads, by least squares."""
    return linregress([record["heads"] for record in rising(records)], [known(record) for record in rising(records)])


def factor(records: list[dict]) -> float:
    """C of their empirical law ``C H d_h² d``: what one more head memorises."""
    return float(line(records).slope) / (records[0]["head_dim"] ** 2 * records[0]["dim"])


def claims(found: dict[str, list[dict]]) -> tuple[Claim, ...]:
    swept, heads = found["heads"] + found["head_dim"], found["heads"]
    above = sum(record["accuracy"] >= floor_of(record) for record in swept)
    stored = [record["accuracy"] for record in found["bound"]]
    by_width = (means(records, "head_dim", known) for records in (found["head_dim"], published("head_dim")))
    widths, published_widths = (power_law(list(points), list(points.values())) for points in by_width)
    times, theirs = ([known(record) / bound_of(record) for record in rising(records)] for records in (heads, published()))
    squared = abs(widths.exponent - 2) <= 0.2  # where it is not, a C that agrees at one width is no law
    straight, ratio = float(line(heads).rvalue) ** 2, factor(heads) / factor(published())
    return (
        Claim("a block can hold H·d_h + d associations, all of them (theorem)", "accuracy 1",
              f"{sum(share == 1 for share in stored)} of {len(stored)} trained blocks know all, the worst {min(stored):.3f}",
              judged(min(stored) == 1, max(stored) == 1)),
        Claim("accuracy of at least 1/N + (1 − 1/N)(H·d_h + d)/T₀", "always", f"{above} of {len(swept)} runs", judged(above == len(swept), above > 0)),
        Claim("what is memorised grows linearly with H (experiments)", f"R² of a line through its points {float(line(published()).rvalue) ** 2:.4f}",
              f"R² {straight:.4f}", judged(straight > 0.98, straight > 0.9)),
        Claim("C of the law C·H·d_h²·d (experiments), from the slope of that line", f"{factor(published()):.3f}, d = d_h = 10",
              f"{factor(heads):.3f}, d = d_h = {heads[0]['dim']}", judged(squared and 0.7 < ratio < 1.4, 0.5 < ratio < 2)),
        Claim("at fixed H and d it grows as d_h² (experiments)", f"exponent 2; a fit of its own points gives {published_widths.exponent:.2f}",
              f"{widths.exponent:.2f} [{widths.interval[0]:.2f}, {widths.interval[1]:.2f}]",
              judged(squared, widths.interval[1] >= published_widths.interval[0])),
        Claim("trained blocks hold several times the bound", f"{min(theirs):.1f} to {max(theirs):.1f} times",
              f"{min(times):.1f} to {max(times):.1f} times", judged(min(times) > 2, max(times) > 1)),
    )  # fmt: skip


def drawn(found: dict[str, list[dict]]) -> Figure:
    """Memorised contexts against heads and against their width, points over the bound's line."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for place, along, label in zip(figure.subplots(1, 2), ("heads", "head_dim"), ("heads H", "width of a head d_h"), strict=True):
        records = found[along]
        place.plot([record[along] for record in records], [known(record) for record in records], MARKERS[0], color=COLOURS[0], label="trained, every seed")
        bound = means(records, along, bound_of)
        place.plot(list(bound), list(bound.values()), color=COLOURS[7], label="bound H·d_h + d")
        place.axhline(records[0]["contexts"], color=COLOURS[6], linestyle=":", label="all contexts")
        place.set(xlabel=label, ylabel="contexts memorised")
    figure.legend(*place.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    first, second = found["heads"][0], found["head_dim"][0]
    figure.suptitle(f"One block of attention, d = {first['dim']}: heads of width {first['head_dim']} (left), {second['heads']} heads (right)")
    return figure


def work(scale: Scale) -> Reproduction:
    asked = studies(scale)
    configs = {str(config): config for study in asked.values() for config in study}  # the studies share some
    taken = dict(zip(configs, take(memorise, list(configs.values()), folder=scale.runs), strict=True))
    found = {name: [taken[str(config)] for config in study] for name, study in asked.items()}
    keep = ("heads", "head_dim", "dim", "contexts", "seed", "accuracy", "parameters")
    numbers = {name: [{key: record[key] for key in keep} for record in records] for name, records in found.items()}
    return Reproduction(claims(found), drawn(found), numbers)


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
