"""Models that differ only in the memory of their mixer: pre-norm blocks of equal size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.nn.functional import pad, silu

from hopfield_amem import Memory, ReadEnergy, presets
from hopfield_amem.energies import Delta, Dot, Euclidean, Exp, Quadratic, Rounded, Sum
from hopfield_amem.layers import Addressing, MemoryMixer, Writing, retention

REFLECTION = 2**0.5  # the norm of a key at which a linear write of rate 1 reflects


WHOLE = Writing(rate=1.0)


@dataclass(frozen=True)
class Shape:
    """Width, heads and layers of a model, and what its mixers add: rotary positions, convolution, erase keys."""

    dim: int = 64
    heads: int = 2
    layers: int = 1
    rotary: float | None = None
    taps: int = 0
    erase: bool = False


class Mixing(Protocol):
    """Anything that makes the mixer of a block."""

    def mixer(self, shape: Shape) -> nn.Module: ...


@dataclass(frozen=True)
class Cell:
    """A memory, and how it is addressed and written, for heads of a width."""

    memory: Callable[[int], Memory | ReadEnergy]
    norm: float | None = None
    writing: Writing = WHOLE

    def mixer(self, shape: Shape) -> nn.Module:
        """The layer of a model's shape: tokens (batch, T, dim) to tokens, and whatever it remembers."""
        memory = self.memory(shape.dim // shape.heads)
        addressing = Addressing(self.norm, shape.taps, shape.rotary)
        decay = retention(shape.heads) if self is CELLS["RetNet"] else None
        writing = Writing(self.writing.rate, self.writing.limit, shape.erase and _erases(memory), decay)
        return MemoryMixer(shape.dim, shape.heads, memory, addressing=addressing, writing=writing)


def delta_former(prediction: Callable[[int], ReadEnergy], norm: float | None) -> Cell:
    """DeltaFormer of rate 1; where keys are normalised the read is scaled to suit."""
    beta = (lambda width: width**-0.5) if norm is None else (lambda width: 1.0)
    return Cell(lambda width: presets.delta_former(beta(width), prediction(width)), norm)


CELLS = {
    "Transformer": Cell(lambda width: presets.log_sum_exp(width**-0.5)),
    "DeltaNet": Cell(lambda width: presets.delta_net(), 1.0, Writing(limit=1.0)),
    "DeltaNet, reflecting": Cell(lambda width: presets.delta_net(), REFLECTION),
    "DeltaFormer, linear": delta_former(lambda width: presets.linear_attention(), REFLECTION),
    "DeltaFormer, linear, unit keys": delta_former(lambda width: presets.linear_attention(), 1.0),
    "DeltaFormer, round": delta_former(lambda width: ReadEnergy(Dot(), Rounded(2), Sum()), REFLECTION),
    "DeltaFormer, ReLU": delta_former(lambda width: presets.relu_feed_forward(), REFLECTION),
    "DeltaFormer, softmax": delta_former(lambda width: presets.log_sum_exp(width**-0.5), None),
    "DeltaFormer, exp": delta_former(lambda width: ReadEnergy(Euclidean(), Exp(), Sum(), Quadratic(), width**0.5), 1.0),
    "linear attention": Cell(lambda width: presets.linear_attention(), 1.0),
    "RetNet": Cell(lambda width: presets.retnet(), 1.0),
    "GLA": Cell(lambda width: presets.gated_linear_attention(), 1.0, Writing()),
    "Gated DeltaNet": Cell(lambda width: presets.gated_delta_net(), 1.0, Writing(limit=1.0)),
    "MesaNet": Cell(lambda width: presets.mesa_net(), 1.0),
    "Epanechnikov": Cell(lambda width: presets.epanechnikov(), 1.0),
    "entmax": Cell(lambda width: presets.entmax(1.5, width**-0.5)),
}


def _erases(memory: Memory | ReadEnergy) -> bool:
    return isinstance(memory, Memory) and isinstance(memory.write, Delta)


class Block(nn.Module):
    """``x + mixer(norm(x))``, then ``x + swiglu(norm(x))``."""

    def __init__(self, cell: Mixing, shape: Shape):
        super().__init__()
        hidden = 8 * shape.dim // 3
        self.before, self.mixer = nn.RMSNorm(shape.dim), cell.mixer(shape)
        self.between, self.up, self.down = nn.RMSNorm(shape.dim), nn.Linear(shape.dim, 2 * hidden, bias=False), nn.Linear(hidden, shape.dim, bias=False)
        for linear in (self.up, self.down):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.before(x))[0]
        gate, value = self.up(self.between(x)).chunk(2, -1)
        return x + self.down(silu(gate) * value)


class Tracker(nn.Module):
    """Tokens (batch, T), or vectors padded to the width, to the logits of a class at every position."""

    def __init__(self, inputs: int, classes: int, cell: Mixing, shape: Shape):
        super().__init__()
        self.embedding = nn.Embedding(inputs, shape.dim)
        self.blocks = nn.Sequential(*(Block(cell, shape) for _ in range(shape.layers)))
        self.norm, self.head = nn.RMSNorm(shape.dim), nn.Linear(shape.dim, classes, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)  # small, so that its direction learns fast: with unit variance 16 elements take three times the steps
        nn.init.normal_(self.head.weight, std=shape.dim**-0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        x = pad(inputs, (0, self.norm.normalized_shape[0] - inputs.shape[-1])) if inputs.is_floating_point() else self.embedding(inputs)
        return self.head(self.norm(self.blocks(x)))
