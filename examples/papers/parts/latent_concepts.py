"""The task of latent concept association, and a one-layer transformer for it (Jiang et al. 2024, arXiv 2406.18400).

A token is a latent concept of m bits. A context is drawn near the concept z* that it is about, p(z | z*) ∝ exp(−D_H(z, z*)/T) among its neighbours, z* itself
left out, and the model is to say z*.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hopfield_amem import presets
from hopfield_amem.layers import HopfieldAttention, Wiring

BITS, TEMPERATURE = 5, 1.0  # m, T
TOKENS = 2**BITS


def concepts() -> Tensor:
    """The bits of every token, ±1. (tokens, m)"""
    return torch.tensor([[1.0 if token >> bit & 1 else -1.0 for bit in range(BITS)] for token in range(TOKENS)])


def hamming() -> Tensor:
    """D_H of every two tokens. (tokens, tokens)"""
    return 0.5 * (BITS - concepts() @ concepts().T)


def neighbours(shared: int = 0) -> Tensor:
    """p(z | z*) of every z*; only tokens that share its first bits come, if any are named. (tokens, tokens), rows sum to one"""
    apart = hamming()
    allowed = (apart > 0) & (concepts()[:, None, :shared] == concepts()[None, :, :shared]).all(-1)
    return torch.softmax((-apart / TEMPERATURE).masked_fill(~allowed, -math.inf), -1)


def contexts(target: Tensor, likelihood: Tensor, length: int, noise: float = 0.0) -> Tensor:
    """Tokens near the target; each but the last is with a probability of ``noise`` any token instead. (b,) -> (b, length)"""
    near = torch.multinomial(likelihood[target], length, replacement=True)
    stray = torch.rand(near.shape) < noise
    stray[:, -1] = False
    return torch.where(stray, torch.randint(TOKENS, near.shape), near)


def best(context: Tensor, likelihood: Tensor, noise: float = 0.0) -> Tensor:
    """What knows the distribution says: the most probable target. (b, length) -> (b,)"""
    logs = ((1 - noise) * likelihood + noise / TOKENS).clamp_min(1e-12).log()  # (targets, tokens)
    return logs.T[context].sum(-2).argmax(-1)


class OneLayer(nn.Module):
    """``logits = W_E W_V Σ_l p_l W_E(x_l)``: the last token asks the context by attention, values are W_V, and embeddings read out what they wrote in.

    Args:
        dim: width d of the embeddings.
        value: "trained", or "identity" for no value matrix at all.
    """

    def __init__(self, dim: int, value: str = "trained"):
        super().__init__()
        static = ("output",) if value == "trained" else ("values", "output")
        self.embedding = nn.Parameter(torch.randn(TOKENS, dim) / math.sqrt(dim))
        self.attention = HopfieldAttention(dim, 1, presets.log_sum_exp(dim**-0.5), wiring=Wiring(bias=False, static=static))

    def forward(self, context: Tensor) -> Tensor:
        """(b, length) -> (b, tokens)"""
        tokens = self.embedding[context]
        return self.attention(tokens[:, -1:], tokens).squeeze(-2) @ self.embedding.T


def constructed(embedding: Tensor) -> OneLayer:
    """No training: uniform attention, and ``W_V = Σ_v W_E(v) [Σ_{v' : D_H(v, v') = 1} W_E(v')]ᵀ`` stores every token under its nearest neighbours."""
    model = OneLayer(embedding.shape[1])
    with torch.no_grad():
        model.embedding.copy_(embedding)
        model.attention.keys.weight.zero_()
        model.attention.values.weight.copy_(embedding.T @ (hamming() == 1).float() @ embedding)
    return model
