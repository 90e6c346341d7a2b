"""Diffusion as memory: generated samples are copies, then spurious, then new, as the training data grow.

Pham et al. 2025 (arXiv 2505.21777). The exact score of n samples with noise σ is the force of the distance energy at β = 1/σ²: taken to σ → 0 it retrieves
stored samples and nothing else. New states come of what the score loses: noise that is left (minima that merge, on a circle where the truth is known), or a
network that learns the score and smooths it (digits).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, Seeds, captioned, judged, reproduce
from torch import Tensor, nn

from hopfield_amem import presets
from hopfield_amem.analysis import Diffusion, memory_at, novelty, power_law, take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import HopfieldFFN

PAPER = Paper("Memorization to generalization: emergence of diffusion models from associative memory", "2505.21777", "4 minutes on 1 core")
KINDS = ("memorised", "spurious", "generalised")
HIGHEST, LOWEST, LEVELS = 4.0, 0.04, 24  # noise levels of the digits
LEFT = 0.3  # noise that is left on the circle
WIDTH, SLOTS, BATCH, RATE = 128, 512, 128, 2e-3
BRIEF, REST = FixedPoint(steps=30), FixedPoint(steps=1000, tolerance=1e-6)  # descents on the circle: stopped, and until nothing moves


def digits(seed: int) -> Tensor:
    """All 1,797 digits of scikit-learn in an order of its own, 8 × 8 pixels in [0, 1]. (n, 64)"""
    from sklearn.datasets import load_digits

    pixels = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    return pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))]


class Denoiser(nn.Module):
    """``D(x, σ) = c x + s f(x, σ)``, preconditioned so that input and target of f have unit variance at every σ (Karras et al. 2022, arXiv 2206.00364); f is
    two feed-forward memories on a residual stream.

    Args:
        mean, deviation: of the pixels of the data.
    """

    def __init__(self, mean: float, deviation: float):
        super().__init__()
        self.mean, self.deviation = mean, deviation
        self.taken, self.given = nn.Linear(64 + 8, WIDTH), nn.Linear(WIDTH, 64)
        self.blocks = nn.ModuleList(HopfieldFFN(WIDTH, SLOTS, presets.silu_feed_forward()) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(b, 64), (b, 1) -> (b, 64)"""
        x, total = x - self.mean, (sigma**2 + self.deviation**2).sqrt()
        waves = sigma.log() * torch.tensor([0.25, 0.5, 1.0, 2.0])
        stream = self.taken(torch.cat([x / total, waves.cos(), waves.sin()], -1))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            stream = stream + block(norm(stream))
        kept, made = (self.deviation / total) ** 2, sigma * self.deviation / total
        return self.mean + kept * x + made * self.given(stream)


