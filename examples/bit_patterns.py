"""Layers that learn at their defaults. Is one of eight signals among the sixteen bit patterns of a bag? hopfield-layers' own task."""

import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # task, network and loop of the study: python benchmarks/learning.py bits
from learning_bits import FORMS, LAYERS, Bags, Detection, Embedded, train

torch.set_num_threads(1)  # the tensors are small

print(Embedded(LAYERS["pooling"], Bags()), "\n")
table = Table(
    "layer", "parameters", "accuracy: trained on", "held out", "seconds", title="2,048 bags, half of them held out, 40 epochs, one seed; guessing is 50%"
)
for layer in ("no layer", *FORMS):
    found = train(Detection(layer, epochs=40))
    table.add_row(layer, f"{found['parameters']:,}", f"{found['trained']:.1%}", f"{found['held out']:.1%}", f"{found['seconds']:.0f}")
Console().print(table)
