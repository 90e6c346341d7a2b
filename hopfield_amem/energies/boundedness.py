"""Whether the energy of a network has a lowest value: by construction, by a quadratic form, or as far as rays have been followed."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .neurons.lagrangian import Factored, Lagrangian, Written
from .neurons.rows import per_row
from .scalings.scaling import Sum
from .separations.separation import Power, RectifiedPower
from .spec import tensors
from .synapses.base import Plain

if TYPE_CHECKING:
    from .network import Network

LARGEST = 2048  # neurons of which a quadratic form is made
RAYS, BENDS = 32, 20  # rays that are followed, and how often each is turned towards where the energy falls
FURTHEST = 20  # powers of 4 to which a ray is followed, in units of one per neuron: 10¹², or as far as energies are finite
ROUNDING = 64  # units in the last place of its terms below which an energy is not known to be negative
REMEDY = (
    "Make the weights smaller, or use neurons whose activations are bounded (tanh, sigmoid, softmax, a norm), or synapses that grow at most linearly "
    "(log_sum_exp instead of powers)."
)


Names = tuple[str, ...]
_FOUND: weakref.WeakKeyDictionary[Network, dict] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Boundedness:
    """Whether an energy has a lowest value: True or False where that is known, None where none of the rays that were followed falls without end.

    Attributes:
        stable: the answer.
        condition: how it is known.
        direction: activations along which the energy falls, by group, where it does.
    """

    stable: bool | None
    condition: str
    direction: dict[str, Tensor] | None = None

    def __str__(self) -> str:
        return f"{ {True: 'bounded below', False: 'unbounded below', None: 'not known to be unbounded'}[self.stable] }: {self.condition}"


def boundedness(network: Network, like: Tensor | None, held: frozenset[str]) -> Boundedness:
    """See ``Network.check_stability``. What was found is kept for as long as no tensor of the network changes."""
    seen = _versions(network)
    asked = (frozenset(held), None if like is None else (like.dtype, like.device))
    kept = None if seen is None else _FOUND.get(network, {}).get(asked)
    if kept is not None and len(kept[0]) == len(seen) and all(r() is t and v == w for (r, v), (t, w) in zip(kept[0], seen, strict=True)):  # type: ignore[arg-type]
        return kept[1]
    found = _decided(network, like, held)
    if seen is not None:
        _FOUND.setdefault(network, {})[asked] = ([(weakref.ref(tensor), version) for tensor, version in seen], found)
    return found


def _versions(network: Network) -> list[tuple[Tensor, int]] | None:
    """The tensors of a network, and how often each was changed in place; None where something of one's own may hold others."""
    parts = [*(group.lagrangian for group in network.neurons.values()), *network.synapses.values()]
    if any(isinstance(part, (Plain, Written)) or not type(part).__module__.startswith(f"{__package__}.") for part in parts):
        return None
    held = [tensor for part in parts for tensor in tensors(part)]
    return None if any(tensor.is_inference() for tensor in held) else [(tensor, tensor._version) for tensor in held]


def _decided(network: Network, like: Tensor | None, held: frozenset[str]) -> Boundedness:
    moving = [name for name, group in network.neurons.items() if name not in held and not group.lagrangian.bounded]
    degrees = {connected: synapse.degree(tuple(name in moving for name in connected)) for connected, synapse in network.synapses.items()}
    steep = [connected for connected, degree in degrees.items() if (degree is None or degree > 1) and not held.issuperset(connected)]
    if not steep:
        return Boundedness(True, "no synapse grows faster than linearly with activations that have no bound")
    if not moving:
        return Boundedness(None, "all activations are bounded, but what a function of one's own does where they come to their limits is not known")
    if any(name in held for connected in steep for name in connected):
        return Boundedness(None, f"how {_listed(steep)} grow depends on the states of the neurons that are held")
    with torch.no_grad():
        rules = [_quadratic(network.neurons[name].lagrangian) for name in moving]
        size = sum(network.neurons[name].size for name in moving)
        if all(rules) and all(network.synapses[connected].quadratic for connected in steep) and size <= LARGEST:
            found = _form(network, moving, steep, exact="rectified" not in rules)
            if found is not None:
                return found
        return _followed(network, steep, like, held)


