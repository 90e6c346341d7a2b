"""Chains of Langevin dynamics against exact marginals, moments and biases."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import ive, ndtr
from scipy.stats import kstest

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.descent import GradientDescent, Langevin
from hopfield_amem.descent.langevin import _at
from hopfield_amem.descent.loop import Landscape
from hopfield_amem.energies import Dot, Euclidean, Exp, Free, Hypercube, Inverse, Log, Manhattan, Mapped, Simplex, Sum, TopK, Tsallis
from hopfield_amem.kernels import Gates
from hopfield_amem.layers import HopfieldAttention

close = torch.testing.assert_close
D = torch.float64
CHAINS = 2000


def test_the_distance_energy_samples_its_mixture_of_gaussians():
    """Kolmogorov–Smirnov on every coordinate, and the first two moments; independent chains from one far start."""
    keys = torch.tensor([[-1.0, 0.5, 0.0], [1.2, 0.0, 1.0], [0.0, -1.0, 0.3]], dtype=D)
    beta = 2.0
    sample = Langevin(0.5, 150, 1 / beta, seed=1)(presets.distance(beta), torch.full((CHAINS, 3), 4.0, dtype=D), keys)
    for k in range(3):
        mixture = lambda x, k=k: np.mean([ndtr((x - m) * math.sqrt(beta)) for m in keys[:, k].tolist()], 0)
        assert kstest(sample.state[:, k].numpy(), mixture).pvalue > 1e-3
    deviation = math.sqrt(1 / CHAINS)
    close(sample.state.mean(0), keys.mean(0), rtol=0, atol=5 * deviation)
    close(torch.cov(sample.state.T), torch.eye(3, dtype=D) / beta + torch.cov(keys.T, correction=0), rtol=0, atol=8 * deviation)
    assert 0.5 < sample.acceptance.mean() < 1 and sample.trajectory is None
    close(sample.energy, presets.distance(beta)(sample.state, keys))


@pytest.mark.parametrize("energy", [presets.epanechnikov(0.8), ReadEnergy(Manhattan(), Exp(), Log(), beta=1.5)], ids=str)
def test_energies_with_edges_and_kinks_on_the_line(energy):
    """Compact support, an L1 distance: exact all the same, which only the correction makes."""
    keys = torch.tensor([[-0.5], [0.7]], dtype=D)
    density = lambda x: math.exp(-energy.beta * energy(torch.tensor([[x]], dtype=D), keys).item())
    total = quad(density, -9, 9, points=[-0.5, 0.7], limit=200)[0]
    sample = Langevin(0.4, 200, 1 / energy.beta, seed=2)(energy, torch.zeros(CHAINS, 1, dtype=D), keys)
    grid = np.linspace(-9, 9, 1801)
    heights = np.exp(-energy.beta * energy(torch.tensor(grid).unsqueeze(-1), keys).numpy())
    cumulative = np.concatenate([[0], np.cumsum((heights[1:] + heights[:-1]) / 2)]) * (grid[1] - grid[0])
    assert cumulative[-1] == pytest.approx(total, rel=1e-3)
    assert kstest(sample.state[:, 0].numpy(), lambda x: np.interp(x, grid, cumulative / cumulative[-1])).pvalue > 1e-3


def test_a_hypercube_bounds_the_density():
    """Exponential memory on [−1, 1]: density ∝ exp(βx) + ½ exp(−βx)."""
    beta, keys, presence = 2.0, torch.tensor([[1.0], [-1.0]], dtype=D), torch.tensor([1.0, 0.5], dtype=D)
    sample = Langevin(0.3, 300, 1 / beta, seed=3)(presets.exponential(beta), torch.zeros(CHAINS, 1, dtype=D), keys, presence=presence)
    below = lambda x: (np.exp(beta * x) - np.exp(-beta)) / beta + 0.5 * (np.exp(beta) - np.exp(-beta * x)) / beta
    assert sample.state.abs().max() <= 1 and kstest(sample.state[:, 0].numpy(), lambda x: below(x) / below(1.0)).pvalue > 1e-3


def test_directions_are_sampled_through_free_space():
    """The way out of the refused sphere: mean direction of a von Mises–Fisher density, A_d(κ) = I_{d/2}(κ)/I_{d/2−1}(κ)."""
    kappa, dim = 5.0, 3
    energy = presets.von_mises_fisher(kappa)
    lifted = lambda x, keys: energy(torch.nn.functional.normalize(x, dim=-1), keys) + 0.5 * x.square().sum(-1)
    start = torch.eye(dim, dtype=D)[0].expand(CHAINS, dim)
    sample = Langevin(0.3, 300, 1 / kappa, seed=4)(lifted, start, torch.eye(dim, dtype=D)[1:2])
    mean = torch.nn.functional.normalize(sample.state, dim=-1).mean(0)
    close(mean, torch.tensor([0, ive(dim / 2, kappa) / ive(dim / 2 - 1, kappa), 0], dtype=D), rtol=0, atol=5 / math.sqrt(CHAINS))


@pytest.mark.parametrize("step_size", [0.1, 0.8])
def test_without_correction_the_variance_is_biased_as_derived(step_size):
    """One pattern: E = ½‖x − ξ‖². Unadjusted variance T/(1 − η/2); corrected T."""
    key, start, temperature = torch.zeros(1, 2, dtype=D), torch.zeros(4 * CHAINS, 2, dtype=D), 0.5
    for metropolis, variance in ((False, temperature / (1 - step_size / 2)), (True, temperature)):
        sample = Langevin(step_size, 120, temperature, metropolis=metropolis, seed=5)(presets.distance(), start, key)
        measured = sample.state.var().item()
        assert measured == pytest.approx(variance, rel=5 * math.sqrt(2 / sample.state.numel()))
        assert (sample.acceptance == 1).all() == (not metropolis)


def test_detailed_balance():
    """π(x) q(y|x) a(x, y) = π(y) q(x|y) a(y, x), written out."""
    keys, x, y = (torch.randn(n, 2, dtype=D) for n in (5, 8, 8))
    energy, langevin = presets.distance(1.5), Langevin(0.7, temperature=0.4)
    landscape = Landscape(energy, x, keys, Gates())
    here, there = _at(landscape, x), _at(landscape, y)

    def flow(a, b, ratio):
        drift = a - 0.7 * (a - energy.weights(a, keys) @ keys)  # ∇E of the distance energy
        proposal = -(b - drift).square().sum(-1) / (4 * 0.7 * 0.4)
        return -energy(a, keys) / 0.4 + proposal + ratio.clamp_max(0)

    close(flow(x, y, langevin._log_ratio(here, there)), flow(y, x, langevin._log_ratio(there, here)))


def test_small_steps_are_all_accepted_and_cold_chains_descend():
    keys = torch.randn(10, 4, dtype=D)
    start = keys[:5] + 0.1
    assert (Langevin(1e-6, 50, seed=0)(presets.distance(3.0), start, keys).acceptance == 1).all()
    cold = Langevin(0.1, 300, 1e-16, metropolis=False, seed=0)(presets.distance(3.0), start, keys)
    close(cold.state, GradientDescent(0.1, 300, 0.0)(presets.distance(3.0), start, keys).state, rtol=0, atol=1e-6)


def test_records_seeds_and_dtypes():
    keys = torch.randn(6, 3)
    langevin = Langevin(0.1, 40, 0.5, warm_up=10, record=5, seed=7)
    first, again = (langevin(presets.log_sum_exp(2.0), torch.zeros(2, 4, 3), keys) for _ in range(2))
    assert torch.equal(first.trajectory, again.trajectory) and first.trajectory.shape == (6, 2, 4, 3) and first.energies.shape == (6, 2, 4)
    assert torch.equal(first.trajectory[-1], first.state) and first.acceptance.shape == (2, 4)
    close(first.energies, presets.log_sum_exp(2.0)(first.trajectory, keys))
    assert not torch.equal(first.state, Langevin(0.1, 40, 0.5, seed=8)(presets.log_sum_exp(2.0), torch.zeros(2, 4, 3), keys).state)
    half = langevin(presets.log_sum_exp(2.0), torch.zeros(4, 3, dtype=torch.bfloat16), keys.bfloat16())
    assert half.state.dtype == half.trajectory.dtype == torch.bfloat16 and "4 chains, 6 states recorded of each" in str(half)
    assert str(langevin(presets.distance(), torch.zeros(0, 3), keys)) == "no chains"


def test_unadjusted_states_are_differentiable():
    keys = torch.randn(4, 2, dtype=D)
    walk = Langevin(0.2, 5, 0.3, metropolis=False, seed=1)
    torch.autograd.gradcheck(lambda q, k: walk(presets.distance(1.5), q, k).state, (torch.randn(3, 2, dtype=D).requires_grad_(), keys.requires_grad_()))
    assert not Langevin(0.2, 5, 0.3, seed=1)(presets.distance(1.5), torch.randn(3, 2, dtype=D), keys).state.requires_grad


def test_a_layer_reads_where_a_chain_ends():
    layer = HopfieldAttention(8, 2, presets.log_sum_exp(0.5), Langevin(0.1, 4, 0.01, seed=0))
    assert layer(torch.randn(2, 5, 8)).isfinite().all()


@pytest.mark.parametrize(
    "energy, message",
    [
        (presets.von_mises_fisher(), r"leave Sphere\(\)"),
        (ReadEnergy(Euclidean(), Exp(), Sum()), "cannot be normalised"),
        (ReadEnergy(Euclidean(), Exp(), Log(null_slot=True)), "cannot be normalised"),
        (presets.squared_relu_feed_forward(), "unbounded below"),
        (ReadEnergy(Inverse(Euclidean()), Exp(), Log()), "cannot be normalised"),
        (ReadEnergy(Inverse(Manhattan()), Exp(), Simplex()), "cannot be normalised"),
        (ReadEnergy(Mapped(torch.sin), Exp(), Log(), Free()), "cannot be normalised"),
        (ReadEnergy(Mapped(torch.square), Exp(), Log()), "cannot be normalised"),
    ],
)
def test_what_has_no_density_is_refused(energy, message):
    with pytest.raises(ValueError, match=message):
        Langevin()(energy, torch.ones(2, 3), torch.eye(3))


@pytest.mark.parametrize("tail", [1.0, 2.5, 7.0])
def test_a_heavy_tail_has_a_density_below_a_temperature_of_its_own(tail):
    """Student's: F = (1 − s)^(−ν) over distances makes ``exp(−E/T) ~ r^(−2ν/βT)``, which is integrable in d dimensions where T < 2ν/(βd)."""
    for dim, beta in ((1, 1.0), (3, 0.2), (17, 30.0)):
        energy, keys = ReadEnergy(Euclidean(), partial(student, tail), Log(), beta=beta), torch.randn(5, dim, dtype=D)
        hottest = 2 * tail / (beta * dim)
        Langevin(0.1, 1, 0.97 * hottest, seed=0)(energy, keys, keys)
        with pytest.raises(ValueError, match="cannot be normalised"):
            Langevin(0.1, 1, 1.03 * hottest)(energy, keys, keys)


