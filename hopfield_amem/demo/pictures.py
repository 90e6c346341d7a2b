"""The pictures of the demo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..analysis import DAMAGES, Landscape, exactly, identified, landscape, principal_plane
from ..analysis.digits import DESCENT, SAMPLE, Digits, Measurement, memories
from ..descent import Descended
from ..energies import ENERGIES, ReadEnergy, presets

GALLERY_LOAD, GALLERY_STEPS = 100, 4
RESOLUTION = 90  # points of a landscape along a side
PICTURES = ("gallery", "energy", "recall", "landscape", "layer")


def draw(folder: Path, digits: Digits, results: tuple[list[Measurement], dict], seed: int, tick: Callable[[], object]) -> None:
    """All figures, into a folder; ``tick`` after each."""
    from ..analysis import plots

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
    panels: dict[str, Landscape] = {f"{name}, β = {e.beta:g}": landscape(e, keys, principal_plane(keys), resolution=RESOLUTION) for name, e in shown.items()}
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
