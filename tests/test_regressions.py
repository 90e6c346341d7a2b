"""Defects that were found once, each with the smallest case that showed it."""

import pytest
import torch
from torch import nn

from hopfield_amem import ReadEnergy, explain, presets, retrieve
from hopfield_amem.descent import FixedPoint, Flow
from hopfield_amem.energies import Cosine, Dot, Elementwise, Euclidean, Exp, Hypercube, Log, Manhattan, Separation, Silu, Sphere, Sum, Tsallis
from hopfield_amem.kernels import nearest
from hopfield_amem.layers import HopfieldLookup
from hopfield_amem.storage import load_memory, save_memory
from hopfield_amem.testing import check_energy

BACKENDS = ["reference", "chunked"]
close = torch.testing.assert_close


@pytest.fixture
def qkv():
    return torch.randn(2, 4), torch.randn(5, 4), torch.randn(5, 3)


def test_parameters_inside_a_users_function_are_never_constant_in_silence(qkv):
    query, keys, values = qkv
    inside = nn.Parameter(torch.eye(4))
    for energy in (ReadEnergy(lambda x, m: x @ inside @ m.mT, Exp(), Log()), ReadEnergy(Dot(), lambda s: torch.exp(inside.sum() * s / 8), Log())):
        assert "learned parameters" in str(explain(energy, query.expand(500, 2, 4), keys.expand(500, 5, 4)))
        (gradient,) = torch.autograd.grad(retrieve(energy, query, keys, values).sum(), inside)
        assert gradient.abs().max() > 0
        with pytest.raises(ValueError, match="no gradient to the parameters inside"):
            retrieve(energy, query, keys, values, backend="chunked")
        with torch.no_grad():
            close(retrieve(energy, query, keys, values, backend="chunked"), retrieve(energy, query, keys, values))
    with pytest.raises(ValueError, match="adjoint cannot see"):
        Flow(method="rk4", options={"adjoint": True})(lambda x, m: (x @ inside).square().sum(-1), query, keys)


def test_an_implicit_gradient_refuses_second_derivatives_and_func():
    keys, query = torch.randn(5, 3, requires_grad=True), torch.randn(2, 3)
    descent = FixedPoint(gradient="implicit", tolerance=1e-6)
    state = descent(presets.log_sum_exp(), query, keys).state
    with pytest.raises(ValueError, match="first derivatives only"):
        torch.autograd.grad(state.square().sum(), keys, create_graph=True)
    with pytest.raises(ValueError, match="autograd only"):
        torch.func.grad(lambda k: descent(presets.log_sum_exp(), query, k).state.sum())(keys.detach())


def test_an_implicit_gradient_ignores_rows_that_no_slot_acts_on():
    keys, query = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.randn(2, 3, dtype=torch.float64)
    gate = torch.tensor([[True] * 5, [False] * 5])
    grads = []
    for gradient in ("recompute", "implicit"):
        state = FixedPoint(steps=500, tolerance=1e-13, gradient=gradient)(presets.distance(3.0), query, keys, presence=gate).state
        grads.append(torch.autograd.grad(state.sum(), keys)[0])
    close(*grads)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("beta", [1e6, 1e8, 1e10])
def test_cold_sparse_reads_of_many_slots_in_float32(backend, beta):
    query, keys = torch.randn(2, 4), torch.randn(300, 4)
    for make in (presets.sparsemax, lambda b: presets.entmax(1.5, b)):
        close(retrieve(make(beta), query, keys, backend=backend), keys[nearest(make(beta), query, keys)[1].squeeze(-1)])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("far", [1e5, 1e7])
def test_a_deleted_future_or_outlying_slot_does_not_blur_distances(qkv, backend, far):
    query, keys, _ = qkv
    more, energy = torch.cat([keys, torch.full((1, 4), far)]), presets.distance(2.0)
    gate = torch.arange(6) < 5
    close(retrieve(energy, query, more, presence=gate, backend=backend), retrieve(energy, query, keys))
    close(retrieve(energy, query, more, backend=backend), retrieve(energy, query, keys))
    close(retrieve(energy, query, more, causal=True, backend=backend), retrieve(energy, query, keys, causal=True))


@pytest.mark.parametrize("energy", [presets.log_sum_exp(5.0), presets.sparsemax(2.0)])
def test_the_error_bound_knows_faded_slots(energy):
    keys = torch.eye(4)
    result = FixedPoint(steps=1)(energy, keys[:1], keys, presence=torch.tensor([1e-6, 1, 1, 1]))
    assert (retrieve(energy, keys[:1], keys, presence=torch.tensor([1e-6, 1, 1, 1])) - keys[:1]).norm() <= result.bound


