"""State tracking. A memory that erases what it overwrites follows exchanges that attention, however trained, does not."""

import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # tasks, models and recipe of the study: python benchmarks/state_tracking.py --help
from tracking_construction import LINEAR, ROUNDED, exactness
from tracking_models import Shape
from tracking_tasks import Swaps
from tracking_train import Recipe, Run, train

torch.set_num_threads(1)  # the tensors are small

table = Table("elements", "kernel", "positions right after 1,000 exchanges", title="Weights written by hand: one layer, one head of 128 dimensions")
for elements in (128, 256):
    for name, memory in {"linear": LINEAR, "rounded to integers": ROUNDED}.items():
        table.add_row(str(elements), name, f"{exactness(elements, 128, 1000, memory)['end']:.0%}")
Console().print(table)

table = Table("model", "all positions", "last position", "steps", "seconds", title="Trained: five elements, sixteen exchanges, guessing is 20%")
for cell, shape in {"DeltaFormer, linear": Shape(), "Transformer": Shape(rotary=1e4)}.items():
    record = train(Run(Swaps(5), cell, shape, Recipe(steps=500, seconds=20)))
    table.add_row(cell, f"{record['accuracy']:.2%}", f"{record['last']:.2%}", str(record["steps"]), f"{record['seconds']:.0f}")
Console().print(table)
