"""Reads whose queries stand at the end of the slots, and slots that decay: kernels against the definition in float64, levels' gradient included."""

import pytest
import torch
from comparison import ALL, INEXACT

from hopfield_amem.kernels.gates import EVERYTHING, Gates
from hopfield_amem.kernels.reference import Reference
from hopfield_amem.kernels.triton.backend import Kernels

SOME = ["log_sum_exp", "softmax1", "distance", "epanechnikov", "entmax", "linear_attention", "squared_relu_feed_forward", "own similarity and separation"]


def patterns(queries, slots, dim=12, columns=9, decay=0.3):
    shapes = (2, queries, dim), (2, slots, dim), (2, slots, columns)
    level = -(decay * torch.rand(2, slots, dtype=torch.float64)).cumsum(-1) if decay else None
    return [torch.randn(shape) * (0.5 if k < 2 else 1.0) for k, shape in enumerate(shapes)], level


def judged(energy, tensors, level, device, reach=EVERYTHING, offset=0, presence=None, dtype=torch.float32):
    results = []
    for kind, backend in ((torch.float64, Reference), (dtype, Kernels), (torch.float32, Reference)):
        given = [t.to(dtype).to(kind).to(device).detach().clone().requires_grad_() for t in tensors]
        levels = None if level is None else level.to(device).clone().requires_grad_()
        gates = Gates(None if presence is None else presence.to(device), None, reach, offset=offset, level=levels)
        output = backend(energy, given[1], gates).read(given[0], given[2])
        weight = torch.linspace(0.5, 1.5, output.numel(), device=device).view_as(output).to(output.dtype)
        wanted = [*given, *([] if levels is None else [levels])]
        grads = torch.autograd.grad((output * weight).sum(), wanted, allow_unused=True)
        results.append([output.detach(), *(torch.zeros_like(t) if g is None else g for g, t in zip(grads, wanted, strict=True))])
    inexact = INEXACT if dtype == torch.float32 else 6 * torch.finfo(dtype).eps
    terms = 0.3 * float(tensors[2].norm())
    for name, expected, came, plain in zip(("output", "query", "keys", "values", "level"), *results, strict=False):
        error, own = float((came.double() - expected).norm()), float((plain.double() - expected).norm())
        assert came.isfinite().all(), name
        assert error <= inexact * (float(expected.norm()) + terms) + 3 * own, f"{name}: {error:.1e} of {float(expected.norm()):.1e}, own {own:.1e}"


@pytest.mark.parametrize(("queries", "slots"), [(1, 40), (17, 45), (63, 100)])
@pytest.mark.parametrize("name", SOME)
def test_queries_behind_a_cache(name, queries, slots, device, poisoned):
    tensors, _ = patterns(queries, slots)
    judged(ALL[name], tensors, None, device, offset=slots - queries)
    judged(ALL[name], tensors, None, device, offset=slots - queries, reach=7, presence=torch.arange(slots) % 3 > 0)


@pytest.mark.parametrize("reach", [EVERYTHING, 9])
@pytest.mark.parametrize("name", SOME)
def test_decay(name, reach, device, poisoned):
    tensors, level = patterns(45, 45)
    judged(ALL[name], tensors, level, device, reach)
    tensors, level = patterns(33, 70)
    judged(ALL[name], tensors, level - 3000.0, device, reach, offset=37, presence=torch.rand(70) > 0.3)


@pytest.mark.parametrize("name", ["log_sum_exp", "epanechnikov", "linear_attention"])
def test_decay_with_soft_presence_and_in_halves(name, device, poisoned):
    tensors, level = patterns(33, 40)
    judged(ALL[name], tensors, level, device, offset=7, presence=torch.rand(40) * (torch.rand(40) > 0.3))
    judged(ALL[name], tensors, level, device, offset=7, dtype=torch.bfloat16)


@pytest.mark.parametrize("name", ["log_sum_exp", "linear_attention"])
def test_a_strict_past_leaves_the_first_query_nothing(name, device, poisoned):
    (query, keys, values), _ = patterns(33, 33)
    query, keys, values = (t.to(device) for t in (query, keys, values))
    read = Kernels(ALL[name], keys, Gates(reach=EVERYTHING, offset=-1)).read(query, values)
    expected = Reference(ALL[name], keys, Gates(reach=EVERYTHING, offset=-1)).read(query, values)
    assert (read[:, 0] == 0).all()
    torch.testing.assert_close(read, expected, rtol=1e-4, atol=1e-5)
