"""A token mixer whose memory is what it has read so far: the causal write-then-read cell as a layer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, rms_norm, softplus

from ..energies import Memory, ReadEnergy, Sum
from ..energies.stability import stiffness
from ..kernels import associate
from .cell import Addressing, Writing, check, widths
from .convolution import ShortConvolution
from .rotary import rotate

TIMES = 1e-3, 0.1  # the step sizes, and
SCALES = 1.0, 16.0  # the forgetting per step, that a fresh layer draws (Mamba-2, arXiv 2405.21060; Gated DeltaNet, arXiv 2412.06464)
FORGOTTEN = 20.0  # −log γ beyond which more forgetting changes nothing, and underflows


class MixerState(NamedTuple):
    """What a mixer remembers between calls: what ``associate`` returned, the latest tokens of the convolution, and how many have come."""

    memory: Any
    recent: Tensor | None
    position: Tensor


class MemoryMixer(nn.Module):
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
        super().__init__()
        self.memory = Memory(memory) if isinstance(memory, ReadEnergy) else memory
        self.addressing, self.writing = addressing, writing
        self.dim, self.heads, self.memories = dim, heads, addressing.memories or heads
        self.widths = key, value = widths(dim, heads, head_dim)
        check(self.memory, heads, key, addressing, writing)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.sizes = (heads * key, self.memories * key, self.memories * value, self.memories * key * writing.erase)
        self.project = nn.Linear(dim, sum(self.sizes), bias=False, **made)
        self.convolution = ShortConvolution(sum(self.sizes), addressing.taps, **made) if addressing.taps else None
        self.rate = nn.Linear(dim, self.memories, **made) if self.memory.slope != 0 and writing.rate is None else None
        forgets = self.memory.decay is not None and writing.decay is None
        self.forget = nn.Linear(dim, self.memories * (key if self.memory.decay == "channel" else 1), **made) if forgets else None
        self.log_scale = nn.Parameter(torch.empty(self.memories, **made)) if forgets else None
        self.output = nn.Linear(heads * value, dim, bias=False, **made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections of unit gain; a learned rate at half its limit; forgetting times spread log-uniformly, whatever the token is."""
        for linear in (self.project, self.output, self.rate):
            if linear is not None:
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        if self.convolution is not None:
            self.convolution.reset_parameters()
        if self.rate is not None:
            nn.init.zeros_(self.rate.bias)
        if self.forget is not None and self.log_scale is not None:
            with torch.no_grad():
                times = torch.empty_like(self.forget.bias).uniform_(*map(math.log, TIMES)).exp()
                self.forget.weight.zero_()
                self.forget.bias.copy_(times + torch.log(-torch.expm1(-times)))  # the inverse of softplus
                self.log_scale.uniform_(*SCALES).log_()

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
        query, keys, values, erase = self._addressed(parts, start)
        read, memory = associate(
            self.memory, query, keys, values, rate=self._rate(x, keys), decay=self._decay(x), erase=erase, cu_seqlens=cu_seqlens,
            state=None if state is None else state.memory, presence=None if presence is None else presence[:, None, None],
        )  # fmt: skip
        if isinstance(self.memory.read.scaling, Sum):
            read = rms_norm(read, read.shape[-1:])
        mixed = read.reshape(len(x), self.heads, *read.shape[-2:]).transpose(1, 2).flatten(2)
        return self.output(mixed.to(values.dtype)), MixerState(memory, recent, start + x.shape[1])

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
        query = _rows(query, self.memories, self.heads // self.memories)
        keys, values, erase = (_rows(part, self.memories) for part in (keys, values, erase))
        if self.addressing.norm is not None:
            wide = torch.promote_types(parts.dtype, torch.float32)  # a norm rounded to half precision is no norm
            keys, erase = ((self.addressing.norm * normalize(key.to(wide), dim=-1)).to(parts.dtype) for key in (keys, erase))
        if self.addressing.rotary is not None:
            position = start + torch.arange(parts.shape[1], device=parts.device)
            query, keys, erase = (rotate(address, position, self.addressing.rotary) for address in (query, keys, erase))
        return query, keys, values, erase if self.writing.erase else None

    def _rate(self, x: Tensor, keys: Tensor) -> Tensor | None:
        """b, such that ``b κ₁(k, k)`` lies in [0, limit] whatever the keys are. -> (batch, memories, 1, T)"""
        if self.rate is None:
            return None if self.writing.rate in (None, 1.0) else keys.new_tensor(self.writing.rate)
        wide = torch.promote_types(keys.dtype, torch.float32)
        gate = _rows(self.rate(x).to(wide), self.memories).squeeze(-1).sigmoid()
        if not isinstance(self.memory.predictor.scaling, Sum):
            return min(self.writing.limit, 1.0) * gate
        return self.writing.limit * gate / stiffness(self.memory, keys.to(wide), keys.to(wide)).clamp_min(1.0)

    def _decay(self, x: Tensor) -> Tensor | None:
        """``γ = exp(−scale · softplus(time))`` in (0, 1]. -> (batch, memories, 1, T) or, per channel, (batch, memories, 1, T, key)"""
        if self.memory.decay is None:
            return None
        wide = torch.promote_types(x.dtype, torch.float32)
        if self.forget is None or self.log_scale is None:
            decay = torch.tensor(self.writing.decay, dtype=wide, device=x.device)[:, None, None].expand(len(x), -1, 1, x.shape[1])
            return decay.unsqueeze(-1).expand(*decay.shape, self.widths[0]) if self.memory.decay == "channel" else decay
        times = _rows(softplus(self.forget(x).to(wide)), self.memories)
        decay = (-self.log_scale.to(wide).exp()[:, None, None, None] * times).clamp_min(-FORGOTTEN).exp()
        return decay if self.memory.decay == "channel" else decay.squeeze(-1)

    def _check_tokens(self, x: Tensor, presence: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[-1] != self.dim:
            raise ValueError(f"A mixer of dim={self.dim} takes tokens (batch, T, {self.dim}), got {tuple(x.shape)}.")
        if presence is not None and (presence.dtype != torch.bool or presence.shape != x.shape[:2]):
            raise ValueError(f"presence is boolean, one per token, {tuple(x.shape[:2])}; got {presence.dtype}, {tuple(presence.shape)}.")

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, widths={self.widths}, {self.addressing}, {self.writing}\n{self.memory}"


def _rows(part: Tensor, memories: int, heads: int = 1) -> Tensor:
    """One row of tokens for every head of every memory. (batch, T, memories · heads · width) -> (batch, memories, heads, T, width)"""
    return part.unflatten(-1, (memories, heads, part.shape[-1] // (memories * heads))).permute(0, 2, 3, 1, 4)
