"""Bitwise the same from run to run under ``torch.use_deterministic_algorithms(True)``, and the same to rounding on any number of threads."""

import pytest
import torch

from hopfield_amem import ENERGIES, MEMORIES, associate, presets, retrieve
from hopfield_amem.layers import EnergyTransformerBlock, HopfieldAttention, HopfieldFFN, HopfieldLookup, HopfieldPooling, MemoryMixer, PatternMemory

LAYERS = {
    "attention": lambda: HopfieldAttention(32, 4, presets.entmax(1.5)),
    "pooling": lambda: HopfieldPooling(32, 4, queries=3),
    "lookup": lambda: HopfieldLookup(32, 300, presets.epanechnikov(0.1), values=8),
    "feed-forward": lambda: HopfieldFFN(32, 128, presets.gelu_feed_forward()),
    "mixer": lambda: MemoryMixer(32, 4, presets.gated_delta_net()),
    "block": lambda: EnergyTransformerBlock(32, 4, slots=64),
}


@pytest.fixture(autouse=True)
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


def run(work, threads=1):
    """What ``work`` gives, and its gradients, from the same random numbers."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    output, leaves = work()
    return [output.detach(), *torch.autograd.grad(output.square().sum(), leaves, allow_unused=True)]


def repeats(work):
    """Two runs on one thread, and two on two, are bitwise equal; one and two threads are to rounding."""
    alone, again, both, twice = run(work), run(work), run(work, 2), run(work, 2)
    for first, second, third, fourth in zip(alone, again, both, twice, strict=True):
        if first is None:
            continue
        assert torch.equal(first, second) and torch.equal(third, fourth)
        torch.testing.assert_close(third, first, rtol=1e-4, atol=1e-4 * max(1.0, float(first.abs().max())))


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("name", ENERGIES)
def test_reads(name, backend):
    def work():
        query, keys, values = (torch.randn(2, count, 16).requires_grad_() for count in (20, 300, 300))
        return retrieve(ENERGIES[name], query, keys, values, presence=torch.rand(300) > 0.2, dropout=0.1, backend=backend), (query, keys, values)

    repeats(work)


@pytest.mark.filterwarnings("ignore::hopfield_amem.energies.UnstableWrite")
@pytest.mark.parametrize("backend", ["recurrent", "chunked"])
@pytest.mark.parametrize("name", MEMORIES)
def test_writes(name, backend):
    memory = MEMORIES[name]

    def work():
        query, keys, values = (torch.randn(2, 24, 8).requires_grad_() for _ in range(3))
        decay = None if memory.decay is None else torch.rand(2, 24, *([8] if memory.decay == "channel" else []))
        keys_ = torch.nn.functional.normalize(keys, dim=-1)
        return associate(memory, query, keys_, values, decay=decay, backend=backend)[0], (query, keys, values)

    repeats(work)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    def work():
        layer, tokens = LAYERS[name](), torch.randn(2, 50, 32)
        output = layer(tokens)
        return output[0] if isinstance(output, tuple) else output, tuple(layer.parameters())

    repeats(work)


def test_a_pattern_memory():
    def work():
        memory = PatternMemory(16)
        memory.store(torch.randn(60, 16))
        query = torch.randn(20, 16).requires_grad_()
        return memory.recall(query).state, (query,)

    repeats(work)
