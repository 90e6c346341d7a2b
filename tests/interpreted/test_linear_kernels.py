"""Kernels of memories with a state of constant size, against the definition in float64: forward and every gradient, in poisoned memory."""

import numpy as np
import pytest
import torch
from conftest import INTERPRETED

from hopfield_amem.kernels.association.definitions import linear as definition
from hopfield_amem.kernels.differentiable import differentiable
from hopfield_amem.kernels.triton import linear_operands
from hopfield_amem.kernels.triton.linear import linear, linear_backward
from hopfield_amem.kernels.triton.linear_operands import Block, Cut

INEXACT = 5e-6  # float32 against float64, relative to the size of the result
SOME = [dict(), dict(decay="channel", erase="separate", group=2), dict(erase="", decay="", write=False, state=False), dict(query=False)]
LESS = [dict(write=False), dict(state=False), dict(write=False, state=False, erase=""), dict(query=False), dict(query=False, erase="")]


@pytest.fixture
def small_chunks(monkeypatch):
    """Interpreted, chunks and blocks are cut small, so that every shape has several and the last one is ragged."""
    if INTERPRETED:
        monkeypatch.setattr(linear_operands, "TABLE", {key: Cut(32, *(Block(16, 16, 4, 1),) * 6) for key in linear_operands.TABLE})


@pytest.fixture
def rounded_to_nearest(monkeypatch):
    """The interpreter cuts bfloat16 off where GPUs round to nearest, which would add up the same error everywhere."""
    if not INTERPRETED:
        return
    import triton.language as tl
    from triton.runtime import interpreter

    original = interpreter._convert_float

    def convert(data, source, target, mode):
        if (source, target) != (tl.float32, tl.bfloat16):
            return original(data, source, target, mode)
        bits = data.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)

    monkeypatch.setattr(interpreter, "_convert_float", convert)


def normal(*shape):
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def memory(rows=45, width=20, columns=9, heads=1, group=1, decay="scalar", erase="tied", write=True, state=True, query=True, key="random"):
    """The tensors of a family call; ``key`` names the keys: "random", "correlated" or "identical"."""
    keys, rate = normal(1, heads, rows, width), 2 * torch.rand(1, heads, rows)
    if key == "correlated":
        keys, rate = torch.nn.functional.normalize(keys + 2 * normal(1, heads, 1, width), dim=-1), torch.full_like(rate, 0.95)
    elif key == "identical":
        keys, rate = keys[:, :, :1].expand(-1, -1, rows, -1), torch.full_like(rate, 2.0)
    falls = {"": None, "scalar": (1,), "channel": (width,)}[decay]
    return {
        "query": torch.randn(1, heads * group, rows, width) / width**0.5 if query else None,
        "keys": keys,
        "values": torch.randn(1, heads, rows, columns),
        "write_rate": torch.rand(1, heads, rows) if write else None,
        "erase_rate": rate if erase else None,
        "erase": normal(1, heads, rows, width) if erase == "separate" else None,
        "decay": None if falls is None else -0.3 * torch.rand(1, heads, rows, *falls) ** 2,
        "state": 0.3 * torch.randn(1, heads, width, columns) if state else None,
    }


def run(call, given, weights):
    """Output, final state, written rows, and all gradients of a weighted sum of them."""
    moving = {name: t for name, t in given.items() if t is not None}
    results = call(*given.values())
    total = sum((result * weight.to(result)).sum() for result, weight in zip(results, weights, strict=True) if weight is not None)
    grads = torch.autograd.grad(total, list(moving.values()), allow_unused=True)
    return dict(zip(("output", "final", "written"), results, strict=True)) | {f"d {name}": g for name, g in zip(moving, grads, strict=True)}


def kernels(*tensors):
    return differentiable("triton linear", (), *tensors)[:3]


def full(*tensors):
    return definition(tensors, ())


def compare(given, device, dtype=torch.float32, rounding=0.0, results=(True, True, True)):
    """Allowed is a share of a result's size and three times the error that the definition itself makes in float32."""
    rounded = {name: t if t is None or name not in ("query", "keys", "values", "erase") else t.to(dtype) for name, t in given.items()}

    def leaves(kind):
        return {name: None if t is None else t.to(device).to(kind or t.dtype).detach().requires_grad_() for name, t in rounded.items()}

    weights = [torch.randn(t.shape, device=device) if wanted else None for t, wanted in zip(full(*leaves(torch.float64).values()), results, strict=True)]
    truth, mine, plain = (run(call, leaves(kind), weights) for call, kind in ((full, torch.float64), (kernels, None), (full, torch.float32)))
    for name, expected in truth.items():
        if expected is None:
            assert mine[name] is None or not mine[name].any(), name
            continue
        came = mine[name].double()
        assert came.isfinite().all(), name
        error, own = (float((t.detach().double() - expected.detach()).norm()) for t in (came, plain[name]))
        allowed = (INEXACT + rounding) * float(expected.detach().norm()) + 3 * own
        assert error <= allowed, f"{name}: {error:.1e} of {float(expected.detach().norm()):.1e}, allowed {allowed:.1e}"


@pytest.mark.parametrize("rows", [0, 1, 17, 63, 100])
@pytest.mark.parametrize("decay", ["", "scalar", "channel"])
@pytest.mark.parametrize("erase", ["", "tied", "separate"])
def test_every_memory(rows, decay, erase, device, small_chunks, poisoned):
    compare(memory(rows, decay=decay, erase=erase, heads=2 if rows == 17 else 1), device)


