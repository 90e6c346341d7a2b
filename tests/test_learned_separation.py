"""A separation that learns: α-entmax with an α of its own."""

import copy

import pytest
import torch
import torch.utils.checkpoint

from hopfield_amem import ReadEnergy, presets, retrieve
from hopfield_amem.descent import GradientDescent
from hopfield_amem.energies import Activation, Blend, Delta, Dot, Elementwise, Euclidean, Exp, Hebbian, Log, Mapped, Memory, Simplex, Sum
from hopfield_amem.layers import DenseSynapse, HopfieldAttention, HopfieldFFN, HopfieldLookup, MemoryMixer, MultiheadAttention, PatternMemory


class Entmax(torch.nn.Module):
    """F of α-entmax, α = 1.5 at first."""

    def __init__(self):
        super().__init__()
        self.raw = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, score):
        alpha = (1 + self.raw.sigmoid()).to(score.dtype)
        return (1 + (alpha - 1) * score).relu() ** (alpha / (alpha - 1)) / alpha


LAYERS = {
    "attention": lambda energy: HopfieldAttention(8, 2, energy, dtype=torch.float64),
    "lookup": lambda energy: HopfieldLookup(8, 20, energy, dtype=torch.float64),
    "feed-forward": lambda energy: HopfieldFFN(8, 20, energy, dtype=torch.float64),
    "torch's attention": lambda energy: MultiheadAttention(8, 2, energy=energy, batch_first=True, dtype=torch.float64),
    "a synapse": lambda energy: DenseSynapse(8, 20, energy, dtype=torch.float64),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_a_separation_learns_belongs_to_the_layer(name):
    torch.manual_seed(0)
    energy, x = ReadEnergy(Dot(), Entmax(), Simplex()), torch.randn(3, 5, 8, dtype=torch.float64)
    layer = LAYERS[name](energy)

    def read():
        found = layer.spec(x) if name == "a synapse" else layer(x, x, x)[0] if name == "torch's attention" else layer(x)
        return found.square().sum()

    alpha = dict(layer.named_parameters())["functions.0.raw"]  # trained, moved and saved with the layer
    assert alpha is energy.separation.function.raw
    (slope,) = torch.autograd.grad(read(), alpha)
    with torch.no_grad():
        above, below = (alpha.fill_(at) and read() for at in (1e-5, -1e-5))
    assert float(slope) == pytest.approx(float((above - below) / 2e-5), rel=1e-5)
    twin = copy.deepcopy(layer)
    assert twin.functions[0] is twin.given.separation.function is not layer.functions[0]


def test_a_layer_whose_energy_learns_nothing_has_no_functions():
    for layer in (HopfieldAttention(8, 2, presets.entmax()), HopfieldFFN(8, 20, ReadEnergy(Dot(), Activation(torch.nn.Mish()), Sum()))):
        assert not any(name.startswith("functions") for name, _ in layer.named_modules())


def test_a_function_that_stands_in_several_places_is_kept_once():
    shared = Entmax()
    layer = HopfieldFFN(8, 20, ReadEnergy(Dot(), Blend(Elementwise(shared), Elementwise(shared), 0.3)))
    assert [name for name in layer.state_dict() if name.startswith("functions")] == ["functions.0.raw"]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_separation_of_ones_own_works_under_checkpoints(compiled):
    energy = ReadEnergy(Dot(), lambda score: torch.nn.functional.softplus(score).square(), Sum())
    query, keys = (torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 6))

    def kept(query):
        return torch.utils.checkpoint.checkpoint(lambda query: retrieve(energy, query, keys, backend="reference"), query, use_reentrant=False)

    read = torch.compile(kept, backend="aot_eager", fullgraph=True) if compiled else kept
    (slope,), (truth,) = (torch.autograd.grad(f.square().sum(), query) for f in (read(query), retrieve(energy, query, keys, backend="reference")))
    torch.testing.assert_close(slope, truth)


def test_memories_that_are_written_keep_what_their_energies_learn():
    shared = Entmax()
    mixer = MemoryMixer(8, 2, Memory(ReadEnergy(Dot(), shared, Simplex()), Hebbian()))
    assert [name for name, _ in mixer.named_parameters() if "functions" in name] == ["functions.0.raw"]
    mapped = ReadEnergy(Mapped(torch.nn.Linear(4, 3), Euclidean()), Exp(), Log())
    memory = PatternMemory(4, mapped, beta=2.0).double()  # moves the map, too
    memory.store(torch.randn(5, 4, dtype=torch.float64))
    found = memory.recall(memory.patterns[:2], GradientDescent(0.1, steps=3))
    assert found.state.dtype == torch.float64
    twin = PatternMemory(4, ReadEnergy(Mapped(torch.nn.Linear(4, 3), Euclidean()), Exp(), Log()), beta=2.0, dtype=torch.float64).double()
    twin.load_state_dict(memory.state_dict())
    torch.testing.assert_close(twin.recall(memory.patterns[:2], GradientDescent(0.1, steps=3)).state, found.state)


def test_a_mixer_owns_what_its_reads_and_writes_learn():
    """Each module once, though the same is read and written with."""
    torch.manual_seed(0)
    energy, x = ReadEnergy(Dot(), Entmax(), Simplex()), torch.randn(2, 6, 8, dtype=torch.float64)
    for memory, learned in ((Memory(energy), 1), (Memory(energy, Delta(), energy), 1), (Memory(energy, Delta(), ReadEnergy(Dot(), Entmax(), Simplex())), 2)):
        mixer = MemoryMixer(8, 2, memory, dtype=torch.float64)
        mixer(x)[0].square().sum().backward()
        slopes = [parameter.grad for name, parameter in mixer.named_parameters() if name.startswith("functions")]
        assert len(slopes) == learned == sum(name.startswith("functions") for name in mixer.state_dict()) and all(float(slope) != 0 for slope in slopes)
