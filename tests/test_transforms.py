"""PyTorch's transformations see the same numbers: compile, func, autocast, checkpoint, copies."""

import copy
import pickle

import pytest
import torch
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from hopfield_amem import ENERGIES, explain, presets, retrieve
from hopfield_amem.descent import FixedPoint
from hopfield_amem.energies import Cosine, Dot, Exp, Log, Manhattan, ReadEnergy
from hopfield_amem.kernels import engine, gated, operators
from hopfield_amem.kernels.differentiable import FAMILIES
from hopfield_amem.layers import HopfieldLookup

BACKENDS = ["reference", "chunked"]
SOME = ["log_sum_exp", "distance", "epanechnikov", "entmax", "softmax1", "gelu_feed_forward"]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


def tensors(dtype=torch.float64, requires_grad=False):
    shapes = (2, 5, 4), (2, 9, 4), (2, 9, 3)
    return [torch.randn(s, dtype=dtype, requires_grad=requires_grad) for s in shapes]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SOME)
def test_func_grad_vmap_jvp(name, backend):
    energy = ENERGIES[name]
    query, keys, values = tensors()

    def loss(q, k, v):
        return retrieve(energy, q, k, v, backend=backend).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)))(query, keys, values)
    whole = torch.func.grad(loss, argnums=(0, 1, 2))(query, keys, values)
    for mine, truth in zip(per_sample, whole, strict=True):
        torch.testing.assert_close(mine, truth)

    given = [t.clone().requires_grad_() for t in (query, keys, values)]
    for mine, truth in zip(torch.autograd.grad(loss(*given), given), whole, strict=True):
        torch.testing.assert_close(mine, truth)

    direction = [torch.randn_like(t) for t in (query, keys, values)]
    _, tangent = torch.func.jvp(loss, (query, keys, values), tuple(direction))
    torch.testing.assert_close(tangent, sum((g * d).sum() for g, d in zip(whole, direction, strict=True)))


@pytest.mark.parametrize("mask", [None, (2, 1, 1, 5, 9), (5, 9)])
@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "entmax", "epanechnikov"])
def test_transforms_of_heads_that_share(name, mask):
    """vmap, grad, tangents and a graph, where keys and masks are not repeated for every head."""
    shapes, presence = ((2, 3, 2, 5, 4), (2, 3, 1, 9, 4), (2, 3, 1, 9, 3)), None if mask is None else torch.rand(mask) > 0.3
    given = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    direction = [torch.randn_like(t) for t in given]

    def loss(backend, *tensors):
        return retrieve(ENERGIES[name], *tensors, presence=presence, causal=presence is None, backend=backend).square().sum()

    truth = torch.func.grad(loss, argnums=(1, 2, 3))("reference", *given)
    mine = torch.func.grad(loss, argnums=(1, 2, 3))("chunked", *given)
    torch.testing.assert_close(mine, truth)
    together = torch.func.vmap(lambda *t: torch.func.grad(loss, argnums=(1, 2, 3))("chunked", *t))(*(torch.stack([t, 2 * t]) for t in given))
    torch.testing.assert_close([t[0] for t in together], list(truth))
    _, tangent = torch.func.jvp(lambda *t: loss("chunked", *t), tuple(given), tuple(direction))
    torch.testing.assert_close(tangent, sum((g * d).sum() for g, d in zip(truth, direction, strict=True)))
    if name == "log_sum_exp":
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        leaves = [t.clone().requires_grad_() for t in given]
        torch.testing.assert_close(torch.autograd.grad(compiled("chunked", *leaves), leaves), truth)


@pytest.mark.parametrize("mask", [None, (2, 1, 5, 9), (2, 6, 1, 9)])
def test_opcheck_of_softmax(mask):
    presence = None if mask is None else torch.rand(mask) > 0.3
    given = [torch.randn(2, 6, 5, 4), *(torch.randn(2, 3, 9, d) for d in (4, 3)), presence, None]
    options = presets.softmax1().name, 4, presence is None
    opcheck(operators.softmax, (*given, *options))
    output, value = operators.softmax(*given, *options)
    opcheck(operators.softmax_backward, (torch.randn_like(output), torch.randn_like(value), *given, output, value, *options))


