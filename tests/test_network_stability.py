"""Where networks of energies have a bottom: forms that are flat, slopes that turn late, neurons that are held, and verdicts that are kept."""

import math

import pytest
import torch
from torch import nn

from hopfield_amem import presets
from hopfield_amem.descent import NetworkDescent, NetworkFlow
from hopfield_amem.energies import Attention, Bias, Convolution, Dense, Linear, Network, Neurons
from hopfield_amem.energies import boundedness as asked
from hopfield_amem.energies.neurons import lagrangians as named
from hopfield_amem.layers import HopfieldNetwork

DOUBLE = {"dtype": torch.float64}
close = torch.testing.assert_close


def normal(*shape):
    return torch.randn(*shape, **DOUBLE)


def flat(bias=None, kind=None):
    """``½(a − b)²`` of two neurons, flat where they agree."""
    weight = torch.tensor([[0.0, 1.0], [0.0, 0.0]], **DOUBLE)
    synapses = {("x", "x"): Linear(weight)} | ({} if bias is None else {"x": Bias(torch.tensor(bias, **DOUBLE))})
    return Network({"x": Neurons(kind or named.identity(), 2)}, synapses)


def test_a_flat_form_has_a_bottom_unless_a_bias_pulls_along_it():
    assert flat().check_stability().stable is True
    assert flat((1.0, -1.0)).check_stability().stable is True
    found = flat((1.0, 0.5)).check_stability()
    assert found.stable is False and "biases pull" in str(found)
    close(found.direction["x"], torch.full((2,), 0.5**0.5, **DOUBLE))
    assert flat((1.0, 0.5), named.relu()).check_stability().stable is not True  # it falls where both are positive
    assert flat((1.0, -1.0), named.relu()).check_stability().stable is True
    state = {"x": torch.tensor([[3.0, -1.0]], **DOUBLE)}
    rest = NetworkDescent(tolerance=1e-10)(flat((1.0, -1.0)), state)
    close(rest.energy, torch.tensor([-0.5], **DOUBLE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_slope_that_turns_far_out_is_no_fall_without_end(dtype):
    def steep(g):  # −10⁶|g|, and faster than linear for all that is known
        return -1e6 * (g.square().sum(-1) + 1).sqrt()

    network = Network({"x": Neurons(named.identity(), 6)}, {"x": steep})
    assert network.check_stability(torch.zeros((), dtype=dtype)).stable is None
    falling = Network({"x": Neurons(named.identity(), 6)}, {"x": lambda g: -0.6 * g.square().sum(-1)})
    assert falling.check_stability(torch.zeros((), dtype=dtype)).stable is False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_does_not_fall(dtype):
    function = lambda g: -0.5 * g.flip(-1).square().sum(-1)  # cancels the neurons' energy but for rounding
    assert Network({"x": Neurons(named.identity(), 33)}, {"x": function}).check_stability(torch.zeros((), dtype=dtype)).stable is None


def test_neurons_that_are_held_are_constants():
    growing = {("a", "a"): Linear(torch.eye(3, **DOUBLE)), ("a", "b"): Linear(0.3 * normal(3, 4))}
    network = Network({"a": Neurons(named.identity(), 3), "b": Neurons(named.identity(), 4)}, growing)
    assert network.check_stability().stable is False
    assert network.check_stability(clamped=["a"]).stable is True
    assert network.check_stability(clamped="b").stable is False
    states = {"a": normal(2, 3), "b": normal(2, 4)}
    rest = NetworkDescent(tolerance=1e-9)(network, states, clamped="a")
    close(rest.states["b"], states["a"] @ growing["a", "b"].weight, rtol=1e-7, atol=1e-7)
    with pytest.raises(ValueError, match="unbounded below"):
        NetworkDescent()(network, states, clamped={"a": torch.tensor([True, False, True])})
    with pytest.raises(ValueError, match="Clamped are groups of the network, a, b; got c"):
        network.check_stability(clamped=["c"])
    between = Network({"a": Neurons(named.identity(), 3), "b": Neurons(named.identity(), 3)}, {("a", "b"): lambda a, b: -(a * b * b).sum(-1)})
    assert between.check_stability(clamped="a").stable is None  # it depends on a


def test_a_verdict_is_kept_until_a_weight_changes(monkeypatch):
    counted = []
    decided = asked._decided
    monkeypatch.setattr(asked, "_decided", lambda *given: counted.append(1) or decided(*given))
    weight = 0.1 * torch.eye(4, **DOUBLE)
    network = Network({"x": Neurons(named.identity(), 4)}, {("x", "x"): Linear(weight)})
    assert [network.check_stability().stable for _ in range(3)] == [True] * 3 and len(counted) == 1
    weight.mul_(10)
    assert network.check_stability().stable is False and len(counted) == 2
    learned = HopfieldNetwork({"x": Neurons(named.identity(), 4)}, [("x", "x")], **DOUBLE)
    assert learned.network.check_stability().stable is True
    with torch.no_grad():
        learned.synapses["x-x"].weight.copy_(torch.eye(4))
    assert learned.network.check_stability().stable is False
    scale = torch.tensor(0.1, **DOUBLE)
    own = Network({"x": Neurons(named.identity(), 4)}, {"x": lambda g: -scale * g.square().sum(-1)})
    assert own.check_stability().stable is None
    scale.mul_(10)  # inside of a function, where nothing sees it
    assert own.check_stability().stable is False


def test_states_that_fade_come_to_rest():
    fading = Network({"x": Neurons(named.tanh(), 5)}, {("x", "x"): Linear(torch.zeros(5, 5, **DOUBLE))})
    start = {"x": normal(3, 5)}
    for descent in (NetworkDescent(), NetworkFlow(60.0, tolerance=1e-4)):
        rest = descent(fading, start)
        assert bool(rest.converged.all()) and float(rest.states["x"].abs().max()) < 1e-8
    assert not bool(NetworkDescent(steps=8)(fading, start).converged.any())


def test_slopes_need_no_energy():
    weight = normal(3, 1, 2, 2)
    neurons = {
        "image": Neurons(named.sigmoid(), (1, 5, 5)), "maps": Neurons(named.repu(3), (3, 4, 4)), "rows": Neurons(named.layer_norm(), (4, 6)),
        "top": Neurons(named.relu(), 2),
    }  # fmt: skip
    synapses = {
        ("image", "maps"): Convolution(weight), "image": Bias(normal(1, 5, 5)), ("maps", "top"): Linear(normal(3, 4, 4, 2), leading=3),
        ("rows", "rows"): Attention(normal(2, 3, 6), normal(2, 3, 6), presets.log_sum_exp(0.7)), "rows": Dense(normal(5, 6), presets.relu_feed_forward()),
        ("top", "rows"): lambda a, b: a.sum(-1) * b.sum((-2, -1)),
    }  # fmt: skip
    network = Network(neurons, synapses)
    states = {name: normal(2, *group.shape) for name, group in neurons.items()}
    close(network.slope(states), network.evaluate(states).slope)


def test_parameters_that_a_spec_is_given_learn():
    beta, bias = nn.Parameter(torch.tensor(0.7, **DOUBLE)), nn.Parameter(normal(6))
    neurons = {"x": Neurons(named.softmax(beta), 6), "h": Neurons(named.relu(), 3)}
    module = HopfieldNetwork(neurons, {"x": Bias(bias), ("x", "h"): None}, NetworkDescent(0.5, steps=3, tolerance=0.0), **DOUBLE)
    assert {id(p) for p in module.parameters()} >= {id(beta), id(bias)} and len(list(module.parameters())) == 3
    sum(g.square().sum() for g in module({"x": normal(2, 6)}).values()).backward()
    assert beta.grad is not None and float(bias.grad.abs().max()) > 0
    other = {"x": Neurons(named.softmax(nn.Parameter(torch.ones((), **DOUBLE))), 6), "h": neurons["h"]}
    twin = HopfieldNetwork(other, {"x": Bias(nn.Parameter(normal(6))), ("x", "h"): None}, module.descent, **DOUBLE)
    twin.load_state_dict(module.state_dict())
    start = {"x": normal(2, 6)}
    close(twin(start), module(start))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: named.layer_norm(1.0, 0.5), TypeError, "bias of a normalisation is a tensor"),
        (lambda: Convolution(torch.ones(2, 1, 3, 3), stride=0), ValueError, "stride ≥ 1"),
        (lambda: Convolution(torch.ones(2, 1, 3, 3), stride=(1, 1, 1)), ValueError, "one per dimension of space"),
        (lambda: Convolution(torch.ones(2, 1, 3, 3), stride=1.5), ValueError, "stride 1.5"),
        (lambda: Convolution(torch.ones(2, 1, 3, 3), padding=-1), ValueError, "padding -1"),
        (lambda: Convolution(torch.ones(2, 1, 3, 3), padding="full"), ValueError, "'valid' or 'same'"),
        (lambda: Convolution(torch.ones(2, 1, 3, 3), stride=2, padding="same"), ValueError, "needs stride 1"),
        (lambda: Attention(torch.ones(2, 3, 6), torch.ones(2, 3, 6), presets.log_sum_exp(torch.ones(3))), ValueError, "one per head"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_made(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_the_fall_of_a_whole_step_is_not_looked_at_twice():
    looks = []

    def counted(g):
        looks.append(1)
        return -math.pi * g.sum(-1)

    network = Network({"x": Neurons(named.identity(), 3)}, {"x": counted})
    with torch.no_grad():
        NetworkDescent(4.5, steps=1, tolerance=0.0).activations(network, {"x": torch.full((1, 3), 5.0, **DOUBLE)})
    assert len(looks) == 5  # the start, the whole step and a half of it, which rise, a quarter, which falls, and what is found there
