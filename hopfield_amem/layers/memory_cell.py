"""A memory with its gates: what is left of a mixer where somebody else projects the tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, rms_norm, softplus

from ..energies import Memory, ReadEnergy, Sum
from ..energies.stability import stiffness
from ..kernels import associate
from .associative import own
from .cell import Addressing, Writing, check, widths

TIMES = 1e-3, 0.1  # the step sizes, and
SCALES = 1.0, 16.0  # the forgetting per step, that a fresh layer draws (Mamba-2, arXiv 2405.21060; Gated DeltaNet, arXiv 2412.06464)
FORGOTTEN = 20.0  # −log γ beyond which more forgetting changes nothing, and underflows


class MemoryCell(nn.Module):
    """``u_t = a_t v_t − b_t Σ_{j<t} κ₁(w_t, k_j) u_j``, ``o_t = Σ_{j≤t} κ₂(q_t, k_j) u_j`` of given q, k, v, with b and γ projected from the tokens.

    What a ``Sum`` reads grows with what is stored and is brought to unit mean square per head (Sun et al. 2023, arXiv 2307.08621); every other
    read is an average and stays as it is.

    Args:
        dim: width of the tokens.
        heads: number of heads h.
        memory: the cell, with numbers as inverse temperatures; a ReadEnergy alone is written Hebbian.
        head_dim: width of keys, or widths of keys and values. Default: dim // heads.
        addressing: how many memories the heads share, and the length of their keys.
        writing: rates, erase keys, decays.

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
        self.widths = key, _ = widths(dim, heads, head_dim)
        check(self.memory, heads, key, addressing, writing)
        own(self, self.memory)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.rate = nn.Linear(dim, self.memories, **made) if self.memory.slope != 0 and writing.rate is None else None
        forgets = self.memory.decay is not None and writing.decay is None
        self.forget = nn.Linear(dim, self.memories * (key if self.memory.decay == "channel" else 1), **made) if forgets else None
        self.log_scale = nn.Parameter(torch.empty(self.memories, **made)) if forgets else None
        MemoryCell.reset_parameters(self)

    def reset_parameters(self) -> None:
        """A learned rate at half its limit; forgetting times spread log-uniformly, whatever the token is."""
        if self.rate is not None:
            nn.init.normal_(self.rate.weight, std=self.dim**-0.5)
            nn.init.zeros_(self.rate.bias)
        if self.forget is not None and self.log_scale is not None:
            with torch.no_grad():
                times = torch.empty_like(self.forget.bias).uniform_(*map(math.log, TIMES)).exp()
                self.forget.weight.zero_()
                self.forget.bias.copy_(times + torch.log(-torch.expm1(-times)))  # the inverse of softplus
                self.log_scale.uniform_(*SCALES).log_()

    def read(
        self,
        x: Tensor,
        addressed: tuple[Tensor, Tensor, Tensor, Tensor | None],
        memory: Any = None,
        *,
        presence: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Write and read every token.

        Args:
            x: tokens (batch, T, dim), which decide rates and decays.
            addressed: queries (batch, memories, heads // memories, T, key); keys and values (batch, memories, 1, T, ·) and, or None, erase keys.
            memory: the state that an earlier call returned.
            presence: False where a token is padding, (batch, T).
            cu_seqlens: boundaries of sequences that are packed into one row (batch 1), (sequences + 1,).

        Returns:
            What every head read, (batch, T, heads, value), and the state of ``associate``.
        """
        query, keys, values, erase = addressed
        read, memory = associate(
            self.memory, query, keys, values, rate=self._rate(x, keys), decay=self._decay(x), erase=erase, cu_seqlens=cu_seqlens,
            state=memory, presence=None if presence is None else presence[:, None, None],
        )  # fmt: skip
        if isinstance(self.memory.read.scaling, Sum):
            read = rms_norm(read, read.shape[-1:])
        return read.reshape(len(x), self.heads, *read.shape[-2:]).transpose(1, 2).to(values.dtype), memory

    def normed(self, keys: Tensor) -> Tensor:
        """Keys of the length that ``addressing`` gives them."""
        if self.addressing.norm is None:
            return keys
        wide = torch.promote_types(keys.dtype, torch.float32)  # a norm rounded to half precision is no norm
        return (self.addressing.norm * normalize(keys.to(wide), dim=-1)).to(keys.dtype)

    def _rate(self, x: Tensor, keys: Tensor) -> Tensor | None:
        """b, such that ``b κ₁(k, k)`` lies in [0, limit] whatever the keys are. -> (batch, memories, 1, T)"""
        if self.rate is None:
            return None if self.writing.rate in (None, 1.0) else keys.new_tensor(self.writing.rate)
        wide = torch.promote_types(keys.dtype, torch.float32)
        gate = rows(self.rate(x).to(wide), self.memories).squeeze(-1).sigmoid()
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
        times = rows(softplus(self.forget(x).to(wide)), self.memories)
        decay = (-self.log_scale.to(wide).exp()[:, None, None, None] * times).clamp_min(-FORGOTTEN).exp()
        return decay if self.memory.decay == "channel" else decay.squeeze(-1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, widths={self.widths}, {self.addressing}, {self.writing}\n{self.memory}"


def rows(part: Tensor, memories: int, heads: int = 1) -> Tensor:
    """One row of tokens for every head of every memory. (batch, T, memories · heads · width) -> (batch, memories, heads, T, width)"""
    return part.unflatten(-1, (memories, heads, part.shape[-1] // (memories * heads))).permute(0, 2, 3, 1, 4)
