"""What every layer over an energy shares: a learned inverse temperature, and a view of what is descended."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..descent import Descended, Descent, approach, read
from ..energies import Memory, ReadEnergy, checks
from ..energies.spec import modules, tensors
from ..kernels import Gates, computation, engine, full_precision, gated


class Association(NamedTuple):
    """What a layer lets its energy see: queries among keys, and what is read there."""

    query: Tensor  # (..., q, d)
    keys: Tensor  # (..., n, d)
    values: Tensor | None  # (..., n, v)
    presence: Tensor | None = None  # broadcastable to (..., q, n)
    causal: bool | int = False


class Associated:
    """A view of what is descended: the energy ``spec``, the ``descent``, and what a subclass says is associated (``associate``)."""

    given: ReadEnergy
    descent: Descent

    def associate(self, *tokens: Tensor, **gates: Any) -> Association:
        """Queries, keys and values of these tokens."""
        raise NotImplementedError

    @property
    def spec(self) -> ReadEnergy:
        """The energy being descended."""
        return self.given

    def read(self, at: Association, dropout: float = 0.0) -> Tensor:
        """What the descent reads. (..., q, v)"""
        return read(self.spec, at.query, at.keys, at.values, self.descent, presence=at.presence, causal=at.causal, dropout=dropout)

    def weights(self, at: Association) -> Tensor:
        """The weights with which the descent reads. (..., q, n)"""
        state = approach(self.spec, at.query, at.keys, self.descent, presence=at.presence, causal=at.causal)
        return self.spec.weights(state, at.keys, presence=_gates(at).amounts(state.shape[-2], at.keys.shape[-2], state.device))

    def energy(self, *tokens: Tensor, **gates: Any) -> Tensor:
        """``E`` of every query where its descent starts, at least in float32. (..., q)"""
        at = self.associate(*tokens, **gates)
        checks.inputs(self.spec, at.query, at.keys, at.values, at.presence)
        _, (query, keys) = computation(at.query, at.keys)
        with full_precision(query):
            return engine(self.spec, query, keys, _gates(at)).energy(query)

    def association(self, *tokens: Tensor, **gates: Any) -> Tensor:
        """The weights with which values are read, ``p`` at the end of the descent. (..., q, n)"""
        return self.weights(self.associate(*tokens, **gates))

    def descended(self, *tokens: Tensor, **gates: Any) -> Descended:
        """The whole descent of the queries, with its certificate: energy, steps, convergence, separation, error bound."""
        at = self.associate(*tokens, **gates)
        return self.descent(self.spec, at.query, at.keys, presence=at.presence, causal=at.causal)


class Associative(Associated, nn.Module):
    """A layer whose output is read where a descent among stored patterns ends.

    The inverse temperature is ``exp(log_beta)``, one for each entry of ``log_beta``, which starts at the energy's own and is always a vector.
    """

    def __init__(self, energy: ReadEnergy, descent: Descent, temperatures: int, **factory: Any):
        super().__init__()
        check(energy, descent)
        self.given, self.descent = energy, descent
        own(self, energy)
        self.log_beta = nn.Parameter(torch.empty(temperatures, **factory))

    def reset_parameters(self) -> None:
        """β of the energy given."""
        nn.init.constant_(self.log_beta, math.log(self.given.beta))

    @property
    def spec(self) -> ReadEnergy:
        """The energy being descended, at the learned inverse temperature ``exp(log_beta)``."""
        return self.given.at(local(self.log_beta).exp())


def check(energy: ReadEnergy, descent: Descent) -> None:
    """Raise ValueError when these are no energy and descent to build a layer from."""
    if not isinstance(energy, ReadEnergy) or isinstance(energy.beta, Tensor):
        raise ValueError(f"A layer is built from a ReadEnergy whose beta is a number (where the layer learns it, it starts there), got {energy!r}.")
    if not isinstance(descent, Descent):
        raise ValueError(f"A layer descends by FixedPoint, GradientDescent or Flow, got {descent!r}.")


def own(layer: nn.Module, energy: ReadEnergy | Memory) -> None:
    """Make modules inside an energy, a separation or similarity that learns, part of a layer (as ``functions``, each once): trained, moved, saved with it."""
    found = list(dict.fromkeys(module for module in modules(energy) if any(True for _ in tensors(module))))
    if found:
        layer.functions = nn.ModuleList(found)


def local(parameter: Tensor) -> Tensor:
    """What this process holds of a parameter: all of it, or its shard."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter  # type: ignore[operator]


def _gates(at: Association) -> Gates:
    return gated(at.presence, None, at.causal, 0.0, at.query.device)
