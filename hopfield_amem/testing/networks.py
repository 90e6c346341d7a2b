"""The laws of networks of energies: what their dynamics rely on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..descent import NetworkDescent
from ..energies import Network
from .report import DoesNotApply, LawBroken, close

States = dict[str, Tensor]
STEPS = 20


@dataclass(frozen=True)
class Moving:
    """A network, and states of three samples: in float64, or in float32 where functions of one's own hold tensors of single precision."""

    network: Network
    states: States

    @classmethod
    def random(cls, network: Network, seed: int) -> Moving:
        generator = torch.Generator().manual_seed(seed)
        states = {name: torch.randn(3, *group.shape, generator=generator, dtype=torch.float64) for name, group in network.neurons.items()}
        try:
            network.energy(states)
        except RuntimeError:
            states = {name: state.float() for name, state in states.items()}
        return cls(network, states)

    @property
    def rounding(self) -> float:
        """By how much numbers may be off, relative to their size."""
        return 4096 * torch.finfo(next(iter(self.states.values())).dtype).eps


def _there_is_one_number_per_sample(case: Moving) -> None:
    found = case.network.energy(case.states)
    if found.shape != (3,) or bool(found.isnan().any()):
        raise LawBroken(f"there is one number per sample: three samples gave an energy of shape {tuple(found.shape)}, or NaN.")


def _a_batch_mate_changes_nothing(case: Moving) -> None:
    alone = [case.network.energy({name: state[i : i + 1] for name, state in case.states.items()}) for i in range(3)]
    close("a batch mate changes nothing", case.network.energy(case.states), torch.cat(alone), tolerance=case.rounding)


def _the_energy_changes_as_its_gradient_says(case: Moving) -> None:
    """``E(x + hd) − E(x − hd) = 2h ∂E/∂x · d``: no synapse hides a state from its gradient."""
    states = {name: state.clone().requires_grad_() for name, state in case.states.items()}
    direct = torch.autograd.grad(case.network.energy(states).sum(), list(states.values()), allow_unused=True, materialize_grads=True)
    step = torch.finfo(direct[0].dtype).eps ** (1 / 3)
    with torch.no_grad():
        above, below = (case.network.energy({name: state + sign * step * state.roll(1, 0) for name, state in case.states.items()}) for sign in (1, -1))
    said = sum((slope * state.roll(1, 0)).flatten(1).sum(-1) for slope, state in zip(direct, case.states.values(), strict=True))
    scale = max(1.0, float(above.abs().amax()))  # which the rounding of a difference is relative to
    close("the energy changes as its gradient says", (above - below) / (2 * step), torch.as_tensor(said), scale, tolerance=step)


def _the_slope_is_the_derivative_of_the_energy(case: Moving) -> None:
    """``∂E/∂x = (∂²L/∂x²) ∂E/∂g``, which is what makes dx/dt = −∂E/∂g go down."""
    states = {name: state.clone().requires_grad_() for name, state in case.states.items()}
    slope = {name: part.detach() for name, part in case.network.slope(states).items()}
    direct = torch.autograd.grad(case.network.energy(states).sum(), list(states.values()), allow_unused=True, materialize_grads=True)
    said = case.network.activations(states)
    through = torch.autograd.grad([said[name] for name in states], list(states.values()), [slope[name] for name in states])
    for mine, truth in zip(through, direct, strict=True):
        close("the slope is the derivative of the energy", mine, truth, tolerance=case.rounding)


def _a_step_sees_the_energy_and_its_slope(case: Moving) -> None:
    """What is computed together, sharing terms, is what is computed apart."""
    seen, slope = case.network.evaluate(case.states), case.network.slope(case.states)
    close("a step sees the energy and its slope", seen.energy, case.network.energy(case.states), tolerance=case.rounding)
    for name, part in slope.items():
        close("a step sees the energy and its slope", seen.slope[name], part, tolerance=case.rounding)


def _activations_do_not_fall_where_states_rise(case: Moving) -> None:
    """``(x − y)·(g(x) − g(y)) ≥ 0``: L is convex."""
    other = {name: state.roll(1, 0) for name, state in case.states.items()}
    says = case.network.activations(case.states), case.network.activations(other)
    for name, state in case.states.items():
        rise = ((state - other[name]) * (says[0][name] - says[1][name])).flatten(1).sum(-1)
        if bool((rise < -case.rounding).any()):
            raise LawBroken(f"activations do not fall where states rise: those of {name!r} do.")


def _it_is_bounded_below(case: Moving) -> None:
    stability = case.network.check_stability(next(iter(case.states.values())))
    if stability.stable is False:
        raise DoesNotApply(str(stability))


def _a_descent_never_raises_the_energy(case: Moving) -> None:
    if case.network.check_stability(next(iter(case.states.values()))).stable is False:
        raise DoesNotApply("its energy has no bottom, so that nothing descends it")
    with torch.no_grad():
        for order in ("synchronous", "asynchronous"):
            found = NetworkDescent(0.2, steps=STEPS, tolerance=0.0, order=order, record=True)(case.network, case.states)
            rise = found.energies.diff(dim=0).amax() if found.energies is not None else torch.zeros(())
            if float(rise) > case.rounding * (1 + float(found.energy.abs().amax())):
                raise LawBroken(f"a descent never raises the energy: a {order} step raised it by {float(rise):.3g}.")


NETWORK_LAWS = (
    _there_is_one_number_per_sample,
    _a_batch_mate_changes_nothing,
    _the_energy_changes_as_its_gradient_says,
    _the_slope_is_the_derivative_of_the_energy,
    _a_step_sees_the_energy_and_its_slope,
    _activations_do_not_fall_where_states_rise,
    _it_is_bounded_below,
    _a_descent_never_raises_the_energy,
)
