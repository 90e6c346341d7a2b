"""One read of the reads of all ranks: ``Q = log Σ_r e^(Q_r)`` and ``Σ p v = Σ_r e^(Q_r − Q) (Σ p v)_r``, in two exchanges."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .ranks import Ranks


def merged(output: Tensor, level: Tensor, empty: float, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """What all slots give, ``Σ p v`` (..., q, v) and Q (..., q), from what every piece of a rank gives under ``Log``: (pieces, ..., q, v) and (pieces, ..., q).

    Q is −∞ for pieces without slots. ``empty`` is F of an empty slot that joins once, or 0. The gradient of a rank's own read needs no exchange.
    """
    return _Merged.apply(output, level, empty, ranks)  # type: ignore[return-value]


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(ctx, output, level, empty, ranks):  # type: ignore[override]
        top = level.amax(0)
        top = ranks.largest(top.clamp_min(0.0) if empty else top)
        top = torch.where(top == -math.inf, 0.0, top)
        share = torch.exp(level - top).unsqueeze(-1)
        packed = ranks.add(torch.cat([share * output, share], -1).sum(0))
        mass = packed[..., -1] + (torch.exp(-top).mul(empty) if empty else 0.0)  # with an empty slot top is no less than 0
        found = packed[..., :-1] / torch.where(mass == 0, 1.0, mass).unsqueeze(-1)
        value = torch.where(mass == 0, -math.inf, top + mass.log())
        ctx.save_for_backward(output, level, found, value)
        return found, value

    @staticmethod
    @once_differentiable
    def backward(ctx, d_found, d_value):  # type: ignore[override]
        output, level, found, value = ctx.saved_tensors
        share = torch.exp(level - torch.where(value == -math.inf, 0.0, value))
        d_level = share * (((output - found) * d_found).sum(-1) + d_value)
        return share.unsqueeze(-1) * d_found, d_level, None, None
