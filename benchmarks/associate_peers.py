"""Other people's implementations of the cells, on our layout (batch, heads, tokens, width)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def flash_linear_attention(name: str, query: Tensor, keys: Tensor, values: Tensor, rate: Tensor, decay: Tensor | None = None) -> Tensor:
    """fla's chunked kernels, (batch, tokens, heads, width) inside.

    Raises:
        ImportError: flash-linear-attention (or, for DeltaFormer, flash-attn) is not installed.
    """
    q, k, v, b = (t.transpose(1, 2) for t in (query, keys, values, rate))
    b = b.to(q.dtype)
    if name == "delta_net":
        from fla.ops.delta_rule import chunk_delta_rule

        return chunk_delta_rule(q, k, v, b, scale=1.0)[0].transpose(1, 2)
    if name == "gated_delta_net":
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule

        return chunk_gated_delta_rule(q, k, v, decay.log().transpose(1, 2), b, scale=1.0)[0].transpose(1, 2)  # type: ignore[union-attr]
    from fla.ops.deltaformer import deltaformer_attn

    return deltaformer_attn(q, k, v, b).transpose(1, 2)


PEERS: dict[str, Callable[..., torch.Tensor]] = {"flash-linear-attention": flash_linear_attention}