def test_vmap_over_queries_of_one_memory():
    query, keys, _ = tensors()
    energy = presets.entmax()
    mapped = torch.func.vmap(lambda row: retrieve(energy, row, keys[0], backend="chunked"))(query)
    torch.testing.assert_close(mapped, retrieve(energy, query, keys[0], backend="reference"))


@pytest.mark.parametrize("name", ["log_sum_exp", "entmax", "epanechnikov"])
def test_hessian(name):
    query, keys, values = tensors()

    def loss(backend):
        return lambda q: retrieve(ENERGIES[name], q.reshape(1, 4), keys[0], values[0], backend=backend).square().sum()

    flat = query[0, 0]
    torch.testing.assert_close(torch.func.hessian(loss("chunked"))(flat), torch.func.hessian(loss("reference"))(flat))


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "epanechnikov", "gelu_feed_forward"])
def test_compile_fullgraph(name, backend):
    energy = ENERGIES[name]
    given = tensors(requires_grad=True)
    mask = torch.tensor([True] * 7 + [False] * 2)

    def loss(q, k, v):
        return retrieve(energy, q, k, v, presence=mask, steps=2, backend=backend).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for mine, truth in zip(torch.autograd.grad(compiled(*given), given), torch.autograd.grad(loss(*given), given), strict=True):
        torch.testing.assert_close(mine, truth)


@pytest.mark.parametrize("name", ["log_sum_exp", "entmax", "gelu_feed_forward"])
def test_a_derivative_inside_a_compiled_function_is_differentiated_again(name):
    query, keys, _ = tensors(requires_grad=True)
    energy, gates = ENERGIES[name], gated(None, None, True, 0.0, query.device)

    def moved(x):
        return x - torch.func.grad(lambda state: engine(energy, state @ x.mT @ x, keys, gates, backend="chunked").value(state @ x.mT @ x).sum())(x)

    compiled = torch.compile(moved, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(query), moved(query))
    expected, found = (torch.autograd.grad(f(query).square().sum(), (query, keys)) for f in (moved, compiled))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["log_sum_exp", "entmax"])
def test_a_compiled_read_is_streamed_forward_and_backward(name, monkeypatch):
    def full(*_):
        raise AssertionError("a compiled read held full matrices")

    for family in ("chunked", "softmax"):
        monkeypatch.setitem(FAMILIES, family, FAMILIES[family]._replace(definition=full))
    given = tensors(requires_grad=True)
    compiled = torch.compile(lambda q, k, v: retrieve(ENERGIES[name], q, k, v, backend="chunked"), fullgraph=True, backend="aot_eager")
    expected = retrieve(ENERGIES[name], *given, backend="reference")
    torch.testing.assert_close(compiled(*given), expected)
    grads = (torch.autograd.grad(out.square().sum(), given) for out in (compiled(*given), expected))
    torch.testing.assert_close(*grads)


