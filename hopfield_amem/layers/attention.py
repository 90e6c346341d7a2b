"""Attention as retrieval: tokens are queries, and the memory is made of tokens."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..descent import Descended, Descent, FixedPoint
from ..energies import ReadEnergy, checks, presets
from .associative import Association, Associative, local
from .cell import widths
from .rotary import rotate
from .wiring import ROLES, Wiring


class HopfieldAttention(Associative):
    """``y_i = W_O Σ_μ p_μ(q_i) v_μ`` in every head, with ``q = x W_Q``, ``k = Ξ W_K``, ``v = Ξ W_V`` and p the retrieval weights of an energy.

    With ``log_sum_exp`` and one step this is softmax attention (Vaswani et al. 2017, arXiv 1706.03762; as retrieval: Ramsauer et al. 2020, arXiv
    2008.02217). Any other energy, and any descent, takes its place. One inverse temperature per head is learned.

    Args:
        dim: width of the tokens.
        heads: number of heads h.
        energy: the spec; its β is where the learned ones start. None: ``log_sum_exp(1/√head_dim)``.
        descent: how queries move among the keys. ``FixedPoint(steps=1)`` is attention.
        wiring: widths, grouped heads, what is projected, normalised, rotated, dropped.

    Shapes: query (..., q, dim), keys and values (..., n, dim) -> (..., q, dim). Leading dimensions broadcast: one memory (n, dim) serves a batch.
    Parameters: ``query``, ``keys``, ``values``, ``output`` (linear), ``log_beta`` (heads,).

    Raises:
        ValueError: sizes that do not fit, an energy or a descent of a wrong kind.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        energy: ReadEnergy | None = None,
        descent: Descent = FixedPoint(steps=1),
        *,
        wiring: Wiring = Wiring(),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        key, value = widths(dim, heads, wiring.head_dim)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(presets.log_sum_exp(key**-0.5) if energy is None else energy, descent, heads, **made)
        self.dim, self.heads, self.memories, self.wiring = dim, heads, wiring.memories or heads, wiring
        self.widths, self.group = (key, value), heads // self.memories
        stored, shown, out = (dim if width is None else width for width in wiring.sources)
        tokens = {"query": dim, "keys": stored, "values": stored if wiring.connected else shown, "space": key}
        shown = self.memories * key if wiring.connected else shown
        sizes = {
            "query": (dim, heads * key), "keys": (stored, self.memories * key), "values": (shown, self.memories * value), "output": (heads * value, out),
        }  # fmt: skip
        _check(self, sizes)
        for role in wiring.norms:
            self.add_module(f"norm_{role}", nn.LayerNorm(tokens[role], **made))
        self.query, self.keys, self.values, self.output = (
            nn.Identity() if role in wiring.static else nn.Linear(*sizes[role], bias=wiring.bias, **made) for role in ROLES
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections by Glorot & Bengio 2010, biases 0, norms 1, β of the energy given."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    @property
    def spec(self) -> ReadEnergy:
        """The energy being descended, at the learned inverse temperatures, one per head: (memories, heads // memories)."""
        return self.given.at(local(self.log_beta).exp().unflatten(-1, (-1, self.group)))

    def forward(
        self, query: Tensor, keys: Tensor | None = None, values: Tensor | None = None, *, presence: Tensor | None = None, causal: bool | int = False
    ) -> Tensor:
        """Read. (..., q, dim) -> (..., q, dim)

        Args:
            query: tokens that ask.
            keys: tokens that are stored, (..., n, dim). None: the same tokens (self-attention).
            values: tokens that are read, (..., n, dim). None: those of the keys.
            presence: which slots are there (True, or an amount in [0, 1]): one per slot (..., n), per query and slot (..., q, n), or per head
                (..., heads, q, n), with the leading dimensions of the tokens.
            causal: True: query i sees slots 0..i only; a number w: the w latest of them.
        """
        return self._merged(self.associate(query, keys, values, presence=presence, causal=causal))

    def associate(
        self, query: Tensor, keys: Tensor | None = None, values: Tensor | None = None, *, presence: Tensor | None = None, causal: bool | int = False
    ) -> Association:
        """Queries (..., memories, group, q, d) among keys and values (..., memories, 1, n, d), with group = heads // memories."""
        keys = query if keys is None else keys
        values = keys if values is None else values
        self._check_tokens(query, keys, values)
        shown = self._normed("values", values)
        shown = self._headed("values", self.values(self.keys(shown) if self.wiring.connected else shown))
        asked, stored = (self._headed(role, getattr(self, role)(self._normed(role, part))) for role, part in (("query", query), ("keys", keys)))
        asked, stored = (self._rotated(self._normed("space", part)) for part in (asked, stored))
        self._check_heads(asked)
        return Association(asked, stored, shown, self._presence(presence, query, keys), causal)

    def _merged(self, at: Association) -> Tensor:
        """What all heads read, as tokens again. -> (..., q, dim)"""
        heads = self.read(at, self.wiring.dropout if self.training else 0.0)
        return self.output(heads.flatten(-4, -3).transpose(-3, -2).flatten(-2))

    def energy(self, *tokens: Tensor, presence: Tensor | None = None, causal: bool | int = False) -> Tensor:
        """``E`` of every query of every head, where its descent starts. (..., heads, q)"""
        return super().energy(*tokens, presence=presence, causal=causal).flatten(-3, -2)

    def association(self, *tokens: Tensor, presence: Tensor | None = None, causal: bool | int = False) -> Tensor:
        """The weights with which values are read. (..., heads, q, n)"""
        return super().association(*tokens, presence=presence, causal=causal).flatten(-4, -3)

    def descended(self, *tokens: Tensor, presence: Tensor | None = None, causal: bool | int = False) -> Descended:
        """The whole descent of every query of every head, with its certificate: state (..., heads, q, d), everything else (..., heads, q)."""
        found = super().descended(*tokens, presence=presence, causal=causal)
        parts = {field.name: getattr(found, field.name) for field in fields(found)}
        heads = {name: (-4, -3) if name in ("state", "trajectory") else (-3, -2) for name in parts}
        return replace(found, **{name: part.flatten(*heads[name]) for name, part in parts.items() if part is not None})

    def _headed(self, role: str, tokens: Tensor) -> Tensor:
        """(..., t, memories · group · d), or static tokens (..., t, d) for all heads alike -> (..., memories, group, t, d)

        Where heads are spread over processes, these are the memories held here.
        """
        group, width = self.group if role == "query" else 1, self.widths[role == "values"]
        if role in self.wiring.static and tokens.shape[-1] == width:
            return tokens[..., None, None, :, :].expand(*tokens.shape[:-2], self.memories, group, *tokens.shape[-2:])
        return tokens.unflatten(-1, (-1, group, width)).movedim(-4, -2)

    def _normed(self, role: str, tokens: Tensor) -> Tensor:
        return getattr(self, f"norm_{role}")(tokens) if role in self.wiring.norms else tokens

    def _rotated(self, heads: Tensor) -> Tensor:
        if self.wiring.rotary is None:
            return heads
        return rotate(heads, torch.arange(heads.shape[-2], device=heads.device), self.wiring.rotary)

    def _presence(self, presence: Tensor | None, query: Tensor, keys: Tensor) -> Tensor | None:
        """A presence with the leading dimensions of the tokens, made to fit (..., memories, group, q, n)."""
        if presence is None:
            return None
        lead = max(query.ndim, keys.ndim) - 2
        if presence.ndim == lead + 3 and presence.shape[-3] in (1, len(local(self.log_beta))):
            return presence.unsqueeze(-4) if presence.shape[-3] == 1 else presence.unflatten(-3, (-1, self.group))
        if presence.ndim == lead + 1:
            return presence[..., None, None, None, :]
        if presence.ndim == lead + 2:
            return presence[..., None, None, :, :]
        raise ValueError(
            f"presence has one entry per slot (..., n), per query and slot (..., q, n), or per head (..., {self.heads}, q, n), with the tokens' {lead} leading "
            f"dimensions; got {tuple(presence.shape)} for tokens {tuple(query.shape)} among {tuple(keys.shape)}."
        )

    def _check_tokens(self, query: Tensor, keys: Tensor, values: Tensor) -> None:
        stored, shown, _ = (self.dim if width is None else width for width in self.wiring.sources)
        wanted = {"query": (query, self.dim), "keys": (keys, stored), "values": (values, stored if self.wiring.connected else shown)}
        for role, (tokens, width) in wanted.items():
            checks.floating(role, tokens)
            if tokens.shape[-1] != width:
                raise ValueError(f"This layer takes {role} tokens (..., t, {width}), got {tuple(tokens.shape)}.")

    def _check_heads(self, asked: Tensor) -> None:
        heads, betas = asked.shape[-4] * asked.shape[-3], local(self.log_beta).shape[0]
        if heads != betas:
            raise ValueError(
                f"This process holds {heads} heads but {betas} inverse temperatures. Tensor parallelism splits both with layers.parallel.HeadwiseParallel; "
                "under fully_shard, methods other than forward are made known by register_fsdp_forward_method."
            )

    def extra_repr(self) -> str:
        wired = "" if self.wiring == Wiring() else f"{self.wiring}, "
        return f"dim={self.dim}, heads={self.heads}, {wired}{self.descent}\n{self.given}"


def _check(layer: HopfieldAttention, sizes: dict[str, tuple[int, int]]) -> None:
    """Raise ValueError where widths or heads do not fit."""
    if layer.heads % layer.memories:
        raise ValueError(f"heads={layer.heads} cannot share memories={layer.memories}: the number of memories must divide the number of heads.")
    if layer.wiring.rotary is not None and layer.widths[0] % 2:
        raise ValueError(f"Rotary positions turn pairs of channels: the width of keys must be even, got {layer.widths[0]}.")
    alike = {"query": layer.widths[0], "keys": layer.widths[0], "values": layer.widths[1]}
    for role, one in alike.items():
        given, needed = sizes[role]
        if role in layer.wiring.static and given not in (one, needed):
            raise ValueError(
                f"Static {role} are not projected, so their tokens must be as wide as one head ({one}, the same in every head) or all of them together "
                f"({needed}); they have width {given}."
            )
