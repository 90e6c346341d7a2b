"""Descents see what a read sees, and values are read where they end."""

import pytest
import torch

from hopfield_amem import ENERGIES, presets, retrieve
from hopfield_amem.descent import FixedPoint, Flow, GradientDescent, approach, read
from hopfield_amem.energies import Hypercube, Quadratic, Sum
from hopfield_amem.kernels import nearest

LINES = torch.arange(17).unsqueeze(-1) - torch.arange(17)
SMOOTH = [name for name, energy in ENERGIES.items() if not isinstance(energy.confinement, Hypercube)]


def memory(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 17, width, dtype=torch.float64, generator=draw) for width in (4, 4, 3))


@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("window", [True, 5])
def test_a_causal_descent_is_the_descent_without_the_slots_out_of_reach(name, window):
    energy, (query, keys, values) = ENERGIES[name], memory()
    reach = 17 if window is True else window
    seen = (LINES >= 0) & (LINES < reach)  # noqa: SIM300
    bottomless = isinstance(energy.scaling, Sum) and isinstance(energy.confinement, Quadratic)  # on these patterns
    for descent in [FixedPoint(steps=1)] if bottomless else [FixedPoint(steps=3), GradientDescent(steps=3)]:
        hidden = descent(energy, 0.1 * query, keys, presence=seen)
        causal = descent(energy, 0.1 * query, keys, causal=window)
        for field in ("state", "energy", "steps", "margin", "bound"):
            expected, got = getattr(hidden, field), getattr(causal, field)
            assert (got is None) == (expected is None)
            if got is not None:
                torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12, equal_nan=True)
        reads = (read(energy, 0.1 * query, keys, values, descent, **gate) for gate in ({"presence": seen}, {"causal": window}))
        torch.testing.assert_close(*reads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_bias_moves_the_descent_as_it_moves_the_scores(name):
    energy, (query, keys, values) = ENERGIES[name], memory()
    bias = torch.linspace(-1, 1, 17, dtype=torch.float64)
    result = FixedPoint(steps=1)(energy, query, keys, bias=bias)
    torch.testing.assert_close(result.state, energy.settle(query, keys, bias=bias), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(result.energy, energy(result.state, keys, bias=bias), rtol=1e-12, atol=1e-12)
    assert result.bound is None  # the theory knows no bias
    torch.testing.assert_close(read(energy, query, keys, values, bias=bias), energy.read(query, keys, values, bias=bias), rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_last_step_of_a_fixed_point_reads(steps):
    energy, (query, keys, values) = presets.log_sum_exp(2.0), memory()
    expected = retrieve(energy, query, keys, values, steps=steps)
    for descent in (FixedPoint(steps, tolerance=0), FixedPoint(steps, tolerance=1e-300), FixedPoint(steps, tolerance=1e-300, gradient="implicit")):
        torch.testing.assert_close(read(energy, query, keys, values, descent), expected)
        weights = energy.weights(approach(energy, query, keys, descent), keys)
        torch.testing.assert_close(weights @ values, expected)
        torch.testing.assert_close(read(energy, query, keys, None, descent), retrieve(energy, query, keys, steps=steps))


@pytest.mark.parametrize("descent", [GradientDescent(0.5, steps=7), Flow(2.0, "rk4", {"options": {"step_size": 0.2}}), FixedPoint(50)])
def test_every_descent_can_be_read_from_and_differentiated(descent):
    energy, tensors = presets.distance(1.5), [t.requires_grad_() for t in memory()]
    query, keys, values = tensors
    state = descent(energy, query, keys).state
    expected = retrieve(energy, state, keys, values)
    torch.testing.assert_close(read(energy, query, keys, values, descent), expected, rtol=1e-4, atol=1e-4)  # a fixed point reads one step earlier
    grads = torch.autograd.grad(read(energy, query, keys, values, descent).square().sum(), tensors)
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in grads[1:])


def test_a_descent_stops_early_in_a_read_as_on_its_own():
    energy, (query, keys, values) = presets.log_sum_exp(30.0), memory()
    taken = FixedPoint(40, tolerance=1e-3)(energy, query, keys).steps
    assert taken.max() < 40
    stopped = read(energy, query, keys, values, FixedPoint(40, tolerance=1e-3))
    torch.testing.assert_close(stopped, retrieve(energy, query, keys, values, steps=40), atol=1e-2, rtol=0)


def test_nearest_knows_causality():
    energy, (query, keys, _) = presets.distance(), memory()
    similarity = energy.similarity(query, keys).masked_fill(LINES < 0, -torch.inf)
    torch.testing.assert_close(nearest(energy, query, keys, causal=True, count=2)[0], similarity.topk(2, -1)[0])


def test_gates_of_an_energy_given_as_a_function_are_refused():
    query, keys, _ = memory()
    function = lambda state, memories: state.square().sum(-1)
    for gate in ({"presence": torch.ones(17, dtype=torch.bool)}, {"causal": True}, {"bias": torch.zeros(17)}):
        with pytest.raises(ValueError, match="belong to a ReadEnergy"):
            GradientDescent(steps=2)(function, query, keys, **gate)
