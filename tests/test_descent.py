"""Descents: where they end, when they stop, what they certify, and their gradients."""

import pytest
import torch
from torch import nn

from hopfield_amem import ENERGIES, ReadEnergy, presets, retrieve
from hopfield_amem.descent import FixedPoint, Flow, GradientDescent
from hopfield_amem.energies import Cosine, Dot, Exp, Log, Manhattan, Sphere

close = torch.testing.assert_close
SMOOTH = {
    "log_sum_exp": presets.log_sum_exp(12.0),
    "distance": presets.distance(12.0),
    "entmax": presets.entmax(1.5, 12.0),
    "cosine": ReadEnergy(Cosine(), Exp(), Log(), beta=12.0),
}


@pytest.fixture
def memory():
    keys = nn.functional.normalize(torch.randn(30, 12, dtype=torch.float64), dim=-1)
    return keys[:5] + 0.05 * torch.randn(5, 12, dtype=torch.float64), keys


@pytest.mark.parametrize("name", SMOOTH)
def test_all_descents_reach_the_same_minimum(memory, name):
    query, keys = memory
    energy = SMOOTH[name]
    settled = FixedPoint(steps=500, tolerance=1e-12)(energy, query, keys)
    walked = GradientDescent(step_size=0.5, steps=2000, tolerance=1e-12)(energy, query, keys)
    flowed = Flow(time=40.0, options={"rtol": 1e-9, "atol": 1e-9})(energy, query, keys)
    marched = Flow(time=40.0, method="rk4", options={"options": {"step_size": 0.1}})(energy, query, keys)
    for other in (walked, flowed, marched):
        assert other.converged.all()
        close(other.state, settled.state, rtol=0, atol=1e-6)
        close(other.energy, settled.energy, rtol=0, atol=1e-6)
    close(energy(settled.state, keys), settled.energy)


@pytest.mark.parametrize("name", [n for n, e in ENERGIES.items() if e.monotone])
def test_recorded_energies_never_rise(memory, name):
    query, keys = memory
    energy = (
        ENERGIES[name]
        if ENERGIES[name].scaling != presets.relu_feed_forward().scaling
        else ReadEnergy(Dot(), ENERGIES[name].separation, ENERGIES[name].scaling, Sphere())
    )
    result = FixedPoint(steps=20, record=True)(energy, query, keys)
    assert result.trajectory.shape[0] == result.energies.shape[0] == int(result.steps.max()) + 1
    finite = result.energies.isfinite().all(0)
    assert (result.energies.diff(dim=0)[:, finite] <= 1e-10).all()
    close(result.trajectory[0], query)
    close(result.trajectory[-1], result.state)


def test_attention_is_one_step(memory):
    query, keys = memory
    close(FixedPoint(steps=1)(presets.log_sum_exp(3.0), query, keys).state, torch.softmax(3 * query @ keys.T, -1) @ keys)
    close(GradientDescent(step_size=1.0, steps=1)(presets.log_sum_exp(3.0), query, keys).state, torch.softmax(3 * query @ keys.T, -1) @ keys)


@pytest.mark.parametrize("descent", [FixedPoint(), GradientDescent(), Flow(method="rk4", time=5.0)])
def test_a_batch_mate_never_changes_a_result(memory, descent):
    query, keys = memory
    slow = torch.cat([query, torch.zeros(1, 12, dtype=torch.float64), keys[7:8] + keys[8:9]])
    together, alone = descent(presets.log_sum_exp(8.0), slow, keys), descent(presets.log_sum_exp(8.0), query, keys)
    close(together.state[:5], alone.state, rtol=0, atol=1e-13)
    assert torch.equal(together.steps[:5], alone.steps)
    if not isinstance(descent, Flow):
        assert together.steps.unique().numel() > 1


def test_adaptive_flow_keeps_every_query_within_tolerance(memory):
    query, keys = memory
    flow = Flow(time=5.0, options={"rtol": 1e-8, "atol": 1e-10})
    crowd = torch.cat([query, 100 * torch.randn(50, 12, dtype=torch.float64)])
    close(flow(presets.distance(8.0), crowd, keys).state[:5], flow(presets.distance(8.0), query, keys).state, rtol=1e-6, atol=1e-7)


def test_slow_convergence_is_data_not_an_error(memory):
    query, keys = memory
    result = GradientDescent(step_size=1e-4, steps=3)(presets.distance(4.0), query, keys)
    assert not result.converged.any() and (result.steps == 3).all() and "0% of 5 queries converged" in str(result)


@pytest.mark.parametrize("make", [presets.log_sum_exp, presets.distance])
@pytest.mark.parametrize("beta", [2.0, 6.0, 20.0])
def test_the_retrieval_error_bound_holds(make, beta):
    keys = torch.randn(50, 20, dtype=torch.float64)
    query = keys[:10] + 0.3 * torch.randn(10, 20, dtype=torch.float64)
    result = FixedPoint(steps=1)(make(beta), query, keys)
    nearest = make(beta).similarity(result.state, keys).argmax(-1)
    settled = retrieve(make(beta), result.state, keys)
    error = (settled - keys[nearest]).norm(dim=-1)
    assert (error <= result.bound + 1e-12).all()
    assert (result.margin >= 0).all()
    ramsauer = 2 * keys.norm(dim=-1).max() * 49 * torch.exp(-beta * result.margin)
    assert (result.bound[:10] <= ramsauer * (2.5 if make is presets.distance else 1) + 1e-12).all()


