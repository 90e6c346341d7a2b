"""Networks of energies: groups of neurons, each with its Lagrangian, and synapses between any of them; one energy, that all descend together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .boundedness import Boundedness, boundedness
from .neurons.groups import Neurons
from .spec import Spec
from .synapses.base import Synapse, as_synapse

States = Mapping[str, Tensor]
Names = tuple[str, ...]


class Energies(NamedTuple):
    """Every term of the energy, by the names of what it belongs to, one number per sample."""

    neurons: dict[str, Tensor]
    synapses: dict[Names, Tensor]

    @property
    def total(self) -> Tensor:
        return torch.stack([*self.neurons.values(), *self.synapses.values()]).sum(0)


class Evaluation(NamedTuple):
    """Every term of the energy, (terms, ...), and ``∂E/∂g`` of every group."""

    terms: Tensor
    slope: dict[str, Tensor]

    @property
    def energy(self) -> Tensor:
        """E of every sample, (...)."""
        return self.terms.sum(0)

    @property
    def size(self) -> Tensor:
        """The sizes of its terms added up, which its rounding is relative to, (...)."""
        return self.terms.detach().abs().sum(0)


@dataclass(frozen=True, eq=False, init=False)
class Network(Spec):
    """``E = Σ_groups [x·g − L(x)] + Σ_synapses E(g_a, g_b, …)`` (Krotov 2021, arXiv 2107.06446; HAMUX).

    Neurons are nodes, synapses edges of any hypergraph: between two groups, within one, between many. States x are a mapping from names to tensors
    (..., *shape), the leading dimensions, the same for all groups, being samples. They take the dynamics ``τ dx/dt = −∂E/∂g``, which lower E
    (``descent.NetworkDescent``, ``descent.NetworkFlow``).

    Args:
        neurons: the groups by name.
        synapses: what connects them, by the names of the groups in the order of its arguments: ``{("image", "hidden"): Linear(W), "image": Bias(b)}``.
            A function or module of activations is a synapse, too; one that adds two energies connects the same names twice.

    Raises:
        ValueError: names that are not there, synapses that do not fit.
    """

    neurons: dict[str, Neurons]
    synapses: dict[Names, Synapse]

    def __init__(self, neurons: Mapping[str, Neurons], synapses: Mapping[Any, Synapse | Callable[..., Tensor]]):
        if not isinstance(neurons, Mapping) or not neurons or not all(isinstance(group, Neurons) for group in neurons.values()):
            raise ValueError(f"A network has groups of neurons by name, {{'image': Neurons(lagrangians.identity(), 64), …}}, got {neurons!r}.")
        if not isinstance(synapses, Mapping):
            raise ValueError(f"The synapses of a network are a mapping from the names they connect, {{('a', 'b'): Linear(W), …}}, got {synapses!r}.")
        self._set(neurons=dict(neurons), synapses={names(connected): as_synapse(synapse) for connected, synapse in synapses.items()})
        if len(self.synapses) < len(synapses):
            raise ValueError(f"Groups are connected twice in the same order: {', '.join(map(repr, synapses))}. Give one synapse that adds both energies.")
        for connected, synapse in self.synapses.items():
            unknown = [name for name in connected if name not in neurons]
            if unknown or not connected:
                raise ValueError(f"The synapse {connected} connects {', '.join(map(repr, unknown)) or 'nothing'}; the groups are {', '.join(neurons)}.")
            if not torch.compiler.is_compiling():
                _fits(synapse, connected, [self.neurons[name].shape for name in connected])

    def initial(self, samples: int | tuple[int, ...] = (), *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """States of zeros."""
        lead = (samples,) if isinstance(samples, int) else tuple(samples)
        return {name: torch.zeros(*lead, *group.shape, dtype=dtype, device=device) for name, group in self.neurons.items()}

    def activations(self, states: States) -> dict[str, Tensor]:
        """``g = ∂L/∂x`` of every group, of the shape of its states."""
        states = self.checked(states)
        return {name: group.lagrangian.activation(states[name]) for name, group in self.neurons.items()}

    def energies(self, states: States) -> Energies:
        """Every term of the energy by name, one number per sample (...)."""
        states = self.checked(states)
        legendre = {name: group.lagrangian.legendre(states[name]) for name, group in self.neurons.items()}
        neurons = {name: group.over_rows(torch.stack(legendre[name][1]).sum(0)) for name, group in self.neurons.items()}
        lead = next(iter(neurons.values())).shape
        synapses = {
            connected: self._sampled(connected, synapse(*(legendre[name][0] for name in connected)), lead) for connected, synapse in self.synapses.items()
        }
        return Energies(neurons, synapses)

    def energy(self, states: States) -> Tensor:
        """E of every sample, (...)."""
        return self.energies(states).total

    def slope(self, states: States) -> dict[str, Tensor]:
        """``∂E/∂g = x + ∂E_synapses/∂g`` of every group, of the shape of its states; differentiable."""
        states = self.checked(states)
        activations, slope = {name: group.lagrangian.activation(states[name]) for name, group in self.neurons.items()}, dict(states)
        for connected, synapse in self.synapses.items():
            for name, current in zip(connected, synapse.currents(*(activations[name] for name in connected)), strict=True):
                slope[name] = slope[name] - current
        return slope

    def evaluate(self, states: States) -> Evaluation:
        """Energy and slope at once, of states that are known to fit: what a step takes that must not raise E."""
        activations, slope, terms = {}, dict(states), []
        for name, group in self.neurons.items():
            activations[name], parts = group.lagrangian.legendre(states[name])
            terms += [group.over_rows(part) for part in parts]
        for connected, synapse in self.synapses.items():
            energy, currents = synapse.energy_and_currents(*(activations[name] for name in connected))
            terms.append(self._sampled(connected, energy, terms[0].shape))
            for name, current in zip(connected, currents, strict=True):
                slope[name] = slope[name] - current
        return Evaluation(torch.stack(terms), slope)

    def check_stability(self, like: Tensor | None = None, *, clamped: Collection[str] = ()) -> Boundedness:
        """Whether the energy has a lowest value, so that a descent comes to rest, and how that is known.

        It has one by construction where synapses grow at most linearly with those activations that have no bound: the energy of neurons, convex in g, grows
        faster than any linear function. Networks of linear neurons and linear synapses have one where their quadratic form is positive definite, which is
        computed. Any other energy is followed along rays, bent towards where it falls, to large states: False where one keeps falling as far as it is
        followed, None where none does.

        Args:
            like: a tensor whose dtype and device rays take. None: those of a tensor that a synapse holds, else float64 on the CPU.
            clamped: groups whose states are held. They are constants, whatever the energy does along them.

        Raises:
            ValueError: clamped groups that there are not.
        """
        held = frozenset([clamped] if isinstance(clamped, str) else clamped)
        if not held <= set(self.neurons):
            raise ValueError(f"Clamped are groups of the network, {', '.join(self.neurons)}; got {', '.join(sorted(map(str, held - set(self.neurons))))}.")
        return boundedness(self, like, held)

    def checked(self, states: States) -> dict[str, Tensor]:
        """The states, leading dimensions broadcast. Raises ValueError or TypeError where they do not fit the neurons."""
        if not isinstance(states, Mapping) or set(states) != set(self.neurons):
            came = ", ".join(map(str, states)) if isinstance(states, Mapping) else type(states).__name__
            raise ValueError(f"States are a mapping with one tensor per group, {', '.join(self.neurons)}; got {came or 'none'}. See network.initial().")
        for name, group in self.neurons.items():
            group.check(name, states[name])
        if len({(state.dtype, state.device) for state in states.values()}) > 1:
            raise TypeError(f"All states must share one dtype and device, got {', '.join(f'{n} {s.dtype} on {s.device}' for n, s in states.items())}.")
        leads = {name: group.leading(states[name]) for name, group in self.neurons.items()}
        if len(set(leads.values())) == 1:
            return {name: states[name] for name in self.neurons}
        try:
            lead = torch.broadcast_shapes(*leads.values())
        except RuntimeError:
            came = ", ".join(f"{name} {tuple(shape)}" for name, shape in leads.items())
            raise ValueError(f"All groups must have the same samples, got leading dimensions {came}.") from None
        return {name: states[name].expand(*lead, *group.shape) for name, group in self.neurons.items()}

    def _sampled(self, connected: Names, energy: Tensor, lead: torch.Size) -> Tensor:
        """One energy per sample, rows of a group added up."""
        if isinstance(energy, Tensor) and energy.shape == lead:
            return energy
        if isinstance(energy, Tensor) and any(energy.shape == (*lead, *self.neurons[name].shape[:-1]) for name in connected):
            return energy.flatten(len(lead)).sum(-1)
        came = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
        raise ValueError(f"The synapse {connected} must give one energy per sample, {tuple(lead)}, or one per row of neurons; it gave {came}.")

    def __str__(self) -> str:
        width = max(len(name) for name in [*self.neurons, *map(" – ".join, self.synapses)])
        lines = [f"  {name:<{width}}  {group}" for name, group in self.neurons.items()]
        lines += [f"  {' – '.join(connected):<{width}}  {synapse}" for connected, synapse in self.synapses.items()]
        return "\n".join(["E = Σ [x·g − L(x)] + Σ E(g)", *lines])


def names(connected: Names | str | Iterable[str]) -> Names:
    """The names of connected groups as a tuple."""
    return (connected,) if isinstance(connected, str) else tuple(connected)


def _fits(synapse: Synapse, connected: Names, shapes: list[tuple[int, ...]]) -> None:
    try:
        synapse.check(*shapes)
    except ValueError as error:
        raise ValueError(f"The synapse {connected} does not fit its groups. {error}") from None