def test_compile_fullgraph_of_a_threshold_and_of_attention_as_a_fixed_point():
    query, keys, values = tensors(requires_grad=True)
    entmax, softmax = presets.entmax(), presets.log_sum_exp()  # specs are made outside of what is compiled
    compiled = torch.compile(lambda q, k, v: retrieve(entmax, q, k, v, backend="chunked"), fullgraph=True, backend="aot_eager")
    mine = torch.autograd.grad(compiled(query, keys, values).square().sum(), query)
    truth = torch.autograd.grad(retrieve(presets.entmax(), query, keys, values).square().sum(), query)
    torch.testing.assert_close(mine, truth)

    layer = HopfieldLookup(4, 9, presets.distance(), values=3).double()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(query), layer(query))

    settle = torch.compile(lambda q, k: FixedPoint(steps=3, tolerance=0.0)(softmax, q, k).state, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(settle(query, keys), retrieve(presets.log_sum_exp(), query, keys, steps=3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", list(ENERGIES))
def test_dtype_ladder(name, dtype):
    """float32 to 1e-5; half types to the rounding of their inputs and of the float32 result."""
    energy = ENERGIES[name]
    given = [t.to(dtype) for t in tensors(torch.float32)]
    truth = retrieve(energy, *(t.double() for t in given))
    for backend in BACKENDS:
        mine = retrieve(energy, *given, backend=backend)
        assert mine.dtype == dtype
        if dtype == torch.float32:
            assert (mine - truth).abs().max() <= 1e-5 * truth.abs().max()
        else:
            torch.testing.assert_close(mine, retrieve(energy, *(t.float() for t in given)).to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_takes_mixed_inputs_and_returns_its_dtype(backend):
    query, keys, values = tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mine = retrieve(presets.distance(), query, keys.bfloat16(), values, backend=backend)
    truth = retrieve(presets.distance(), *(t.bfloat16().float() for t in (query, keys, values)))
    assert mine.dtype == torch.bfloat16
    torch.testing.assert_close(mine, truth.bfloat16(), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_checkpointing(backend):
    given = tensors(requires_grad=True)

    def read(*t):
        return retrieve(presets.softmax1(), *t, steps=2, backend=backend)

    plain = torch.autograd.grad(read(*given).sum(), given)
    kept = torch.autograd.grad(checkpoint(read, *given, use_reentrant=False).sum(), given)
    for mine, truth in zip(kept, plain, strict=True):
        torch.testing.assert_close(mine, truth)


@pytest.mark.parametrize("name", list(ENERGIES))
def test_specs_copy_and_pickle(name):
    energy = ENERGIES[name]
    query, keys, values = tensors()
    for twin in (copy.deepcopy(energy), pickle.loads(pickle.dumps(energy))):
        assert twin == energy and hash(twin) == hash(energy) and str(twin) == str(energy)
        torch.testing.assert_close(retrieve(twin, query, keys, values, backend="chunked"), retrieve(energy, query, keys, values))


def test_a_learned_beta_per_head_gets_its_gradient():
    query, keys, values = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, 9, 9))
    for make in (
        presets.log_sum_exp,
        presets.distance,
        presets.entmax,
        lambda: ReadEnergy(Manhattan(), Exp(), Log()),
        lambda: ReadEnergy(Cosine(), Exp(), Log()),
    ):
        betas = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
        grads = []
        for backend in BACKENDS:
            read = retrieve(make().at(betas), query, keys, values, backend=backend)
            for h, beta in enumerate(betas.tolist()):
                torch.testing.assert_close(read[:, h], retrieve(make().at(beta), query[:, h], keys[:, h], values[:, h]))
            grads.append(torch.autograd.grad(read.square().sum(), betas)[0])
        torch.testing.assert_close(*grads)
        assert grads[0].abs().min() > 0


def test_views_and_expanded_tensors():
    query = torch.randn(4, 2, 5, dtype=torch.float64).mT
    keys, values = torch.randn(9, 8, dtype=torch.float64)[:, ::4].expand(4, 9, 2), torch.randn(3, 9, dtype=torch.float64).T
    for name in SOME:
        truth = retrieve(ENERGIES[name], query.contiguous(), keys.contiguous(), values.contiguous(), backend="reference")
        torch.testing.assert_close(retrieve(ENERGIES[name], query, keys, values, backend="chunked"), truth)
        assert "chunked" in str(explain(ENERGIES[name], query, keys, backend="chunked"))


def cubed(score):
    return torch.nn.functional.softplus(score) ** 3


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_an_energy_of_ones_own_under_checkpoints_and_hooks_on_saved_tensors(backend):
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(n, 4, generator=generator, dtype=torch.float64).requires_grad_() for n in (5, 9)]
    energy = ReadEnergy(Dot(), cubed, Log(), beta=0.3)

    def read(*given):
        return retrieve(energy, *given, steps=2, backend=backend).square().sum()

    plain = torch.autograd.grad(read(*leaves), leaves)
    with torch.autograd.graph.save_on_cpu():
        moved = read(*leaves)
    again = checkpoint(read, *leaves, use_reentrant=False)
    for found in (torch.autograd.grad(again, leaves), torch.autograd.grad(moved, leaves)):
        torch.testing.assert_close(found, plain)
