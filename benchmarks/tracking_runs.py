"""Many runs: which ones a study takes."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import studies
import torch
from rich.progress import Progress
from tracking_models import Shape
from tracking_tasks import Reachability, Recall, Swaps, Words
from tracking_train import Recipe, Run, described, train

from hopfield_amem.energies import UnstableWrite

TRACKERS = ("Transformer", "DeltaNet", "DeltaNet, reflecting", "DeltaFormer, linear", "DeltaFormer, round", "DeltaFormer, softmax", "DeltaFormer, exp")
MEMORIES = (
    "linear attention", "RetNet", "GLA", "DeltaNet", "Gated DeltaNet", "MesaNet", "Transformer", "DeltaFormer, softmax", "entmax",
)  # fmt: skip
SIZES = {  # elements: shape, length, steps, learning rate. As long as there are elements, so that the first position is touched about twice
    3: (Shape(), 16, 1000, 2e-3),
    5: (Shape(), 16, 2000, 2e-3),
    8: (Shape(), 16, 2000, 2e-3),
    16: (Shape(64, 1), 16, 2000, 3e-3),
    32: (Shape(64, 1), 32, 2000, 3e-3),
}
GPU_SIZES = {  # the same with a curriculum to 256 exchanges
    5: Shape(128, 2),
    32: Shape(128, 1),
    128: Shape(256, 1),
    512: Shape(1024, 1),
}
GPU_RECIPE = Recipe((32, 64, 128, 256), steps=20_000, seconds=600.0, batch=512)


def placed(shape: Shape, cell: str) -> Shape:
    """Rotary positions for a Transformer, which otherwise knows no order; memories that erase know it from what they hold."""
    return replace(shape, rotary=1e4) if cell == "Transformer" else shape


def swaps(device: str) -> list[Run]:
    """Accuracy against n: every tracker on every number of elements."""
    if device != "cpu":
        return [Run(Swaps(n), cell, placed(shape, cell), GPU_RECIPE, device=device) for n, shape in GPU_SIZES.items() for cell in TRACKERS]
    recipes = {n: Recipe((length,), steps, 300.0, rate=rate) for n, (_, length, steps, rate) in SIZES.items()}
    return [Run(Swaps(n), cell, placed(SIZES[n][0], cell), recipes[n]) for n in SIZES for cell in TRACKERS]


def depth(device: str) -> list[Run]:
    """What more layers give a Transformer, n = 5."""
    return [Run(Swaps(5), "Transformer", Shape(layers=layers, rotary=1e4), Recipe(seconds=600.0), device=device) for layers in (1, 2, 4)]


def words(device: str) -> list[Run]:
    """The word problem of S₅, 120 classes, every position is the product so far: tokens are the 10 transpositions, or all permutations."""
    recipe = Recipe((4, 8, 16), steps=2000, seconds=300.0)
    return [Run(Words(5, few), cell, placed(Shape(128, 8), cell), recipe, device=device) for few in (True, False) for cell in TRACKERS]


def reachability(device: str) -> list[Run]:
    """Two random trees of 32 nodes, with and without erase keys of their own."""
    recipe = Recipe((32,), steps=2500, seconds=300.0)
    plain = [Run(Reachability(), cell, placed(Shape(), cell), recipe, device=device) for cell in TRACKERS]
    return plain + [
        Run(Reachability(), cell, Shape(erase=True), recipe, device=device)
        for cell in (*TRACKERS, "DeltaFormer, linear, unit keys")
        if cell.startswith("DeltaF")
    ]


def recall(device: str) -> list[Run]:
    """Associative recall of 8 and 32 pairs at widths 8 to 64: one layer with a short convolution, one head, 128 tokens."""
    recipes = {pairs: Recipe((3 * pairs,), steps=800, seconds=300.0, batch=64, rate=1e-2) for pairs in (8, 32)}
    return [
        Run(Recall(pairs, 128), cell, Shape(width, 1, taps=2), recipe, device=device)
        for pairs, recipe in recipes.items()
        for width in (8, 16, 32, 64)
        for cell in MEMORIES
    ]


STUDIES = {"swaps": swaps, "depth": depth, "words": words, "reachability": reachability, "recall": recall}


def name(run: Run) -> str:
    """The file of a run: all that distinguishes it from others of a study."""
    size = "-".join(str(value) for value in described(run)["task"].values())
    extras = f"-{run.shape.layers}-layers" * (run.shape.layers > 1) + "-erase" * run.shape.erase
    return studies.slug(f"{size} {run.cell} width {run.shape.dim}{extras} seed {run.seed} {run.device}")


def take(runs: list[Run], folder: Path, processes: int, progress: Progress) -> None:
    """Take the runs whose result is not there yet."""
    studies.take([studies.Job(name(run), described(run), partial(_train, run)) for run in runs], folder, processes, progress)


def _train(run: Run) -> dict:
    warnings.simplefilter("ignore", UnstableWrite)  # erase keys are free to point elsewhere
    return train(run) | {"environment": {} if run.device == "cpu" else {"device": torch.cuda.get_device_name(run.device)}}
