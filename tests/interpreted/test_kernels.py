"""Generated kernels give the numbers of the definition: every energy, gate and shape, forward and every gradient, in poisoned memory."""

import pytest
import torch
from comparison import ALL, INEXACT, compare
from torch.utils._python_dispatch import TorchDispatchMode

from hopfield_amem import ReadEnergy, explain, presets, retrieve
from hopfield_amem.energies import Dot, Euclidean, Exp, Hypercube, Invariant, Log, Power, RectifiedPower, Sum
from hopfield_amem.kernels import Gates, engine
from hopfield_amem.kernels.triton import launch

SOME = ["log_sum_exp", "epanechnikov", "entmax", "softmax1", "relu_feed_forward", "cosine", "own similarity and separation"]


def patterns(queries=37, slots=70, dim=20, columns=9, lead=(2,)):
    scale = 2 / dim**0.5
    return [torch.randn(*lead, n, d) * s for n, d, s in ((queries, dim, scale), (slots, dim, scale), (slots, columns, 1.0))]


@pytest.mark.parametrize("name", ALL)
def test_every_energy(name, device, poisoned):
    query, keys, values = patterns()
    compare(ALL[name], query, keys, values, device=device)
    if not isinstance(ALL[name].confinement, Hypercube) and ALL[name].similarity.inner:
        compare(ALL[name], query, keys, device=device)


def masked(kind, queries, slots):
    if kind == "per slot":
        return torch.arange(slots) % 3 > 0
    if kind == "soft":
        return torch.rand(slots) * (torch.arange(slots) % 3 > 0)
    gate = torch.rand(2, queries, slots) * (torch.rand(2, queries, slots) > 0.4)
    gate[:, 0] = 0
    return gate if kind == "soft per query" else gate > 0


@pytest.mark.parametrize("kind", ["per slot", "soft", "per query", "soft per query"])
@pytest.mark.parametrize("name", SOME)
def test_presence(name, kind, device, poisoned):
    query, keys, values = patterns(17, 45)
    compare(ALL[name], query, keys, values, presence=masked(kind, 17, 45), device=device)


@pytest.mark.parametrize("causal", [True, 1, 7, 33])
@pytest.mark.parametrize("name", SOME)
def test_causal_and_windows(name, causal, device, poisoned):
    query, keys, values = patterns(63, 63)
    compare(ALL[name], query, keys, values, causal=causal, device=device)
    compare(ALL[name], query[..., :40, :], keys, values, presence=torch.arange(63) > 2, causal=causal, device=device)


@pytest.mark.parametrize("name", [*SOME, "distance", "entmax3"])
def test_bias(name, device, poisoned):
    query, keys, values = patterns(17, 45)
    compare(ALL[name], query, keys, values, bias=0.3 * torch.randn(45), device=device)
    compare(ALL[name], query, keys, values, bias=0.3 * torch.randn(2, 45), causal=True, device=device)


@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "epanechnikov", "entmax", "squared_relu_feed_forward"])
def test_dropout_keeps_the_same_weights_as_the_definition(name, device, poisoned):
    query, keys, values = patterns(17, 45)
    compare(ALL[name], query, keys, values, dropout=0.3, device=device)
    if name == "distance":
        compare(ALL[name], query, keys, dropout=0.3, device=device)
    kept = retrieve(presets.linear_attention(), torch.ones(4, 1, device=device), torch.ones(4000, 1, device=device), dropout=0.25, backend="triton")
    torch.testing.assert_close(kept, torch.full_like(kept, 4000.0), rtol=0.1, atol=0)
    assert kept.unique().numel() > 1


@pytest.mark.parametrize("queries", [0, 1, 17, 63, 100])
@pytest.mark.parametrize("slots", [0, 1, 17, 63, 100])
def test_ugly_sizes(queries, slots, device, poisoned):
    query, keys, values = patterns(queries, slots, 17, 33)
    for name in ("log_sum_exp", "epanechnikov", "sparsemax"):
        compare(ALL[name], query, keys, values, device=device)


@pytest.mark.parametrize(("dim", "columns"), [(1, 1), (16, 48), (64, 17), (100, 130), (256, 16), (24, 256)])
def test_widths(dim, columns, device, poisoned):
    query, keys, values = patterns(20, 40, dim, columns, lead=())
    compare(ALL["log_sum_exp"], query, keys, values, device=device)
    compare(ALL["own separation"], query, keys, values, device=device)


