"""Similarities in a feature space, the loss that spreads memories apart, and how far apart they can be."""

import itertools
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import normalize

from hopfield_amem import ReadEnergy, explain, presets, retrieve
from hopfield_amem.analysis import damage, identified, minimal_separation, separating_beta, spherical_code, spherical_code_bounds
from hopfield_amem.descent import FixedPoint, GradientDescent
from hopfield_amem.energies import Cosine, Dot, Euclidean, Exp, Free, Inverse, Log, Mapped, Power, Quadratic, Sum
from hopfield_amem.layers import LearnedKernel, separation_loss, spread
from hopfield_amem.testing import check_energy

close = torch.testing.assert_close
WEIGHT = torch.linspace(-1, 1, 20, dtype=torch.float64).cos().reshape(5, 4)
ANGLES = {  # the best known codes in three dimensions (Sloane's tables)
    2: 180.0, 3: 120.0, 4: 109.4712, 5: 90.0, 6: 90.0, 7: 77.8695, 8: 74.8585, 9: 70.5288, 10: 66.1468, 11: 63.4349, 12: 63.4349, 13: 57.1367, 14: 55.6706,
    15: 53.6579, 16: 52.2444, 17: 51.0903, 18: 49.5567, 19: 47.6919, 20: 47.4310, 21: 45.6132, 22: 44.7402, 23: 43.7100, 24: 43.6908,
}  # fmt: skip


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def wave(rows):
    """A map that is not linear, (..., 4) -> (..., 5)"""
    return torch.tanh(rows @ WEIGHT.to(rows).mT)


@pytest.mark.parametrize("similarity", [Dot(), Euclidean(), Cosine()])
def test_a_mapped_energy_compares_where_the_map_puts_things(similarity):
    energy = ReadEnergy(Mapped(wave, similarity), Exp(), Log(), beta=2.0)
    query, keys = double(2, 3, 4), double(7, 4)
    inside = torch.logsumexp(2 * similarity(wave(query), wave(keys)), -1) / 2
    close(energy(query, keys), energy.confinement(query) - inside)
    assert energy.confinement == (Free() if similarity == Euclidean() else Quadratic())
    for backend in ("reference", "chunked"):
        read = retrieve(energy, query, keys, keys, backend=backend)
        close(read, torch.softmax(2 * similarity(wave(query), wave(keys)), -1) @ keys)


def test_a_mapped_energy_obeys_the_laws():
    report = check_energy(presets.learned_kernel(wave, 1.5))
    print(report)
    assert "first and second derivatives are right" in report.held and "backends agree in output and gradient" in report.held
    assert str(report.energy) == "E(x) = ½‖x‖² − log Σ_μ exp(1.5 Φ(x)·Φ(ξ_μ)) / 1.5"
    assert str(ReadEnergy(Mapped(wave, Euclidean()), Exp())) == "E(x) = −log Σ_μ exp(−½‖Φ(x) − Φ(ξ_μ)‖²)"
    check_energy(ReadEnergy(Mapped(wave, Euclidean()), Exp(), beta=3.0))


def test_the_identity_map_changes_nothing():
    query, keys = double(3, 4), double(9, 4)
    for plain in (presets.log_sum_exp(2.0), presets.distance(2.0), presets.entmax()):
        mapped = ReadEnergy(Mapped(lambda rows: rows, plain.similarity), plain.separation, plain.scaling, plain.confinement, plain.beta)
        close(mapped(query, keys), plain(query, keys))
        steps = GradientDescent(0.5, steps=4)
        close(steps(mapped, query, keys).state, steps(plain, query, keys).state)


def test_the_gradient_of_a_mapped_energy_passes_through_the_map():
    """For Φ = W x it is x − WᵀWΞp."""
    weight, query, keys = double(6, 4), double(3, 4).requires_grad_(), double(5, 4)
    energy = presets.learned_kernel(lambda rows: rows @ weight.mT, 0.7)
    (slope,) = torch.autograd.grad(energy(query, keys).sum(), query)
    close(query - slope, retrieve(energy, query, keys, keys) @ weight.mT @ weight)
    one = GradientDescent(1.0, steps=1)(energy, query.detach(), keys)
    close(one.state, (query - slope).detach())


def test_learned_maps_get_their_gradient_or_an_error():
    kernel = LearnedKernel(4, 5, dtype=torch.float64)
    energy, query, keys = presets.learned_kernel(kernel), double(3, 4), double(500, 4)
    assert explain(energy, query, keys).backend == "reference"
    (slope,) = torch.autograd.grad(retrieve(energy, query, keys, keys).sum(), kernel.weight)
    assert slope.abs().max() > 0
    with pytest.raises(ValueError, match="no gradient"):
        retrieve(energy, query, keys, keys, backend="chunked")


