"""What the demo does: measure, train, draw, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..analysis import DAMAGES
from ..analysis.digits import Digits, measure
from ..energies import ENERGIES, presets
from ..layers import HopfieldLookup
from .pictures import draw
from .table import report, write_csv

LOADS = (10, 25, 100, 400, 1797)


def run(
    out: str | os.PathLike[str] = "out/demo", loads: Sequence[int] = LOADS, *, seed: int = 0, epochs: int = 60, console: Console | None = None
) -> dict[str, float]:
    """Measure, draw and train; write tables and pictures under ``out``. Returns seconds by part and the held-out accuracy.

    Args:
        out: a folder, created when missing.
        loads: numbers of stored digits, 1 to 1797.
        seed: of the order of the digits, the damage and the training.
        epochs: of training the classifier.
        console: where to report.

    Raises:
        ValueError: no load, or one out of range; no epoch.
    """
    digits, loads = Digits.load(seed), sorted(set(loads))
    if not loads or not 1 <= loads[0] <= loads[-1] <= len(digits.images):
        raise ValueError(f"loads must be between 1 and {len(digits.images)}, the number of digits; got {loads}.")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs!r}.")
    console = console or Console()
    folder, seconds = Path(out), {}
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _one_thread(), Progress(*columns, console=console) as progress:

        def part(name: str, total: int, work: Callable):
            begun, task = time.perf_counter(), progress.add_task(name, total=total)
            result = work(lambda: progress.advance(task))
            seconds[name] = time.perf_counter() - begun
            return result

        table = part("recall, measured and predicted", len(ENERGIES) * len(DAMAGES), lambda tick: measure(digits, loads, seed, tick))
        write_csv(table, folder / "recall.csv")
        learned = part("a memory learns to classify", epochs, lambda tick: train(digits, epochs, seed, tick))
        part("pictures", 5, lambda tick: draw(folder, digits, (table, learned), seed, tick))
    report(console, table, learned["held out"][-1], folder)
    return seconds | {"held_out_accuracy": learned["held out"][-1]}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices of this size gain little from a second thread, and on a busy machine lose far more waiting for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(digits: Digits, epochs: int, seed: int, tick: Callable[[], object]) -> dict:
    """A ``HopfieldLookup`` of 200 stored training digits, its slots and β then trained by gradient descent; a quarter of the digits held out.

    Returns the accuracies by epoch, from 0 (nothing trained), and the layer.
    """
    labels, held_out, generator = digits.labels, len(digits.labels) // 4, torch.Generator().manual_seed(seed)
    patterns = torch.nn.functional.normalize((digits.images - digits.images[held_out:].mean(0)).flatten(1), dim=-1)
    inside, answers = patterns[held_out:], labels[held_out:]
    values = 4 * torch.nn.functional.one_hot(answers[:200], 10).to(inside.dtype)
    layer = HopfieldLookup.store(presets.log_sum_exp(20.0), inside[:200], values)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.003)
    history: dict = {"training": [], "held out": [], "layer": layer}
    for epoch in range(epochs + 1):
        for batch in torch.randperm(len(inside), generator=generator).split(128) if epoch else ():
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(layer(inside[batch]), answers[batch]).backward()
            optimiser.step()
        with torch.no_grad():
            right = layer(patterns).argmax(-1) == labels
        history["training"].append(float(right[held_out:].double().mean()))
        history["held out"].append(float(right[:held_out].double().mean()))
        if epoch:
            tick()
    return history