@pytest.mark.parametrize("decay", ["", "scalar", "channel"])
@pytest.mark.parametrize("key", ["identical", "correlated"])
def test_keys_that_are_hard_to_invert(key, decay, device, poisoned):
    compare(memory(128, key=key, decay=decay), device)


@pytest.mark.parametrize("decay", ["", "scalar", "channel"])
def test_long(decay, device, poisoned):
    compare(memory(300, 16, 16, decay=decay), device)


@pytest.mark.parametrize("decay", ["scalar", "channel"])
@pytest.mark.parametrize("erase", ["", "tied"])
def test_forgetting_everything_and_remembering_all(decay, erase, device, small_chunks, poisoned):
    given = memory(70, decay=decay, erase=erase)
    given["decay"][:, :, [3, 31, 32, 50]] = -1e4
    given["decay"][:, 0, 20:28] = 0.0
    compare(given, device)


@pytest.mark.parametrize("given", LESS)
def test_what_may_be_left_out(given, device, small_chunks, poisoned):
    compare(memory(**given), device)


@pytest.mark.parametrize("results", [(True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("decay", ["scalar", "channel"])
def test_each_result_alone(results, decay, device, small_chunks, poisoned):
    compare(memory(decay=decay), device, results=results)


@pytest.mark.parametrize("decay", ["scalar", "channel"])
@pytest.mark.parametrize("group", [2, 3])
def test_grouped_queries(group, decay, device, small_chunks, poisoned):
    compare(memory(heads=2, group=group, decay=decay), device)


@pytest.mark.parametrize(("width", "columns"), [(1, 1), (1, 33), (16, 40), (65, 8), (256, 16), (16, 256), (130, 100)])
def test_widths(width, columns, device, poisoned):
    compare(memory(19, width, columns, decay="channel" if width > 64 else "scalar"), device)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 1.2e-2), (torch.float16, 1.5e-3)])
@pytest.mark.parametrize("decay", ["", "scalar", "channel"])
@pytest.mark.parametrize("erase", ["", "separate"])
def test_halves(dtype, rounding, decay, erase, device, poisoned, rounded_to_nearest):
    compare(memory(100, 32, 32, decay=decay, erase=erase, group=2), device, dtype, rounding)


def test_strided_tensors(device, small_chunks, poisoned):
    given = memory(45, 16, 16, heads=2, group=2)
    for name in ("query", "keys", "values"):
        given[name] = given[name].transpose(1, 2).contiguous().transpose(1, 2)
    compare(given, device)
    given["keys"], given["values"] = given["keys"].mT.contiguous().mT, given["values"][..., :1].expand(-1, -1, -1, 16)
    compare(given, device)


def test_runs_are_equal(device, small_chunks, poisoned):
    given = {name: None if t is None else t.to(device).requires_grad_() for name, t in memory(heads=2, group=2).items()}
    first, second = (run(kernels, given, [torch.ones((), device=device)] * 3) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first if first[name] is not None)


@pytest.mark.parametrize("given", SOME)
def test_transforms(given, device, small_chunks):
    """Second derivatives, tangents and vmap go through the definition or fold into the batch."""
    torch.manual_seed(3)
    tensors = [None if t is None else t.to(device) for t in memory(9, 4, 3, **given).values()]
    moving = [k for k, t in enumerate(tensors) if t is not None]

    def loss(call):
        def of(*primals):
            filled = list(tensors)
            for k, primal in zip(moving, primals, strict=True):
                filled[k] = primal
            return sum(result.square().sum() for result in call(*filled))

        return of

    primals = tuple(tensors[k] for k in moving)
    tangents = tuple(torch.randn_like(t) for t in primals)
    everything = tuple(range(len(moving)))
    results = []
    for call in (kernels, full):
        tangent = torch.func.jvp(loss(call), primals, tangents)[1]
        second = torch.func.grad(lambda *p: sum(g.square().sum() for g in torch.func.grad(loss(call), everything)(*p)), everything)(*primals)  # noqa: B023
        batched = torch.func.vmap(torch.func.grad(loss(call), everything))(*(torch.stack([t, 0.5 * t]) for t in primals)) if call is kernels else None
        one_by_one = [torch.func.grad(loss(call), everything)(*(scale * t for t in primals)) for scale in (1.0, 0.5)]
        results.append((tangent, *second, *(torch.stack(pair) for pair in zip(*one_by_one, strict=True))))
        for a, b in zip(batched or (), results[-1][-len(moving) :], strict=False):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max().clamp_min(1e-3)))


@pytest.mark.parametrize("given", SOME)
def test_compile_fullgraph(given, device, small_chunks):
    torch._dynamo.reset()
    tensors = {name: None if t is None else t.to(device).requires_grad_() for name, t in memory(17, 8, 4, **given).items()}

    def total(*given):
        return sum(result.square().sum() for result in differentiable("triton linear", (), *given)[:3])

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    wanted = [t for t in tensors.values() if t is not None]
    for a, b in zip(*(torch.autograd.grad(call(*tensors.values()), wanted) for call in (compiled, total)), strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*tensors.values()), total(*tensors.values()))


@pytest.mark.parametrize("given", SOME)
def test_opcheck(given, device, small_chunks):
    tensors = [None if t is None else t.to(device) for t in memory(17, 8, 4, **given).values()]
    torch.library.opcheck(linear, tuple(tensors))
    output, final, written, states = linear(*tensors)
    torch.library.opcheck(linear_backward, (torch.randn_like(output), torch.randn_like(final), None, *tensors, written, states))
