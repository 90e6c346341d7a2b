"""Layers own parameters; what they compute is the spec's own."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from hopfield_amem import ENERGIES, presets, retrieve
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import HopfieldAttention, HopfieldLookup, HopfieldPooling, Wiring

close = torch.testing.assert_close


def tokens(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("name", ENERGIES)
def test_lookup_reads_its_memory_and_every_parameter_learns(name):
    layer = HopfieldLookup(5, 20, ENERGIES[name], values=3).double()
    x = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), retrieve(ENERGIES[name], x, layer.keys, layer.values))
    torch.testing.assert_close(layer(x), retrieve(ENERGIES[name], x.flatten(0, 1), layer.keys, layer.values).view(2, 7, 3))
    (layer(x).square().sum() + layer.energy(x).nan_to_num(posinf=0).sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert layer.log_beta.shape == (1,) and layer.log_beta.grad.abs() > 0
    assert layer.association(x).shape == (2, 7, 20) and layer.energy(x).shape == (2, 7)


def test_lookup_stores_settles_copies_and_reloads():
    keys, labels = torch.randn(9, 4), torch.eye(9)
    layer = HopfieldLookup.store(presets.distance(50.0), keys, labels)
    assert torch.equal(layer(keys).argmax(-1), torch.arange(9))
    settled = HopfieldLookup.store(presets.distance(50.0), keys)
    torch.testing.assert_close(settled(keys[0]), keys[0], rtol=0, atol=1e-3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(keys), layer(keys)) and set(twin.state_dict()) == {"keys", "values", "log_beta"}
    fresh = HopfieldLookup(4, 9, presets.distance(), values=9)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(keys), layer(keys)) and "distance" not in repr(fresh) and "‖x − ξ_μ‖²" in repr(fresh)


@pytest.mark.parametrize("name", ENERGIES)
def test_pooling_asks_with_its_own_tokens_and_sees_a_set(name):
    energy = ENERGIES[name].at(0.05)
    layer = HopfieldPooling(16, 4, energy, queries=3, wiring=Wiring(memories=2), dtype=torch.float64)
    x, order, there = tokens(2, 7, 16), torch.randperm(7), torch.tensor([True] * 5 + [False] * 2)
    asking = HopfieldAttention(16, 4, energy, wiring=Wiring(memories=2), dtype=torch.float64)
    asking.load_state_dict({name: p for name, p in layer.state_dict().items() if name != "seeds"})
    close(layer(x), asking(layer.seeds, x))
    close(layer(x[:, order]), layer(x))
    close(layer(x, presence=there.expand(2, 7)), layer(x[:, :5]))
    close(layer(x, 2 * x), asking(layer.seeds, x, 2 * x))
    assert layer(x).shape == (2, 3, 16) and layer(x[0]).shape == (3, 16) and layer.energy(x).shape == (2, 4, 3) and layer.association(x).shape == (2, 4, 3, 7)
    for view in ("energy", "association", "descended"):
        mine, truth = (getattr(*pair)(*given, presence=there.expand(2, 7)) for pair, given in (((layer, view), (x,)), ((asking, view), (layer.seeds, x))))
        close(getattr(mine, "energy", mine), getattr(truth, "energy", truth))
    assert all(grad.abs().max() > 0 for grad in torch.autograd.grad(layer(x).square().sum(), list(layer.parameters())))


@pytest.mark.parametrize("name", ENERGIES)
def test_a_lookup_is_an_attention_to_its_weights(name):
    lookup = HopfieldLookup(16, 9, ENERGIES[name].at(0.05), values=5, dtype=torch.float64)
    bare = HopfieldAttention(
        16, 1, ENERGIES[name].at(0.05), wiring=Wiring(head_dim=(16, 5), sources=(16, 5, 5), static=("query", "keys", "values", "output")), dtype=torch.float64
    )
    x = tokens(2, 7, 16)
    close(lookup(x), bare(x, lookup.keys, lookup.values))
    close(lookup.energy(x), bare.energy(x, lookup.keys, lookup.values).squeeze(1))
    close(lookup.association(x), bare.association(x, lookup.keys, lookup.values).squeeze(1))


def attention(*given, **options):
    return HopfieldAttention(16, 4, dtype=torch.float64)(*given, **options)


MISUSES = {
    "all of them together": lambda: HopfieldAttention(16, 4, wiring=Wiring(head_dim=8, static=("query",))),
    "must divide the number of heads": lambda: HopfieldAttention(16, 4, wiring=Wiring(memories=3)),
    "pairs of channels": lambda: HopfieldAttention(12, 4, wiring=Wiring(rotary=1e4)),
    "built from a ReadEnergy": lambda: HopfieldAttention(16, 4, presets.delta_net()),
    "beta is a number": lambda: HopfieldLookup(4, 3, presets.distance().at(torch.ones(1))),
    "descends by FixedPoint": lambda: HopfieldAttention(16, 4, None, 3),
    "at least one query": lambda: HopfieldPooling(16, 4, queries=0),
    "must be positive, got dim=4": lambda: HopfieldLookup(4, 0),
    "store needs patterns": lambda: HopfieldLookup.store(presets.distance(), torch.ones(3)),
    "Every key needs one value": lambda: HopfieldLookup.store(presets.distance(), torch.ones(3, 4), torch.ones(2, 4)),
    "takes queries": lambda: HopfieldLookup(4, 3)(torch.ones(2, 5)),
    "static is a tuple of names": lambda: Wiring(static="query"),
    "norms is a tuple of names": lambda: Wiring(norms=("output",)),
    "number of key and value heads": lambda: Wiring(memories=0),
    "sources are three widths": lambda: Wiring(sources=(3, 4)),
    "cannot be static as well": lambda: Wiring(connected=True, static=("values",)),
    "base of rotary positions": lambda: Wiring(rotary=1.0),
    "dropout is the probability": lambda: Wiring(dropout=1.0),
    "takes query tokens": lambda: attention(tokens(2, 5, 15)),
    "takes keys tokens": lambda: attention(tokens(2, 5, 16), tokens(2, 5, 15)),
    "takes values tokens": lambda: attention(tokens(2, 5, 16), tokens(2, 5, 16), tokens(5, 15)),
    "presence has one entry per slot": lambda: attention(tokens(2, 5, 16), presence=torch.ones(5, dtype=torch.bool)),
    r"per head \(..., 8, q, n\)": lambda: HopfieldAttention(16, 8, wiring=Wiring(memories=2))(torch.ones(2, 5, 16), presence=torch.ones(2, 4, 5, 5).bool()),
    "unsqueeze": lambda: attention(tokens(16)),
    "one width, or those of keys and values": lambda: HopfieldAttention(16, 4, wiring=Wiring(head_dim=(4, 4, 4))),  # type: ignore[arg-type]
    "does not broadcast": lambda: attention(tokens(2, 5, 16), presence=torch.ones(2, 4, dtype=torch.bool)),
    "Every key needs": lambda: attention(tokens(2, 5, 16), tokens(2, 4, 16), tokens(2, 3, 16)),
    "leading dimensions must broadcast": lambda: attention(tokens(2, 5, 16), tokens(3, 5, 16)),
    "causal is": lambda: attention(tokens(2, 5, 16), causal=0),
    "NaN or Inf": lambda: attention(tokens(2, 5, 16) * math.nan),
}


@pytest.mark.parametrize("message", MISUSES)
def test_errors_at_the_door(message):
    with pytest.raises(ValueError, match=message):
        MISUSES[message]()


@pytest.mark.parametrize("wrong", [[1.0], torch.ones(2, 5, 16, dtype=torch.long)])
def test_tokens_are_floating_point_tensors(wrong):
    with pytest.raises(TypeError, match="query must be a"):
        attention(wrong)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0, 3)])
def test_the_certificate_of_a_lookup_has_the_shape_of_its_queries(lead):
    layer = HopfieldLookup(4, 5, presets.log_sum_exp(3.0), FixedPoint(steps=4, tolerance=0.0, record=True), dtype=torch.float64)
    query = tokens(*lead, 4)
    found = layer.descended(query)
    assert found.state.shape == query.shape and found.trajectory.shape[1:] == query.shape and found.energies.shape[1:] == lead
    assert found.energy.shape == found.margin.shape == found.bound.shape == found.converged.shape == lead
    close(found.state, layer(query))
    close(found.energies[0], layer.energy(query))


def test_a_parametrized_query_pools_alike():
    layer, x = HopfieldPooling(16, 4, queries=2, dtype=torch.float64), tokens(2, 5, 16)
    before = layer(x)
    register_parametrization(layer, "seeds", nn.Identity())
    close(layer(x), before)