def student(tail, score):
    return (1 - score) ** -tail


def test_what_falls_faster_than_every_power_is_sampled_at_any_temperature():
    keys = torch.randn(4, 3, dtype=D)
    energies = [presets.distance(1e-3), presets.log_sum_exp(50.0), presets.epanechnikov(), presets.hybrid(), ReadEnergy(Manhattan(), Exp(), Log()),
                ReadEnergy(Euclidean(), Tsallis(1.5), Simplex()), ReadEnergy(Euclidean(), Exp(), TopK(2)), presets.linear_attention(1e-3),
                ReadEnergy(Euclidean(), Exp(), Log(), beta=torch.tensor([0.1, 9.0], dtype=D))]  # fmt: skip
    for energy in energies:
        for temperature in (1e-3, 1e4):
            assert Langevin(1e-3, 2, temperature, seed=0)(energy, keys.expand(2, 4, 3), keys).state.isfinite().all()


def test_a_compact_kernel_loses_chains_that_are_not_corrected():
    """Outside of every support the gradient is 0: nothing would bring a chain back. Sparse weights have no such place."""
    keys = torch.randn(4, 3, dtype=D)
    with pytest.raises(ValueError, match="no slot is in reach"):
        Langevin(metropolis=False)(presets.epanechnikov(), keys, keys)
    for energy in (presets.hybrid(), presets.sparsemax(), ReadEnergy(Euclidean(), Tsallis(2.0), Simplex())):
        Langevin(0.01, 2, metropolis=False)(energy, keys, keys)
    Langevin(0.01, 2)(presets.epanechnikov(), keys, keys)


def test_bad_starts_and_options_are_refused():
    with pytest.raises(ValueError, match="density 0"):
        Langevin()(presets.epanechnikov(), torch.full((2, 3), 9.0), torch.eye(3))
    with pytest.raises(ValueError, match="query holds NaN"):
        Langevin()(presets.distance(), torch.full((2, 3), math.nan), torch.eye(3))
    with pytest.raises(ValueError, match="in the hypercube"):
        Langevin(metropolis=False)(ReadEnergy(Dot(), Exp(), Log(), Hypercube()), torch.zeros(2, 3), torch.eye(3))
    for wrong in ({"step_size": 0.0}, {"temperature": -1.0}, {"temperature": math.inf}, {"steps": 0}, {"warm_up": 1000}, {"record": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Langevin(**wrong)


def test_a_chain_starts_where_its_density_is_not_0():
    with pytest.raises(ValueError, match="outside"):
        Langevin()(presets.exponential(), torch.full((1, 3), 3.0), torch.ones(2, 3))
