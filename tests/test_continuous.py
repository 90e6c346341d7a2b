"""Memories of a curve: bases and quadratures against closed forms, the limit of many slots, and digits kept as a curve."""

import copy
import itertools
import math

import pytest
import torch
from sklearn.datasets import load_digits

from hopfield_amem import presets, retrieve
from hopfield_amem.analysis import identified
from hopfield_amem.descent import FixedPoint, Flow, GradientDescent
from hopfield_amem.energies import Continuous, Fourier, GaussLegendre, Legendre, Midpoint, Radial, Rectangular, Trapezoid
from hopfield_amem.energies.compressed.basis import middles
from hopfield_amem.layers import ContinuousMemory

close = torch.testing.assert_close
TURN = 2 * math.pi * middles(400)
LOOP = torch.stack([TURN.cos(), TURN.sin(), 0.7 * (2 * TURN).cos(), 0.5 * (3 * TURN).sin()], -1)  # 400 patterns on a smooth closed curve


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("rule, exact", [(Midpoint(50), 0), (Trapezoid(51), 1), (GaussLegendre(5), 9), (GaussLegendre(200), 60)])
def test_quadratures_integrate_what_they_promise(rule, exact):
    nodes, weights = rule.rule()
    assert (weights > 0).all() and abs(weights.sum() - 1) < 1e-12 and ((nodes >= 0) & (nodes <= 1)).all()
    for degree in range(exact + 1):
        assert abs((weights * nodes**degree).sum() - 1 / (degree + 1)) < 1e-12
    assert exact > 20 or abs((weights * nodes ** (exact + 2)).sum() - 1 / (exact + 3)) > 1e-9  # and no more