def _quadratic(lagrangian: Lagrangian) -> str:
    """Whether the energy of neurons is ``½g²/β``: "everywhere", on "rectified" activations, or ""."""
    if not isinstance(lagrangian, Factored) or not isinstance(lagrangian.scaling, Sum):
        return ""
    return {Power(2): "everywhere", RectifiedPower(2): "rectified"}.get(lagrangian.separation, "")  # type: ignore[call-overload]


def _form(network: Network, moving: list[str], steep: list[Names], exact: bool) -> Boundedness | None:
    """The quadratic form ``½gᵀAg`` of energies, in the activations that have no bound; None where it decides nothing."""
    sizes = [network.neurons[name].size for name in moving]
    device = next((tensor.device for connected in steep for tensor in tensors(network.synapses[connected])), None)
    units = torch.eye(sum(sizes), dtype=torch.float64, device=device)
    activations = {name: part.unflatten(-1, network.neurons[name].shape) for name, part in zip(moving, units.split(sizes, -1), strict=True)}
    slope = {name: activation / per_row(network.neurons[name].lagrangian.beta, activation) for name, activation in activations.items()}  # type: ignore[attr-defined]
    for connected in steep:
        currents = network.synapses[connected].currents(*(activations[name] for name in connected))
        for name, current in zip(connected, currents, strict=True):
            slope[name] = slope[name] - current
    form = torch.cat([slope[name].flatten(1) for name in moving], -1)
    form = 0.5 * (form + form.mT)
    among = f"the quadratic form of {', '.join(moving)} and their synapses"
    margin = 1e-10 * form.diagonal().abs().amax()
    if not int(torch.linalg.cholesky_ex(form - margin * units).info):
        return Boundedness(True, f"{among} is positive definite")
    if not bool(form.isfinite().all()):
        return None
    values, vectors = torch.linalg.eigh(form)
    if float(values[0]) >= -float(margin):
        return _flat(network, moving, steep, exact=exact, directions=vectors[:, values <= margin], among=among)
    if not exact:
        return None  # rectified activations may not reach the directions along which it falls
    direction = _by_group(network, moving, vectors[:, 0])
    return Boundedness(False, f"{among} has the eigenvalue {float(values[0]):.3g}, which is negative, along {_strongest(direction)}. {REMEDY}", direction)


def _flat(network: Network, moving: list[str], steep: list[Names], *, exact: bool, directions: Tensor, among: str) -> Boundedness | None:
    """What decides where a form vanishes along some directions (n, k): whether biases pull along them."""
    others = {connected: synapse for connected, synapse in network.synapses.items() if connected not in steep and not set(moving).isdisjoint(connected)}
    if not all(synapse.linear for synapse in others.values()):
        return None
    nothing = {name: directions.new_zeros(network.neurons[name].shape) for name in moving}
    pull = {name: others[name,].currents(zero)[0] if (name,) in others else zero for name, zero in nothing.items()}
    along = torch.cat([pull[name].flatten() for name in moving])
    toward = directions @ (directions.mT @ along)
    if float(toward.norm()) <= 1e-10 * float(along.norm()):
        return Boundedness(True, f"{among} is positive, but for flat directions along which no bias pulls")
    if not exact:
        return None
    direction = _by_group(network, moving, toward / toward.norm())
    return Boundedness(False, f"{among} is flat along {_strongest(direction)}, where the biases pull. {REMEDY}", direction)


