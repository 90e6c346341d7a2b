"""Weights written by hand that track any number of elements exactly: one layer, one head, no training (arXiv 2505.19488, theorem 1).

Element j is written at an almost orthogonal key k_j. Exchanging i and j is one more write, of the value 0 at the key k_i − k_j:

    u = 0 − Σ κ(k_i − k_j, k_s) u_s = (what j holds) − (what i holds)

so that whoever reads at k_i or k_j from now on finds the other's content. Reading at k_j is a token that writes nothing. Where κ is the
inner product this is the Householder reflection I − k kᵀ with ‖k‖² = 2 (the difference is given that length), exact for orthonormal keys
only: n ≤ d. With κ rounded to integers, overlaps below 1/8 between keys vanish, and n = e^{O(d)} elements fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tracking_tasks import exchanged

from hopfield_amem import Memory, ReadEnergy, presets
from hopfield_amem.energies import Delta, Dot, Rounded, Sum
from hopfield_amem.layers import Addressing, MemoryMixer, Writing

ROUNDED = Memory(ReadEnergy(Dot(), Rounded(0), Sum()), Delta())
LINEAR = presets.delta_net()
KERNELS = {"rounded to integers": ROUNDED, "rounded to two decimals": Memory(ReadEnergy(Dot(), Rounded(2), Sum()), Delta()), "linear": LINEAR}
REFLECTION = 2**0.5
WHOLE, RAW = Writing(rate=1.0), Addressing(norm=None)


def frame(count: int, width: int) -> Tensor:
    """Unit keys (count, width) that overlap by at most width^−½: the axes, then the rows of a Hadamard matrix. Width a power of two, count ≤ 2 width."""
    if width < 1 or width & (width - 1) or not 0 < count <= 2 * width:
        raise ValueError(f"The axes and a Hadamard matrix need a width that is a power of two and count ≤ 2 · width, got count={count}, width={width}.")
    hadamard = torch.ones(1, 1)
    while len(hadamard) < width:
        hadamard = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), hadamard)
    return torch.cat([torch.eye(width), hadamard * width**-0.5])[:count]


@dataclass(frozen=True)
class Vocabulary:
    """Numbers of the tokens: n that write, n(n − 1)/2 that exchange, n that read."""

    elements: int

    @property
    def pairs(self) -> Tensor:
        return torch.combinations(torch.arange(self.elements))

    def write(self) -> Tensor:
        return torch.arange(self.elements)

    def exchange(self, pair: Tensor) -> Tensor:
        """The token of exchanging i < j: (..., 2) -> (...)"""
        low, high = pair.sort(-1).values.unbind(-1)
        return self.elements + low * (2 * self.elements - low - 1) // 2 + high - low - 1

    def read(self, position: Tensor) -> Tensor:
        return self.elements * (self.elements + 1) // 2 + position


class Exchanger(nn.Module):
    """Tokens (batch, T) to scores of every element (batch, T, n): who is at the position that a token reads (an exchange reads the first).

    Args:
        keys: one per element, (n, d).
        memory: the cell that writes and reads.
    """

    def __init__(self, keys: Tensor, memory: Memory = ROUNDED):
        super().__init__()
        count, width = keys.shape
        first, second = Vocabulary(count).pairs.unbind(1)
        nothing, between = torch.zeros_like(keys), REFLECTION * normalize(keys[first] - keys[second], dim=-1)
        exchange = torch.cat([keys[:1].expand(len(first), -1), between, keys.new_zeros(len(first), count)], 1)
        write, read = torch.cat([nothing, keys, torch.eye(count)], 1), torch.cat([keys, nothing, torch.zeros(count, count)], 1)
        self.embedding = nn.Embedding.from_pretrained(torch.cat([write, exchange, read]))  # a token is its query, its key and its value
        self.mixer = MemoryMixer(2 * width + count, 1, memory, (width, count), addressing=RAW, writing=WHOLE)
        with torch.no_grad():
            self.mixer.project.weight.copy_(torch.eye(2 * width + count))
            self.mixer.output.weight.copy_(torch.eye(2 * width + count)[:, 2 * width :])

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mixer(self.embedding(tokens))[0][..., -self.mixer.widths[1] :]


def exactness(elements: int, width: int, exchanges: int, memory: Memory = ROUNDED, *, seed: int = 0) -> dict:
    """Write, exchange at random, read every position: how many are right after every exchange, and at the end."""
    vocabulary, generator = Vocabulary(elements), torch.Generator().manual_seed(seed)
    choice = torch.randint(len(vocabulary.pairs), (1, exchanges), generator=generator)
    content = exchanged(vocabulary.pairs[choice], elements)[0]
    tokens = torch.cat([vocabulary.write(), vocabulary.exchange(vocabulary.pairs[choice[0]]), vocabulary.read(torch.arange(elements))])
    with torch.no_grad():
        answer = Exchanger(frame(elements, width), memory)(tokens.unsqueeze(0))[0].argmax(-1)
    along, end = answer[elements:-elements] == content[:, 0], answer[-elements:] == content[-1]
    return {"tokens": len(tokens), "along": along.float().mean().item(), "end": end.float().mean().item()}


def study(exchanges: int) -> list[dict]:
    """Every kernel with as many elements as keys have dimensions, and with twice as many."""
    return [
        {"elements": elements, "width": 128, "kernel": name, "exchanges": exchanges, **exactness(elements, 128, exchanges, memory)}
        for elements in (128, 256)
        for name, memory in KERNELS.items()
    ]


def table(rows: list[dict]) -> str:
    """As markdown."""
    lines = [
        "| elements | width of keys | κ₁ = κ₂ | exchanges | first position right, throughout | all positions right, at the end |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(f"| {row['elements']} | {row['width']} | {row['kernel']} | {row['exchanges']:,} | {row['along']:.2%} | {row['end']:.2%} |")
    return "\n".join(lines)