def trained(data: Tensor, steps: int) -> Denoiser:
    """Adam with a falling rate on ``‖D(ξ + σε, σ) − ξ‖²`` in units of its preconditioning, σ log-uniform over the levels."""
    model = Denoiser(float(data.mean()), float(data.std()))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        clean = data[torch.randint(len(data), (BATCH,))]
        sigma = LOWEST * (HIGHEST / LOWEST) ** torch.rand(BATCH, 1)
        weight = (sigma**2 + model.deviation**2) / (sigma * model.deviation) ** 2
        loss = (weight * (model(clean + sigma * torch.randn_like(clean), sigma) - clean).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def generated(model: Denoiser, start: Tensor) -> Tensor:
    """The deterministic path of ``analysis.Diffusion``, with what the network believes in the place of the exact posterior mean."""
    levels, state = Diffusion.geometric(HIGHEST, LOWEST, LEVELS).levels, start
    for level, following in zip(levels, (*levels[1:], 0.0), strict=True):
        clean = model(state, torch.full((len(state), 1), level))
        state = torch.lerp(clean, state, following / level) if following else clean
    return state


def learn(config: dict[str, Any]) -> dict[str, Any]:
    """Two networks, each trained on ``size`` digits of its own: what they generate, and how far apart they are from the same noise."""
    torch.manual_seed(config["seed"])
    data, size = digits(config["seed"]), config["size"]
    halves, start = (data[:size], data[size : 2 * size]), HIGHEST * torch.randn(config["samples"], 64)
    spacing = float(novelty(data, data[:1], memorised=0, spurious=0).to_generated.median())
    close = {"memorised": spacing / 3, "spurious": spacing / 3}
    states = [generated(trained(half, config["steps"]), start) for half in halves]
    found = [novelty(state, half, **close) for state, half in zip(states, halves, strict=True)]
    exact = novelty(Diffusion.geometric(HIGHEST, LOWEST, LEVELS)(start, halves[0]).state, halves[0], **close)
    return {
        **{kind: [float(getattr(one, kind).float().mean()) for one in found] for kind in KINDS}, "spacing": spacing,
        "exact copies": float(exact.memorised.float().mean()), "twins": float((states[0] - states[1]).norm(dim=-1).median() / spacing),
        "strangers": float((states[0] - states[1].roll(1, 0)).norm(dim=-1).median() / spacing),
    }  # fmt: skip


def circle(config: dict[str, int]) -> dict[str, Any]:
    """Random points of the unit circle, the exact energy at the noise that is left: what samples are, and how rough the valley is that the points make."""
    draw, count = torch.Generator().manual_seed(config["seed"]), config["count"]
    angle = 2 * math.pi * torch.rand(count, generator=draw)
    data, start = torch.stack([angle.cos(), angle.sin()], -1), 5 * torch.randn(60, 2, generator=draw)
    energy, diffusion = memory_at(LEFT), Diffusion.geometric(5.0, LEFT, 40)
    brief, rest = (novelty(descent(energy, diffusion(start, data).state, data).state, data, memorised=0.02, spurious=0.005) for descent in (BRIEF, REST))
    ring = torch.linspace(0, 2 * math.pi, 361)[:-1]
    around = energy.beta * energy(torch.stack([ring.cos(), ring.sin()], -1), data)
    shares = {kind: float(getattr(brief, kind).float().mean()) for kind in KINDS}
    return {**shares, "at rest": float(rest.generalised.float().mean()), "roughness": float(around.std())}


def work(scale: Scale) -> Reproduction:
    sizes = scale.pick([4, 64], [2, 8, 64, 256, 898])
    asked = [{"size": size, "steps": scale.pick(20, 1500), "samples": scale.pick(50, 400), "seed": 0} for size in sizes]
    runs = take(learn, asked, folder=scale.runs)
    counts, seeds = scale.pick([2, 300], [2, 3, 4, 6, 8, 12, 20, 40, 100, 300, 1000, 3000]), scale.pick(1, 3)
    points = take(circle, [{"count": count, "seed": seed} for count in counts for seed in range(seeds)], folder=scale.runs)
    rings = [points[seeds * k : seeds * (k + 1)] for k in range(len(counts))]
    return Reproduction(tuple(claims(runs, rings)), drawn(runs, rings), {"digits": runs, "circle": rings})


def claims(runs: list[dict], rings: list[list[dict]]):
    """What the paper says beside what is found."""
    first, last, sizes = runs[0], runs[-1], [run["size"] for run in runs]
    shares = {kind: [sum(run[kind]) / 2 for run in runs] for kind in KINDS}
    few, many = shares["memorised"][0], shares["generalised"][-1]
    ours = f"{few:.0%} memorised of {sizes[0]}; {many:.0%} generalised of {sizes[-1]}"
    yield Claim("few digits are memorised, many generalised (learned score)", "so", ours, judged(few > 0.9 and many > 0.9, few > 0.5 and many > 0.5))
    peak = max(range(len(sizes)), key=lambda k: shares["spurious"][k])
    most = shares["spurious"][peak]
    inside = 0 < peak < len(sizes) - 1 and most > 2 * max(shares["spurious"][0], shares["spurious"][-1])
    new = shares["generalised"][peak]
    ours = f"most, {most:.0%}, at {sizes[peak]} digits, where {new:.0%} are generalised"
    verdict = judged(inside and most > 0.1 and most > new, inside)
    yield Claim("spurious states appear between both (learned score)", "a peak at the transition", ours, verdict)
    ours = f"apart {first['twins']:.2f} at {sizes[0]}, {last['twins']:.2f} at {sizes[-1]} (in spacings); from other noise {last['strangers']:.2f}"
    verdict = judged(last["twins"] < 0.5 * last["strangers"], last["twins"] < 0.8 * last["strangers"])
    yield Claim("what generalises is the same from the same noise in networks of disjoint digits", "a test added here", ours, verdict, own=True)
    exact = min(run["exact copies"] for run in runs)
    ours = f"at least {exact:.1%} copies at every size"
    yield Claim("the exact score, taken to the end, retrieves stored samples", "always", ours, judged(exact > 0.99, exact > 0.9))
    alone, between = Seeds.of(rings[0], "memorised"), max(Seeds.of(found, "spurious").mean for found in rings)
    smooth, rest = Seeds.of(rings[-1], "generalised"), Seeds.of(rings[-1], "at rest")
    ours = f"memorised {alone} of {rings[0][0]['count']}; spurious up to {between:.2f}; generalised {smooth} of {rings[-1][0]['count']}, {rest} at rest"
    order = alone.mean > 0.9 and between > 0.5
    verdict = judged(order and smooth.mean > 0.5 and rest.mean > 0.5, order)
    yield Claim(f"circle, exact energy, noise σ = {LEFT} left: memorised, spurious, generalised as points are added", "in this order", ours, verdict)
    late = [found for found in rings if found[0]["count"] >= 100]
    if len(late) > 2:
        law = power_law([found[0]["count"] for found in late], [Seeds.of(found, "roughness").mean for found in late])
        ours = f"roughness ∝ n^{law.exponent:.2f}: flat in the limit, never before"
        yield Claim("the minima along the circle become one valley", "a continuous valley", ours, judged(rest.mean > 0.5, law.exponent < -0.4))


def drawn(runs: list[dict], rings: list[list[dict]]) -> Figure:
    """Shares of the three kinds by the training data, twins, and the roughness of the valley."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    learned, twins, exact, rough = figure.subplots(2, 2).flatten()
    sizes, counts = [run["size"] for run in runs], [found[0]["count"] for found in rings]
    for k, kind in enumerate(KINDS):
        learned.plot(sizes, [sum(run[kind]) / 2 for run in runs], color=COLOURS[k], label=kind)
        for half in range(2):
            learned.plot(sizes, [run[kind][half] for run in runs], MARKERS[k], color=COLOURS[k], markersize=4)
        exact.plot(counts, [Seeds.of(found, kind).mean for found in rings], color=COLOURS[k], marker=MARKERS[k], label=kind)
    learned.plot(sizes, [run["exact copies"] for run in runs], "k--", label="memorised by the exact score")
    exact.plot(counts, [Seeds.of(found, "at rest").mean for found in rings], "k--", label="generalised, at rest")
    for k, (what, label) in enumerate((("twins", "same noise, disjoint digits"), ("strangers", "other noise"))):
        twins.plot(sizes, [run[what] for run in runs], color=COLOURS[k], marker=MARKERS[k], label=label)
    rough.loglog(counts, [Seeds.of(found, "roughness").mean for found in rings], color=COLOURS[3], marker=MARKERS[3], label="measured")
    scaled = Seeds.of(rings[-1], "roughness").mean * counts[-1] ** 0.5
    rough.loglog(counts, [scaled * count**-0.5 for count in counts], "k:", label=r"$n^{-1/2}$")
    for place in (learned, twins, exact):
        place.set_xscale("log")
    captioned(
        (learned, "digits, learned score", "digits in training", "share of samples"),
        (twins, "two networks", "digits in training", "median distance / spacing"),
        (exact, f"circle, exact energy, σ = {LEFT} left", "points", "share of samples"),
        (rough, "circle: the valley", "points", "deviation of βE along the circle"),
    )
    return figure


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