def _followed(network: Network, steep: list[Names], like: Tensor | None, held: frozenset[str]) -> Boundedness:
    """Follow rays of states, bent towards where the energy falls, to large states; what is held stays at 0."""
    if like is None:
        given = (tensor for synapse in network.synapses.values() for tensor in tensors(synapse) if tensor.is_floating_point())
        like = next(given, torch.zeros((), dtype=torch.float64))
    sizes = [group.size for group in network.neurons.values()]
    moves = torch.cat([torch.full((size,), float(name not in held)) for name, size in zip(network.neurons, sizes, strict=True)]).to(like)
    generator = torch.Generator().manual_seed(0)
    rays = moves * torch.randn(RAYS, sum(sizes), generator=generator, dtype=torch.float64).to(like)

    def states(rows: Tensor) -> dict[str, Tensor]:
        parts = zip(network.neurons.items(), rows.split(sizes, -1), strict=True)
        return {name: part.unflatten(-1, group.shape) for (name, group), part in parts}

    for _ in range(BENDS):
        slope = network.slope(states(30 * rays))
        uphill = moves * torch.cat([slope[name].flatten(1) for name in network.neurons], -1).nan_to_num(0.0, 0.0, 0.0)
        rays = _unit(rays - 0.5 * _unit(uphill))
    looks = [network.evaluate(states(4.0**power * rays)) for power in range(FURTHEST + 1)]
    energies = torch.stack([look.energy for look in looks]).double()
    rounding = ROUNDING * torch.finfo(like.dtype).eps * torch.stack([look.size for look in looks]).double()
    falling = _falls(energies, rounding)
    if not bool(falling.any()):
        return Boundedness(None, f"{_listed(steep)} may grow faster than the neurons' energy, but no ray that was followed falls without end")
    worst = int(torch.where(falling, energies.nan_to_num(math.inf, math.inf, -math.inf)[1], math.inf).argmin())
    far = {name: part.detach() for name, part in network.activations(states(4.0 * rays[worst : worst + 1])).items()}
    direction = {name: part.squeeze(0) / part.norm().clamp_min(torch.finfo(part.dtype).tiny) for name, part in far.items()}
    return Boundedness(False, f"{_listed(steep)} outgrow the neurons' energy along {_strongest(direction)}. {REMEDY}", direction)


def _listed(steep: list[Names]) -> str:
    return "the synapses " + " and ".join(" – ".join(connected) for connected in steep)


def _by_group(network: Network, moving: list[str], vector: Tensor) -> dict[str, Tensor]:
    parts = vector.split([network.neurons[name].size for name in moving])
    return {name: part.reshape(network.neurons[name].shape) for name, part in zip(moving, parts, strict=True)}


def _falls(energies: Tensor, rounding: Tensor) -> Tensor:
    """Whether the energy of a ray falls faster and faster as far as it is finite, by more than rounding. (powers of 4, rays) -> (rays,)"""
    finite = energies.isfinite().long().cumprod(0).bool()
    last = (finite.sum(0) - 1).clamp_min(0)
    at = lambda values, back: values.gather(0, (last - back).clamp_min(0).unsqueeze(0)).squeeze(0)
    steps = [at(energies, back) for back in range(3)]
    deep = steps[0] < -at(rounding, 0)
    return deep & (last >= 2) & (steps[0] < 1.5 * steps[1]) & (steps[1] < 1.5 * steps[2]) & (steps[1] < 0) & (steps[2] < 0)


def _unit(rows: Tensor) -> Tensor:
    """Rows of length √width, one per neuron."""
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny) * math.sqrt(rows.shape[-1])


def _strongest(direction: dict[str, Tensor], count: int = 3) -> str:
    """The neurons that a direction moves most, by name."""
    entries = [(float(value.abs()), name, index) for name, part in direction.items() for index, value in enumerate(part.flatten())]
    top = sorted(entries, reverse=True)[:count]
    return ", ".join(f"{name}[{', '.join(str(int(i)) for i in torch.unravel_index(torch.tensor(at), direction[name].shape))}]" for _, name, at in top)
