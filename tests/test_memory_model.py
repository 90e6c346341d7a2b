"""Beyond Scaling Laws (arXiv 2405.08707): its integral, its loss, its radius and its balance, as printed and as they are."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from hopfield_amem.analysis import memory_model as model
from hopfield_amem.analysis.memory_model.partition import log_lower_gamma
from hopfield_amem.analysis.memory_model.radius import nearest_neighbours
from hopfield_amem.analysis.power_laws import power_law

DOUBLE = {"dtype": torch.float64}


def test_energies_are_in_the_papers_units():
    patterns, x = torch.randn(7, 4, **DOUBLE), torch.randn(5, 4, **DOUBLE)
    squares = (x.unsqueeze(1) - patterns).square().sum(-1)
    torch.testing.assert_close(model.distance_energy(x, patterns), -torch.logsumexp(-squares, -1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.distance_energy(x, patterns, beta=3.0), -torch.logsumexp(-3 * squares, -1) / 3, rtol=1e-12, atol=1e-12)
    layers = torch.stack([model.distance_energy(x, part) for part in patterns.split((3, 4))])
    torch.testing.assert_close(model.global_energy(x, patterns, (3, 4)), -torch.logsumexp(-layers, 0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim, radius", [(1, 0.7), (2, 1.3), (3, 2.0), (5, 1.1), (17, 3.0)])
def test_the_partition_of_a_ball_is_its_integral(dim, radius):
    sphere = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)
    value, _ = integrate.quad(lambda r: sphere * r ** (dim - 1) * math.exp(-(r**2)), 0, radius, epsabs=0, epsrel=1e-12)
    found = model.ball_partition(dim, radius)
    assert math.exp(found.log_value) == pytest.approx(value, rel=1e-10)
    assert found.log_lower <= found.log_value <= found.log_volume


def test_the_printed_integral_is_another_number():
    from scipy.special import gamma, gammainc

    printed = 2 * math.pi**1.5 * gammainc(3, 2.0) * gamma(3) / gamma(1.5)  # 2π^(n/2) γ(n, r)/Γ(n/2) at n = 3, r = 2
    assert math.exp(model.ball_partition(3, 2.0).log_value) == pytest.approx(5.31212, rel=1e-5)
    assert printed == pytest.approx(8.12601, rel=1e-5)


@pytest.mark.parametrize("dim, product", [(2, 0.922), (8, 0.979), (64, 0.997), (256, 0.9993), (1024, 0.9998)])
def test_at_the_reference_radius_balls_have_volumes_of_order_one(dim, product):
    ball = model.ball_partition(dim, model.pattern_radius_reference(dim))
    assert math.exp(ball.log_volume) * math.sqrt(math.pi * dim) == pytest.approx(product, abs=6e-4 if dim < 100 else 6e-5)


def test_logarithms_of_the_incomplete_gamma_function_stay_finite_and_satisfy_its_recurrence():
    """``P(a, x) − P(a + 1, x) = x^a e^(−x)/Γ(a + 1)``, below and above where scipy's value underflows; up to n = 10⁵."""
    for a, x in ((0.5, 0.3), (32.0, 3.7), (800.0, 40.0), (5e4, 5855.0), (5e4, 4.9e4), (5e4, 6e4), (3000.0, 1e-3)):
        below, above = log_lower_gamma(a, x), log_lower_gamma(a + 1, x)
        assert math.isfinite(below) and above <= below
        if below < -1e-6:
            step = a * math.log(x) - x - math.lgamma(a + 1)
            assert below + math.log1p(-math.exp(above - below)) == pytest.approx(step, rel=1e-9)
    huge = model.ball_partition(10**5, model.pattern_radius_reference(10**5))
    assert huge.log_lower < huge.log_value < huge.log_volume and math.exp(huge.log_volume) * math.sqrt(math.pi * 1e5) == pytest.approx(1, abs=1e-5)


def test_where_scipys_value_underflows_the_series_joins_it():
    from scipy.special import gammainc

    from hopfield_amem.analysis.memory_model.partition import _log_series

    for a, x in ((50.0, 5.0), (200.0, 60.0), (500.0, 200.0)):
        assert _log_series(a, x) == pytest.approx(math.log(gammainc(a, x)), rel=1e-12)


