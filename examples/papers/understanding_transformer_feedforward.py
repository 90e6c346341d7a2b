"""The feed-forward block as an associative memory: what its activation, its gate, its experts and its number of slots do to the noise of retrieval.

"Understanding Transformer from the Perspective of Associative Memory", arXiv 2505.19488, §2.1.2 and appendix A.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist

import torch
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from torch import Tensor, nn
from torch.nn.functional import normalize

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.analysis import power_law
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.energies import Activation, Dot, Relu, Sum, TopK
from hopfield_amem.layers import HopfieldFFN

PAPER = Paper("Understanding Transformer from the Perspective of Associative Memory: feed-forward design", "2505.19488", "1 minute on one core")
WIDTH, SLOTS, ASKED = 64, 2048, 64
SOLU = ReadEnergy(Dot(), Activation(lambda score: score * score.exp()), Sum(), beta=WIDTH**-0.5)  # x exp(x/τ), τ = √d


@dataclass(frozen=True)
class Block:
    """A feed-forward block, and how it is filled.

    Attributes:
        energy: of the slots.
        gated: ``Σ F′(k·x)(g·x) v``, asked at ``k + g``.
        threshold: θ, subtracted as a bias θ‖k‖².
        share: of the slots that a router leaves, the one asked for among them.
    """

    energy: ReadEnergy
    gated: bool = False
    threshold: float = 0.0
    share: float = 1.0


BLOCKS = {
    "ReLU": Block(presets.relu_feed_forward()),
    "GELU": Block(presets.gelu_feed_forward(WIDTH**-0.5)),
    "SiLU": Block(presets.silu_feed_forward(WIDTH**-0.5)),
    "squared ReLU": Block(presets.squared_relu_feed_forward()),
    "ReLU, gated": Block(presets.relu_feed_forward(), gated=True),
    "SoLU": Block(SOLU),
    "softmax": Block(presets.log_sum_exp(WIDTH**-0.5)),
}
THRESHOLD, ACTIVE = 0.25, 16
LEVERS = {
    "8 experts, 1 active": Block(presets.relu_feed_forward(), share=1 / 8),
    "64 experts, 2 active": Block(presets.relu_feed_forward(), share=2 / 64),
    f"{ACTIVE} largest activations": Block(ReadEnergy(Dot(), Relu(), TopK(ACTIVE, Sum()))),
    f"threshold {THRESHOLD} ‖k‖²": Block(presets.relu_feed_forward(), threshold=THRESHOLD),
}


def formulas(width: int, slots: int) -> dict[str, float]:
    """SNR⁻¹ of every block and lever for Gaussian keys and ‖k_i‖² = d, derived from ``N E[κ²]/κ_ii²``; top-k by the mean over scores above a quantile."""
    root, normal = math.sqrt(width), NormalDist()
    chosen, beyond = normal.inv_cdf(1 - ACTIVE / slots), THRESHOLD * root
    linear, exponential = slots / width, slots * math.exp(2 - 2 * root)
    return {
        "ReLU": linear / 2, "GELU": 0.4252 * linear, "SiLU": 0.3558 * linear, "squared ReLU": 1.5 * linear / width, "ReLU, gated": 2 * linear / width,
        "SoLU": 5 / width * exponential, "softmax": exponential, "8 experts, 1 active": linear / 16, "64 experts, 2 active": linear / 64,
        f"{ACTIVE} largest activations": linear * (normal.cdf(-chosen) + chosen * normal.pdf(chosen)),
        f"threshold {THRESHOLD} ‖k‖²": linear * ((1 + beyond**2) * normal.cdf(-beyond) - beyond * normal.pdf(beyond)) / (1 - THRESHOLD) ** 2,
    }  # fmt: skip


@dataclass(frozen=True)
class Found:
    """SNR⁻¹ of the slots that were asked for, averaged, with twice its standard error over memories, and how often the nearest value is the right one."""

    noise: float
    error: float
    recall: float


@torch.no_grad()
def fill(layer: HopfieldFFN, block: Block, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random pairs for the slots, the first of which get keys of length √d. Returns what asks for those, (asked, d), and all values, (slots, d)."""
    keys, gates, values = torch.randn(3, layer.slots, layer.dim, generator=generator, dtype=torch.float64)
    for rows in (keys, gates):
        rows[:ASKED] = math.sqrt(layer.dim) * normalize(rows[:ASKED], dim=-1)
    layer.keys.weight.copy_(keys)
    layer.values.weight.copy_(values.T)
    if layer.gate is not None:
        layer.gate.weight.copy_(gates)
    if layer.keys.bias is not None:
        layer.keys.bias.fill_(-block.threshold * layer.dim)
    return (keys + gates if block.gated else keys)[:ASKED], values


@torch.no_grad()
def measured(block: Block, width: int, slots: int, trials: int) -> Found:
    """``‖y − c v‖²/(c²‖v‖²)`` of what the layer answers, c the weight of the slot that was asked for."""
    generator, noise, right = torch.Generator().manual_seed(0), [], []
    layer = HopfieldFFN(width, max(ASKED, round(block.share * slots)), block.energy, gated=block.gated, bias=block.threshold > 0, dtype=torch.float64)
    for _ in range(trials):
        asked, values = fill(layer, block, generator)
        own = layer.association(asked).diagonal()
        own = own if layer.gate is None else own * layer.gate(asked).diagonal()
        answer, wanted = layer(asked) / own.unsqueeze(-1), values[:ASKED]
        noise.append(float((answer - wanted).square().sum() / wanted.square().sum()))
        right.append(float((torch.cdist(answer, values).argmin(-1) == torch.arange(ASKED)).double().mean()))
    found = torch.tensor(noise)
    return Found(float(found.mean()), 2 * float(found.std()) / math.sqrt(trials), sum(right) / trials)