@pytest.mark.parametrize("read", [presets.log_sum_exp(2.0), presets.entmax(1.5, 3.0), presets.distance(2.0)])
def test_recall_is_uhop_s_iteration(read):
    """x ← Ξ p((WΞ)ᵀ W x), any number of times, and the energy it goes down."""
    kernel = LearnedKernel(6, 4, read, FixedPoint(steps=3, tolerance=0.0), dtype=torch.float64)
    query, patterns = double(2, 3, 6), double(9, 6)
    state = query
    for _ in range(3):
        start = kernel.energy(state, patterns)
        state = read.weights(kernel(state), kernel(patterns)) @ patterns
        assert (kernel.energy(state, patterns) <= start + 1e-12).all()
    close(kernel.recall(query, patterns), state)
    close(kernel.descended(query, patterns).state, kernel(state))
    tensors = query[0].clone().requires_grad_(), patterns.clone().requires_grad_()
    assert torch.autograd.gradcheck(kernel.recall, tensors)
    close(LearnedKernel(6, 9, dtype=torch.float64).recall(query, patterns), retrieve(presets.log_sum_exp(), query, patterns))  # orthogonal at the start


def test_the_loss_has_its_known_values():
    close(separation_loss(torch.eye(5)[:4]), torch.tensor(0.0), atol=1e-6, rtol=0)  # all cosines 0
    simplex = torch.eye(6, dtype=torch.float64) - 1 / 6
    close(separation_loss(simplex, 0.3), torch.tensor(-1 / 5 / 0.3, dtype=torch.float64))  # all cosines −1/5
    rows = double(3, 7, 4)
    unit = normalize(rows, dim=-1)
    pairs = [(i, j) for i in range(7) for j in range(i)]
    uhop = torch.stack([torch.exp(-2 * (unit[:, i] - unit[:, j]).square().sum(-1)) for i, j in pairs]).mean(0).log()
    close(separation_loss(rows, 0.25) - 4, uhop)
    close(1 - 1e-4 * separation_loss(rows, 1e-4), minimal_separation(rows), rtol=0, atol=1e-3)
    close(separation_loss(5 * rows), separation_loss(rows))
    assert torch.autograd.gradcheck(separation_loss, rows.requires_grad_())


@pytest.fixture(scope="module")
def digits():
    return torch.tensor(load_digits().data / 16, dtype=torch.float32)


def test_spreading_lowers_the_loss_and_moves_memories_apart(digits):
    patterns = digits[torch.randperm(1797)[:100]]
    kernel = LearnedKernel(64)
    optimizer = torch.optim.Adam(kernel.parameters(), 0.003)
    separations = [minimal_separation(kernel(patterns)).item()]
    for _ in range(4):
        losses = spread(kernel, patterns, optimizer, steps=15)
        assert losses.shape == (16,) and losses[-1] < losses[0] and losses.argmin() > 10
        separations.append(minimal_separation(kernel(patterns)).item())
    print("Δ_min", [f"{s:.3f}" for s in separations])
    assert all(b > 1.5 * a for a, b in itertools.pairwise(separations)) and separations[-1] > 10 * separations[0]


@pytest.mark.parametrize("kind", ["salt and pepper", "pixel noise", "lower half"])
def test_a_learned_kernel_recalls_more_digits_than_the_inner_product(digits, kind):
    """Raw grey levels, one step, each at its best β of twelve, every seed: what a few steps of spreading add, and where they do not suffice."""
    found = {name: [] for name in ("inner product", "spread", "distance", "spread, distance", "spread for long")}
    for seed in range(4):
        torch.manual_seed(seed)
        patterns = digits[torch.randperm(1797)[:100]]
        query = damage(patterns.reshape(-1, 8, 8), kind, torch.Generator().manual_seed(seed)).flatten(1)
        kernel = LearnedKernel(64)
        found["inner product"].append(_recalled(kernel, presets.log_sum_exp, query, patterns))
        found["distance"].append(_recalled(kernel, presets.distance, query, patterns))
        spread(kernel, patterns)
        found["spread"].append(_recalled(kernel, presets.log_sum_exp, query, patterns))
        found["spread, distance"].append(_recalled(kernel, presets.distance, query, patterns))
        spread(kernel, patterns, steps=190)
        found["spread for long"].append(_recalled(kernel, presets.log_sum_exp, query, patterns))
    mean = {name: sum(rates) / 4 for name, rates in found.items()}
    print(kind, {name: f"{rate:.2f}" for name, rate in mean.items()})
    assert all(learned > plain + 0.02 for plain, learned in zip(found["inner product"], found["spread"], strict=True))
    assert mean["spread"] > mean["inner product"] + 0.07
    if kind == "lower half":
        assert mean["spread, distance"] > mean["distance"] + 0.05
    else:  # noise along directions in which patterns hardly differ: what spreads them lifts it
        assert mean["distance"] > mean["spread"] and mean["spread for long"] < mean["inner product"]


