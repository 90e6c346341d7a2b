"""Train one model on one task, with a curriculum over lengths, until it is solved, its steps are spent or its seconds are over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tracking_models import CELLS, Shape, Tracker
from tracking_tasks import IGNORED, Task

WARM = 100  # steps of linear warm-up
WINDOW = 20  # batches whose accuracy decides
CHECKED = 16  # batches of an evaluation


@dataclass(frozen=True)
class Recipe:
    """How long and on what: ``lengths`` are the stages of the curriculum, left when ``advance`` of the positions are right, the last when ``solved`` are.

    Every batch is fresh, so the accuracy of training batches is that of unseen data. ``seconds`` only cut a run short; the schedule counts steps.
    """

    lengths: tuple[int, ...] = (16,)
    steps: int = 4000
    seconds: float = math.inf
    batch: int = 128
    rate: float = 2e-3
    solved: float = 0.999
    advance: float = 0.99


ONE_LAYER, SHORT = Shape(), Recipe()


@dataclass(frozen=True)
class Run:
    """One model on one task, from one seed."""

    task: Task
    cell: str
    shape: Shape = ONE_LAYER
    recipe: Recipe = SHORT
    seed: int = 0
    device: str = "cpu"


def train(run: Run, report: Callable[[int, int, float], None] = lambda step, length, accuracy: None) -> dict:
    """Train and evaluate: a JSON-ready record with the accuracy over all positions and at the last one."""
    torch.manual_seed(run.seed)
    generator = torch.Generator(run.device).manual_seed(run.seed + 1)
    model = Tracker(run.task.inputs, run.task.classes, CELLS[run.cell], run.shape).to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
    start, stage, recent, curve = time.perf_counter(), 0, [], []
    recipe, step = run.recipe, 0
    for step in range(1, recipe.steps + 1):
        elapsed = time.perf_counter() - start
        schedule(optimizer, recipe, step)
        recent.append(_step(run, model, optimizer, recipe.lengths[stage], generator))
        recent = recent[-WINDOW:]
        accuracy = sum(recent) / len(recent)
        if step % WINDOW == 0:
            report(step, recipe.lengths[stage], accuracy)
            curve.append([step, round(elapsed, 2), recipe.lengths[stage], round(accuracy, 5)])
        final = stage == len(recipe.lengths) - 1
        if len(recent) == WINDOW and accuracy >= (recipe.solved if final else recipe.advance):
            if final:
                break
            stage, recent = stage + 1, []
        if elapsed > recipe.seconds:
            break
    return described(run) | {
        "steps": step, "seconds": round(time.perf_counter() - start, 1), "length": recipe.lengths[stage],
        "parameters": sum(p.numel() for p in model.parameters()), **evaluate(run, model, recipe.lengths[-1]), "curve": curve,
    }  # fmt: skip


def evaluate(run: Run, model: nn.Module, length: int) -> dict:
    """Accuracy over all positions and at the last one, on fresh sequences, at this length and at twice it."""
    generator, found = torch.Generator(run.device).manual_seed(10**6 + run.seed), {}
    for suffix, reach in (("", length), (", twice as long", 2 * length)):
        rights = []
        for _ in range(CHECKED):
            inputs, targets = run.task.sample(run.recipe.batch, reach, generator)
            with torch.no_grad():
                rights.append(_right(model(inputs), targets))
        right = torch.cat(rights)
        found |= {f"accuracy{suffix}": right.nanmean().item(), f"last{suffix}": right[:, -1].nanmean().item()}
    return found


def described(run: Run) -> dict:
    """What was run, as JSON-ready data."""
    task = {"name": type(run.task).__name__, **asdict(run.task)}  # type: ignore[call-overload]
    recipe = asdict(run.recipe) | {"seconds": run.recipe.seconds if math.isfinite(run.recipe.seconds) else None}
    return {"task": task, "cell": run.cell, "shape": asdict(run.shape), "recipe": recipe, "seed": run.seed, "device": run.device}


def _step(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, length: int, generator: torch.Generator) -> float:
    inputs, targets = run.task.sample(run.recipe.batch, length, generator)
    logits = model(inputs)
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return _right(logits.detach(), targets).nanmean().item()


def _right(logits: Tensor, targets: Tensor) -> Tensor:
    """1 where the class is right, 0 where it is wrong, NaN where none is asked for. -> (batch, T)"""
    return torch.where(targets == IGNORED, torch.nan, (logits.argmax(-1) == targets).float())


def schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int) -> None:
    """Warm-up, then half a cosine down to a tenth."""
    fall = 0.55 + 0.45 * math.cos(math.pi * step / recipe.steps)
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate * min(step / WARM, 1.0) * fall