def test_patterns_that_make_the_partition_one():
    """From the upper bound √(πn), 14.2, 28.4, 56.7; exactly 10^2.73, 10^7.91, 10^27.7; by the printed lower bound 10^1.99, 10^3.13, 10^5.12."""
    found = model.unit_partition([64, 256, 1024])
    np.testing.assert_allclose(np.exp(found.log_upper), [14.2, 28.4, 56.7], rtol=5e-3)
    np.testing.assert_allclose(np.array(found.log_exact) / math.log(10), [2.73, 7.91, 27.7], atol=0.05)
    np.testing.assert_allclose(np.array(found.log_printed) / math.log(10), [1.99, 3.13, 5.12], atol=0.006)
    assert all(exact <= lower for exact, lower in zip(found.log_exact, found.log_lower, strict=True))
    assert any(exact > printed for exact, printed in zip(found.log_exact, found.log_printed, strict=True))  # the printed one is no bound
    assert found.rows()[0]["n"] == 64 and len(found.plot().axes[0].lines) == 4


def test_the_loss_as_printed_and_as_it_is():
    for value, loss in ((0.25, 2.6137), (0.5, 1.3069), (1.0, 1.0), (2.0, 1.1931), (4.0, 1.6363)):
        bound = model.loss_bound(math.log(value))
        assert bound.printed.value == pytest.approx(loss, abs=5e-5) and bound.consistent.value == pytest.approx(math.log(value), abs=1e-12)
        assert bound.printed.kind == bound.consistent.kind == "heuristic"
    deep = model.loss_bound(-5000.0)
    assert deep.printed.value == math.inf and deep.printed.log_value == 5000.0 and deep.consistent.value == -5000.0  # no lower bound at 1


def test_the_constant_of_the_architecture():
    attention, dense, feed_forward = 75_497_472, 25_214_976, 151_093_248  # the paper's own addition for GPT-2 medium
    assert model.parameters_per_block(24, 1024, attention + dense + feed_forward) == pytest.approx(10.006, abs=5e-4)
    assert model.Architecture(24, 1024, 1024).parameters == 301_989_888
    block = torch.nn.TransformerEncoderLayer(64, 1, 256, bias=False)
    matrices = sum(p.numel() for p in block.parameters() if p.ndim == 2)
    assert model.parameters_per_block(1, 64, matrices) == 12


def test_the_balance_of_table_three():
    parameters, data = [39.95e6, 60.26e6, 80.20e6], [214.18e6, 261.78e6, 309.37e6]
    found = model.model_data_balance(parameters, data, step=23.8e6)
    np.testing.assert_allclose(found.ratios, [8.709e-10, 8.793e-10, 8.379e-10], rtol=1e-3)
    assert found.fit is not None and found.fit.exponent == pytest.approx(1.900, abs=1e-3)
    assert found.rounding == pytest.approx((1.4874, 2.5463), abs=1e-4)  # the largest not at a corner, which have 2.472, but at +1, +0.064, −1 half steps
    linear = model.model_data_balance(parameters, data, exponent=1.0).ratios
    assert max(linear) / min(linear) == pytest.approx(1.39, abs=0.01)
    assert "fitted k = 1.900" in str(found) and len(found.plot().axes[0].lines) == 5
    assert model.model_data_balance([1e6], [1e7]).fit is None


def test_the_predicted_sizes_are_a_hundred_times_too_small():
    shapes = [model.Architecture(8, width, 1024) for width in (954, 1280, 1440)]
    assert [round(shape.patterns) for shape in shapes] == [1752, 2029, 2152]
    np.testing.assert_allclose([shape.data for shape in shapes], [1.79e6, 2.08e6, 2.20e6], rtol=5e-3)
    for shape, reported in zip(shapes, (214.18e6, 261.78e6, 309.37e6), strict=True):
        assert 115 < reported / shape.data < 145


