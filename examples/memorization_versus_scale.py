"""Story 2: see what a memory holds. How many real digits a memory recalls as the number stored and the size of a pattern grow."""

from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate, normalize

from hopfield_amem import presets, retrieve
from hopfield_amem.analysis import damage, measure_recall, predicted_recall

torch.manual_seed(0)
images = torch.tensor(load_digits().images / 16, dtype=torch.float32)
images = images[torch.randperm(len(images))]
loads = [50, 200, 800, 1600]


def encode(images, size):
    """Images at size × size pixels, about their mean and of unit length."""
    small = interpolate(images.unsqueeze(1), size=(size, size), mode="area").flatten(1)
    return normalize(small - small.mean(0), dim=-1)


table = Table("energy", "pixels", *(f"N = {n}" for n in loads), title="Noisy digits recalled: measured (predicted from a sample of 150)")
for name, energy in {"log_sum_exp": presets.log_sum_exp(100.0), "entmax": presets.entmax(1.5, 40.0), "epanechnikov": presets.epanechnikov(3.0)}.items():
    for size in (4, 6, 8):
        patterns, queries = encode(images, size), encode(damage(images, "pixel noise", amount=0.25), size)
        sample = queries[-100:], patterns[-100:], patterns[-250:-100]  # queries, their originals, and others, none of them measured below
        predicted = predicted_recall(energy, *sample, loads=loads)
        cells = []
        for load, guess in zip(loads, predicted.tolist(), strict=True):
            own = torch.arange(min(load, 200))
            recall = measure_recall(partial(retrieve, energy, steps=10), queries[own], patterns[:load], own, tolerance=0.02)
            cells.append(f"{recall.identified.float().mean():.0%} ({guess:.0%})")
        table.add_row(name, str(size * size), *cells)
    table.add_section()
Console(width=100).print(table)