@torch.no_grad()
def _recalled(kernel, preset, query, patterns):
    """Share of queries identified after one step, at the best β."""
    own, rates = torch.arange(len(patterns)), []
    for beta in 2.0 ** torch.arange(-2, 10):
        kernel.spec = preset(float(beta))
        rates.append(identified(kernel.recall(query, patterns), patterns, own).double().mean().item())
    return max(rates)


@pytest.mark.parametrize("count", ANGLES)
def test_spherical_codes_reach_the_best_known(count):
    code = spherical_code(count, 3, starts=8)
    assert code.shape == (count, 3)
    close(code.norm(dim=-1), torch.ones(count, dtype=torch.float64))
    separation = minimal_separation(code).item()
    best = 1 - math.cos(math.radians(ANGLES[count]))
    assert 0.99 * best < separation < best + 2e-5
    lower, upper = spherical_code_bounds(count, 3)
    assert lower <= separation <= upper


def test_spherical_codes_in_other_dimensions():
    """On a circle regular polygons, in high dimensions a simplex and a cross-polytope: closed optima."""
    for count, dim, cosine in ((7, 2, math.cos(2 * math.pi / 7)), (6, 8, -1 / 5), (10, 5, 0.0)):
        assert minimal_separation(spherical_code(count, dim, starts=4)).item() == pytest.approx(1 - cosine, rel=0.01)


def test_the_bounds_are_those_of_the_paper():
    known = {4: (0.1667, 2.0), 5: (0.1333, 1.789), 6: (0.1111, 1.633), 7: (0.0952, 1.512), 8: (0.0833, 1.414), 9: (0.0741, 1.333)}
    for count, expected in known.items():
        assert spherical_code_bounds(count, 3) == pytest.approx(expected, abs=5e-4)
    assert spherical_code_bounds(10**6, 200)[1] < 2 and all(math.isfinite(bound) for bound in spherical_code_bounds(10**9, 4096))


def test_at_the_separating_beta_patterns_rest_where_they_are():
    for patterns in (spherical_code(12, 3, starts=2), normalize(double(30, 16), dim=-1)):
        for radius in (0.5, 0.01):
            beta = separating_beta(minimal_separation(patterns).item(), len(patterns), radius)
            moved = (retrieve(presets.log_sum_exp(beta), patterns, patterns) - patterns).norm(dim=-1)
            assert moved.max() <= radius and beta > 0
    assert separating_beta(0.5, 1, 0.1) == 0


def test_errors_at_the_door():
    kernel, rows = LearnedKernel(4), torch.randn(5, 4)
    for wrong in (lambda: Mapped(torch.eye(3)), lambda: Mapped(wave, torch.dot), lambda: LearnedKernel(0), lambda: LearnedKernel(3, energy=Mapped(wave)),
                  lambda: kernel.recall(rows[:, :3], rows), lambda: separation_loss(rows[:1]), lambda: separation_loss(rows, 0.0),
                  lambda: spread(kernel, rows, steps=0), lambda: spread(kernel, torch.cat([rows, rows[:1]])), lambda: spread(kernel, rows * math.nan),
                  lambda: spherical_code(1, 3), lambda: spherical_code(4, 1), lambda: spherical_code_bounds(1, 3), lambda: minimal_separation(rows[:1]),
                  lambda: separating_beta(0.0, 3, 0.1), lambda: presets.learned_kernel(lambda x: x.sum(-1))(rows, rows),
                  lambda: presets.learned_kernel(lambda x: x.flatten())(rows, rows)):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ValueError, match="closed-form step"):
        retrieve(presets.learned_kernel(wave), rows, rows)
    with pytest.raises(TypeError):
        kernel.recall([1.0], rows)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_learning_without_gradients_is_refused_and_codes_need_none(mode):
    patterns, kernel = torch.randn(5, 4), LearnedKernel(4)
    with mode(), pytest.raises(ValueError, match="learns by gradients"):
        spread(kernel, patterns)
    with pytest.raises(ValueError, match="learns by gradients"):
        spread(LearnedKernel(4).requires_grad_(False), patterns)
    with mode():
        code = spherical_code(3, 2, starts=1)
    assert not code.requires_grad and not code.is_inference() and minimal_separation(code).item() == pytest.approx(1.5, rel=0.01)
    assert spread(kernel, patterns, steps=1).shape == (2,)


def test_parameters_inside_of_a_wrapped_similarity_get_their_gradient_at_any_size():
    kernel = LearnedKernel(4)
    energy = ReadEnergy(Inverse(Mapped(kernel, Euclidean())), Power(3), Sum())
    x, keys = torch.randn(300, 4), torch.randn(300, 4)
    retrieve(energy, x, keys, keys).sum().backward()
    assert kernel.weight.grad is not None and bool(kernel.weight.grad.any())
