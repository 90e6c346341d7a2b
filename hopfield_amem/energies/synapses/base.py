"""Synapses: an energy between what groups of neurons say. Each gives one energy per sample, or one per row of neurons, which a network adds up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..separations import derivative
from ..spec import Spec

Currents = tuple[Tensor, ...]


class Synapse(Spec):
    """Base of all synapses: ``E(g_a, g_b, …)`` of the activations of the groups it connects, with leading dimensions for samples."""

    def __call__(self, *activations: Tensor) -> Tensor:
        raise NotImplementedError

    def energy_and_currents(self, *activations: Tensor) -> tuple[Tensor, Currents]:
        """E, and the currents ``−∂E/∂g`` into every group: by autograd, unless a subclass shares what both need."""
        energy, pullback = derivative.vjp(self.__call__, *activations)
        return energy, pullback(-torch.ones_like(energy))

    def currents(self, *activations: Tensor) -> Currents:
        """The currents alone."""
        return self.energy_and_currents(*activations)[1]

    quadratic = False  # whether currents are linear in the activations
    linear = False  # whether currents are constants

    def check(self, *shapes: tuple[int, ...]) -> None:
        """Raise ValueError when this synapse does not fit groups of these shapes."""

    def degree(self, moving: tuple[bool, ...]) -> float | None:
        """How fast −E grows with those activations that move: like their norm to this power. None: not known."""
        return None


@dataclass(frozen=True, eq=False)
class Linear(Synapse):
    """``E = −g_aᵀ W g_b`` (Hopfield 1982; Krotov & Hopfield 2021, arXiv 2008.06996). A group connected with itself, ``−gᵀWg``, takes ½ into its W.

    Args:
        weight: W, of the shape of the first group followed by that of the second.
        leading: how many of its dimensions belong to the first group.

    Shapes: (..., *a), (..., *b) -> (...)
    """

    weight: Tensor
    leading: int = 1
    quadratic = True

    def __post_init__(self):
        held(self.weight, "Linear(weight)")
        if not 0 < self.leading < self.weight.ndim:
            raise ValueError(
                f"The weight of a linear synapse has the dimensions of both groups, {self.leading} of them of the first; got {sized(self.weight)}."
            )

    def __call__(self, first, second):
        return -self._met(self._into_second(first), second)

    def energy_and_currents(self, first, second):
        currents = self.currents(first, second)
        if currents[0].shape.numel() < currents[1].shape.numel():  # the same number from either side, sooner from the smaller one
            return -met(currents[0], first, self.leading), currents
        return -self._met(currents[1], second), currents

    def currents(self, first, second):
        back = flat(second, self.weight.ndim - self.leading) @ self._matrix(first).mT
        return back if self.leading == 1 else back.unflatten(-1, self.weight.shape[: self.leading]), self._into_second(first)

    def _into_second(self, first: Tensor) -> Tensor:
        """The current into the second group, ``g_aᵀ W``."""
        ahead = flat(first, self.leading) @ self._matrix(first)
        return ahead if self.weight.ndim == self.leading + 1 else ahead.unflatten(-1, self.weight.shape[self.leading :])

    def _matrix(self, like: Tensor) -> Tensor:
        weight = self.weight.to(like.dtype)
        return weight if weight.ndim == 2 else weight.flatten(self.leading).flatten(0, self.leading - 1)

    def _met(self, current: Tensor, second: Tensor) -> Tensor:
        return met(current, second, self.weight.ndim - self.leading)

    def check(self, *shapes):
        expected = sum(map(tuple, shapes), ())
        if len(shapes) != 2 or tuple(self.weight.shape) != expected or self.leading != len(shapes[0]):
            raise ValueError(
                f"Linear connects two groups a and b by a weight of shape (*a, *b), leading=len(a): here {expected} with leading={len(shapes[0])}, "
                f"got {sized(self.weight)} with leading={self.leading}."
            )

    def degree(self, moving):
        return sum(moving)

    def __str__(self) -> str:
        return f"−aᵀ W b, W {sized(self.weight)}"


@dataclass(frozen=True, eq=False)
class Bias(Synapse):
    """``E = −b·g``, with one entry per neuron. Shapes: (..., *a) -> (...)"""

    bias: Tensor
    linear = True

    def __post_init__(self):
        held(self.bias, "Bias(bias)")

    def __call__(self, activation):
        return -met(self.bias.to(activation.dtype), activation, self.bias.ndim)

    def energy_and_currents(self, activation):
        return self(activation), self.currents(activation)

    def currents(self, activation):
        return (self.bias.to(activation.dtype).expand(activation.shape),)

    def check(self, *shapes):
        if len(shapes) != 1 or tuple(self.bias.shape) != tuple(shapes[0]):
            raise ValueError(f"Bias acts on one group, with one entry per neuron: {shapes[0]}, got {sized(self.bias)} for {len(shapes)} groups.")

    def degree(self, moving):
        return sum(moving)

    def __str__(self) -> str:
        return f"−b·a, b {sized(self.bias)}"


@dataclass(frozen=True, eq=False)
class Plain(Synapse):
    """A user's synapse: any differentiable function, or module, of the activations of its groups; one energy per sample, or one per row."""

    function: Callable[..., Tensor]

    def __call__(self, *activations):
        try:
            return self.function(*activations)
        except Exception as error:
            error.add_note(f"This is the synapse {self}, of activations of shapes {', '.join(map(sized, activations))}.")
            raise

    def __str__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__).replace("<lambda>", "E")


@dataclass(frozen=True, eq=False)
class Learned(Synapse):
    """The synapse that a module says it is (its ``spec``) at its present parameters."""

    module: Any

    def __call__(self, *activations):
        return self.module.spec(*activations)

    def energy_and_currents(self, *activations):
        return self.module.spec.energy_and_currents(*activations)

    def currents(self, *activations):
        return self.module.spec.currents(*activations)

    def check(self, *shapes):
        self.module.spec.check(*shapes)

    def degree(self, moving):
        return self.module.spec.degree(moving)

    @property
    def quadratic(self) -> bool:
        return self.module.spec.quadratic

    @property
    def linear(self) -> bool:
        return self.module.spec.linear

    def __str__(self) -> str:
        return f"{self.module.spec}, learned"


def as_synapse(synapse: Synapse | Callable[..., Tensor]) -> Synapse:
    """The synapse itself, that of a module, or a plain function or module as one."""
    if isinstance(synapse, Synapse):
        return synapse
    if isinstance(getattr(synapse, "spec", None), Synapse):
        return Learned(synapse)
    if not callable(synapse):
        raise ValueError(f"A synapse is an energy of activations, for example Linear(weight) or a function of them, got {synapse!r}.")
    return Plain(synapse)


def met(current: Tensor, activation: Tensor, rank: int) -> Tensor:
    """``current · g`` over the last dimensions, those of a group. (..., *a), (..., *a) -> (...)"""
    return (current * activation).sum(tuple(range(-rank, 0)))


def flat(activation: Tensor, rank: int) -> Tensor:
    """The last dimensions as one, where they are many."""
    return activation if rank == 1 else activation.flatten(-rank)


def held(tensor: Tensor, name: str) -> None:
    """Raise TypeError when a synapse is not given a floating-point tensor with at least one dimension."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or not tensor.ndim:
        kind = f"{tensor.dtype} {sized(tensor)}" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{name} must be a floating-point tensor with at least one dimension, got {kind}. Convert it with torch.as_tensor(...).float().")


def sized(tensor: Tensor) -> str:
    """The shape of a tensor as it is printed."""
    return str(tuple(tensor.shape))
