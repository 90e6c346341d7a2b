"""Convolutions as synapses: an image and its feature maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d

from ..separations import derivative
from .base import Synapse, held, met, sized

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {3: conv1d, 4: conv2d, 5: conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {3: conv_transpose1d, 4: conv_transpose2d, 5: conv_transpose3d}


@dataclass(frozen=True, eq=False)
class Convolution(Synapse):
    """``E = −Σ g_b · (W ∗ g_a)``: an image and its feature maps, connected by one kernel everywhere.

    Args:
        weight: W (channels of b, channels of a, *kernel), for one to three dimensions of space.
        stride, padding: as in torch's convolutions.

    Shapes: (..., channels, *space), (..., features, *places) -> (...)
    """

    weight: Tensor
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] | str = 0
    quadratic = True

    def __post_init__(self):
        held(self.weight, "Convolution(weight)")
        if self.weight.ndim not in _CONVOLUTIONS:
            raise ValueError(f"The weight of a convolution is (features, channels, *kernel) with one to three dimensions of space, got {sized(self.weight)}.")
        steps = self._whole(self.stride, 1)
        if not steps or not (self.padding in ("valid", "same") or self._whole(self.padding, 0)):
            raise ValueError(
                f"A convolution has a stride ≥ 1 and a padding ≥ 0, each one number or one per dimension of space ({self.weight.ndim - 2}), or the padding "
                f"'valid' or 'same'; got stride {self.stride!r} and padding {self.padding!r}."
            )
        if self.padding == "same" and any(step != 1 for step in self._spread(self.stride)):
            raise ValueError(f"The padding 'same' needs stride 1, got {self.stride!r}: give the padding in numbers.")

    def __call__(self, image, features):
        return -met(self._maps(image), features, self.weight.ndim - 1)

    def energy_and_currents(self, image, features):
        currents = self.currents(image, features)
        smaller = 0 if image.shape.numel() < features.shape.numel() else 1  # the same number from either side
        return -met(currents[smaller], (image, features)[smaller], self.weight.ndim - 1), currents

    def currents(self, image, features):
        return self._back(features, image), self._maps(image)

    def _back(self, features: Tensor, image: Tensor) -> Tensor:
        """The current into the image, ``Wᵀ ∗ g_b``."""
        if isinstance(self.padding, str):
            return derivative.vjp(self._maps, image)[1](features)[0]
        rank = self.weight.ndim - 1
        space = zip(image.shape[1 - rank :], self._spread(self.padding), self.weight.shape[2:], self._spread(self.stride), strict=True)
        left = [(size + 2 * pad - kernel) % stride for size, pad, kernel, stride in space]  # pixels at the end that no kernel reaches
        given = features.reshape(-1, *features.shape[-rank:]), self.weight.to(image.dtype), None
        back = _TRANSPOSED[rank + 1](*given, self.stride, self.padding, left)
        return back.reshape(image.shape)

    def _maps(self, image: Tensor) -> Tensor:
        rank = self.weight.ndim - 1
        maps = _CONVOLUTIONS[rank + 1](image.reshape(-1, *image.shape[-rank:]), self.weight.to(image.dtype), None, self.stride, self.padding)
        return maps.reshape(*image.shape[:-rank], *maps.shape[1:])

    def check(self, *shapes):
        fits = len(shapes) == 2 and len(shapes[0]) == self.weight.ndim - 1 and shapes[0][0] == self.weight.shape[1]
        space = [
            size + 2 * pad - kernel
            for size, kernel, pad in zip(shapes[0][1:], self.weight.shape[2:], self._spread(0 if isinstance(self.padding, str) else self.padding), strict=False)
        ]
        if not fits or (not isinstance(self.padding, str) and min(space) < 0):
            raise ValueError(f"Convolution connects an image (channels, *space) and its features; a weight {sized(self.weight)} does not fit {shapes}.")
        maps = _CONVOLUTIONS[self.weight.ndim](torch.empty(1, *shapes[0], device="meta"), self.weight.to("meta").float(), None, self.stride, self.padding)
        if tuple(maps.shape[1:]) != tuple(shapes[1]):
            raise ValueError(f"This convolution makes {tuple(maps.shape[1:])} of an image {shapes[0]}, but its second group has the shape {shapes[1]}.")

    def _whole(self, number: object, least: int) -> bool:
        """Whether this is one whole number, or one per dimension of space."""
        numbers = number if isinstance(number, tuple) else (number,) * (self.weight.ndim - 2)
        whole = all(isinstance(one, int) and not isinstance(one, bool) and one >= least for one in numbers)
        return whole and len(numbers) == self.weight.ndim - 2

    def _spread(self, number: int | tuple[int, ...]) -> tuple[int, ...]:
        """One number per dimension of space."""
        return number if isinstance(number, tuple) else (number,) * (self.weight.ndim - 2)

    def degree(self, moving):
        return sum(moving)

    def __str__(self) -> str:
        return f"−b·(W ∗ a), W {sized(self.weight)}"