def test_grouped_heads_share_their_memory(device, poisoned):
    query, keys, values = torch.randn(2, 3, 4, 21, 8), torch.randn(2, 3, 1, 33, 8), torch.randn(2, 3, 1, 33, 5)
    for options in ({}, {"causal": True}, {"presence": torch.rand(2, 1, 1, 1, 33) > 0.3}):
        compare(presets.log_sum_exp(0.5), query, keys, values, device=device, **options)
    compare(ALL["epanechnikov"], query, keys, values, causal=True, device=device)
    compare(presets.distance(0.5), query, keys, values, causal=True, bias=torch.randn(2, 1, 4, 33), device=device)


def test_one_memory_serves_every_query_and_strides_are_followed(device, poisoned):
    query, keys, values = torch.randn(3, 5, 4, 8), torch.randn(30, 8), torch.randn(30, 6)
    compare(presets.distance(0.5), query, keys, values, device=device)
    compare(presets.distance(0.5), query, keys, values, causal=True, device=device)
    compare(presets.log_sum_exp(), query.transpose(1, 2), keys.expand(3, 1, 30, 8), values[None, None], device=device)
    compare(presets.log_sum_exp(), query.transpose(-1, -2).contiguous().transpose(-1, -2), keys[::2], values.flip(0)[::2], device=device)


@pytest.mark.parametrize("name", SOME)
def test_learned_beta_per_head(name, device, poisoned):
    query, keys, values = patterns(9, 30, lead=(3, 2))
    results = []
    for backend, dtype in (("reference", torch.float64), ("triton", torch.float32)):
        beta = torch.tensor([0.5, 0.8], dtype=dtype, device=device, requires_grad=True)
        output = retrieve(ALL[name].at(beta), *(t.to(device, dtype) for t in (query, keys, values)), backend=backend)
        (grad,) = torch.autograd.grad(output.square().sum(), beta)
        results.append(grad)
    torch.testing.assert_close(results[1].double(), results[0], rtol=2e-5, atol=1e-4)  # a sum over all queries


@pytest.mark.parametrize("name", ALL)
def test_energy_value_and_its_gradient(name, device, poisoned):
    query, keys, _ = patterns(9, 50)
    results = []
    for backend, dtype in (("reference", torch.float64), ("triton", torch.float32)):
        q, k = (t.to(device, dtype).requires_grad_() for t in (query, keys))
        value = engine(ALL[name], q, k, backend=backend).energy(q)
        results.append([value, *torch.autograd.grad(value.sum(), (q, k))])
    for mine, truth in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(mine.double(), truth, rtol=2e-5, atol=1e-5 * float(truth.detach().abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "epanechnikov", "entmax", "relu_feed_forward", "gelu_feed_forward", "cosine", "own separation"])
def test_half_precision_rounds_like_itself(name, dtype, device, poisoned):
    """Against float64 on the same rounded inputs: no worse than a few roundings of the output's own kind."""
    query, keys, values = patterns(33, 64, 16, 16)
    compare(ALL[name].at(0.5 * ALL[name].beta), query, keys, values, device=device, dtype=dtype, inexact=3 * torch.finfo(dtype).eps, learned=False)


@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "squared_relu_feed_forward", "epanechnikov", "softmax1", "entmax"])
def test_splits_merge_exactly(name, device, poisoned, monkeypatch):
    from hopfield_amem.kernels.triton import launch

    monkeypatch.setattr(launch, "processors", lambda device: 6)
    query, keys, values = patterns(5, 1000)
    compare(ALL[name].at(0.3 * ALL[name].beta), query, keys, values, device=device)
    compare(ALL[name].at(0.3 * ALL[name].beta), query, keys, values, presence=torch.arange(1000) > 300, device=device)


@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "entmax", "epanechnikov"])
def test_many_steps(name, steps, device, poisoned):
    query, keys, values = patterns(9, 40, 8, 8)
    compare(ALL[name].at(0.3 * ALL[name].beta), query, keys, values, steps=steps, device=device, inexact=5 * INEXACT)
    compare(ALL[name].at(0.3 * ALL[name].beta), query, keys, steps=steps, device=device, inexact=5 * INEXACT)


@pytest.mark.parametrize("name", SOME)
def test_extremes(name, device, poisoned):
    query, keys = torch.randn(5, 8, device=device), torch.randn(40, 8, device=device)
    energy = ALL[name]
    for scale in (1e-4, 1.0, 1e3):
        read = retrieve(energy, scale * query, scale * keys, torch.eye(40, device=device), backend="triton")
        assert read.isfinite().all()
        if energy.scaling.normalised(energy.separation):
            cold = retrieve(energy.at(1e8), scale * query, scale * keys, torch.eye(40, device=device), backend="triton")
            torch.testing.assert_close(cold.sum(-1), torch.ones(5, device=device))


