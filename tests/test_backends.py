"""Bounded memory gives the numbers of the definition: any shape, any mask, any tile boundary, poisoned memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from hopfield_amem import ENERGIES, ReadEnergy, explain, presets, retrieve
from hopfield_amem.energies import Cosine, Dot, Exp, Log, Manhattan, Simplex, Tsallis
from hopfield_amem.energies.registry import named
from hopfield_amem.kernels import cut, engine, fused, nearest, operators, tile_gradients, tiles

MORE = {
    **ENERGIES,
    "cosine": ReadEnergy(Cosine(), Exp(), Log(), beta=4.0),
    "manhattan": ReadEnergy(Manhattan(), Exp(), Log(), beta=0.3),
    "entmax3": presets.entmax(3.0, 0.5),
    "dense threshold": ReadEnergy(Dot(), lambda s: torch.nn.functional.softplus(s) ** 2, Simplex()),
}


def masked(kind, queries, slots):
    """A presence of every kind there is; rows 0 and column 0 of some are empty."""
    if kind == "none":
        return None
    if kind == "per slot":
        return torch.arange(slots) % 3 > 0
    if kind == "soft":
        return torch.rand(slots, dtype=torch.float64) * (torch.arange(slots) % 3 > 0)
    gate = torch.rand(2, queries, slots, dtype=torch.float64) * (torch.rand(2, queries, slots) > 0.4)
    gate[:, 0] = 0
    return gate if kind == "soft per query" else gate > 0


def compare(energy, query, keys, values, presence=None, bias=None, **options):
    """Outputs and all gradients of both backends, in float64."""
    results = []
    for backend in ("reference", "chunked"):
        torch.manual_seed(3)  # of dropout
        inputs = [t.clone().requires_grad_(t.is_floating_point()) for t in (query, keys, values, presence, bias) if t is not None]
        moving = iter(inputs)
        q, k = next(moving), next(moving)
        v = None if values is None else next(moving)
        a = None if presence is None else next(moving)
        output = retrieve(energy, q, k, v, presence=a, bias=None if bias is None else next(moving), backend=backend, **options)
        weight = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).view_as(output)
        wanted = [t for t in inputs if t.requires_grad]
        grads = torch.autograd.grad((output * weight).sum(), wanted, allow_unused=True)
        results.append([output, *(torch.zeros_like(t) if g is None else g for g, t in zip(grads, wanted, strict=True))])
    for mine, truth in zip(results[1], results[0], strict=True):
        scale = max(1.0, float(truth.detach().abs().max()) if truth.numel() else 0.0)
        assert torch.isfinite(mine).all()
        steep = isinstance(energy.separation, Tsallis) and energy.separation.alpha > 2  # F″ is infinite at the edge of its support
        torch.testing.assert_close(mine, truth, rtol=0, atol=(1e-8 if steep else 1e-11) * scale)


@pytest.mark.parametrize("kind", ["none", "per slot", "soft", "per query", "soft per query"])
@pytest.mark.parametrize("name", MORE)
def test_every_mask_over_many_tiles(name, kind, monkeypatch, poisoned):
    monkeypatch.setattr(operators, "ELEMENTS", 200)
    query, keys, values = (torch.randn(2, n, d, dtype=torch.float64) for n, d in ((17, 5), (100, 5), (100, 3)))
    compare(MORE[name], query, keys, values, masked(kind, 17, 100))
    compare(MORE[name], query, keys, None, masked(kind, 17, 100))


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("kind", ["none", "per query"])
@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "softmax1"])
def test_softmax_whole_and_in_slices(name, kind, width, monkeypatch):
    """Keys and values of one width are read whole, all else in slices of 1,024 slots."""
    monkeypatch.setattr(fused, "SLICE", 1)
    query, keys, values = (torch.randn(2, n, d, dtype=torch.float64) for n, d in ((7, 5), (2500, 5), (2500, width)))
    compare(MORE[name], query, keys, values, masked(kind, 7, 2500))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", MORE)
def test_causal_and_many_steps(name, steps, poisoned, monkeypatch):
    monkeypatch.setattr(operators, "ELEMENTS", 150)
    query, keys = torch.randn(2, 33, 4, dtype=torch.float64), torch.randn(2, 33, 4, dtype=torch.float64)
    energy = MORE[name] if "feed_forward" not in name and name != "linear_attention" else MORE[name].at(0.05)
    compare(energy, query, keys, torch.randn(2, 33, 4, dtype=torch.float64), causal=True, steps=steps)
    compare(energy, query, keys, None, torch.arange(33) != 0, causal=True, steps=steps)


def turn(choices, *numbers):
    """One of them for each pair of two parameters, so that every pair of two of the three occurs."""
    return choices[sum(numbers) % len(choices)]


OPTIONS = [{"bias": True}, {"bias": True, "causal": True}, {"causal": 1}, {"causal": 7}, {"dropout": 0.4}, {"dropout": 0.4, "causal": 9}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", MORE)
def test_bias_windows_and_dropout(name, options, poisoned, monkeypatch):
    monkeypatch.setattr(operators, "ELEMENTS", 150)
    query, keys, values = (torch.randn(2, n, d, dtype=torch.float64) for n, d in ((33, 4), (40, 4), (40, 3)))
    bias = 0.3 * torch.randn(2, 40, dtype=torch.float64) if options.get("bias") else None
    values, presence = turn([(values, None), (values, torch.arange(40) % 3 > 0), (None, None)], [*MORE].index(name), OPTIONS.index(options))
    compare(MORE[name], query, keys, values, presence, bias, **{key: value for key, value in options.items() if key != "bias"})


SHAPES = [None, (2, 1, 1, 19, 23), (1, 1, 1, 19, 23), (19, 23), (2, 3, 1, 1, 23), (1, 3, 2, 19, 23)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MORE)
def test_heads_share_memories_and_masks(name, shape, monkeypatch, poisoned):
    """(batch, memories, group) read keys (batch, memories, 1), whatever the mask: some tiles hold one memory, some hold several."""
    query, keys, values = (torch.randn(2, 3, g, n, d, dtype=torch.float64) for g, n, d in ((2, 19, 4), (1, 23, 4), (1, 23, 3)))
    presence = None if shape is None else torch.rand(shape) > 0.3
    monkeypatch.setattr(operators, "ELEMENTS", turn([150, 2**16], [*MORE].index(name), SHAPES.index(shape)))
    compare(MORE[name], query, keys, values, presence, causal=shape is None)
    if shape is not None:
        compare(MORE[name], query, keys, None, presence * torch.rand(shape, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(MORE)),
    queries=st.sampled_from([0, 1, 2, 17, 63]),
    slots=st.sampled_from([0, 1, 2, 17, 63, 100]),
    dim=st.sampled_from([1, 3, 17]),
    leads=st.sampled_from([((), ()), ((3,), ()), ((), (3,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 1), (2, 3)), ((0,), ()), ((4, 1), (1, 2))]),
    tied=st.booleans(),
)
def test_shapes(name, queries, slots, dim, leads, tied):
    torch.manual_seed(queries + slots)
    query, keys = (torch.randn(*lead, n, dim, dtype=torch.float64) for lead, n in zip(leads, (queries, slots), strict=True))
    values = None if tied else torch.randn(slots, 2, dtype=torch.float64)
    compare(MORE[name], query, keys, values)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("name", MORE)
def test_extremes(name, backend):
    """Huge β, huge and tiny patterns, in float32: finite and right, or a clear error."""
    energy = MORE[name]
    query, keys = torch.randn(5, 8), torch.randn(40, 8)
    for scale in (1e-4, 1.0, 1e3):
        read = retrieve(energy, scale * query, scale * keys, backend=backend)
        assert read.isfinite().all()
        if energy.scaling.normalised(energy.separation):
            cold = retrieve(energy.at(1e8), scale * query, scale * keys, torch.eye(40), backend=backend)
            torch.testing.assert_close(cold.sum(-1), torch.ones(5))
            assert torch.equal(cold.argmax(-1), nearest(energy, scale * query, scale * keys)[1].squeeze(-1))


@pytest.mark.parametrize("name", MORE)
def test_energy_and_force(name, monkeypatch):
    monkeypatch.setattr(operators, "ELEMENTS", 200)
    energy, results = MORE[name], []
    for backend in ("reference", "chunked"):
        query, keys = (torch.randn(n, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(n)).requires_grad_() for n in (9, 60))
        value = engine(energy, query, keys, backend=backend).energy(query)
        results.append([value, *torch.autograd.grad(value[value.isfinite()].sum(), (query, keys))])
    for mine, truth in zip(*results, strict=True):
        torch.testing.assert_close(mine, truth, rtol=1e-11, atol=1e-11)


class Largest(TorchDispatchMode):
    """The most elements that any tensor made while it is on takes room for."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, math.prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride))
        return result


