"""Damaged patterns among stored ones: what further steps and a learned inverse temperature add to one read at attention's temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from studies import Job, slug
from torch import Tensor
from torch.nn.functional import mse_loss

from hopfield_amem import ReadEnergy, presets, retrieve
from hopfield_amem.analysis import identified
from hopfield_amem.analysis.digits import Digits
from hopfield_amem.descent import FixedPoint
from hopfield_amem.energies import Dot, Hypercube, Power, Sum
from hopfield_amem.layers import HopfieldLookup

STEPS = (1, 2, 3, 5)
STORED, LEARNING = 400, 200  # digits; the first half is asked while β is learned, the other half afterwards
UPDATES, RATE = 100, 0.1
READS: dict[str, Callable[[int], ReadEnergy]] = {
    "log_sum_exp": lambda width: presets.log_sum_exp(width**-0.5),
    "entmax": lambda width: presets.entmax(1.5, width**-0.5),
}
"""At the β of attention, for patterns whose channels have unit variance."""

FLIPPED = 0.25
BINARY: dict[str, tuple[ReadEnergy, int, int]] = {
    "quadratic (1982)": (ReadEnergy(Dot(), Power(2), Sum(), Hypercube()), 256, 16),
    "dense, degree 3": (presets.dense(3), 64, 50),
    "dense, degree 4": (presets.dense(4), 64, 200),
    "exponential": (presets.exponential(0.5), 64, 200),
}
"""Energy, width and number of random patterns of ±1. β changes no state of a sum on the hypercube."""


@dataclass(frozen=True)
class Digit:
    """Digits that a seed draws, damaged, asked of two energies."""

    damage: str
    seed: int = 0


@dataclass(frozen=True)
class Binary:
    """Random binary patterns that a seed draws, some of their signs flipped, asked of one energy."""

    energy: str
    seed: int = 0


def digits(run: Digit) -> dict:
    """One row per energy, number of steps and β, fixed or learned."""
    given, rows = Digits.load(run.seed), []
    for name, read in READS.items():
        width = given.images[0].numel()
        energy = read(width)
        patterns = given.encode(given.images, energy), given.damaged(energy, run.damage, run.seed)
        stored, asked = (width**0.5 * part[:STORED] for part in patterns)
        for steps in STEPS:
            layer = HopfieldLookup.store(energy, stored, None, FixedPoint(steps=steps, tolerance=0))
            rows.append({"energy": name, "steps": steps, "beta": "fixed", **_recalled(layer, asked, stored)})
            _learn(layer, asked[:LEARNING], stored[:LEARNING])
            rows.append({"energy": name, "steps": steps, "beta": "learned", **_recalled(layer, asked, stored)})
    return {"rows": rows}


def _learn(layer: HopfieldLookup, asked: Tensor, stored: Tensor) -> None:
    """β alone, by the squared error of what is recalled."""
    layer.keys.requires_grad_(False)
    optimizer = torch.optim.Adam([layer.log_beta], lr=RATE)
    for _ in range(UPDATES):
        loss = mse_loss(layer(asked), stored)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _recalled(layer: HopfieldLookup, asked: Tensor, stored: Tensor) -> dict:
    """Of the digits that β was not learned on: the squared error of what is recalled, relative to the pattern, and the share that is identified."""
    own = torch.arange(LEARNING, STORED)
    with torch.no_grad():
        state = layer(asked[own])
    error = (state - stored[own]).square().sum() / stored[own].square().sum()
    return {"value": layer.log_beta.exp().item(), "error": error.item(), "identified": identified(state, stored, own).float().mean().item()}


def binary(run: Binary) -> dict:
    """One row per number of steps: the share of signs that are wrong, and of patterns that are recalled without an error."""
    energy, width, count = BINARY[run.energy]
    generator = torch.Generator().manual_seed(run.seed)
    patterns, kept = (torch.rand(count, width, generator=generator) for _ in range(2))
    patterns = torch.where(patterns < 0.5, -1.0, 1.0)
    asked, rows = torch.where(kept < FLIPPED, -patterns, patterns), []
    for steps in STEPS:
        right = retrieve(energy, asked, patterns, steps=steps) == patterns
        rows.append({"steps": steps, "wrong": 1 - right.float().mean().item(), "exact": right.all(-1).float().mean().item()})
    return {"rows": rows}


def job(run: Digit | Binary) -> Job:
    """The run as one of a study."""
    if isinstance(run, Digit):
        asked = asdict(run) | {"stored": STORED, "learning": LEARNING, "updates": UPDATES, "rate": RATE}
        return Job(slug(f"digits {run.damage} seed {run.seed}"), asked, partial(digits, run))
    _, width, count = BINARY[run.energy]
    return Job(slug(f"binary {run.energy} seed {run.seed}"), asdict(run) | {"flipped": FLIPPED, "width": width, "patterns": count}, partial(binary, run))
