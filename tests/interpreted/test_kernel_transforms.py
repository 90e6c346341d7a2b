"""PyTorch's transformations see kernels as one differentiable operation."""

import copy
import pickle

import pytest
import torch
from comparison import ALL
from torch.utils.checkpoint import checkpoint

from hopfield_amem import presets, retrieve
from hopfield_amem.descent import FixedPoint
from hopfield_amem.kernels.triton.operators import BASELINE, MASS, VALUE, kernel, kernel_backward

SOME = ["log_sum_exp", "distance", "epanechnikov", "entmax", "own similarity"]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


def tensors(device, requires_grad=False, dtype=torch.float32):
    shapes = (2, 5, 4), (2, 9, 4), (2, 9, 3)
    return [torch.randn(s, device=device, dtype=dtype, requires_grad=requires_grad) for s in shapes]


def loss(energy, backend="triton"):
    return lambda q, k, v: retrieve(energy, q, k, v, backend=backend).square().sum()


@pytest.mark.parametrize("name", SOME)
def test_func_grad_vmap_jvp(name, device):
    given = tensors(device)
    mine, truth = loss(ALL[name]), loss(ALL[name], "reference")
    expected = torch.func.grad(truth, argnums=(0, 1, 2))(*given)
    for transform in (torch.func.grad(mine, argnums=(0, 1, 2)), torch.func.vmap(torch.func.grad(mine, argnums=(0, 1, 2)))):
        for a, b in zip(transform(*given), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    tangents = tuple(torch.randn_like(t) for t in given)
    torch.testing.assert_close(torch.func.jvp(mine, tuple(given), tangents)[1], torch.func.jvp(truth, tuple(given), tangents)[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SOME)
def test_vmap_over_queries_alone(name, device):
    query, keys, values = tensors(device)
    batched = torch.func.vmap(lambda q: retrieve(ALL[name], q, keys[0], values[0], backend="triton"))(query)
    torch.testing.assert_close(batched, retrieve(ALL[name], query, keys[0], values[0], backend="reference"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SOME)
def test_double_backward(name, device):
    seconds = []
    for backend in ("triton", "reference"):
        torch.manual_seed(1)
        given = tensors(device, requires_grad=True)
        first = torch.autograd.grad(loss(ALL[name], backend)(*given), given, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), given, allow_unused=True)
        seconds.append([torch.zeros_like(t) if g is None else g for g, t in zip(second, given, strict=True)])
    for a, b in zip(*seconds, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max().clamp_min(1e-3)))


@pytest.mark.parametrize("name", SOME)
def test_compile_fullgraph(name, device):
    energy = ALL[name]

    def run(q, k, v):
        return retrieve(energy, q, k, v, backend="triton", steps=1, causal=True)

    plain, compiled = tensors(device, requires_grad=True), torch.compile(run, fullgraph=True, backend="aot_eager")
    again = [t.detach().clone().requires_grad_() for t in plain]
    output, truth = compiled(*again), run(*plain)
    torch.testing.assert_close(output, truth)
    mine, theirs = torch.autograd.grad(output.square().sum(), again), torch.autograd.grad(truth.square().sum(), plain)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", ["triton", "chunked"])
def test_compile_fullgraph_without_gradients(backend, device):
    energy, given = presets.entmax(), tensors(device)
    compiled = torch.compile(lambda *t: retrieve(energy, *t, backend=backend), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*given), retrieve(energy, *given), rtol=1e-4, atol=1e-5)


def test_vmap_draws_dropout_per_sample(device):
    query, keys, values = (t[0] for t in tensors(device))
    draw = torch.func.vmap(lambda q: retrieve(presets.log_sum_exp(), q, keys, values, dropout=0.5, backend="triton"), randomness="different")
    first, second = draw(query.expand(2, -1, -1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("needs", [BASELINE, VALUE | MASS | BASELINE])
@pytest.mark.parametrize("name", ["log_sum_exp", "entmax", "epanechnikov"])
def test_opcheck(name, needs, device):
    query, keys, values = (t.unsqueeze(0) for t in tensors(device))
    beta, bias = torch.ones(1, 2, device=device), torch.randn(1, 2, 9, device=device)
    needs = needs & ~MASS if name == "entmax" else needs
    given = (query, keys, values, None, beta, bias, None)
    options = (ALL[name].name, 3, 0.0, needs)
    torch.library.opcheck(kernel, (*given, *options))
    results = list(kernel(*given, *options))
    torch.library.opcheck(
        kernel_backward,
        (torch.randn_like(results[0]), torch.zeros_like(results[1]), None, *given, results, *options[:3], [True, True, True, False, True, True]),
    )


def test_export_keeps_one_node(device):
    class Reader(torch.nn.Module):
        def forward(self, q, k, v):
            return retrieve(presets.log_sum_exp(0.5), q, k, v, backend="triton")

    program = torch.export.export(Reader(), tuple(tensors(device)))
    assert any("hopfield_amem.kernel" in str(node.target) for node in program.graph.nodes)
    given = tensors(device)
    torch.testing.assert_close(program.module()(*given), Reader()(*given))


def test_autocast_computes_in_its_dtype(device):
    query, keys, values = tensors(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        read = retrieve(presets.log_sum_exp(), query, keys, values, backend="triton")
    assert read.dtype == torch.bfloat16
    torch.testing.assert_close(read.float(), retrieve(presets.log_sum_exp(), query, keys, values), rtol=3e-2, atol=3e-2)


def test_checkpoint_copies_and_pickles(device):
    given = tensors(device, requires_grad=True)
    energy = pickle.loads(pickle.dumps(copy.deepcopy(presets.entmax())))
    grads = []
    for run in (loss(energy), lambda *t: checkpoint(loss(energy), *t, use_reentrant=False)):
        grads.append(torch.autograd.grad(run(*given), given))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("gradient", ["recompute", "implicit"])
@pytest.mark.parametrize("name", ["log_sum_exp", "distance"])
def test_descents_run_on_kernels(name, gradient, device):
    results = []
    for backend in ("triton", "reference"):
        torch.manual_seed(2)
        query, keys = torch.randn(4, 6, device=device), torch.randn(12, 6, device=device, requires_grad=True)
        result = FixedPoint(60, 1e-6, gradient)(ALL[name].at(0.6), query, keys, backend=backend)
        (grad,) = torch.autograd.grad(result.state.square().sum(), keys)
        results.append((result.state.detach(), result.energy.detach(), grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