def test_a_row_that_sees_nothing_reads_zeros_without_gradient(device, poisoned):
    for energy in (presets.log_sum_exp(), presets.entmax(), presets.epanechnikov(), presets.relu_feed_forward()):
        query, keys, values = (t.to(device).requires_grad_() for t in patterns(6, 20, lead=()))
        presence = torch.zeros(6, 20, dtype=torch.bool, device=device)
        read = retrieve(energy, query, keys, values, presence=presence, backend="triton")
        assert torch.equal(read, torch.zeros_like(read))
        for grad in torch.autograd.grad(read.sum(), (query, keys, values)):
            assert torch.equal(grad, torch.zeros_like(grad))


def test_an_own_separation_goes_from_spec_to_kernel_to_gradient(device):
    energy = ReadEnergy(Dot(), lambda s: torch.where(s > 0, s + s.square() / 2, torch.expm1(s)) + 1, Sum(), beta=0.7)
    query, keys, values = patterns(11, 30)
    compare(energy, query, keys, values, device=device)
    assert "expm1" in str(explain(energy, query.to(device), keys.to(device), backend="triton"))


def test_wide_values_are_read_in_parts_and_wide_patterns_refused(device):
    query, keys, values = (t.to(device) for t in patterns(5, 40, 16, 300, lead=()))
    truth = retrieve(presets.distance(0.5), query, keys, values, backend="reference")
    torch.testing.assert_close(retrieve(presets.distance(0.5), query, keys, values, backend="triton"), truth, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="up to 256 wide"):
        retrieve(presets.distance(0.5), torch.randn(2, 300, device=device), torch.randn(3, 300, device=device), backend="triton")


def test_nan_is_not_hidden(device):
    query, keys, values = (t.to(device) for t in patterns(5, 40, lead=()))
    keys[3, 2] = torch.nan
    for energy in (presets.log_sum_exp(), ReadEnergy(Euclidean(), Exp(), Log()), ReadEnergy(Dot(), RectifiedPower(3), Sum())):
        if device == "cpu":
            with pytest.raises(ValueError, match="keys holds NaN"):
                retrieve(energy, query, keys, values, backend="triton")
        else:
            assert retrieve(energy, query, keys, values, backend="triton").isnan().any()