def test_what_rounding_allows_is_no_less_than_any_choice_of_data_sizes_within_it():
    for n, d, step in (([39.95, 60.26, 80.20], [214.18, 261.78, 309.37], 23.8), ([1.0, 5.0, 2.0, 9.0], [10.0, 20.0, 30.0, 45.0], 8.0)):
        grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 17)] * len(d), indexing="ij"), -1).reshape(-1, len(d))
        logs = np.log(np.array(d) + step * grid)
        logs -= logs.mean(1, keepdims=True)
        slopes = logs @ np.log(n) / (logs**2).sum(1)
        low, high = model.model_data_balance(n, d, step=step).rounding or (math.nan, math.nan)
        assert slopes.min() - 0.05 < low <= slopes.min() + 1e-9 and slopes.max() - 1e-9 <= high < slopes.max() + 0.05
    assert model.model_data_balance([1.0, 2.0, 3.0], [10.0, 11.0, 12.0], step=2.5).rounding == (-math.inf, math.inf)  # all may be 11


@pytest.mark.parametrize("exponent", model.HELD)
def test_the_exponent_depends_on_what_is_held_fixed(exponent):
    shapes = [model.Architecture(8, 512, 1024).widened(factor, exponent) for factor in (1.0, 2.0, 4.0, 8.0)]
    fit = power_law([shape.data for shape in shapes], [shape.parameters for shape in shapes])
    assert fit.exponent == pytest.approx(exponent, abs=1e-12)


def test_the_best_data_size_of_table_three():
    sizes = [167.06e6, 190.6e6, 214.18e6, 238.0e6]
    assert model.first_below(sizes, [0.07, 0.05, 0.04, 0.04]).chosen is None  # strictly, as the rule is printed
    assert model.first_below(sizes, [0.07, 0.05, 0.04, 0.04], 0.045).chosen == 214.18e6
    assert model.first_below(sizes, [0.05, 0.04, 0.02, 0.02]).chosen == 214.18e6


def test_the_best_data_size_from_curves(tmp_path):
    steps = np.arange(3000)
    train = {size: 2 + np.exp(-steps / 200) - gap for size, gap in ((1.0, 0.5), (2.0, 0.1), (4.0, 0.0))}
    validation = {size: {step: 2 + ((step - 2500) / 5000) ** 2 for step in range(0, 3001, 100)} for size in train}
    found = model.select_data_size(train, validation)
    expected = [float(np.mean((train[size][1500:2500] - 2.0) ** 2)) for size in sorted(train)]
    np.testing.assert_allclose(found.errors, expected, rtol=1e-12)
    assert found.chosen == 2.0 and found.table().count("D*") == 1
    assert len(found.save(tmp_path, "selection")) == 2