def identity_claim() -> Claim:
    """The block of every transformer, with the same weights, beside the memory."""
    layer = HopfieldFFN(WIDTH, SLOTS, presets.gelu_feed_forward(), dtype=torch.float64)
    stock = nn.Sequential(nn.Linear(WIDTH, SLOTS), nn.GELU(), nn.Linear(SLOTS, WIDTH)).double()
    with torch.no_grad():
        for child, given in ((stock[0], layer.keys), (stock[2], layer.values)):
            child.load_state_dict(given.state_dict())
        tokens = torch.randn(256, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        gap = float((stock(tokens) - layer(tokens)).abs().max())
    return Claim("the feed-forward block is a memory: rows of W_U are keys, of W_D values", "equation 9 again", f"differs by {gap:.0e}", judged(gap < 1e-10))


def noise_claims(found: dict[str, Found], expected: dict[str, float]) -> list[Claim]:
    """Measured beside the formulas, of which only that of softmax is the paper's as we know it."""
    claims = []
    for name, block in found.items():
        ratio = block.noise / expected[name]
        ours = f"{block.noise:.3g} ± {block.error:.1g}"
        paper = f"{'N exp(2 − 2√d)' if name == 'softmax' else 'derived here'}: {expected[name]:.3g}"
        claims.append(Claim(f"SNR⁻¹, {name}", paper, ours, judged(abs(ratio - 1) < 0.1, 0.5 < ratio < 2), own=name != "softmax"))
    return claims


def degree_claims(along: dict[str, list[Found]], widths: list[int]) -> list[Claim]:
    """How SNR⁻¹ falls with the width: −1 for activations of degree one, −2 where a gate or a square multiplies two inner products."""
    claims = []
    for name, degree in (("ReLU", 1), ("squared ReLU", 2), ("ReLU, gated", 2)):
        law = power_law(widths, [found.noise for found in along[name]])
        verdict = judged(abs(law.exponent + degree) < 0.1)
        claims.append(Claim(f"SNR⁻¹ ∝ d^exponent, {name}", f"derived here: −{degree}", f"{law.exponent:.2f}", verdict, own=True))
    return claims


def figure(counts: list[int], along: dict[str, list[Found]], found: dict[str, Found]) -> Figure:
    """Noise and recall against the number of slots, and what the levers do."""
    drawn = Figure(figsize=(13, 4.8), layout="constrained")
    places = drawn.subplots(1, 3)
    for (name, line), colour, marker in zip(along.items(), COLOURS, MARKERS, strict=False):
        places[0].plot(counts, [formulas(WIDTH, count)[name] for count in counts], color=colour)
        places[0].plot(counts, [point.noise for point in line], color=colour, marker=marker, linestyle="", label=name)
        places[1].plot(counts, [point.recall for point in line], color=colour, marker=marker)
    places[0].set(xscale="log", yscale="log", ylabel="SNR⁻¹", xlabel="slots N", title=f"d = {WIDTH}: formula (lines), measured (points)")
    places[0].legend(fontsize=7)
    places[1].set(xscale="log", ylabel="slots whose value is the nearest to the answer", xlabel="slots N", title="recall")
    names = list(found)
    expected = formulas(WIDTH, SLOTS)
    places[2].barh(names, [found[name].noise for name in names], color="#56B4E9", label="measured")
    places[2].plot([expected[name] for name in names], names, "k|", markersize=14, markeredgewidth=2, label="formula")
    places[2].set(xscale="log", xlabel="SNR⁻¹", title=f"d = {WIDTH}, N = {SLOTS:,}")
    places[2].invert_yaxis()
    places[2].legend(fontsize=8, loc="lower right")
    for place in places:
        place.grid(alpha=0.25)
    return drawn


def work(scale: Scale) -> Reproduction:
    """Slots, widths and levers."""
    trials, counts, widths = scale.pick(2, 8), scale.pick([64, 512], [64, 256, 1024, 4096]), scale.pick([32, 64, 128], [64, 128, 256])
    along = {name: [measured(block, WIDTH, count, trials) for count in counts] for name, block in BLOCKS.items()}
    wide = {name: [measured(BLOCKS[name], width, SLOTS, trials) for width in widths] for name in ("ReLU", "squared ReLU", "ReLU, gated")}
    found = {name: measured(block, WIDTH, SLOTS, trials) for name, block in (BLOCKS | LEVERS).items()}
    claims = (identity_claim(), *noise_claims(found, formulas(WIDTH, SLOTS)), *degree_claims(wide, widths))
    kept = {name: asdict(value) for name, value in found.items()}
    numbers = {"slots": counts, "along": {name: [asdict(point) for point in line] for name, line in along.items()}, f"N = {SLOTS}": kept}
    return Reproduction(claims, figure(counts, along, found), numbers)


if __name__ == "__main__":
    torch.set_num_threads(1)
    reproduce(__file__, PAPER, work)
