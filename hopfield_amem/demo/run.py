"""The demo: every preset energy recalls scikit-learn's digits, and a layer learns to classify them."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor

from .analysis import DAMAGES, Landscape, exactly, identified, landscape, principal_plane
from .analysis.digits import CHOICES, DEGREE, DESCENT, QUERIES, SAMPLE, Digits, Measurement, measure, memories
from .analysis.result import write
from .descent import Descended
from .energies import ENERGIES, ReadEnergy, presets
from .layers import HopfieldLookup

LOADS = (10, 25, 100, 400, 1797)
GALLERY_LOAD, GALLERY_STEPS = 100, 4
PICTURES = ("gallery", "energy", "recall", "landscape", "layer")


FOOTNOTES = (
    "Exact: every pixel within half a grey level of the original (binary energies: equal). Identified: no stored digit is nearer.",
    "† On the unit sphere, because Σ F(β x·ξ) outgrows ½‖x‖². Weights that rise this slowly with similarity mix all stored digits:",
    "  such layers transform, they do not store.",
    f"dense has degree {DEGREE}; at degree 3, made for independent patterns, what digits share drowns what tells them apart.",
    "epanechnikov averages the digits within its support equally, so it is exact only where the original is alone there;",
    "  a query that no digit reaches stays where it is, with infinite energy, and is left out of its mean energies.",
    "k_subsets reads the sum of two digits, which is none of them.",
    "* More than a tenth of the queries still moved after 50 steps.",
)


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
        _write_csv(table, folder / "recall.csv")
        learned = part("a memory learns to classify", epochs, lambda tick: train(digits, epochs, seed, tick))
        part("pictures", 5, lambda tick: _draw(folder, digits, (table, learned), seed, tick))
    _report(console, table, learned["held out"][-1], folder)
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


def _draw(folder: Path, digits: Digits, results: tuple[list[Measurement], dict], seed: int, tick: Callable[[], object]) -> None:
    from .analysis import plots

    table, learned = results
    rows, marks, curves, notes = _descents(digits, seed)
    columns = ["query", *(f"step {i + 1}" for i in range(GALLERY_STEPS)), "recalled", "original"]
    figures = {
        "gallery": lambda: plots.gallery(
            rows, columns, f"Recall among {GALLERY_LOAD} stored digits, at the contrast of the original\nblank: already at rest", marks=marks
        ),
        "energy": lambda: plots.energy_curves(curves, f"Energy along the descent: 40 noisy digits among {GALLERY_LOAD} stored ones", notes=notes),
        "recall": lambda: _recall_figure(plots, table),
        "landscape": lambda: _landscape_figure(plots, digits),
        "layer": lambda: _layer_figure(plots, learned),
    }
    for name, figure in figures.items():
        plots.save(figure(), folder / f"{name}.png")
        tick()


def _descents(digits: Digits, seed: int) -> tuple[dict, dict, dict, dict]:
    """One query of each energy for the gallery, the k-th digit for the k-th energy and the damages in turn; energies of noisy digits."""
    rows, marks, curves, notes = {}, {}, {}, {}
    for k, (name, energy) in enumerate(memories().items()):
        kind = list(DAMAGES)[k % len(DAMAGES)]
        label = f"{name}\n{kind}"
        rows[label], marks[label] = _gallery_row(digits, energy, digits.damaged(energy, kind, seed), k)
        patterns = digits.encode(digits.images[:GALLERY_LOAD], energy)
        energies = _recorded(energy, digits.damaged(energy, "pixel noise", seed)[:40], patterns)[2]
        reached = float(energies.isfinite().all(0).double().mean())
        curves[name] = energies[:16]
        notes[name] = f"β = {energy.beta:.3g}" + (f"\n{reached:.0%} of the queries in reach" if reached < 1 else "")
    return rows, marks, curves, notes


def _gallery_row(digits: Digits, energy: ReadEnergy, query: Tensor, k: int) -> tuple[list[Tensor], str]:
    """Query, steps, recalled and original image of the k-th digit, and what became of it."""
    patterns, own = digits.encode(digits.images[:GALLERY_LOAD], energy), torch.tensor([k])
    path, trajectory, _ = _recorded(energy, query[own], patterns)
    states = digits.decode(trajectory[:, 0], own.expand(len(trajectory)), energy)
    steps = [states[i] if i < len(states) else torch.empty(0) for i in range(GALLERY_STEPS + 1)]
    exact, found = exactly(path.state, patterns[own], digits.tolerance(own, energy)), identified(path.state, patterns, own)
    mark = "exact" if exact else "identified" if found else "not recalled"
    taken = int(path.steps)
    return [*steps, states[-1], digits.decode(patterns[own], own, energy)[0]], f"{mark}\n{taken} step{'s' if taken > 1 else ''}"


def _recorded(energy: ReadEnergy, query: Tensor, patterns: Tensor) -> tuple[Descended, Tensor, Tensor]:
    path = replace(DESCENT, record=True)(energy, query, patterns)
    assert path.trajectory is not None and path.energies is not None
    return path, path.trajectory, path.energies


def _recall_figure(plots, table: list[Measurement]):
    loads = sorted({m.load for m in table})
    measured, predicted, capacity = ({name: {} for name in ENERGIES} for _ in range(3))
    for m in table:
        measured[m.energy].setdefault(m.damage, []).append(m.exact)
        predicted[m.energy].setdefault(m.damage, []).append(m.predicted)
        capacity[m.energy][m.damage] = m.predicted_capacity
    return plots.recall_curves(
        loads, measured, predicted, capacity=capacity, title=f"Exact recall against load: measured, and predicted from a sample of {SAMPLE} digits"
    )


def _landscape_figure(plots, digits: Digits):
    first = torch.stack([(digits.labels == label).nonzero()[0, 0] for label in range(10)])
    keys = digits.encode(digits.images[first], presets.distance())
    shown = {
        "distance": presets.distance(12.0),
        "distance, one common minimum": presets.distance(3.0),
        "sparsemax": presets.sparsemax(4.0),
        "epanechnikov": presets.epanechnikov(2.4),
    }
    panels: dict[str, Landscape] = {f"{name}, β = {e.beta:g}": landscape(e, keys, principal_plane(keys), resolution=90) for name, e in shown.items()}
    title = (
        "Energy (contours, dark is low) and basins on two principal components of ten digits\n"
        "colour: the digit nearest to where the descent rests; white: out of reach"
    )
    return plots.landscapes(panels, digits.images[first], title)


def _layer_figure(plots, learned: dict):
    layer = learned["layer"]
    slots, names = layer.keys.detach()[:21].reshape(-1, 8, 8), layer.values.detach()[:21].argmax(-1).tolist()
    accuracy = {"training digits": learned["training"], "held-out digits": learned["held out"]}
    return plots.training(
        accuracy, slots, f"HopfieldLookup(log_sum_exp), 200 slots: {learned['held out'][-1]:.1%} of held-out digits", captions=[str(n) for n in names]
    )


def _write_csv(table: list[Measurement], path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(asdict(table[0])))
    writer.writeheader()
    writer.writerows(asdict(m) for m in table)
    write(path, text.getvalue())


def _report(console: Console, table: list[Measurement], accuracy: float, folder: Path) -> None:
    loads = sorted({m.load for m in table})
    console = Console(file=console.file, width=max(console.width, 136))
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=f"Exact recall / identified in %, up to {QUERIES} damaged digits among N stored ones; steps and mean energy at N = {loads[-1]}",
    )
    for column in ("energy", "damage", *(f"N={load}" for load in loads), "steps", "energy before → after"):
        shown.add_column(column, justify="left" if column in ("energy", "damage") else "right", no_wrap=True)
    sphere = [name for name, energy in memories().items() if energy.confinement != ENERGIES[name].confinement]
    for name in ENERGIES:
        for kind in DAMAGES:
            lines = [m for m in table if (m.energy, m.damage) == (name, kind)]
            last, title = lines[-1], f"{name}{' †' if name in sphere else ''}" if kind == next(iter(DAMAGES)) else ""
            rates = (f"{100 * m.exact:.0f}/{100 * m.identified:.0f}" for m in lines)
            steps = f"{last.steps:.1f}{'' if last.converged > 0.9 else ' *'}"
            shown.add_row(title, kind, *rates, steps, f"{last.energy_before:.3g} → {last.energy_after:.3g}", end_section=kind == list(DAMAGES)[-1])
    console.print(shown)
    for line in FOOTNOTES:
        console.print(line, style="dim", highlight=False)
    for reason in dict.fromkeys(reason for _, reason in CHOICES.values()):
        names = ", ".join(f"{name} {beta:g}" for name, (beta, why) in CHOICES.items() if why == reason)
        console.print(f"β {names}: {reason}.", style="dim", highlight=False)
    console.print(f"A HopfieldLookup layer built from log_sum_exp classifies [bold]{accuracy:.1%}[/bold] of the held-out digits.", highlight=False)
    console.print(f"Pictures: {', '.join(str(folder / f'{n}.png') for n in PICTURES)}. Table: {folder / 'recall.csv'}.", highlight=False, soft_wrap=True)
    console.print("Read next: README.md, docs/guide.md, and the programs in examples/.", highlight=False)
