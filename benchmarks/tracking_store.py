"""What a memory gives back without any training: random pairs written once, every key asked again, against the size of the state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot
from torch import Tensor
from torch.nn.functional import normalize

from hopfield_amem import Memory, ReadEnergy, associate, presets

SEQUENCES, VOCABULARY = 8, 256
PAIRS, WIDTHS = (4, 16, 64, 256), (16, 32, 64, 128)


@dataclass(frozen=True)
class Store:
    """A memory, with the slowest and fastest decay of its channels where it forgets."""

    memory: Memory | ReadEnergy
    decay: tuple[float, float] | None = None


def stores(width: int) -> dict[str, Store]:
    """The family for keys of a width: unit keys, β = √d where weights are exponential."""
    sharp = width**0.5
    return {
        "linear attention": Store(presets.linear_attention()),
        "RetNet": Store(presets.retnet(), (1 - 2**-7, 1 - 2**-7)),
        "GLA": Store(presets.gated_linear_attention(), (1 - 2**-5, 1 - 2**-10)),
        "DeltaNet": Store(presets.delta_net()),
        "Gated DeltaNet": Store(presets.gated_delta_net(), (1 - 2**-7, 1 - 2**-7)),
        "MesaNet": Store(presets.mesa_net(1e-2)),
        "softmax attention": Store(presets.log_sum_exp(sharp)),
        "DeltaFormer": Store(presets.delta_former(sharp)),
        "Epanechnikov": Store(presets.epanechnikov(2.0)),
        "1.5-entmax": Store(presets.entmax(1.5, sharp)),
    }


def recalled(store: Store, width: int, pairs: int, generator: torch.Generator) -> dict:
    """Share of keys whose value, one of 256 random ones, is the nearest to what is read; and how many numbers the state holds."""
    keys = normalize(torch.randn(SEQUENCES, 1, pairs, width, generator=generator), dim=-1)
    words = normalize(torch.randn(VOCABULARY, width, generator=generator), dim=-1)
    labels = torch.randint(VOCABULARY, (SEQUENCES, pairs), generator=generator)
    _, state = associate(store.memory, keys, keys, words[labels].unsqueeze(1), decay=_decay(store, keys))
    read = _asked(store, state, keys)
    right = (read @ words.mT).argmax(-1) == labels
    return {"accuracy": right.float().mean().item(), "state": sum(part[0].numel() for part in state if part is not None)}


def _asked(store: Store, state, keys: Tensor) -> Tensor:
    """What is read at every key after the last write: each asks beside a token that is not there. -> (sequences, pairs, width)"""
    queries, nothing = keys.transpose(1, 2), keys.new_zeros(SEQUENCES, 1, 1, keys.shape[-1])
    absent = torch.zeros(1, dtype=torch.bool)
    decay = None if store.decay is None else _decay(store, nothing)
    output, _ = associate(store.memory, queries, nothing, nothing, decay=decay, state=state, presence=absent)
    return output.squeeze(2)


def _decay(store: Store, keys: Tensor) -> Tensor | None:
    if store.decay is None:
        return None
    channels = keys.shape[-1] if store.memory.decay == "channel" else 1  # type: ignore[union-attr]
    decay = torch.linspace(*store.decay, channels).expand(keys.shape[-2], channels)
    return decay if channels > 1 else decay.squeeze(-1)


def study(seed: int = 0) -> list[dict]:
    """One row per memory, width and number of pairs."""
    rows = []
    for pairs in PAIRS:
        for width in WIDTHS:
            for name, store in stores(width).items():
                found = recalled(store, width, pairs, torch.Generator().manual_seed(seed))
                rows.append({"memory": name, "width": width, "pairs": pairs, **found})
    return rows


def table(rows: list[dict]) -> str:
    """As markdown: accuracy (numbers in the state)."""
    lines = ["| pairs | width | " + " | ".join(stores(1)) + " |", "|---" * (2 + len(stores(1))) + "|"]
    for pairs in PAIRS:
        for width in WIDTHS:
            cells = [f"{r['accuracy']:.3f} ({r['state']:,})" for r in rows if (r["pairs"], r["width"]) == (pairs, width)]
            lines.append(f"| {pairs} | {width} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(rows: list[dict], path: Path) -> None:
    """Accuracy against the size of the state, a panel per number of pairs."""
    drawn, panels = pyplot.subplots(1, len(PAIRS), figsize=(15, 4), layout="constrained", sharey=True)
    for axes, pairs in zip(panels, PAIRS, strict=True):
        for name in stores(1):
            points = [(row["state"], row["accuracy"]) for row in rows if (row["memory"], row["pairs"]) == (name, pairs)]
            axes.plot(*zip(*points, strict=True), "o-", label=name, markersize=3)
        axes.set(title=f"{pairs} pairs", xlabel="numbers in the state", xscale="log", ylim=(0, 1.03))
        axes.grid(True, alpha=0.25)
    panels[0].set_ylabel("accuracy, not trained")
    panels[-1].legend(fontsize=7)
    drawn.savefig(path, dpi=150)
    pyplot.close(drawn)
