"""Five memories in one language model: a byte-level transformer on CPython's own documentation, where only the token mixer changes.

python examples/language_model.py [--steps 80] [--only softmax "3 steps"]; several seeds and the study around it: benchmarks/learning.py language.
"""

import argparse
import math
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from pydoc_data.topics import topics

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

from hopfield_amem import presets
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import Addressing, HopfieldAttention, HopfieldFFN, MemoryMixer, Wiring, Writing

DIM, HEADS, LAYERS, CONTEXT, BATCH = 64, 4, 2, 128, 16
WIDTH = DIM // HEADS
BETA = WIDTH**-0.5
POSITIONS = 1e4


def attention(energy, steps=1):
    return HopfieldAttention(DIM, HEADS, energy, FixedPoint(steps, tolerance=0), wiring=Wiring(rotary=POSITIONS))


MIXERS = {
    "softmax": lambda: attention(presets.log_sum_exp(BETA)),
    "entmax": lambda: attention(presets.entmax(1.5, BETA)),
    "Epanechnikov": lambda: attention(presets.epanechnikov(BETA**2 / 2)),  # its support ends at ½‖q − k‖² = 2d, twice what random pairs have
    "3 steps": lambda: attention(presets.log_sum_exp(BETA), steps=3),
    "DeltaFormer": lambda: MemoryMixer(
        DIM, HEADS, presets.delta_former(BETA, presets.linear_attention()), addressing=Addressing(norm=1.0, rotary=POSITIONS), writing=Writing(limit=1.0)
    ),
}


class Block(nn.Module):
    """Tokens mixed, then looked up in a feed-forward memory; both behind a norm."""

    def __init__(self, mixer):
        super().__init__()
        self.mixer, self.memory = mixer, HopfieldFFN(DIM, 4 * DIM, presets.gelu_feed_forward())
        self.before, self.between = nn.LayerNorm(DIM), nn.LayerNorm(DIM)

    def forward(self, x):
        seen = self.before(x)
        x = x + (self.mixer(seen)[0] if isinstance(self.mixer, MemoryMixer) else self.mixer(seen, causal=True))
        return x + self.memory(self.between(x))


def language_model(mixer):
    """Bytes (batch, T) -> logits (batch, T, 256)"""
    return nn.Sequential(nn.Embedding(256, DIM), *(Block(mixer()) for _ in range(LAYERS)), nn.LayerNorm(DIM), nn.Linear(DIM, 256))


def paragraphs(names):
    return dict.fromkeys(paragraph.strip("\n") for name in names for paragraph in topics[name].split("\n\n"))


def windows(held_out):
    """Bytes of every eighth topic, or of the others, cut into windows (n, CONTEXT + 1).

    Topics repeat each other's paragraphs: each counts once, and where it is held out it is not trained on.
    """
    chosen = paragraphs(sorted(topics)[7::8])
    if not held_out:
        chosen = [paragraph for paragraph in paragraphs(sorted(topics)) if paragraph not in chosen]
    text = torch.frombuffer(bytearray("\n\n".join(chosen).encode()), dtype=torch.uint8).long()
    return text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)


def bits(model, text):
    """Bits per byte, of every byte but the first of a window."""
    return cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()) / math.log(2)


def train(name, steps, seed=0, mixers=MIXERS):
    """One run: held-out bits per byte along the way, tokens per second of training, what training adds to the peak of memory."""
    torch.manual_seed(seed)
    text, held_out = windows(False), windows(True)[::4]
    model = language_model(mixers[name])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    curve, seconds, before = [], 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for step in range(1, steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        bits(model, text[torch.randint(len(text), (BATCH,))]).backward()
        optimizer.step()
        schedule.step()
        seconds += time.perf_counter() - start
        if step % max(1, steps // 10) == 0 or step == steps:
            with torch.no_grad():
                curve.append((step, bits(model, held_out).item()))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # kilobytes on Linux
    parameters = sum(p.numel() for p in model.parameters())
    return {"bits": curve[-1][1], "curve": curve, "speed": steps * BATCH * CONTEXT / seconds, "peak": peak, "parameters": parameters}


def figure(runs, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name, run in runs.items():
        axes.plot(*zip(*run["curve"], strict=True), "o-", markersize=3, label=f"{name}: {run['bits']:.2f}")
    axes.set(xlabel="training steps", ylabel="held-out bits per byte", title="One language model, five memories")
    axes.grid(True, alpha=0.25)
    axes.legend(title="at the end")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--only", nargs="+", choices=MIXERS, default=list(MIXERS))
    given, console = parser.parse_args(), Console()
    table = Table("mixer", "bits per byte, held out", "tokens/s", "peak MiB", "parameters", title=f"{given.steps} steps of {BATCH} × {CONTEXT} bytes")
    runs = {}
    for name in given.only:  # each in a fresh process, so that memory is its own
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh, console.status(f"training {name}"):
            runs[name] = run = fresh.submit(train, name, given.steps).result()
        table.add_row(name, f"{run['bits']:.3f}", f"{run['speed']:,.0f}", f"{run['peak']:.0f}", f"{run['parameters']:,}")
    console.print(table)
    figure(runs, Path("out/language_model.png"))
    console.print("Loss curves: out/language_model.png. The weights of Epanechnikov are constant within its support, so its queries and keys hardly learn.")


if __name__ == "__main__":
    main()
