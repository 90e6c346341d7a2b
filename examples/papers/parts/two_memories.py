"""A layer of two memories: what the context says by attention, what the weights hold by a feed-forward block, and the sum of their energies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hopfield_amem import presets
from hopfield_amem.layers import HopfieldAttention, HopfieldFFN, Wiring


class TwoMemories(nn.Module):
    """``y = Σ p_μ(x) v_μ`` of the context plus ``y = Σ p_μ(x) v_μ`` of the weights, x the embedded key that is asked for; logits of the values.

    Each read is one unit step of the energy of a pair (x, y), from y = 0. What the context does not know it leaves alone: attention has an empty slot
    (``softmax1``). Embeddings of keys are random and stay so: new ones are as good as those of the training.

    Args:
        facts, values: numbers of keys and of values that there are.
        dim: width d.
        slots: memories of the feed-forward block.
    """

    def __init__(self, facts: int, values: int, dim: int, slots: int):
        super().__init__()
        self.keys = nn.Parameter(fresh(facts, dim), requires_grad=False)
        self.values = nn.Parameter(torch.randn(values, dim) / dim**0.5)
        self.context = HopfieldAttention(dim, 1, presets.softmax1(dim**-0.5), wiring=Wiring(bias=False, static=("output",)))
        self.weights = HopfieldFFN(dim, slots, presets.relu_feed_forward())

    def forward(self, asked: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Embedded keys that are asked for (b, d), keys of the documents (b, n, d), their values (b, n) -> logits (b, values)"""
        in_context = self.context(asked.unsqueeze(-2), keys, self.values[values]).squeeze(-2)
        return (in_context + self.weights(asked)) @ self.values.T

    def stepped(self, asked: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What is read, and one unit step of the summed energies by autograd, ``−∂(E_context + E_weights)/∂y`` at y = 0: the same. -> (b, 1, d) each"""
        at, ffn = self.context.associate(asked.unsqueeze(-2), keys, self.values[values]), self.weights
        assert at.values is not None
        y = asked.new_zeros(len(asked), 1, asked.shape[-1]).requires_grad_()
        with torch.enable_grad():
            context = self.context.given.at(float(self.context.log_beta.detach().exp()))
            energy = context(torch.cat([at.query[:, 0, 0], y], -1), torch.cat([at.keys, at.values], -1)[:, 0, 0])
            scores = ffn.keys(asked) + (y @ ffn.values.weight).squeeze(-2)
            energy = energy - ffn.given.scaling.value(ffn.given.separation, scores).unsqueeze(-1)
            (slope,) = torch.autograd.grad(energy.sum(), y)
        read = self.context(asked.unsqueeze(-2), keys, self.values[values]) + ffn(asked.unsqueeze(-2)) - ffn.values.bias
        return read, -slope


def fresh(count: int, dim: int) -> Tensor:
    """Embeddings of new keys, random directions of length √d. (count, d)"""
    return nn.functional.normalize(torch.randn(count, dim), dim=-1) * dim**0.5
