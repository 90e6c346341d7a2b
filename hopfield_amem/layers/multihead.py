"""A drop-in for ``nn.MultiheadAttention`` that reads with any energy, and the swap inside whole models."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from ..descent import Descent, FixedPoint
from ..energies import ReadEnergy, presets
from .added import merged, present
from .associative import Associated, Association, check, own
from .replacement import Replacement, Swap, places


class MultiheadAttention(Associated, nn.MultiheadAttention):
    """``nn.MultiheadAttention`` whose heads read with an energy: the same arguments, parameters and state_dict, and with ``log_sum_exp(1/√head_dim)``
    and one step the same numbers.

    Masks follow torch here: **boolean True is masked** (everywhere else in this library True is present), and so is an integer other than 0; floats are
    added to the scores. With an exponential F an added m is a presence, ``F(s + m) = exp(m) F(s)``; every other energy takes floats that keep or
    delete, 0 and −∞ (see ``added.present``).

    It differs from torch in this: a query that sees no slot reads zeros, not NaN; the weights it returns are those before dropout; nested tensors are
    read in training as well, sequence by sequence. The inverse temperature is the energy's and is not learned.

    Args:
        embed_dim: width of the tokens.
        num_heads: number of heads.
        energy: the spec. None: ``log_sum_exp(1/√head_dim)``, attention (Vaswani et al. 2017, arXiv 1706.03762).
        descent: how queries move among the keys; ``FixedPoint(steps=1)`` is attention.
        options: those of ``nn.MultiheadAttention``, by name: dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first, device, dtype.

    Shapes: those of ``nn.MultiheadAttention``.

    Raises:
        ValueError: an energy or descent of a wrong kind, tokens or masks whose shapes do not fit, an added mask that the energy cannot take.
        TypeError: tokens that are no tensors.
    """

    def __init__(self, embed_dim: int, num_heads: int, energy: ReadEnergy | None = None, descent: Descent = FixedPoint(steps=1), **options: Any):
        super().__init__(embed_dim, num_heads, **options)
        self._equip(energy, descent)
        own(self, self.given)

    @classmethod
    def adopt(cls, attention: nn.MultiheadAttention, energy: ReadEnergy | None = None, descent: Descent = FixedPoint(steps=1)) -> MultiheadAttention:
        """The same attention reading with an energy. It holds the very Parameters of the one given, which stays as it is, and no others: what a separation or
        similarity of the energy learns is left to the caller.

        Raises:
            ValueError: no ``nn.MultiheadAttention``, or a subclass of it, whose own forward would be lost.
        """
        if type(attention) not in (nn.MultiheadAttention, cls):
            raise ValueError(f"adopt takes an nn.MultiheadAttention, got {type(attention).__name__}, whose own forward would be lost.")
        twin = cls.__new__(cls)
        shared = ("_parameters", "_buffers", "_modules")  # one dictionary for both: what is loaded or moved in one is so in the other
        twin.__dict__.update({name: copy(held) if isinstance(held, dict) and name not in shared else held for name, held in vars(attention).items()})
        twin._equip(energy, descent)
        return twin

    def _equip(self, energy: ReadEnergy | None, descent: Descent) -> None:
        self.given = presets.log_sum_exp(self.head_dim**-0.5) if energy is None else energy
        self.descent = descent
        check(self.given, descent)
        if called not in self._forward_pre_hooks.values():
            self.register_forward_pre_hook(called)

    @property
    def spec(self) -> ReadEnergy:
        """The energy being descended."""
        return self.given

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments and results of ``nn.MultiheadAttention.forward``. ``is_causal`` says that ``attn_mask`` is the causal mask, and needs it."""
        if isinstance(query, Tensor) and query.is_nested:
            return self._nested((query, key, value), key_padding_mask is not None or attn_mask is not None or need_weights), None
        at = self.associate(query, key, value, key_padding_mask=key_padding_mask, attn_mask=attn_mask, is_causal=is_causal)
        output = self.out_proj(self.read(at, self.dropout if self.training else 0.0).transpose(1, 2).flatten(-2))
        weights = self.weights(at) if need_weights else None
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if query.ndim == 2:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def associate(
        self, query: Tensor, key: Tensor, value: Tensor, *, key_padding_mask: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Association:
        """Queries, keys and values of every head, (batch, heads, t, head_dim), with the slots that ``add_bias_kv`` and ``add_zero_attn`` append."""
        asked, stored, shown = (self._batched(name, tokens) for name, tokens in (("query", query), ("key", key), ("value", value)))
        if len({len(tokens) for tokens in (asked, stored, shown)}) > 1 or stored.shape[1] != shown.shape[1]:
            raise ValueError(f"query, key and value share the batch, key and value the length; got {_shape(query)}, {_shape(key)} and {_shape(value)}.")
        if is_causal and attn_mask is None:
            raise ValueError("is_causal says that attn_mask is the causal mask, and needs it: nn.Transformer.generate_square_subsequent_mask makes one.")
        appended = (self.bias_k is not None) + self.add_zero_attn
        causal = is_causal and not appended  # the appended slots are seen by every query
        presence = merged(
            (asked.shape[0], self.num_heads, asked.shape[1], stored.shape[1]),
            None if causal else attn_mask,
            key_padding_mask if key_padding_mask is None or query.ndim == 3 else key_padding_mask.unsqueeze(0),
        )
        presence = None if presence is None else present(self.given, pad(presence, (0, appended)))
        queries, keys, values = self._heads(asked, stored, shown)
        return Association(queries, keys, values, presence, causal)

    def _batched(self, name: str, tokens: Tensor) -> Tensor:
        """Checked tokens, (batch, t, width)."""
        width = {"query": self.embed_dim, "key": self.kdim, "value": self.vdim}[name]
        if not isinstance(tokens, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(tokens).__name__}. A PackedSequence is unpacked by nn.utils.rnn.pad_packed_sequence.")
        if tokens.ndim not in (2, 3) or tokens.shape[-1] != width:
            raise ValueError(f"{name} has shape (t, {width}), (batch, t, {width}) with batch_first, or (t, batch, {width}) without; got {_shape(tokens)}.")
        return tokens.unsqueeze(0) if tokens.ndim == 2 else tokens if self.batch_first else tokens.transpose(0, 1)

    def _heads(self, *tokens: Tensor) -> list[Tensor]:
        """Tokens (batch, t, width) projected and told apart, with the appended slots: (batch, heads, t, head_dim)."""
        packed = self.in_proj_weight is not None
        weights = self.in_proj_weight.chunk(3) if packed else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        query, *stored = (linear(*role) for role in zip(tokens, weights, biases, strict=True))
        if self.bias_k is not None and self.bias_v is not None:
            pairs = zip(stored, (self.bias_k, self.bias_v), strict=True)
            stored = [torch.cat([rows, slot.to(rows.dtype).expand(len(rows), 1, -1)], 1) for rows, slot in pairs]
        if self.add_zero_attn:
            stored = [pad(rows, (0, 0, 0, 1)) for rows in stored]
        return [rows.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for rows in (query, *stored)]

    def _nested(self, tokens: tuple[Tensor, Tensor, Tensor], more: bool) -> Tensor:
        """Every sequence of nested tensors on its own."""
        if more or not all(part.is_nested and part.size(0) == tokens[0].size(0) for part in tokens):
            raise ValueError("Nested tokens come as nested query, key and value, without masks and with need_weights=False.")
        apart = zip(*(part.unbind() for part in tokens), strict=True)
        return torch.nested.as_nested_tensor([self.forward(*sequences, need_weights=False)[0] for sequences in apart], layout=tokens[0].layout)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, {self.descent}\n{self.given}"


def replace_attention_(module: nn.Module, energy: ReadEnergy | None = None, descent: Descent = FixedPoint(steps=1)) -> Replacement:
    """Let every ``nn.MultiheadAttention`` inside a model read with an energy, in place: same Parameters, same state_dict, and ``undo()`` takes it back.

    Subclasses are skipped, since their own forward would be lost. An ``nn.TransformerEncoder`` around a replaced attention no longer packs padded
    batches into nested tensors, which only its fused softmax profits from.

    Args:
        module: the model.
        energy: what every attention reads with. None: ``log_sum_exp(1/√head_dim)``, what it did before. Tensors that its functions learn stay outside of
            the model, whose ``state_dict`` does not change: train, move and save them beside it.
        descent: how queries move among the keys.

    Raises:
        ValueError: nothing inside that can be replaced, or an energy or a descent of a wrong kind.
    """
    swaps: list[Swap] = []
    skipped: dict[str, str] = {}
    adopted: dict[nn.Module, MultiheadAttention] = {}  # one that stands in several places stays one
    for place in places(module):
        child = place.module
        if isinstance(child, nn.MultiheadAttention) and type(child) in (nn.MultiheadAttention, MultiheadAttention):
            adopted[child] = adopted.get(child) or MultiheadAttention.adopt(child, energy, descent)
            swaps.append(Swap.of(place, adopted[child], str(adopted[child].given)))
        elif isinstance(child, nn.MultiheadAttention):
            skipped[place.fqn] = "a subclass of nn.MultiheadAttention, whose own forward would be lost"
    if not swaps:
        raise ValueError(
            f"There is no nn.MultiheadAttention to replace in {type(module).__name__}; skipped {skipped}. MultiheadAttention.adopt takes one alone."
        )
    for swap in swaps:
        swap.put()
    around = [part for part in module.modules() if isinstance(part, nn.TransformerEncoder) and any(isinstance(a, MultiheadAttention) for a in part.modules())]
    settings = [(encoder, name, getattr(encoder, name)) for encoder in around for name in ("enable_nested_tensor", "use_nested_tensor")]
    for encoder, name, _ in settings:
        setattr(encoder, name, False)
    return Replacement({swap.place.fqn: swap.memory for swap in swaps}, skipped, tuple(swaps), tuple(settings))


def called(module: nn.Module, tokens: tuple) -> None:
    """A hook that does nothing. Where a module has hooks, ``nn.TransformerEncoderLayer`` calls it instead of fusing its weights into a softmax."""


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
