"""The laws that a network of energies is held to, by the same door as every other energy."""

import pytest
import torch

from hopfield_amem import presets
from hopfield_amem.energies import LAGRANGIANS, Attention, Bias, Convolution, Dense, Linear, Network, Neurons, Synapse, lagrangians
from hopfield_amem.testing import NETWORK_LAWS, LawBroken, check_energy

DRAW = torch.Generator().manual_seed(0)


def normal(*shape):
    return 0.3 * torch.randn(*shape, generator=DRAW, dtype=torch.float64)


@pytest.mark.parametrize("name", LAGRANGIANS)
def test_neurons_of_every_kind_obey_the_laws(name):
    neurons = {"a": Neurons(LAGRANGIANS[name], 5), "b": Neurons(lagrangians.softmax(), (2, 3), time_constant=0.5)}
    report = check_energy(Network(neurons, {("a", "b"): Linear(normal(5, 2, 3)), "a": Bias(normal(5))}))
    assert len(report.held) == len(NETWORK_LAWS), str(report)


def test_synapses_of_every_kind_obey_the_laws():
    image, rows = Neurons(lagrangians.sigmoid(), (1, 6, 6)), Neurons(lagrangians.layer_norm(), (3, 4))
    convolved = Network({"image": image, "maps": Neurons(lagrangians.relu(), (2, 4, 4))}, {("image", "maps"): Convolution(normal(2, 1, 3, 3))})
    attention = Attention(normal(2, 2, 4), normal(2, 2, 4), presets.log_sum_exp(0.7), ~torch.eye(3, dtype=torch.bool))
    transformer = Network({"x": rows}, {("x", "x"): attention, "x": Dense(normal(9, 4), presets.relu_feed_forward())})
    own = Network({"x": Neurons(lagrangians.tanh(), 4)}, {"x": lambda g: g.prod(-1)})
    held = torch.ones(4)
    single = Network({"x": Neurons(lagrangians.tanh(), 4)}, {"x": lambda g: torch.einsum("...i,i->...", g, held)})  # takes float32 only
    for network in (convolved, transformer, own, single):
        assert len(check_energy(network).held) == len(NETWORK_LAWS)


def test_an_energy_without_a_bottom_says_so():
    report = check_energy(Network({"x": Neurons(lagrangians.identity(), 3)}, {("x", "x"): Linear(torch.eye(3, dtype=torch.float64))}))
    assert "unbounded below" in report.skipped["it is bounded below"] and "a descent never raises the energy" in report.skipped


class Wrong(Synapse):
    """−½‖g‖² whose current has the wrong sign."""

    def __call__(self, activation):
        return -0.5 * activation.square().sum(-1)

    def energy_and_currents(self, activation):
        return self(activation), (-activation,)


def test_a_wrong_current_is_found():
    with pytest.raises(LawBroken, match="the slope is the derivative of the energy"):
        check_energy(Network({"x": Neurons(lagrangians.tanh(), 4)}, {"x": Wrong()}))


class Doubled(Linear):
    """Whose energy is another one where it is computed together with the currents."""

    def energy_and_currents(self, first, second):
        energy, currents = super().energy_and_currents(first, second)
        return 2 * energy, currents


def test_a_wrong_energy_beside_right_currents_is_found():
    pair = {"a": Neurons(lagrangians.identity(), 5), "b": Neurons(lagrangians.softmax(), 4)}
    with pytest.raises(LawBroken, match="a step sees the energy and its slope"):
        check_energy(Network(pair, {("a", "b"): Doubled(normal(5, 4))}))


def test_a_synapse_that_hides_a_state_from_its_gradient_is_found():
    pair, weight = {"a": Neurons(lagrangians.identity(), 5), "b": Neurons(lagrangians.softmax(), 4)}, normal(5, 4)
    with pytest.raises(LawBroken, match="the energy changes as its gradient says"):
        check_energy(Network(pair, {("a", "b"): lambda a, b: -(a.detach() @ weight * b).sum(-1)}))