@pytest.mark.parametrize("name", [n for n in MORE if n != "manhattan" and MORE[n].streams])
def test_no_tensor_grows_as_queries_times_slots(name):
    energy = MORE[name]
    queries, slots, budget = 400, 3000, 4096
    state = energy.similarity.lift_state(torch.randn(1, queries, 4))
    memory = cut.Cut(cut.Rule(*named(energy.name)), state, torch.randn(1, slots, 4), None, None, 4, budget=budget)
    with Largest() as largest:
        rows = tiles.forward(memory, cut.BASELINE)
        tile_gradients.backward(memory, rows, torch.randn(1, queries, 4), None)
    assert largest.elements <= 64 * queries + 16 * budget + 4 * slots < queries * slots


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["log_sum_exp", "softmax1", "entmax", "sparsemax", "relu_feed_forward"])
def test_a_shared_memory_and_a_shared_mask_are_not_repeated(name, masked, monkeypatch):
    """Nothing is as large as the keys of every head, or as the mask of every head."""
    monkeypatch.setattr(operators, "ELEMENTS", 4096)
    heads, queries, slots, dim = 64, 16, 600, 8
    query, keys = torch.randn(2, 1, heads, queries, dim, requires_grad=True), torch.randn(2, 1, 1, slots, dim, requires_grad=True)
    presence = torch.rand(2, 1, 1, queries, slots) > 0.3 if masked else None
    with Largest() as largest:
        retrieve(MORE[name], query, keys, keys, presence=presence, causal=not masked, backend="chunked").sum().backward()
    assert largest.elements < 2 * slots * dim * heads / 8


