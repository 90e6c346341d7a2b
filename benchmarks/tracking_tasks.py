"""Tasks whose answer depends on everything read so far: exchanges, permutations, reachability, associative recall. Fresh data for every batch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

IGNORED = -100  # the target that cross_entropy leaves out


class Task:
    """Inputs, tokens (batch, T) or vectors (batch, T, inputs), and a class for every position, made on the device of the generator.

    ``inputs`` is the vocabulary, or the width of the vectors.
    """

    inputs: int
    classes: int

    def sample(self, batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


@dataclass(frozen=True)
class Swaps(Task):
    """n elements, every token exchanges two of them; the class is the element now at the first position (arXiv 2505.19488, swap task).

    The vocabulary is the ``n(n − 1)/2`` pairs; there are no tokens that write the elements and none that ask. Tracking n ≥ 5 elements holds
    the word problem of S₅, which is complete for NC¹.
    """

    elements: int

    @property
    def inputs(self) -> int:
        return self.elements * (self.elements - 1) // 2

    @property
    def classes(self) -> int:
        return self.elements

    def sample(self, batch, length, generator):
        pairs = torch.combinations(torch.arange(self.elements, device=generator.device))
        tokens = torch.randint(len(pairs), (batch, length), generator=generator, device=generator.device)
        return tokens, exchanged(pairs[tokens], self.elements)[:, :, 0]


def exchanged(pairs: Tensor, elements: int) -> Tensor:
    """Which element is at which position after every exchange, from the identity. (batch, T, 2) -> (batch, T, elements)"""
    content, contents = torch.arange(elements, device=pairs.device).expand(len(pairs), -1), []
    for pair in pairs.unbind(1):
        content = content.scatter(1, pair, content.gather(1, pair.flip(1)))
        contents.append(content)
    return torch.stack(contents, 1)


@dataclass(frozen=True)
class Words(Task):
    """The word problem of the symmetric group: every token is a permutation, the class is the product so far (Barrington 1989 for n = 5).

    ``transpositions``: the tokens are the exchanges of two elements, which generate the group. A single write reflects, so one layer can follow
    those; any other permutation is a product of several reflections (Siems et al. 2025, DeltaProduct, arXiv 2502.10297).
    """

    elements: int = 5
    transpositions: bool = False

    @property
    def inputs(self) -> int:
        return len(self.moves())

    @property
    def classes(self) -> int:
        return len(self.group())

    def group(self) -> Tensor:
        """All permutations, (n!, n)"""
        return torch.tensor(list(permutations(range(self.elements))))

    def moves(self) -> Tensor:
        """Numbers of the permutations that are tokens."""
        moved = (self.group() != torch.arange(self.elements)).sum(1)
        return (moved == 2).nonzero()[:, 0] if self.transpositions else torch.arange(len(moved))

    def table(self) -> Tensor:
        """The number of ``g ∘ h`` at [g, h]: what a token does after what has been."""
        group, digits = self.group(), self.elements ** torch.arange(self.elements)
        number = (group * digits).sum(1)
        order = number.argsort()
        return order[torch.searchsorted(number[order], (group[:, group] * digits).sum(-1))]

    def sample(self, batch, length, generator):
        table, moves = self.table().to(generator.device), self.moves().to(generator.device)
        tokens = torch.randint(len(moves), (batch, length), generator=generator, device=generator.device)
        products = [moves[tokens[:, 0]]]
        for token in tokens[:, 1:].unbind(1):
            products.append(table[moves[token], products[-1]])
        return tokens, torch.stack(products, 1)


@dataclass(frozen=True)
class Reachability(Task):
    """Two random trees over nodes in topological order; the class says whether a node hangs on the first one (arXiv 2505.19488, DAG task).

    Node i is the vector ``e_i + e_parent(i)``, the first node bears one more mark: (batch, nodes, nodes + 1).
    """

    nodes: int = 32
    classes = 2

    @property
    def inputs(self) -> int:
        return self.nodes + 1

    def sample(self, batch, length, generator):
        half = torch.rand(batch, self.nodes, generator=generator, device=generator.device).argsort(1).argsort(1) < self.nodes // 2
        mate = (half.unsqueeze(2) == half.unsqueeze(1)).tril(-1)
        chance = torch.rand(mate.shape, generator=generator, device=generator.device).masked_fill(~mate, -1.0)
        vectors = torch.eye(self.nodes, device=generator.device).expand(batch, -1, -1).clone()
        vectors.scatter_add_(2, chance.argmax(2, keepdim=True), mate.any(2, keepdim=True).float())
        mark = torch.zeros_like(vectors[:, :, :1])
        mark[:, 0] = 1
        return torch.cat([vectors, mark], 2)[:, :length], (half == half[:, :1]).long()[:, :length]


@dataclass(frozen=True)
class Recall(Task):
    """Multi-query associative recall (Arora et al. 2023, Zoology, arXiv 2312.04927): k₁ v₁ k₂ v₂ …, then every key again in random order.

    The class at a repeated key is its value. Keys and values are different halves of the vocabulary; T = 3 · pairs.
    """

    pairs: int
    inputs: int = 256

    @property
    def classes(self) -> int:
        return self.inputs

    def sample(self, batch, length, generator):
        half = self.inputs // 2
        keys = torch.rand(batch, half, generator=generator, device=generator.device).argsort(1)[:, : self.pairs]
        values = torch.randint(half, keys.shape, generator=generator, device=generator.device) + half
        order = torch.rand(keys.shape, generator=generator, device=generator.device).argsort(1)
        told = torch.stack([keys, values], 2).flatten(1)
        tokens = torch.cat([told, keys.gather(1, order)], 1)
        return tokens, torch.cat([torch.full_like(told, IGNORED), values.gather(1, order)], 1)