class Asked(TorchDispatchMode):
    """What asks the host for a value, which would interrupt a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal"), name
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "epanechnikov", "entmax", "cosine"])
def test_no_step_asks_the_host(name, device):
    query, keys, _ = (t.to(device) for t in patterns(9, 40))
    read = engine(ALL[name], query, keys, Gates(torch.arange(40, device=device) > 3, reach=20), backend="triton")
    with Asked():
        state = read.settle(read.settle(query))
        read.energy(state)
    assert state.isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("name", ["log_sum_exp", "entmax"])
def test_many_steps_are_captured_in_a_graph(name, device):
    query, keys, _ = (t.to(device) for t in patterns(64, 256, 64))
    expected = retrieve(ALL[name], query, keys, steps=4, backend="triton")  # compiles and tunes
    graph, fixed = torch.cuda.CUDAGraph(), query.clone()
    with torch.cuda.graph(graph):
        state = retrieve(ALL[name], fixed, keys, steps=4, backend="triton")
    graph.replay()
    torch.testing.assert_close(state, expected)


@pytest.mark.parametrize("causal", [33, 35, 39, 40])
@pytest.mark.parametrize("name", ["log_sum_exp", "epanechnikov"])
def test_windows_between_slots_and_queries(name, causal, device, poisoned):
    query, keys, values = patterns(40, 33)
    compare(ALL[name], query, keys, values, causal=causal, device=device)


def test_queries_far_from_every_slot(device, poisoned):
    """A row term of 4e6 must not drown the weights."""
    query, keys, values = (t.to(device) for t in patterns(7, 40, 8, 5, lead=()))
    values.requires_grad_()
    read = retrieve(presets.distance(1.0), query + 3000, keys, values, backend="triton")
    (grad,) = torch.autograd.grad(read.sum(), values)
    torch.testing.assert_close(grad.sum(), torch.tensor(35.0, device=device), rtol=1e-3, atol=0)


def test_weights_beyond_float16(device):
    energy = ReadEnergy(Dot(), RectifiedPower(3), Sum(), beta=1e-3)
    query, keys, values = (t.to(device).half() for t in (4 * torch.randn(9, 64), 4 * torch.randn(40, 64), torch.randn(40, 8)))
    truth = retrieve(energy, query.float(), keys.float(), values.float(), backend="reference")
    torch.testing.assert_close(retrieve(energy, query, keys, values, backend="triton").float(), truth, rtol=3e-3, atol=3e-3 * float(truth.abs().max()))
    steep = ReadEnergy(Euclidean(), lambda s: (1 - s) ** -3, Log())
    query, keys = (torch.randn(9, 64, device=device) + 4).half(), torch.randn(40, 64, device=device).half()
    truth = retrieve(steep, query.float(), keys.float(), values.float(), backend="reference")
    torch.testing.assert_close(retrieve(steep, query, keys, values, backend="triton").float(), truth, rtol=1e-2, atol=3e-3)


@pytest.mark.parametrize(
    "energy",
    [
        ReadEnergy(Dot(), lambda s: s.clamp(-50, 50) ** 2, Sum(), beta=20.0),
        ReadEnergy(Dot(), Power(20), Sum(), beta=0.2),
        ReadEnergy(Dot(), Power(18), Log(), beta=0.2),
        ReadEnergy(Dot(), lambda s: 2.0**s + torch.sqrt(s.square() + 1), Sum()),
        ReadEnergy(Invariant(lambda p, xx, kk: p * (4 - xx)), RectifiedPower(2), Sum()),
        ReadEnergy(Invariant(lambda p, xx, kk: p * (1 - xx)), Exp(), Log()),
        ReadEnergy(Invariant(lambda p, xx, kk: p * torch.relu(4 - xx)), Exp(), Log()),
        ReadEnergy(Invariant(lambda p, xx, kk: p * torch.rsqrt(1 + xx) - kk / 2), Exp(), Log()),
    ],
    ids=str,
)
def test_what_folds_only_almost(energy, device, poisoned):
    query, keys, values = patterns(13, 45)
    compare(energy, query, keys, values, device=device, inexact=1e-5)


def test_a_deleted_slot_may_hold_anything_finite(device):
    query, keys, values = (t.to(device) for t in patterns(9, 40, lead=()))
    keys[3] = 1e25
    keys.requires_grad_()
    read = retrieve(ALL["cosine"], query, keys, values, presence=torch.arange(40, device=device) != 3, backend="triton")
    assert torch.autograd.grad(read.sum(), keys)[0].isfinite().all()


def test_an_extreme_temperature_is_refused(device):
    with pytest.raises(ValueError, match="β must lie between"):
        retrieve(presets.log_sum_exp(1e60), torch.randn(3, 4, device=device), torch.randn(5, 4, device=device), backend="triton")


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("splits", [1, 3])
def test_small_sums_count_as_in_the_definition(splits, null, device, monkeypatch):
    """ΣF of e⁻⁷⁷ is read, one of e⁻⁸³ is none, one that overflows is NaN."""
    monkeypatch.setattr(launch, "_splits", lambda *_: splits)
    energy = ReadEnergy(Dot(), Power(4), Log(null_slot=null))
    query = torch.tensor([-77.0, -83.0, 100.0]).div(4).exp()[:, None] * torch.ones(3, 4) / 4
    found = {}
    for backend, kind in (("reference", torch.float32), ("triton", torch.float32), ("reference", torch.float64)):
        given = [t.to(device, kind).requires_grad_() for t in (query, torch.ones(5, 4), torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))]
        bound = engine(energy, *given[:2], backend=backend)
        gradients = torch.autograd.grad(bound.read(given[0][:1], given[2]).sum() + bound.value(given[0][:1]).sum(), given)
        found[backend, kind] = bound.read(given[0], given[2]), bound.value(given[0]), *gradients
    (output, value, *gradients), exact = found["triton", torch.float32], found["reference", torch.float64][2:]
    torch.testing.assert_close((output, value), found["reference", torch.float32][:2], rtol=1e-4, atol=1e-5, equal_nan=True)
    assert output[2].isnan().all() and value[2].isnan() and bool(output[0].any())
    assert null or (not output[1].any() and value[1] == -torch.inf)
    for mine, truth in zip(gradients, exact, strict=True):
        torch.testing.assert_close(mine.double(), truth, rtol=1e-3, atol=1e-5)