@pytest.mark.parametrize("basis", [Fourier(9), Legendre(9), Rectangular(9)])
def test_bases_are_orthonormal(basis):
    nodes, weights = Midpoint(9 * 200).rule() if not isinstance(basis, Legendre) else GaussLegendre(50).rule()
    gram = (basis(nodes) * weights[:, None]).mT @ basis(nodes)
    close(gram, torch.eye(9, dtype=torch.float64) / (9 if isinstance(basis, Rectangular) else 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [Fourier, Legendre, Radial, Rectangular])
def test_fits_are_the_ridge_regression(kind):
    for count in (1, 2, 7, 40):
        basis, samples, times = kind(count), double(2, 17, 3), torch.rand(17, dtype=torch.float64)
        design = basis(times)
        close(basis.fit(samples, times, ridge=0.3), torch.linalg.solve(design.mT @ design + 0.3 * torch.eye(count), design.mT @ samples))
        assert design.shape == (17, count) and basis(torch.tensor([0.0, 1.0])).isfinite().all()


def test_radial_functions_are_gaussians_on_a_grid():
    close(Radial(4, 0.5)(torch.tensor([0.125, 0.25])), torch.exp(-0.5 * (torch.tensor([[0.0, 1, 2, 3], [0.5, 0.5, 1.5, 2.5]]) / 0.5) ** 2))


@pytest.mark.parametrize("beta", [0.3, 1.0, 7.0])
def test_a_straight_line_has_its_closed_energy(beta):
    """ξ(t) = a + tb: ∫ exp(β x·ξ) dt = e^(β x·a) (e^(β x·b) − 1)/(β x·b), at every β."""
    start, way, state = double(3), double(3), double(6, 3)
    samples = start + middles(30)[:, None] * way
    energy = Continuous(presets.log_sum_exp(beta), Legendre(2))
    slope = beta * state @ way
    expected = 0.5 * state.square().sum(-1) - (beta * state @ start + torch.log(torch.expm1(slope) / slope)) / beta
    close(energy(state, energy.basis.fit(samples, ridge=1e-13)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("read", [presets.log_sum_exp(3.0), presets.distance(5.0)])
def test_it_tends_to_the_energy_of_slots_plus_log_n_over_beta(read):
    """With the basis, at the same nodes: spectrally for smooth functions, linearly for steps, which end exactly at N of them."""
    state = double(20, 4)
    slots = read(state, LOOP) + math.log(400) / read.beta
    for kind, sizes, last in (
        (Fourier, (1, 3, 7), 1e-9),
        (Legendre, (3, 9, 17, 33), 1e-8),
        (Radial, (5, 20, 80), 1e-3),
        (Rectangular, (4, 20, 100, 400), 1e-7),
    ):
        spec = (Continuous(read, kind(size), Midpoint(400)) for size in sizes)
        errors = [(energy(state, energy.basis.fit(LOOP, ridge=1e-10)) - slots).abs().max().item() for energy in spec]
        print(kind.__name__, [f"{error:.1e}" for error in errors])
        assert all(a > 1.5 * b for a, b in itertools.pairwise(errors)) and errors[-1] < last
    integral = Continuous(read, Fourier(7), GaussLegendre(120))  # the samples' own nodes do not matter
    assert (integral(state, integral.basis.fit(LOOP, ridge=1e-10)) - slots).abs().max() < 1e-6


def test_a_unit_step_is_the_mean_of_the_curve_under_its_density():
    energy, state = Continuous(presets.log_sum_exp(4.0), Fourier(7)), double(5, 4).requires_grad_()
    coefficients = energy.basis.fit(LOOP)
    (slope,) = torch.autograd.grad(energy(state, coefficients).sum(), state)
    nodes, weights = energy.quadrature.rule()
    curve = energy.curve(coefficients, nodes)
    density = torch.exp(4 * state.detach() @ curve.mT) * weights
    mean = (density / density.sum(-1, keepdim=True)) @ curve
    close(state.detach() - slope, mean)
    close(retrieve(energy.read, state.detach(), energy.slots(coefficients), presence=energy.presence(coefficients)), mean)


@pytest.mark.parametrize("read", [presets.log_sum_exp(6.0), presets.distance(20.0), presets.entmax(1.5, 4.0), presets.epanechnikov(1.0)])
def test_every_descent_goes_down(read):
    """The curve as a function of state and coefficients, and as slots: the same path; sparse densities included."""
    energy = Continuous(read, Fourier(7), Midpoint(200))
    memory = ContinuousMemory(energy, 4, dtype=torch.float64)
    moved = memory.store(LOOP)
    assert moved.max() < 1e-6
    query = LOOP[::50] + 0.1 * double(8, 4)
    steps = GradientDescent(0.3, steps=5)
    as_slots, as_function = memory.recall(query, steps), steps(energy, query, memory.coefficients)
    close(as_slots.state, as_function.state, rtol=1e-9, atol=1e-9)
    close(as_slots.energy, as_function.energy)
    for descent in (FixedPoint(), Flow(time=5.0, method="rk4", options={"options": {"step_size": 0.1}})):
        found = memory.recall(query, descent)
        assert (found.energy <= memory.energy(query) + 1e-9).all()
    assert torch.equal(memory(query), memory.recall(query).state)


def test_extremes():
    """Cold memories find the nearest point of the curve; one pattern, one function, leading dimensions, float32."""
    energy = Continuous(presets.distance(1e7), Fourier(7), Midpoint(4000))
    coefficients = energy.basis.fit(LOOP)
    query = LOOP[::40] + 0.1 * double(10, 4)
    found = FixedPoint()(energy.read, query, energy.slots(coefficients), presence=energy.presence(coefficients))
    nearest = torch.cdist(query, energy.curve(coefficients, middles(4000))).amin(-1)
    close(torch.cdist(found.state, energy.slots(coefficients)).amin(-1), torch.zeros(10, dtype=torch.float64), rtol=0, atol=1e-3)
    close((query - FixedPoint(steps=1)(energy.read, query, energy.slots(coefficients)).state).norm(dim=-1), nearest, rtol=0, atol=1e-3)
    one = ContinuousMemory(Continuous(presets.log_sum_exp(2.0), Rectangular(1)), 3)
    one.store(torch.tensor([[1.0, 2.0, 3.0]]), ridge=1e-7)
    close(one(torch.randn(5, 3)), torch.tensor([[1.0, 2.0, 3.0]]).expand(5, 3), rtol=1e-5, atol=1e-5)
    several = energy.basis.fit(torch.stack([LOOP, -LOOP]))
    milder = Continuous(presets.log_sum_exp(3.0), Fourier(7))
    state = double(2, 3, 4)
    close(milder(state, several), torch.stack([milder(x, b) for x, b in zip(state, several, strict=True)]))
    close(milder(state.float(), several.float()).double(), milder(state, several), rtol=1e-5, atol=1e-5)
    compiled = torch.compile(milder, backend="aot_eager", fullgraph=True)
    close(compiled(state, several), milder(state, several))
    assert torch.autograd.gradcheck(milder, (double(2, 4).requires_grad_(), coefficients.clone().requires_grad_()))


def ordered(images):
    """Every image followed by the nearest that has not come yet."""
    distance, order = torch.cdist(images, images), [0]
    distance.fill_diagonal_(math.inf)
    for _ in range(len(images) - 1):
        distance[:, order[-1]] = math.inf
        order.append(int(distance[order[-1]].argmin()))
    return images[torch.tensor(order)]


def test_digits_in_order_are_kept_in_fewer_vectors():
    """The more functions the better; at every size the order matters, since only what varies slowly is compressed."""
    images = torch.tensor(load_digits().data[:200] / 16, dtype=torch.float64)
    rates = {}
    for name, sequence in (("in order", ordered(images)), ("shuffled", images[torch.randperm(200)])):
        for count in (25, 100, 200):
            memory = ContinuousMemory(Continuous(presets.distance(8.0), Rectangular(count), Midpoint(200)), 64, dtype=torch.float64)
            memory.store(sequence)
            query = sequence + 0.1 * double(200, 64)
            error = (memory(query) - sequence).norm(dim=-1).mean() / sequence.norm(dim=-1).mean()
            rates[name, count] = identified(memory(query), sequence, torch.arange(200)).double().mean().item(), error.item()
    print(rates)
    for count in (25, 100):
        assert rates["in order", count][1] < rates["shuffled", count][1]
    assert rates["in order", 25][1] > rates["in order", 100][1] > rates["in order", 200][1]
    assert rates["in order", 200][0] > 0.95


def test_a_spec_is_a_value_and_a_memory_travels():
    spec = Continuous(presets.log_sum_exp(2.0), Radial(5, 0.7), Trapezoid(40))
    assert copy.deepcopy(spec) == spec and hash(copy.deepcopy(spec)) == hash(spec) and spec != Continuous(presets.log_sum_exp(2.0), Radial(5))
    assert str(spec) == "E(x) = ½‖x‖² − log ∫ exp(2 x·ξ(t)) / 2,  ξ(t) = Bᵀψ(t)"
    memory, twin = ContinuousMemory(spec, 4), ContinuousMemory(spec, 4)
    memory.store(LOOP.float(), torch.rand(400))
    twin.load_state_dict(memory.state_dict())
    query = torch.randn(3, 4)
    close(twin(query), memory(query))
    assert "Radial" in repr(twin)
    assert memory.at(torch.rand(3)).shape == (3, 4)


def test_errors_at_the_door():
    spec = Continuous(presets.log_sum_exp(), Fourier(3))
    memory = ContinuousMemory(spec, 4)
    for wrong in (lambda: Fourier(0), lambda: Radial(3, 0.0), lambda: Midpoint(0), lambda: Trapezoid(1), lambda: Continuous(presets.log_sum_exp(), 3),
                  lambda: Continuous(len, Fourier(3)), lambda: Continuous(presets.log_sum_exp(), Fourier(3), 7), lambda: ContinuousMemory(spec, 0),
                  lambda: ContinuousMemory(presets.log_sum_exp(), 3), lambda: memory.store(torch.randn(5, 3)), lambda: memory.store(torch.randn(0, 4)),
                  lambda: memory.store(torch.full((2, 4), math.nan)), lambda: memory.store(torch.randn(5, 4), torch.rand(3)),
                  lambda: memory.store(torch.randn(5, 4), torch.rand(5) + 1), lambda: memory.store(torch.randn(5, 4), ridge=0.0),
                  lambda: spec(torch.randn(2, 4), torch.randn(5, 4)), lambda: memory.recall(torch.randn(2, 3))):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(TypeError):
        memory.store([1.0])


def test_times_are_numbers_in_the_interval_of_the_curve():
    """Outside of [0, 1] a Legendre polynomial, or a rectangle that goes on for ever, would answer without a reason."""
    memory = ContinuousMemory(Continuous(presets.log_sum_exp(), Legendre(3)), 4)
    for wrong in ([0.1, 0.5, 0.9], (0.1, 0.5, 0.9), torch.tensor([True, False, True])):
        for call in (lambda w=wrong: memory.store(torch.randn(3, 4), w), lambda w=wrong: memory.at(w), lambda w=wrong: Fourier(2).fit(torch.randn(3, 4), w)):
            with pytest.raises(TypeError, match="Times are a tensor"):
                call()
    for wrong in (torch.tensor([-1e-6]), torch.tensor([0.5, 1.1]), torch.tensor([math.nan]), torch.tensor(2)[None]):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            memory.at(wrong)
    with pytest.raises(ValueError, match="one number per pattern"):
        memory.at(torch.rand(2, 3))
    close(memory.spec.curve(torch.ones(3, 4), torch.tensor([0, 1])), memory.spec.curve(torch.ones(3, 4), torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("name", ["k_subsets", "fermi_dirac", "top_k", "hard_max", "sequential_k_subsets"])
def test_a_curve_has_no_best_points_to_choose(name):
    with pytest.raises(ValueError, match="no k best points"):
        Continuous(getattr(presets, name)(), Legendre(4))
