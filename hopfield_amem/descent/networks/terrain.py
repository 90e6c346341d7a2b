"""The energy of a network over states laid out in rows, with some neurons clamped: what its dynamics run over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ...energies import Network
from ...energies.network import States
from ...energies.truth import decided, readable, settled

Clamped = str | Iterable[str] | Mapping[str, Tensor | bool]
ROUNDING = 8  # units in the last place by which an energy may be off, relative to the sizes of its terms


class Point(NamedTuple):
    """What is found at states (..., n), per sample: E (...) and the terms it is made of (terms, ...), both without gradient, and ``∂E/∂g`` over the time
    constants (..., n), 0 where clamped.
    """

    energy: Tensor
    terms: Tensor
    slope: Tensor

    @property
    def rounding(self) -> Tensor:
        """How far rounding may put E off, (...)."""
        return ROUNDING * torch.finfo(self.terms.dtype).eps * self.terms.abs().sum(0)


def below(there: Point, before: Point, group: Tensor | None) -> Tensor:
    """Whether E is not higher than before, or, where rounding decides that, the moving group is no faster. (...)"""
    lower = there.energy <= before.energy
    if settled(lower):
        return lower
    speeds = [(at.slope if group is None else at.slope * group).norm(dim=-1) for at in (there, before)]
    return lower | ((there.energy <= before.energy + before.rounding) & (speeds[0] <= speeds[1]))


class Terrain:
    """A network, where its descent starts, what may move, and how near to rest it is to come."""

    def __init__(self, network: Network, states: States, clamped: Clamped, tolerance: float):
        self.network, self.neurons, self.tolerance = network, network.neurons, tolerance
        states = network.checked(_completed(network, states))
        given = next(iter(states.values()))
        self.dtype, wide = given.dtype, torch.promote_types(given.dtype, torch.float32)
        self.sizes = [group.size for group in self.neurons.values()]
        self.start = self._packed({name: state.to(wide) for name, state in states.items()})
        _refuse_infinite({name: state.detach() for name, state in states.items()}, "holds NaN or Inf. Repair such states before the descent.")
        self.free = self._free(_named(clamped), next(iter(self.neurons.values())).leading(given))
        constants = {group.time_constant for group in self.neurons.values()}
        self.rate = None if constants == {1.0} else self._per_group([1 / group.time_constant for group in self.neurons.values()])

    def energy(self, rows: Tensor) -> Tensor:
        """E of every sample, (..., n) -> (...)"""
        return self.network.energy(self.unpacked(rows))

    def evaluate(self, rows: Tensor) -> Point:
        """Energy and slope at once; only the slope is differentiable."""
        found = self.network.evaluate(self.unpacked(rows))
        terms = found.terms.detach()
        return Point(terms.sum(0), terms, self._steepest(found.slope))

    def slope(self, rows: Tensor) -> Tensor:
        """``∂E/∂g`` over the time constants alone, 0 where clamped. (..., n) -> (..., n)"""
        return self._steepest(self.network.slope(self.unpacked(rows)))

    def residual(self, rows: Tensor, slope: Tensor) -> Tensor:
        """``‖∂E/∂g‖ / (‖x‖ + tolerance · √n)`` of every sample, n all neurons, over what may move. (..., n) -> (...)"""
        with torch.no_grad():
            slope = slope if self.rate is None else slope / self.rate
            rows = rows if self.free is None else torch.where(self.free, rows, 0.0)
            size = rows.norm(dim=-1) + self.tolerance * math.sqrt(rows.shape[-1])
            return slope.norm(dim=-1) / size.clamp_min(torch.finfo(rows.dtype).tiny)

    def unpacked(self, rows: Tensor) -> dict[str, Tensor]:
        """States of every group, as views. (..., n) -> (..., *shape)"""
        parts = rows.split(self.sizes, -1)
        return {name: group.shaped(part) for (name, group), part in zip(self.neurons.items(), parts, strict=True)}

    def groups(self) -> list[Tensor]:
        """For every group what is 1 at its neurons and 0 elsewhere, (n,)."""
        return [self._per_group([float(name == one) for name in self.neurons]) for one in self.neurons]

    def held(self) -> list[str]:
        """The groups of which nothing may move, in any sample."""
        if self.free is None:
            return []
        return [name for name, free in zip(self.neurons, self.free.split(self.sizes, -1), strict=True) if settled(~free)]

    def refuse_infinite(self, states: dict[str, Tensor]) -> None:
        """Raise ValueError when a descent has left the range of its numbers."""
        _refuse_infinite(
            states, "left the range of its numbers during the descent. Take smaller steps, or bound the energy (check_stability says whether it is)."
        )

    def _steepest(self, slope: Mapping[str, Tensor]) -> Tensor:
        rows = self._packed(slope)
        rows = rows if self.rate is None else rows * self.rate
        return rows if self.free is None else torch.where(self.free, rows, 0.0)

    def _packed(self, states: Mapping[str, Tensor]) -> Tensor:
        rows = [group.row(states[name]) for name, group in self.neurons.items()]
        return torch.cat(rows, -1) if len(rows) > 1 else rows[0]

    def _per_group(self, numbers: list[float]) -> Tensor:
        return torch.cat([self.start.new_full((size,), value) for size, value in zip(self.sizes, numbers, strict=True)])

    def _free(self, clamped: dict[str, Tensor | bool], lead: torch.Size) -> Tensor | None:
        """What may move, (..., n); None where everything may."""
        if not clamped:
            return None
        unknown = [name for name in clamped if name not in self.neurons]
        if unknown:
            raise ValueError(f"Clamped are groups of the network, {', '.join(self.neurons)}; got {', '.join(map(repr, unknown))}.")
        return ~self._packed({name: self._mask(name, clamped.get(name, False), lead) for name in self.neurons})

    def _mask(self, name: str, mask: Tensor | bool, lead: torch.Size) -> Tensor:
        group, like = self.neurons[name], self.start
        if not isinstance(mask, Tensor):
            return torch.full((*lead, *group.shape), bool(mask), device=like.device)
        if mask.dtype != torch.bool:
            raise TypeError(f"What is clamped in {name!r} is a boolean mask, True where a neuron keeps its state, got {mask.dtype}. Convert it with .bool().")
        try:
            mask = mask.expand(*lead, *group.shape)
        except RuntimeError:
            raise ValueError(f"The mask of {name!r} must broadcast to its states {(*lead, *group.shape)}, got {tuple(mask.shape)}.") from None
        whole = group.lagrangian.separable or decided((mask == mask[..., :1]).all()) is not False
        if not whole:
            raise ValueError(
                f"The neurons of {name!r} share what they say, {group.lagrangian}: with a part of a row clamped, dx/dt = −∂E/∂g need not lower E. "
                "Clamp whole rows."
            )
        return mask


def _completed(network: Network, states: States) -> States:
    """The states, with zeros for groups that are not given."""
    if not isinstance(states, Mapping) or not states or any(name not in network.neurons for name in states):
        return states  # explained by the network
    name, given = next(iter(states.items()))
    network.neurons[name].check(name, given)
    lead = network.neurons[name].leading(given)
    return {n: states[n] if n in states else given.new_zeros(*lead, *group.shape) for n, group in network.neurons.items()}


def _named(clamped: Clamped) -> dict[str, Tensor | bool]:
    """What is clamped, by name."""
    names = [clamped] if isinstance(clamped, str) else clamped
    if not isinstance(names, Iterable) or isinstance(names, Tensor):
        raise TypeError(f"clamped takes names of groups, or a mapping from names to True or masks, got {type(clamped).__name__}.")
    return dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, True)


def _refuse_infinite(states: Mapping[str, Tensor], why: str) -> None:
    for name, state in states.items():
        if not readable(state.sum().isfinite() | state.isfinite().all(), True):
            raise ValueError(f"The state or activation of {name!r} {why}")
