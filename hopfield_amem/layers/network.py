"""A network of energies as a module: it owns what its synapses and neurons learn, and is trained through its descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor, nn

from ..descent import NetworkDescent, Rest
from ..descent.networks.descent import NetworkDynamics
from ..descent.networks.terrain import Clamped
from ..energies import Network, Neurons
from ..energies.network import Names, States, names
from ..energies.spec import tensors
from ..energies.synapses.base import Synapse
from .synapses import BiasSynapse, LinearSynapse

TRAINED = NetworkDescent(0.5, steps=20, tolerance=0.0)
Connection = Synapse | Callable[..., Tensor] | None


class HopfieldNetwork(nn.Module):
    """Groups of neurons that descend one energy, ``E = Σ [x·g − L(x)] + Σ E(g_a, g_b, …)`` (Krotov 2021, arXiv 2107.06446; ``energies.Network``).

        HopfieldNetwork({"image": Neurons(lagrangians.identity(), 64), "hidden": Neurons(lagrangians.softmax(), 100)}, [("image", "hidden"), "image"])

    Args:
        neurons: the groups by name. A module with a Lagrangian (``EnergyNorm``), or a module ``L(x)``, learns with the network.
        synapses: the names of connected groups, each tuple with a synapse of its own: ``BiasSynapse`` for one group, ``LinearSynapse`` for two. Or a mapping
            from names to synapses: modules learn (``DenseSynapse``, ``AttentionSynapse``, ``ConvolutionSynapse``, your own), and so do parameters that a spec
            is given, ``Linear(nn.Parameter(W))``; functions are as they are, None is the synapse above.
        descent: how far, and how, the states go in a forward pass.

    Whether the energy is bounded below is asked by ``descended``, not by ``forward``, which trains: ``network.check_stability()`` says it any time.

    Raises:
        ValueError: names that are not there, synapses that do not fit.
    """

    def __init__(
        self,
        neurons: Mapping[str, Neurons],
        synapses: Iterable[Names | str] | Mapping[Names | str, Connection],
        descent: NetworkDynamics = TRAINED,
        **factory: Any,
    ):
        super().__init__()
        if not isinstance(descent, NetworkDynamics):
            raise ValueError(f"A network descends by NetworkDescent or NetworkFlow, got {descent!r}.")
        odd = [name for name in neurons if not isinstance(name, str) or "." in name or "-" in name or hasattr(nn.ModuleDict, name)]
        if odd:
            raise ValueError(
                f"Names of groups are names of modules here, without . and -, and none that modules have already; got {', '.join(map(repr, odd))}."
            )
        named = list(synapses.items()) if isinstance(synapses, Mapping) else [(connected, None) for connected in synapses]
        made = {names(connected): _made(names(connected), synapse, neurons, factory) for connected, synapse in named}
        if len(made) < len(named):
            raise ValueError(f"Groups are connected twice among {[names(connected) for connected, _ in named]}. Add the synapses up in one function.")
        self.network, self.descent = Network(neurons, made), descent
        self.neurons = nn.ModuleDict({name: module for name, group in neurons.items() if (module := _module(group.lagrangian))})
        loose = {f"neurons-{name}-{i}": tensor for name, group in neurons.items() for i, tensor in enumerate(_loose(group.lagrangian))}
        loose |= {f"synapses-{'-'.join(connected)}-{i}": tensor for connected, synapse in made.items() for i, tensor in enumerate(_loose(synapse))}
        self.given = nn.ParameterDict(loose)
        self.synapses = nn.ModuleDict({"-".join(connected): synapse for connected, synapse in made.items() if isinstance(synapse, nn.Module)})

    def reset_parameters(self) -> None:
        """Every synapse and norm as it starts."""
        for module in [*self.neurons.values(), *self.synapses.values()]:
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]

    def forward(self, states: States, *, clamped: Clamped = ()) -> dict[str, Tensor]:
        """What the neurons say after their descent, g of every group. {name: (..., *shape)} -> {name: (..., *shape)}

        Groups that are not given start at 0; ``clamped`` keeps states, as in ``NetworkDescent``. Gradients go through every step.
        """
        return self.descent.activations(self.network, states, clamped=clamped)

    def descended(self, states: States, *, clamped: Clamped = ()) -> Rest:
        """The whole descent with its certificate: states, activations, energy, steps, convergence of every sample."""
        return self.descent(self.network, states, clamped=clamped)

    def energy(self, states: States) -> Tensor:
        """E of every sample. {name: (..., *shape)} -> (...)"""
        return self.network.energy(states)

    def extra_repr(self) -> str:
        return f"{self.descent}\n{self.network}"


def _made(connected: Names, synapse: Connection, neurons: Mapping[str, Neurons], factory: dict[str, Any]) -> Synapse | Callable[..., Tensor]:
    """The synapse itself, or one of the right size. Names are looked up by the network, too."""
    if synapse is not None:
        return synapse
    shapes = [neurons[name].shape for name in connected if name in neurons]
    if len(connected) not in (1, 2) or len(shapes) != len(connected):
        raise ValueError(
            f"Groups are connected one (a bias) or two (a linear synapse) at a time, of {', '.join(neurons)}; got {connected}. Give any other synapse "
            "as a module."
        )
    return BiasSynapse(*shapes, **factory) if len(shapes) == 1 else LinearSynapse(*shapes, **factory)


def _loose(part: object) -> list[nn.Parameter]:
    """The parameters that a spec, not a module, was given."""
    return [tensor for tensor in tensors(part) if isinstance(tensor, nn.Parameter)] if is_dataclass(part) and _module(part) is None else []


def _module(lagrangian: object) -> nn.Module | None:
    """The module behind a Lagrangian that learns."""
    held = getattr(lagrangian, "module", getattr(lagrangian, "function", None))
    return held if isinstance(held, nn.Module) else None