def test_entmax_retrieves_exactly_beyond_its_margin(memory):
    query, keys = memory
    result = FixedPoint()(presets.entmax(1.5, 30.0), query, keys)
    assert (result.bound == 0).all() and torch.equal(result.state, keys[:5])
    vague = FixedPoint(steps=1)(presets.entmax(1.5, 0.1), query, keys)
    close(vague.bound, torch.full_like(vague.bound, 2 * float(keys.norm(dim=-1).max())))
    assert FixedPoint()(presets.epanechnikov(1.0), query, keys).bound is None


@pytest.mark.parametrize("name", SMOOTH)
def test_implicit_gradient_equals_the_unrolled_one(memory, name):
    query, keys = memory
    grads = []
    for gradient in ("recompute", "implicit"):
        moving = keys.clone().requires_grad_()
        beta = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
        state = FixedPoint(steps=800, tolerance=1e-14, gradient=gradient)(SMOOTH[name].at(beta), query, moving).state
        grads.append(torch.autograd.grad(state.square().sum() + state[:, 0].sum(), (moving, beta)))
    for mine, truth in zip(grads[1], grads[0], strict=True):
        close(mine, truth, rtol=0, atol=1e-9)


def test_implicit_gradient_warns_away_from_the_fixed_point(memory):
    query, keys = memory
    with pytest.warns(UserWarning, match="have not converged"):
        FixedPoint(steps=1, tolerance=1e-9, gradient="implicit")(presets.log_sum_exp(1.0), query, keys.requires_grad_())


def test_gradient_through_every_descent(memory):
    query, keys = memory
    for descent in (FixedPoint(steps=4, tolerance=0.0), GradientDescent(steps=4, tolerance=0.0), Flow(time=0.5, method="rk4")):
        for energy in (presets.log_sum_exp(3.0), ReadEnergy(Manhattan(), Exp(), Log(), beta=3.0), lambda x, m: 0.25 * (x @ m.T).square().sum(-1)):
            if isinstance(descent, FixedPoint) and not isinstance(energy, ReadEnergy):
                continue
            torch.autograd.gradcheck(
                lambda q, k, d=descent, e=energy: d(e, q, k).state, (query[:2].clone().requires_grad_(), keys[:4].clone().requires_grad_()), atol=1e-4
            )


def test_the_adjoint_gives_the_gradient_of_the_flow(memory):
    query, keys = memory

    def gradient(**options):
        moving = keys.clone().requires_grad_()
        state = Flow(time=3.0, options={"rtol": 1e-9, "atol": 1e-9, **options})(presets.log_sum_exp(6.0), query, moving).state
        return torch.autograd.grad(state.square().sum(), moving)[0]

    close(gradient(adjoint=True), gradient(), rtol=0, atol=1e-6)


def test_any_scalar_function_descends_also_a_module():
    class Well(nn.Module):
        def __init__(self):
            super().__init__()
            self.depth = nn.Parameter(torch.tensor([2.0]))

        def forward(self, state, memories):
            return self.depth * (state.unsqueeze(-2) - memories).square().sum(-1).amin(-1)

    well, memories = Well(), torch.tensor([[0.0, 0.0], [4.0, 4.0]])
    query = torch.tensor([[0.5, 1.0], [3.0, 4.5]])
    close(GradientDescent(steps=300)(well, query, memories).state, memories, rtol=0, atol=1e-3)
    result = Flow(options={"points": 5, "adjoint": True})(well, query, memories)
    close(result.state, memories, rtol=0, atol=1e-3)
    assert result.trajectory.shape == (5, 2, 2) and (result.energies.diff(dim=0) <= 1e-6).all()
    with pytest.raises(ValueError, match="one number per query"):
        GradientDescent()(lambda x, m: x.sum(), query, memories)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes_shared_memories_and_empty_ones(dtype):
    keys, query = torch.randn(9, 4, dtype=dtype), torch.randn(2, 3, 4, dtype=dtype)
    result = FixedPoint(tolerance=1e-3)(presets.distance(3.0), query, keys, presence=torch.arange(9) > 3)
    assert result.state.dtype == dtype and result.state.shape == (2, 3, 4) and result.energy.shape == (2, 3)
    empty = FixedPoint()(presets.distance(), query, keys[:0])
    close(empty.state, query)
    assert (empty.energy == torch.inf).all() and empty.margin is None


def test_a_certificate_of_no_query_can_be_printed():
    assert str(FixedPoint()(presets.log_sum_exp(), torch.zeros(0, 4), torch.randn(3, 4))) == "no queries"