def test_explain_names_the_path_and_a_backend_that_cannot_serve_raises():
    query, keys = torch.randn(300, 4), torch.randn(1000, 4)
    assert explain(presets.log_sum_exp(), query, keys).engine == "torch fused attention"
    assert explain(presets.distance(), query, keys).engine == "torch fused attention"
    assert explain(presets.softmax1(), query, keys).engine == "torch fused attention"
    assert explain(presets.entmax(), query, keys).engine == "streamed tiles"
    assert explain(MORE["manhattan"], query, keys).engine == "elementwise tiles"
    assert explain(presets.entmax(), query[:1], keys).backend == "reference"
    assert "asked for by name" in str(explain(presets.entmax(), query, keys, backend="chunked"))
    with pytest.raises(ValueError, match="Unknown backend 'cuda'"):
        retrieve(presets.entmax(), query, keys, backend="cuda")


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(MORE)), st.integers(1, 4), st.integers(1, 50))
def test_nearest(name, count, slots):
    energy = MORE[name]
    query, keys = torch.randn(2, 6, 3), torch.randn(slots, 3)
    presence = torch.rand(slots) > 0.3
    score = torch.where(presence, energy.similarity(query, keys), -torch.inf)
    top, index = nearest(energy, query, keys, presence=presence, count=count)
    expected = score.topk(min(count, slots), -1)
    torch.testing.assert_close(top, expected.values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(score.gather(-1, index), top, rtol=1e-4, atol=1e-5)
