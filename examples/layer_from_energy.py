"""Story 1: write an energy, get a layer. A separation of our own, checked, trained on real digits."""

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from hopfield_amem import ReadEnergy
from hopfield_amem.energies import Euclidean, Log
from hopfield_amem.layers import HopfieldLookup
from hopfield_amem.testing import check_energy

torch.manual_seed(0)


def student(score):
    """A heavy-tailed separation nobody ships: 1/(1 − s)², the Student kernel of a squared distance."""
    return (1 - score) ** -2


energy = ReadEnergy(Euclidean(), student, Log(), beta=8.0)
print(energy, "\n")
print(check_energy(energy), "\n")

digits = load_digits()
images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
train, held_out = slice(0, 1200), slice(1200, None)

first = torch.cat([(labels[train] == digit).nonzero()[:12, 0] for digit in range(10)])  # twelve images of each digit start the memory
layer = HopfieldLookup.store(energy, images[first], torch.eye(10)[labels[first]])
print(layer)

optimizer = torch.optim.Adam(layer.parameters(), lr=0.005)
for epoch in range(40):
    for batch in torch.randperm(1200).split(100):
        loss = cross_entropy(10 * layer(images[batch]), labels[batch])  # what is read is a mean of the nearest memories' labels
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        accuracy = (layer(images[held_out]).argmax(-1) == labels[held_out]).float().mean()
        print(f"epoch {epoch + 1:2d}   loss {loss:.3f}   held-out accuracy {accuracy:.3f}   learned β {layer.log_beta.exp().item():.2f}")
