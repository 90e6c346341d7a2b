"""Synapses that learn: modules that own the tensors of the specs of ``energies`` (their ``spec``), for a ``HopfieldNetwork``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..energies import Attention, Bias, Convolution, Dense, Linear, ReadEnergy, presets
from ..energies.synapses.base import Synapse
from .associative import own
from .cell import widths


class LearnedSynapse(nn.Module):
    """Base of all synapses that learn: called with activations, it gives the energy of its ``spec``."""

    @property
    def spec(self) -> Synapse:
        """The synapse at the present parameters."""
        raise NotImplementedError

    def forward(self, *activations: Tensor) -> Tensor:
        """One energy per sample, or one per row."""
        return self.spec(*activations)

    def extra_repr(self) -> str:
        return str(self.spec)


class LinearSynapse(LearnedSynapse):
    """``E = −g_aᵀ W g_b`` between groups of shapes a and b. ``weight`` (*a, *b) starts at a spectral norm of about ½: linear neurons are bounded below."""

    def __init__(self, first: tuple[int, ...], second: tuple[int, ...], **factory: Any):
        super().__init__()
        self.leading = len(first)
        self.weight = nn.Parameter(torch.empty(*first, *second, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        sizes = math.prod(self.weight.shape[: self.leading]), math.prod(self.weight.shape[self.leading :])
        nn.init.normal_(self.weight, std=0.5 / sum(math.sqrt(size) for size in sizes))

    @property
    def spec(self) -> Linear:
        return Linear(self.weight, self.leading)


class BiasSynapse(LearnedSynapse):
    """``E = −b·g``, ``bias`` of the shape of the group, 0 at first."""

    def __init__(self, shape: tuple[int, ...], **factory: Any):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape, **factory))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)

    @property
    def spec(self) -> Bias:
        return Bias(self.bias)


class ConvolutionSynapse(LearnedSynapse):
    """``E = −Σ g_b · (W ∗ g_a)`` between an image (channels, *space) and its features. ``weight`` (features, channels, *kernel)."""

    def __init__(self, channels: int, features: int, kernel: tuple[int, ...], stride: int = 1, *, padding: int | str = 0, **factory: Any):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(features, channels, *kernel, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.5 * self.weight[0].numel() ** -0.5)

    @property
    def spec(self) -> Convolution:
        return Convolution(self.weight, self.stride, self.padding)


class DenseSynapse(LearnedSynapse):
    """``E = −Σ_rows Q[Σ_μ F(β S(g, ξ_μ))]/β`` with learned memories ``keys`` (slots, dim) of unit norm at first, and β = exp(``log_beta``)."""

    def __init__(self, dim: int, slots: int, energy: ReadEnergy | None = None, **factory: Any):
        super().__init__()
        self.given = presets.log_sum_exp() if energy is None else energy
        _plain(self.given)
        own(self, self.given)
        self.keys, self.log_beta = nn.Parameter(torch.empty(slots, dim, **factory)), nn.Parameter(torch.empty(1, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.keys, std=self.keys.shape[1] ** -0.5)
        nn.init.constant_(self.log_beta, math.log(self.given.beta))

    @property
    def spec(self) -> Dense:
        return Dense(self.keys, self.given.at(self.log_beta.exp().reshape(())))


class AttentionSynapse(LearnedSynapse):
    """``E = −Σ_h Σ_i Q[Σ_j F(β_h S(W_q a_i, W_k b_j))]/β_h`` between the rows (n, dim) of a group, or of two.

    ``query`` and ``keys`` (heads, dim / heads, dim), β = exp(``log_beta``) (heads,); without an energy ``log_sum_exp(1/√head_dim)``. ``presence`` says which
    rows see which, as in ``energies.Attention``: a buffer, saved with the module.
    """

    presence: Tensor | None

    def __init__(self, dim: int, heads: int, energy: ReadEnergy | None = None, *, presence: Tensor | None = None, **factory: Any):
        super().__init__()
        width, _ = widths(dim, heads, None)
        self.given = presets.log_sum_exp(width**-0.5) if energy is None else energy
        _plain(self.given)
        own(self, self.given)
        self.query, self.keys = (nn.Parameter(torch.empty(heads, width, dim, **factory)) for _ in range(2))
        self.log_beta = nn.Parameter(torch.empty(heads, **factory))
        self.register_buffer("presence", presence)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in (self.query, self.keys):
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        nn.init.constant_(self.log_beta, math.log(self.given.beta))

    @property
    def spec(self) -> Attention:
        return Attention(self.query, self.keys, self.given.at(self.log_beta.exp()), self.presence)


def _plain(energy: ReadEnergy) -> None:
    if not isinstance(energy, ReadEnergy) or isinstance(energy.beta, Tensor):
        raise ValueError(f"A synapse that learns is built from a ReadEnergy whose beta is a number, where the learned one starts; got {energy!r}.")