@pytest.mark.parametrize("count, dim", [(2, 1), (17, 3), (100, 63)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nearest_neighbours_are_exact_far_from_the_origin(count, dim, dtype):
    rows = (torch.randn(count, dim) + 100).to(dtype)
    apart = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = (apart + torch.diag(torch.full((count,), torch.inf, **DOUBLE))).amin(-1)
    torch.testing.assert_close(nearest_neighbours(rows), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("apart, dtype", [(1e3, torch.float32), (1e9, torch.float64)])
def test_nearest_neighbours_are_exact_in_clusters_far_apart(apart, dtype):
    """Products of 10⁶ in float32, or 10¹⁸ in float64, are rounded by more than the squares of distances within a cluster."""
    centres = apart * torch.nn.functional.normalize(torch.randn(10, 64, **DOUBLE), dim=-1)
    rows = (centres.repeat_interleave(30, 0) + 0.1 * torch.randn(300, 64, **DOUBLE)).to(dtype)
    exact = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf).amin(-1)
    torch.testing.assert_close(nearest_neighbours(rows), exact, rtol=1e-12, atol=0)


def test_the_square_root_of_pi_n_is_named_at_the_reference_radius_only():
    labels = lambda radius: [line.get_label() for line in model.unit_partition([8, 64], radius).plot().axes[0].lines]
    assert "upper bound: √(πn)" in labels(None) and not any("√(πn)" in label for label in labels(2.0))


def test_sizes_and_iterations_of_numpy_are_numbers():
    assert model.first_below(np.array([1.0, 2.0]), np.array([0.1, 0.01])).chosen == 2.0
    train = np.full(9, 1.0)
    assert model.select_data_size({1.0: train}, {1.0: {np.int64(4): 1.0}}, window=2).chosen == 1.0


def test_the_radius_of_patterns_on_a_lattice_and_in_growing_samples(monkeypatch):
    lattice = torch.cartesian_prod(*[torch.arange(4.0)] * 3) * 3
    found = model.pattern_radius(lattice, (1.0,))
    assert found.radius == 1.5 and found.reference == pytest.approx(math.sqrt(3 / (2 * math.pi * math.e)))
    activations = torch.randn(4, 150, 16)
    found = model.pattern_radius(activations)
    medians = [row["median"] for row in found.rows()]
    assert found.counts == (150, 300, 450, 600) and medians == sorted(medians, reverse=True)  # denser samples have nearer neighbours
    monkeypatch.setattr("hopfield_amem.analysis.memory_model.radius.ELEMENTS", 600 * 7)  # in blocks of seven
    again = model.pattern_radius(activations)
    torch.testing.assert_close(again.distances[-1], found.distances[-1], rtol=1e-12, atol=0)
    assert len(found.plot().axes[0].patches) == 4
    twins = model.pattern_radius(torch.ones(10, 3))
    assert twins.rows()[-1]["coinciding"] == 1.0 and twins.radius == 0


@pytest.mark.parametrize(
    "wrong, why",
    [
        (lambda: model.ball_partition(0, 1.0), "at least 1"),
        (lambda: model.ball_partition(3, 0.0), "positive"),
        (lambda: model.ball_partition(3, 1e200), "square"),
        (lambda: model.ball_partition(3, 1e-200), "square"),
        (lambda: model.ball_partition(3, -2.0), "positive"),
        (lambda: model.unit_partition([]), "at least one"),
        (lambda: model.loss_bound(math.nan), "finite"),
        (lambda: model.pattern_radius(torch.full((50, 3), torch.nan)), "NaN"),
        (lambda: model.pattern_radius(torch.tensor([[1e308, 1e308], [0.0, 0.0]], **DOUBLE), (1.0,)), "range of float64"),
        (lambda: model.pattern_radius(torch.zeros(0, 3)), "two activations"),
        (lambda: model.pattern_radius(torch.randn(4, 3)), "two activations"),
        (lambda: model.pattern_radius(torch.randn(40, 3), (0.5, 0.2)), "ascend"),
        (lambda: model.Architecture(0, 8, 8), "positive"),
        (lambda: model.Architecture(1, 8, 8).widened(2.0, 3), "exponents that follow"),
        (lambda: model.model_data_balance([], []), "at least one"),
        (lambda: model.model_data_balance([1.0, -1.0], [1.0, 2.0]), "positive"),
        (lambda: model.model_data_balance([1.0, 2.0], [1.0, 2.0], step=2.0), "step"),
        (lambda: model.model_data_balance([1.0, 2.0], [1e8, 2e8], exponent=50), "overflows"),
        (lambda: model.model_data_balance([1.0, 2.0], [1e8, 2e8], exponent=math.nan), "overflows"),
        (lambda: model.select_data_size({1.0: [1.0] * 9}, {1.0: {4.0: 1.0}}, window=2), "whole"),
        (lambda: model.select_data_size({1.0: [1.0] * 9}, {1.0: {4: 1.0}}, window=2.5), "whole"),
        (lambda: model.pattern_radius(torch.randn(40, 3), seed=-1), "at least 0"),
        (lambda: model.select_data_size({}, {}), "one at least"),
        (lambda: model.select_data_size({1.0: [1.0] * 9}, {1.0: {4: 1.0}}), "window"),
        (lambda: model.select_data_size({1.0: [math.nan] * 9}, {1.0: {4: 1.0}}, window=2), "finite"),
        (lambda: model.first_below([2.0, 1.0], [0.1, 0.1]), "Ascending"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        wrong()


def test_activations_are_floating_point():
    with pytest.raises(TypeError, match="floating-point"):
        model.pattern_radius(torch.ones(5, 3, dtype=torch.long))
