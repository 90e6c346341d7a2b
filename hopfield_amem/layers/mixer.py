"""A token mixer whose memory is what it has read so far: the causal write-then-read cell as a layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..energies import Memory, ReadEnergy
from .cell import Addressing, Writing
from .convolution import ShortConvolution
from .memory_cell import MemoryCell, rows
from .rotary import rotate


class MixerState(NamedTuple):
    """What a mixer remembers between calls: what ``associate`` returned, the latest tokens of the convolution, and how many have come."""

    memory: Any
    recent: Tensor | None
    position: Tensor


class MemoryMixer(MemoryCell):
    """``u_t = a_t v_t − b_t Σ_{j<t} κ₁(w_t, k_j) u_j``, ``o_t = Σ_{j≤t} κ₂(q_t, k_j) u_j``, with q, k, v, w, b and γ projected from the tokens.

    One layer for every cell of the table: ``MemoryMixer(64, 4, presets.gated_delta_net())``, ``presets.delta_former(…)``, or a ReadEnergy
    alone, which is written Hebbian: ``presets.log_sum_exp(β)`` is causal attention. What a ``Sum`` reads grows with what is stored and is
    brought to unit mean square per head (Sun et al. 2023, arXiv 2307.08621); every other read is an average and stays as it is.

    Args:
        dim: width of the tokens.
        heads: number of heads h.
        memory: the cell, with numbers as inverse temperatures.
        head_dim: width of keys, or widths of keys and values. Default: dim // heads.
        addressing: how tokens become keys and queries.
        writing: rates, erase keys, decays.

    Shapes: (batch, T, dim) -> (batch, T, dim) and a ``MixerState``.

    Raises:
        ValueError: sizes that do not fit, a fixed rate at which writes explode, decays or erase keys that the memory has no use for.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        memory: Memory | ReadEnergy,
        head_dim: int | tuple[int, int] | None = None,
        *,
        addressing: Addressing = Addressing(),
        writing: Writing = Writing(),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(dim, heads, memory, head_dim, addressing=addressing, writing=writing, device=device, dtype=dtype)
        key, value = self.widths
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.sizes = (heads * key, self.memories * key, self.memories * value, self.memories * key * writing.erase)
        self.project = nn.Linear(dim, sum(self.sizes), bias=False, **made)
        self.convolution = ShortConvolution(sum(self.sizes), addressing.taps, **made) if addressing.taps else None
        self.output = nn.Linear(heads * value, dim, bias=False, **made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections of unit gain; a learned rate at half its limit; forgetting times spread log-uniformly, whatever the token is."""
        super().reset_parameters()
        for linear in (self.project, self.output):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        if self.convolution is not None:
            self.convolution.reset_parameters()

    def forward(
        self, x: Tensor, state: MixerState | None = None, *, presence: Tensor | None = None, cu_seqlens: Tensor | None = None
    ) -> tuple[Tensor, MixerState]:
        """Write and read every token. (batch, T, dim) -> (batch, T, dim)

        Args:
            x: tokens.
            state: what an earlier call returned; the tokens continue where it ended.
            presence: False where a token is padding, (batch, T): it is neither written nor seen. With a convolution, padding belongs on the left.
            cu_seqlens: boundaries of sequences that are packed into one row (batch 1), (sequences + 1,).
        """
        self._check_tokens(x, presence)
        start = torch.zeros((), dtype=torch.long, device=x.device) if state is None else state.position
        parts, recent = self._projected(x, state, presence, cu_seqlens)
        memory = None if state is None else state.memory
        read, memory = self.read(x, self._addressed(parts, start), memory, presence=presence, cu_seqlens=cu_seqlens)
        return self.output(read.flatten(2)), MixerState(memory, recent, start + x.shape[1])

    def _projected(self, x: Tensor, state: MixerState | None, presence: Tensor | None, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Queries, keys, values and erase keys side by side, after the short convolution. (batch, T, dim) -> (batch, T, sum of sizes)"""
        parts = self.project(x)
        if self.convolution is None:
            return parts, None
        parts = parts if presence is None else parts * presence.unsqueeze(-1)
        segment = None if cu_seqlens is None else torch.bucketize(torch.arange(x.shape[1], device=x.device), cu_seqlens[1:], right=True)
        return self.convolution(parts, None if state is None else state.recent, segment)

    def _addressed(self, parts: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Queries, keys, values and erase keys per head, with norms and positions."""
        query, keys, values, erase = parts.split(self.sizes, -1)
        query = rows(query, self.memories, self.heads // self.memories)
        keys, values, erase = (rows(part, self.memories) for part in (keys, values, erase))
        keys, erase = self.normed(keys), self.normed(erase)
        if self.addressing.rotary is not None:
            position = start + torch.arange(parts.shape[1], device=parts.device)
            query, keys, erase = (rotate(address, position, self.addressing.rotary) for address in (query, keys, erase))
        return query, keys, values, erase if self.writing.erase else None

    def _check_tokens(self, x: Tensor, presence: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[-1] != self.dim:
            raise ValueError(f"A mixer of dim={self.dim} takes tokens (batch, T, {self.dim}), got {tuple(x.shape)}.")
        if presence is not None and (presence.dtype != torch.bool or presence.shape != x.shape[:2]):
            raise ValueError(f"presence is boolean, one per token, {tuple(x.shape[:2])}; got {presence.dtype}, {tuple(presence.shape)}.")
