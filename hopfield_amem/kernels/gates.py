"""What stands between the queries and the slots: presence, bias, causality, a window, dropout."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

EVERYTHING = 2**31 - 1  # reach of a causal read without a window


@dataclass(frozen=True)
class Gates:
    """Presence a multiplies F, bias b adds to the scores, dropout's κ multiplies the weights: ``p = κ a F′(β S + b)/…``.

    ``reach`` 0 sees every slot; r > 0 is causal: query i stands at slot c + i and sees the slots c + i − r + 1 … c + i, with c the ``offset``.
    With levels G, F of slot j is multiplied by what is left of it, exp(G_i − G_j): q queries stand at the levels of the last q slots. Levels never
    rise, and only differences count; given in float64 they may fall to −10⁶ while neighbours keep seven digits.
    """

    presence: Tensor | None = None  # broadcastable to (..., q, n)
    bias: Tensor | None = None  # broadcastable to (..., n)
    reach: int = 0
    dropout: float = 0.0
    seed: Tensor | None = None  # int64, on the device; decides what dropout keeps
    offset: int = 0
    level: Tensor | None = None  # (..., n), cumulative logarithms of decay

    @property
    def open(self) -> bool:
        """Whether nothing stands between queries and slots."""
        return self.presence is None and self.bias is None and self.level is None and not self.reach and not self.dropout

    def detached(self) -> Gates:
        """The same gates as constants."""
        presence, bias = (None if gate is None else gate.detach() for gate in (self.presence, self.bias))
        return replace(self, presence=presence, bias=bias)

    @property
    def aligned(self) -> bool:
        """Whether what a query sees depends on which query it is."""
        soft = self.presence is not None and self.presence.ndim > 1 and self.presence.shape[-2] > 1
        return bool(self.reach) or soft or self.dropout > 0 or self.level is not None

    def amounts(self, queries: int, slots: int, device: torch.device) -> Tensor | None:
        """Presence with everything out of reach deleted, times what decay leaves (without an offset aligned at the first slot, as in SDPA)."""
        left = self._left(queries)
        if not self.reach:
            return self.presence if left is None else left if self.presence is None else self.presence * left
        ago = self.offset + torch.arange(queries, device=device).unsqueeze(-1) - torch.arange(slots, device=device)
        past = (ago >= 0) & (ago < self.reach)
        past = past if left is None else past * left
        if self.presence is None:
            return past
        return self.presence & past if self.presence.dtype == past.dtype == torch.bool else self.presence * past

    def _left(self, queries: int) -> Tensor | None:
        """exp(G_i − G_j) of every pair (..., q, n), at most 1; None without decay."""
        if self.level is None:
            return None
        rows = self.level[..., self.level.shape[-1] - queries :]
        return torch.exp((rows.unsqueeze(-1) - self.level.unsqueeze(-2)).clamp_max(0.0))

    def kept(self, lead: torch.Size, queries: int, slots: int, dtype: torch.dtype) -> Tensor | None:
        """1/(1 − rate) where dropout keeps a weight, else 0: (*lead, q, n); None without dropout."""
        if self.seed is None:
            return None
        device = self.seed.device
        members = torch.arange(lead.numel(), device=device).reshape(*lead, 1, 1)
        return kept(self.seed, members, torch.arange(queries, device=device).unsqueeze(-1), torch.arange(slots, device=device), self.dropout).to(dtype)


def gated(presence: Tensor | None, bias: Tensor | None, causal: bool | int, dropout: float, device: torch.device) -> Gates:
    """The options of a read, checked, as one object; dropout draws its seed here."""
    if isinstance(causal, bool):
        reach = EVERYTHING if causal else 0
    elif isinstance(causal, int) and 1 <= causal <= EVERYTHING:
        reach = causal
    else:
        raise ValueError(f"causal is True, False, or the number of latest slots a query sees (at least 1), got {causal!r}.")
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ValueError(f"dropout is the probability in [0, 1) with which a weight is dropped, got {dropout!r}.")
    seed = torch.randint(2**62, (), device=device) if dropout else None
    return Gates(presence, bias, reach, float(dropout), seed)


def kept(seed: Tensor, member: Tensor, query: Tensor, slot: Tensor, rate: float) -> Tensor:
    """Philox 4×32-10 (Salmon et al. 2011) of the counter (slot, query, member, 0): the same numbers as in the Triton kernels."""
    low = 0xFFFFFFFF
    member, query, slot = torch.broadcast_tensors(member, query, slot)
    c0, c1, c2, c3 = slot.long(), query.long(), member.long(), torch.zeros_like(slot, dtype=torch.long)
    k0, k1 = seed & low, (seed >> 32) & low
    for _ in range(10):
        first, second = 0xD2511F53 * c0, 0xCD9E8D57 * c2  # 64-bit products: wrapped ones keep the right bits
        c0, c2 = ((second >> 32) & low) ^ c1 ^ k0, ((first >> 32) & low) ^ c3 ^ k1
        c1, c3 = second & low, first & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    signed = torch.where(c0 >= 2**31, 2**32 - 1 - c0, c0)
    return torch.where(signed.float() * 4.6566127342e-10 >= rate, 1.0 / (1.0 - rate), 0.0)
