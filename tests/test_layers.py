"""Layers own parameters; what they compute is the spec's own."""

import copy
import pickle

import pytest
import torch

from hopfield_amem import ENERGIES, presets, retrieve
from hopfield_amem.layers import HopfieldLookup


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
