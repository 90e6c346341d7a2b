"""Real digits, completed and classified by memories: stored ones, which need no training, and learned ones.

A stored memory holds 1,200 digits, a learned one 100 slots. Both are asked about 597 digits that neither has seen.
"""

import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch.nn.functional import mse_loss, one_hot

from hopfield_amem import presets
from hopfield_amem.layers import HopfieldLookup

torch.manual_seed(0)
digits = load_digits()
images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
order = torch.randperm(len(images))
images, labels = images[order], labels[order]
upper, lower = images[:, :32], images[:, 32:]
train, held_out = slice(0, 1200), slice(1200, None)

ENERGIES = {  # distances: β so that a few stored halves share the weight. Inner products of unit vectors: the same.
    "log_sum_exp": presets.log_sum_exp(25.0),
    "distance": presets.distance(5.0),
    "epanechnikov": presets.epanechnikov(0.5),
    "entmax": presets.entmax(1.5, 25.0),
}


def trained(layer, x, y, epochs=60):
    """The layer after gradient descent on its memories, values and β, x (n, d) -> y (n, v)."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            mse_loss(layer(x[batch]), y[batch]).backward()
            optimizer.step()
    return layer


def asked(energy, x):
    """Queries as an energy likes them: of unit norm where it takes inner products."""
    return torch.nn.functional.normalize(x, dim=-1) if "x·ξ" in str(energy) else x


@torch.no_grad()
def error(layer, x, y):
    return mse_loss(layer(x), y).sqrt().item()


@torch.no_grad()
def accuracy(layer, x, label):
    return (layer(x).argmax(-1) == label).float().mean().item()


table = Table("energy", "lower half, stored", "lower half, learned", "class, stored", "class, learned", title="597 digits nobody has seen")
blank = mse_loss(lower[train].mean(0).expand_as(lower[held_out]), lower[held_out]).sqrt().item()
table.add_row("the mean digit", f"{blank:.3f}", "", f"{labels[train].bincount().max() / 1200:.1%}", "")
for name, energy in ENERGIES.items():
    halves, wholes = asked(energy, upper), asked(energy, images)
    targets = one_hot(labels, 10).float()
    completes = HopfieldLookup.store(energy, halves[train], lower[train])
    classifies = HopfieldLookup.store(energy, wholes[train], targets[train])
    learned = trained(HopfieldLookup.store(energy, halves[:100], lower[:100]), halves[train], lower[train])
    knows = trained(HopfieldLookup.store(energy, wholes[:100], targets[:100]), wholes[train], targets[train])
    table.add_row(
        name,
        f"{error(completes, halves[held_out], lower[held_out]):.3f}", f"{error(learned, halves[held_out], lower[held_out]):.3f}",
        f"{accuracy(classifies, wholes[held_out], labels[held_out]):.1%}", f"{accuracy(knows, wholes[held_out], labels[held_out]):.1%}",
    )  # fmt: skip
Console().print(table)
print("Lower half: root mean square error of 32 pixels in [0, 1], given the upper half. Class: accuracy.")
