"""A short causal convolution: every channel sees its own last few tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ShortConvolution(nn.Module):
    """``y_t = silu(Σ_s w_s ⊙ x_{t−s})`` over the ``taps`` latest tokens, channel by channel (So et al. 2021, Primer, arXiv 2109.08668).

    Shapes: (batch, T, channels) -> (batch, T, channels). ``weight`` (taps, channels), the present token first.
    """

    def __init__(self, channels: int, taps: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None):
        super().__init__()
        if channels < 1 or taps < 1:
            raise ValueError(f"ShortConvolution needs positive channels and taps, got channels={channels}, taps={taps}.")
        self.weight = nn.Parameter(torch.empty(taps, channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight, -(len(self.weight) ** -0.5), len(self.weight) ** -0.5)

    def forward(self, x: Tensor, recent: Tensor | None = None, segment: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The convolution and the tokens that the next call needs.

        Args:
            x: (batch, T, channels)
            recent: the ``taps − 1`` tokens before x, (batch, taps − 1, channels). Default: zeros, the start of a sequence.
            segment: which sequence a token belongs to, (T,), where several are packed; none sees another's tokens.
        """
        taps, length = len(self.weight), x.shape[1]
        seen = torch.cat([x.new_zeros(len(x), taps - 1, x.shape[2]) if recent is None else recent.to(x.dtype), x], 1)
        weight, total = self.weight.to(x.dtype), x * self.weight[0].to(x.dtype)
        for back in range(1, taps):
            earlier = seen[:, taps - 1 - back : taps - 1 - back + length] * weight[back]
            total = total + (earlier if segment is None else earlier * _same(segment, back))
        return nn.functional.silu(total), seen[:, length:]

    def extra_repr(self) -> str:
        return f"channels={self.weight.shape[1]}, taps={self.weight.shape[0]}"


def _same(segment: Tensor, back: int) -> Tensor:
    """Whether the token so many places back belongs to the same sequence. (T,) -> (T, 1)"""
    same = torch.zeros_like(segment, dtype=torch.bool)
    same[back:] = segment[back:] == segment[: max(len(segment) - back, 0)]
    return same.unsqueeze(-1)
