"""The bit-pattern task of hopfield-layers: is one of eight signals among the sixteen patterns of a bag?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from studies import Job, slug
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import HopfieldAttention, HopfieldLookup, HopfieldPooling

WIDTH, HEADS, SLOTS = 64, 8, 256  # as many slots as there are patterns of eight bits
BATCH = 32
CHECKED = 5  # epochs between two points of a curve
FORMS = ("association", "pooling", "lookup")
STEPS = (1, 2, 3, 5)
BETAS = {"learned": True, "fixed": False}


@dataclass(frozen=True)
class Bags:
    """Bags of bit patterns, as hopfield-layers defines them (``BitPatternSet``).

    ``signals`` distinct patterns are drawn once. Every instance of a bag is some other pattern; none is all zeros. In half of the bags one
    instance becomes a signal, and these have the label 1.
    """

    bags: int = 2048
    instances: int = 16
    bits: int = 8
    signals: int = 8

    def __post_init__(self):
        if not 0 < self.signals < 2**self.bits - 1:
            raise ValueError(f"{self.bits} bits make {2**self.bits - 1} patterns that are not zero; some must be no signals, got signals={self.signals}.")

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Bags (bags, instances, bits) of zeros and ones and their labels (bags,), alternately 1 and 0."""
        generator = torch.Generator().manual_seed(seed)
        codes = 1 + torch.randperm(2**self.bits - 1, generator=generator)
        patterns = (codes.unsqueeze(-1) >> torch.arange(self.bits) & 1).float()
        signals, others = patterns[: self.signals], patterns[self.signals :]
        instances = others[torch.randint(len(others), (self.bags, self.instances), generator=generator)]
        positive = torch.arange(0, self.bags, 2)
        place, which = (torch.randint(most, positive.shape, generator=generator) for most in (self.instances, self.signals))
        instances[positive, place] = signals[which]
        return instances, 1.0 - torch.arange(self.bags) % 2


def _peer(name: str, **sizes: str) -> Callable[[dict], nn.Module]:
    """A layer of hopfield-layers at its defaults, but for sizes."""

    def made(given: dict) -> nn.Module:
        import difflayers

        return getattr(difflayers, name)(given["width"], num_heads=given["heads"], **{theirs: given[ours] for theirs, ours in sizes.items()})

    return made


def _iterated(form: str, steps: int, learned: bool) -> Callable[[dict], nn.Module]:
    def made(given: dict) -> nn.Module:
        descent = FixedPoint(steps=steps, tolerance=0)
        kind = {"association": HopfieldAttention, "pooling": HopfieldPooling}[form]
        layer = kind(given["width"], given["heads"], None, descent)
        layer.log_beta.requires_grad_(learned)
        return layer

    return made


LAYERS: dict[str, Callable[[dict], nn.Module]] = {
    "association": lambda given: HopfieldAttention(given["width"], given["heads"]),
    "pooling": lambda given: HopfieldPooling(given["width"], given["heads"]),
    "lookup": lambda given: HopfieldLookup(given["width"], given["slots"]),
    "no layer": lambda given: nn.Identity(),
    "hopfield-layers association": _peer("Hopfield"),
    "hopfield-layers pooling": _peer("HopfieldPooling"),
    "hopfield-layers lookup": _peer("HopfieldLayer", quantity="slots"),
} | {
    f"{form}, {steps} steps, {beta} β": _iterated(form, steps, learned) for form in FORMS[:2] for steps in STEPS for beta, learned in BETAS.items()
}  # fmt: skip
"""Layers of a width, heads and slots, everything else at its default, but for the ones whose name says what differs."""


class Embedded(nn.Module):
    """An ordinary network for bags: a hidden layer of every instance, the layer over them, their mean, a linear readout."""

    def __init__(self, layer: Callable[[dict], nn.Module], task: Bags):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(task.bits, WIDTH), nn.ReLU())
        self.layer = layer({"width": WIDTH, "heads": HEADS, "slots": SLOTS})
        self.readout = nn.Linear(WIDTH, 1)

    def forward(self, bags: Tensor) -> Tensor:
        """(b, instances, bits) -> (b,)"""
        read = self.layer(self.embed(bags))
        return self.readout(read.reshape(len(bags), -1, WIDTH).mean(1)).squeeze(-1)


class Notebook(nn.Module):
    """The network of hopfield-layers' own notebook: the layer on bare bits, one head, a linear readout of everything that comes out."""

    def __init__(self, layer: Callable[[dict], nn.Module], task: Bags):
        super().__init__()
        self.layer = layer({"width": task.bits, "heads": 1, "slots": task.bags // 2})
        self.readout = nn.Linear(self.layer(torch.zeros(1, task.instances, task.bits)).numel(), 1)

    def forward(self, bags: Tensor) -> Tensor:
        """(b, instances, bits) -> (b,)"""
        return self.readout(self.layer(bags).flatten(1)).squeeze(-1)


NETWORKS = {"embedded": Embedded, "notebook": Notebook}


@dataclass(frozen=True)
class Detection:
    """One layer in one network, from one seed, which also draws the bags: half of them train, half are held out. AdamW, constant rate."""

    layer: str
    seed: int = 0
    epochs: int = 60
    network: str = "embedded"
    rate: float = 2e-3
    task: Bags = Bags()


def train(run: Detection) -> dict:
    """Train, and evaluate on both halves: accuracies at the end, and along the way every few epochs."""
    bags, labels = run.task.draw(run.seed)
    middle = len(bags) // 2
    torch.manual_seed(run.seed)
    model = NETWORKS[run.network](LAYERS[run.layer], run.task)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=run.rate)
    start, curve = time.process_time(), []
    for epoch in range(1, run.epochs + 1):
        for batch in torch.randperm(middle).split(BATCH):
            loss = binary_cross_entropy_with_logits(model(bags[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % CHECKED == 0 or epoch == run.epochs:
            curve.append([epoch, *(accuracy(model, bags[part], labels[part]) for part in (slice(middle), slice(middle, None)))])
    _, trained, held_out = curve[-1]
    size = sum(p.numel() for p in model.parameters())
    return {"trained": trained, "held out": held_out, "seconds": round(time.process_time() - start, 1), "parameters": size, "curve": curve}


def accuracy(model: nn.Module, bags: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return ((model(bags) > 0) == labels.bool()).float().mean().item()


def job(run: Detection) -> Job:
    """The run as one of a study."""
    return Job(slug(f"{run.network} {run.layer} seed {run.seed}"), asdict(run) | {"batch": BATCH}, partial(train, run))