HOLDS_NAN = {
    "distance": presets.distance(),
    "sphere": ReadEnergy(Dot(), Exp(), Log(), Sphere()),
    "cube": ReadEnergy(Euclidean(), Exp(), Log(), Hypercube()),
    "cosine": ReadEnergy(Cosine(), Exp(), Log()),
    "manhattan": ReadEnergy(Manhattan(), Exp(), Log()),
    "user": ReadEnergy(Euclidean(), lambda s: (1 - s) ** -2, Log()),
    "threshold": ReadEnergy(Dot(), Tsallis(1.5)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", HOLDS_NAN)
def test_nan_never_passes_for_an_empty_memory(qkv, name, backend):
    query, keys, values = qkv
    keys[1, 2] = torch.nan
    with pytest.raises(ValueError, match="keys holds NaN"):
        retrieve(HOLDS_NAN[name], query, keys, backend=backend)
    with pytest.raises(ValueError, match="keys holds NaN"):
        retrieve(HOLDS_NAN[name], query, keys, values, backend=backend)
    with pytest.raises(ValueError, match="keys holds NaN"):
        FixedPoint()(HOLDS_NAN[name], query, keys, backend=backend)


def test_storing_in_a_layer_checks_its_pairs(qkv):
    _, keys, values = qkv
    with pytest.raises(ValueError, match="Every key needs one value"):
        HopfieldLookup.store(presets.distance(), keys, values[:1])
    with pytest.raises(ValueError, match=r"patterns \(n, d\)"):
        HopfieldLookup.store(presets.distance(), keys[0])
    with pytest.raises(ValueError, match="beta is a number"):
        HopfieldLookup(4, 5, presets.distance().at(torch.tensor([1.0, 2.0])))
    with pytest.raises(ValueError, match="beta is a number"):
        check_energy(presets.distance().at(torch.tensor(1.0)))
    assert HopfieldLookup(4, 5, presets.distance(), values=3)(torch.zeros(0, 4)).shape == (0, 3)
    assert HopfieldLookup(64, 5, presets.distance()).half().energy((50 * torch.randn(2, 64)).half()).isfinite().all()


def test_distances_refuse_falling_separations():
    for separation in (Silu(), lambda s: s * s):
        with pytest.raises(ValueError, match="increasing F"):
            ReadEnergy(Euclidean(), separation, Sum())


def test_an_unhashable_part_is_named():
    class Mutable(Separation):
        __hash__ = None

        def __call__(self, score):
            return score.exp()

    with pytest.raises(ValueError, match=r"dataclass\(frozen=True\)"):
        ReadEnergy(Dot(), Mutable(), Log())


def test_autocast_leaves_float64_alone(qkv):
    query, keys, values = (t.double() for t in qkv)
    with torch.autocast("cpu", torch.bfloat16):
        assert retrieve(presets.distance(), query, keys, values).dtype == torch.float64


@pytest.mark.parametrize("backend", BACKENDS)
def test_odd_shapes_and_dtypes(qkv, backend):
    query, keys, values = qkv
    betas = torch.tensor([0.5, 1.0])
    for energy in (ReadEnergy(Manhattan(), Exp(), Log()), ReadEnergy(lambda x, k: x @ k.mT, Exp())):
        read = retrieve(energy.at(betas), query.expand(3, 1, 2, 4), keys.expand(3, 2, 5, 4), values, backend=backend)
        close(read[:, 1], retrieve(energy, query, keys, values).expand(3, 2, 3))
    assert retrieve(presets.sparsemax(), torch.zeros(0, 4), torch.randn(300, 4), backend=backend).shape == (0, 4)
    assert torch.func.vmap(lambda q: retrieve(presets.entmax(), q, keys, backend=backend))(torch.zeros(3, 0, 4)).shape == (3, 0, 4)
    double = torch.rand(5, dtype=torch.float64)
    close(retrieve(presets.log_sum_exp(), query, keys, presence=double, backend=backend), retrieve(presets.log_sum_exp(), query, keys, presence=double.float()))
    close(
        retrieve(presets.distance().at(torch.tensor([2.0]).double()), query.expand(1, 2, 4), keys, backend=backend)[0],
        retrieve(presets.distance(2.0), query, keys),
    )
    many = retrieve(ReadEnergy(Manhattan(), Exp(), Log()), torch.randn(60, 1, 4), keys, presence=torch.rand(60, 1, 5) > 0.3, backend=backend)
    assert many.shape == (60, 1, 4)


def test_the_bottom_of_an_energy_is_judged_by_the_slots_that_are_there():
    query, keys = torch.randn(2, 4), torch.cat([0.1 * torch.randn(5, 4), torch.full((1, 4), 100.0)])
    assert FixedPoint()(presets.linear_attention(), query, keys, presence=torch.arange(6) < 5).converged.all()
    heads = torch.stack([0.1 * torch.randn(5, 4), 100 * torch.randn(5, 4)])
    assert FixedPoint()(presets.linear_attention().at(torch.tensor([1.0, 1e-6])), query, heads).converged.all()
    with pytest.raises(ValueError, match="count, width"):
        FixedPoint()(presets.linear_attention(), query, keys[0])


def test_auto_counts_every_leading_dimension():
    assert explain(presets.log_sum_exp(), torch.randn(64, 8), torch.empty(4096, 64, 8)).backend == "chunked"


def test_saved_files_have_ordinary_rights_and_one_presence_per_slot(qkv, tmp_path):
    _, keys, values = qkv
    save_memory(tmp_path / "m", presets.distance(), keys, values)
    (tmp_path / "plain").touch()
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert torch.equal(load_memory(tmp_path / "m").keys, keys)
    with pytest.raises(ValueError, match="does not broadcast"):
        save_memory(tmp_path / "m", presets.distance(), keys, presence=torch.ones(7, 5))
    with pytest.raises(ValueError, match="shape"):
        save_memory(tmp_path / "m", presets.distance(), keys[0])


def test_time_and_temperature_are_finite(qkv):
    with pytest.raises(ValueError, match="finite"):
        Flow(time=float("inf"))
    with pytest.raises(ValueError, match="finite"):
        retrieve(presets.distance().at(torch.tensor(float("inf"))), *qkv)


def test_a_causal_row_beyond_the_slots_that_sees_nothing_stays():
    query, keys = torch.randn(17, 8, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)
    presence = torch.zeros(17, 5, dtype=torch.bool)
    presence[:3] = True
    for causal in (True, 35):
        mine, truth = (retrieve(presets.distance(1.0), query, keys, presence=presence, causal=causal, backend=b) for b in ("chunked", "reference"))
        torch.testing.assert_close(mine, truth, rtol=1e-11, atol=1e-11)


def test_dropout_is_drawn_for_the_values_leading_dimensions_too():
    query, keys, values = torch.randn(7, 8), torch.randn(40, 8), torch.randn(3, 40, 5)
    drawn = []
    for backend in ("chunked", "reference"):
        torch.manual_seed(4)
        drawn.append(retrieve(presets.log_sum_exp(), query, keys, values, dropout=0.3, backend=backend))
    torch.testing.assert_close(*drawn, rtol=1e-4, atol=1e-5)


def test_medians_take_a_temperature_per_head():
    query, keys = torch.randn(2, 7, 3), torch.randn(2, 40, 3)
    energy = ReadEnergy(Manhattan(), Exp(), Log(), beta=torch.tensor([0.5, 1.0]))
    mine, truth = (retrieve(energy, query, keys, backend=b) for b in ("chunked", "reference"))
    torch.testing.assert_close(mine, truth)


def test_leaves_are_made_by_many_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    from hopfield_amem.kernels.compiler import leaves

    separations = [Elementwise(lambda s, k=k: s.relu() ** 2 + k * s) for k in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(leaves, separations * 6))
    assert all(leaf is not None and hasattr(leaf, "curvature") for leaf in made)


def test_exported_reads_keep_derived_slopes_and_serve_any_number_of_queries():
    class Read(nn.Module):
        def __init__(self, energy):
            super().__init__()
            self.energy, self.keys = energy, nn.Parameter(torch.randn(5, 4, dtype=torch.float64))

        def forward(self, query):
            return retrieve(self.energy, query, self.keys)

    query = torch.randn(3, 4, dtype=torch.float64)
    own = Read(ReadEnergy(Dot(), lambda s: nn.functional.softplus(s) ** 2, Sum()))
    close(torch.export.export(own, (query,)).module()(2 * query), own(2 * query))  # the slope was a constant, and fake
    known = Read(presets.log_sum_exp())
    exported = torch.export.export(known, (query,), dynamic_shapes=({0: torch.export.Dim("queries", min=2, max=99)},)).module()
    more = torch.randn(7, 4, dtype=torch.float64)
    close(exported(more), known(more))  # the number of scores was written with a format that symbols do not have
