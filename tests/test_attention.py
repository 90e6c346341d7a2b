"""Attention as retrieval: equal to the textbook, whatever is wired, masked, shared or descended."""

import importlib
import math

import pytest
import torch
from torch.func import functional_call

from hopfield_amem import ENERGIES, ReadEnergy, presets, retrieve
from hopfield_amem.descent import FixedPoint, Flow, GradientDescent
from hopfield_amem.energies import Dot, Hypercube, Log, Sphere, Sum
from hopfield_amem.layers import HopfieldAttention, Wiring

close = torch.testing.assert_close
ROUNDING = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {"rtol": 1e-5, "atol": 1e-5}}
QUERY, KEYS = 8, 6  # widths of a head's keys and of its values in the layers of this file


@pytest.fixture(params=["in full", "streamed"])
def scores(request, monkeypatch):
    """Both paths of a read, whatever its size."""
    if request.param == "streamed":
        monkeypatch.setattr(importlib.import_module("hopfield_amem.kernels.explain"), "SMALL", -1)


def tokens(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


def scattered(layer):
    """Nothing at its first value: biases, norms and one inverse temperature per head are drawn."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name == "log_beta":
                parameter.add_(torch.empty_like(parameter).uniform_(-1.0, 1.0))
            elif parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def attention(heads=4, *, dtype=torch.float64, energy=None, descent=FixedPoint(steps=1), **wired):
    return scattered(HopfieldAttention(16, heads, energy, descent, wiring=Wiring(**{"head_dim": (QUERY, KEYS)} | wired), dtype=dtype))


def textbook(layer, query, keys=None, values=None, *, seen=True, steps=1):
    """Scores, softmax, weighted values, head by head; before them ``steps − 1`` times the weighted keys."""
    keys = query if keys is None else keys
    values = keys if values is None else values
    state, stored, shown = (
        child(x).unflatten(-1, (-1, width)).transpose(-2, -3)
        for child, x, width in ((layer.query, query, QUERY), (layer.keys, keys, QUERY), (layer.values, values, KEYS))
    )
    stored, shown = (part.repeat_interleave(layer.heads // layer.memories, -3) for part in (stored, shown))
    for taken in range(steps):
        score = layer.log_beta.exp()[:, None, None] * state @ stored.mT
        weights = score.masked_fill(~torch.as_tensor(seen), -math.inf).softmax(-1)
        state = weights @ (shown if taken == steps - 1 else stored)
    return layer.output(state.transpose(-2, -3).flatten(-2))


def gradients(layer, output, *inputs):
    return torch.autograd.grad(output.square().sum(), [*inputs, *layer.parameters()])


@pytest.mark.parametrize("memories", [None, 2, 1])
@pytest.mark.parametrize("length", [1, 17, 63])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_it_is_softmax_attention_and_so_are_its_gradients(scores, dtype, length, memories):
    layer = attention(dtype=dtype, memories=memories)
    x, memory, values = (tokens(2, n, 16, dtype=dtype).requires_grad_() for n in (length, 9, 9))
    ago = torch.arange(length)[:, None] - torch.arange(length)
    cases = [
        (layer(x), textbook(layer, x)),
        (layer(x, memory), textbook(layer, x, memory)),
        (layer(x, memory, values), textbook(layer, x, memory, values)),
        (layer(x, causal=True), textbook(layer, x, seen=ago >= 0)),
        (layer(x, causal=3), textbook(layer, x, seen=(ago >= 0) & (ago < 3))),
    ]
    for mine, truth in cases:
        close(mine, truth, **ROUNDING[dtype])
        found, expected = gradients(layer, mine, x), gradients(layer, truth, x)
        scale = max(grad.abs().max() for grad in expected)
        close([grad / scale for grad in found], [grad / scale for grad in expected], **ROUNDING[dtype])


def test_the_default_inverse_temperature_is_that_of_attention():
    layer, x = HopfieldAttention(16, 4, dtype=torch.float64), tokens(2, 5, 16)
    query, keys, values = (child(x).unflatten(-1, (4, 4)).transpose(1, 2) for child in (layer.query, layer.keys, layer.values))
    close(layer(x), layer.output(torch.nn.functional.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)))
    assert layer.log_beta.shape == (4,)


def test_grouped_heads_are_repeated_heads():
    grouped, full = attention(memories=2), attention()
    state = grouped.state_dict()
    for name, width in (("keys", QUERY), ("values", KEYS)):
        for part in ("weight", "bias"):
            state[f"{name}.{part}"] = state[f"{name}.{part}"].unflatten(0, (2, width)).repeat_interleave(2, 0).flatten(0, 1)
    full.load_state_dict(state)
    x = tokens(3, 7, 16)
    close(grouped(x, causal=True), full(x, causal=True))
    close(grouped.association(x), full.association(x))
    close(grouped.energy(x), full.energy(x))


def test_rotary_positions_are_relative():
    layer, x, before = attention(rotary=1e4), tokens(2, 6, 16), tokens(2, 4, 16)
    later = torch.cat([before, x], 1)
    close(layer(later, presence=torch.arange(10).ge(4).expand(2, -1))[:, 4:], layer(x))
    order = torch.randperm(6)
    assert not torch.allclose(layer(x[:, order]), layer(x)[:, order])
    layer.wiring = Wiring()
    close(layer(x[:, order]), layer(x)[:, order])


@pytest.mark.parametrize("role", ["query", "keys", "values"])
def test_a_normalised_input_forgets_its_scale_and_offset(role):
    layer = attention(norms=(role,))
    given = dict(zip(("query", "keys", "values"), (tokens(2, n, 16) for n in (5, 9, 9)), strict=True))
    moved = given | {role: 1e3 * given[role] + 7.0}
    close(layer(**moved), layer(**given), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(attention()(**moved), attention()(**given), atol=0.1)


def test_a_normalised_space_forgets_the_scale_of_projections():
    layer, x = attention(norms=("space",), bias=False), tokens(2, 5, 16)
    before = layer(x)
    with torch.no_grad():
        layer.query.weight.mul_(1e3)
        layer.keys.weight.mul_(0.5e3)
    close(layer(x), before, rtol=1e-4, atol=1e-4)
    asked = layer.norm_space(layer.query(x).unflatten(-1, (4, QUERY))).transpose(1, 2)
    close(layer.associate(x).query.flatten(1, 2), asked)


@pytest.mark.parametrize("role", ["query", "keys", "values", "output"])
def test_a_static_role_is_not_projected(role):
    layer, x = attention(head_dim=4, static=(role,)), tokens(2, 5, 16)
    assert not list(getattr(layer, role).parameters())
    state = layer.state_dict() | {f"{role}.weight": torch.eye(16, dtype=torch.float64), f"{role}.bias": torch.zeros(16, dtype=torch.float64)}
    projected = attention(head_dim=4)
    projected.load_state_dict(state)
    close(layer(x), projected(x))


def test_connected_values_are_made_of_the_projected_keys():
    layer, x = attention(connected=True), tokens(2, 5, 16)
    assert layer.values.in_features == 4 * QUERY
    twin = attention()
    twin.load_state_dict(layer.state_dict() | {"values.weight": layer.values.weight @ layer.keys.weight, "values.bias": layer.values(layer.keys.bias)})
    close(layer(x), twin(x))


def test_tokens_of_other_widths_and_no_biases():
    layer = attention(sources=(5, 7, 3), bias=False)
    query, keys, values = tokens(2, 4, 16), tokens(2, 9, 5), tokens(2, 9, 7)
    assert layer(query, keys, values).shape == (2, 4, 3) and not any("bias" in name for name, _ in layer.named_parameters())
    close(layer(query, keys, values), textbook(layer, query, keys, values))


def test_dropout_is_silent_in_evaluation_and_unbiased_in_training():
    plain, layer = attention(), attention(dropout=0.4)
    layer.load_state_dict(plain.state_dict())
    x = tokens(5, 16)
    close(layer.eval()(x), plain(x), rtol=0, atol=0)
    drawn = layer.train()(x.expand(4000, 5, 16))
    assert drawn.std(0).min() > 0.01
    assert ((drawn.mean(0) - plain(x)).abs() <= 5 * drawn.std(0) / math.sqrt(4000)).all()
    assert torch.equal(layer.association(x), plain.association(x))


@pytest.mark.parametrize("name", ["log_sum_exp", "entmax", "epanechnikov", "relu_feed_forward"])
@pytest.mark.parametrize("memories", [None, 2])
def test_presence_of_every_rank_is_deletion(scores, name, memories):
    layer = attention(energy=ENERGIES[name].at(0.3), memories=memories)
    x, memory = tokens(2, 5, 16), tokens(2, 9, 16)
    there = torch.tensor([0, 2, 3, 7, 8])
    slots = torch.zeros(9, dtype=torch.bool).index_fill(0, there, True)
    truth = layer(x, memory[:, there])
    for presence in (slots.expand(2, 9), slots.expand(2, 5, 9), slots.expand(2, 1, 9), slots.expand(2, 4, 5, 9), slots.double().expand(2, 1, 1, 9)):
        close(layer(x, memory, presence=presence), truth)
        close(layer.association(x, memory, presence=presence)[..., there], layer.association(x, memory[:, there]))
        close(layer.energy(x, memory, presence=presence), layer.energy(x, memory[:, there]))
    one = torch.ones(2, 4, 5, 9, dtype=torch.bool)
    one[1, 2, 3] = slots  # one query of one head of one sample
    weights = layer.association(x, memory)
    weights[1, 2, 3] = layer.association(x, memory[:, there])[1, 2, 3].new_zeros(9).index_copy(0, there, layer.association(x, memory[:, there])[1, 2, 3])
    close(layer.association(x, memory, presence=one), weights)


@pytest.mark.parametrize("name", [n for n, e in ENERGIES.items() if not isinstance(e.confinement, Hypercube)])
def test_a_row_that_sees_nothing_reads_zeros_and_has_finite_gradients(scores, name):
    layer, x = attention(energy=ENERGIES[name].at(0.3)), tokens(2, 5, 16).requires_grad_()
    presence = torch.ones(2, 5, 5, dtype=torch.bool)
    presence[0, 2] = False
    output = layer(x, presence=presence)
    close(output[0, 2], layer.output.bias)
    assert all(grad.isfinite().all() for grad in gradients(layer, output, x))
    assert layer(x, tokens(2, 0, 16)).isfinite().all()


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_one_memory_serves_a_batch(scores, lead):
    layer, x, memory = attention(memories=2), tokens(*lead, 5, 16), tokens(9, 16)
    truth = textbook(layer, x, memory.expand(*lead, 9, 16))
    close(layer(x, memory), truth)
    close(layer(x, memory.expand(*lead, 9, 16)), truth)
    close(layer(x[..., :1, :], memory).squeeze(-2), truth[..., 0, :])
    assert layer.association(x, memory).shape == (*lead, 4, 5, 9) and layer.energy(x, memory).shape == (*lead, 4, 5)


@pytest.mark.parametrize("memories", [None, 2])
def test_further_steps_move_the_query_among_the_keys(memories):
    x, memory = tokens(2, 5, 16), tokens(2, 9, 16)
    plain = attention(memories=memories, energy=presets.log_sum_exp(0.1))  # so warm that every query settles at one point

    def read(descent):
        layer = attention(memories=memories, descent=descent)
        layer.load_state_dict(plain.state_dict())
        return layer(x, memory)

    for k, tolerance in ((1, 0.0), (4, 0.0), (2, 1e-5)):
        close(read(FixedPoint(steps=k, tolerance=tolerance)), textbook(plain, x, memory, steps=k))
    close(read(GradientDescent(step_size=1.0, steps=3, tolerance=0.0)), textbook(plain, x, memory, steps=4))
    close(read(Flow(time=3.0, method="euler", options={"options": {"step_size": 1.0}})), textbook(plain, x, memory, steps=4))
    settled = textbook(plain, x, memory, steps=200)
    for descent in (FixedPoint(tolerance=1e-5), FixedPoint(tolerance=1e-5, gradient="implicit"), GradientDescent(), Flow()):
        close(read(descent), settled, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ENERGIES)
def test_every_energy_makes_a_layer(scores, name):
    energy = ENERGIES[name].at(0.05)
    layer, x, memory = attention(energy=energy, memories=2), tokens(2, 5, 16), tokens(2, 9, 16)
    at = layer.associate(x, memory)
    query, keys, values = (part.expand(-1, -1, 2, -1, -1).flatten(1, 2) for part in (at.query, at.keys, at.values))
    spec = energy.at(layer.log_beta.exp())
    close(layer(x, memory), layer.output(retrieve(spec, query, keys, values).transpose(1, 2).flatten(2)))
    close(layer.energy(x, memory), spec(query, keys))
    close(layer.association(x, memory), spec.weights(query, keys))
    grads = gradients(layer, layer(x, memory) + layer.energy(x, memory).sum())
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in grads)


def falls(energy):
    """Whether theory says that settling never raises this energy, and many steps do not run away."""
    return energy.monotone and not isinstance(energy.scaling, Sum)


@pytest.mark.parametrize("name", [n for n, e in ENERGIES.items() if falls(e)])
def test_the_certificate_falls_and_its_end_is_what_is_read(name):
    layer = attention(energy=ENERGIES[name].at(0.6), descent=FixedPoint(steps=60, record=True), memories=2)
    x, memory = tokens(2, 5, 16), tokens(2, 9, 16)
    found = layer.descended(x, memory)
    on = found.energies if not isinstance(ENERGIES[name].confinement, Hypercube) else found.energies[1:]  # a query need not start on the cube
    rising = on.diff(dim=0)
    assert (rising[rising.isfinite()] <= 1e-10).all()
    assert found.energy.shape == found.converged.shape == (2, 4, 5)
    close(found.energies[0], layer.energy(x, memory))


def test_an_energy_of_ones_own_makes_a_layer():
    own = ReadEnergy(Dot(), lambda score: score.cosh(), Log(), Sphere(), beta=0.3)
    layer, x = attention(energy=own, descent=FixedPoint(steps=3, tolerance=0.0)), tokens(2, 5, 16)
    at, spec = layer.associate(x), own.at(layer.log_beta.exp()[:, None])
    state = retrieve(spec, at.query, at.keys, steps=2)
    close(layer(x), layer.output((spec.weights(state, at.keys) @ at.values).squeeze(2).transpose(1, 2).flatten(2)))
    close(layer.association(x), spec.weights(state, at.keys).squeeze(2))


@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "entmax", "softmax1", "gelu_feed_forward"])
def test_gradients_of_tokens_and_of_every_parameter(name):
    layer = attention(2, energy=ENERGIES[name].at(0.3), memories=1, norms=("space",), rotary=1e2, descent=FixedPoint(steps=1 if "feed" in name else 2))
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def run(x, memory, *weights):
        return functional_call(layer, dict(zip(names, weights, strict=True)), (x, memory))

    given = [t.detach().requires_grad_() for t in (tokens(2, 16), tokens(3, 16), *parameters)]
    torch.autograd.gradcheck(run, given, fast_mode=True)
