"""Energies as log-densities integrate to one; von Mises–Fisher mixtures on the sphere."""

import math

import pytest
import torch
from mpmath import mp
from scipy.integrate import quad
from scipy.stats import multivariate_normal, vonmises_fisher

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.analysis import log_density, log_partition, von_mises_fisher_log_constant
from hopfield_amem.analysis.density import _log_bessel
from hopfield_amem.descent import FixedPoint
from hopfield_amem.energies import Cosine, Euclidean, Exp, Log, Quadratic, Sphere, Sum

close = torch.testing.assert_close
D = torch.float64
KERNELS = [presets.distance(2.0), presets.epanechnikov(0.7), presets.hybrid(0.3, 1.5), presets.log_sum_exp(1.3)]


@pytest.mark.parametrize("energy", KERNELS, ids=str)
def test_densities_on_the_line_integrate_to_one(energy):
    keys = torch.tensor([[-1.0], [0.3], [2.0]], dtype=D)
    presence = torch.tensor([1.0, 0.25, 0.5], dtype=D)
    edges = sorted(k + s * math.sqrt(2 / energy.beta) for k in keys.flatten().tolist() for s in (-1, 1))
    for amount in (None, presence):
        density = lambda x, a=amount: log_density(energy, torch.tensor([[x]], dtype=D), keys, presence=a).exp().item()
        assert quad(density, -12, 12, points=edges, limit=400, epsabs=1e-11)[0] == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("energy", KERNELS, ids=str)
@pytest.mark.parametrize("dim", [2, 5])
def test_kernels_integrate_to_one_in_any_dimension(energy, dim):
    """A single pattern at the origin: the density depends on the radius alone."""
    key = torch.zeros(1, dim, dtype=D)
    surface = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)

    def shell(radius):
        return surface * radius ** (dim - 1) * log_density(energy, torch.eye(1, dim, dtype=D) * radius, key).exp().item()

    assert quad(shell, 0, 15, points=[math.sqrt(2 / energy.beta)], limit=300, epsabs=1e-11)[0] == pytest.approx(1, abs=1e-8)


def test_the_distance_energy_is_a_mixture_of_gaussians():
    keys, x = torch.randn(4, 3, dtype=D), torch.randn(7, 3, dtype=D)
    mixture = sum(multivariate_normal(key, 1 / 1.7).pdf(x.numpy()) for key in keys.numpy()) / 4
    close(log_density(presets.distance(1.7), x, keys), torch.tensor(mixture).log())


@pytest.mark.parametrize("dim, kappa", [(2, 0.5), (3, 4.0), (5, 30.0), (64, 170.0)])
def test_von_mises_fisher_against_scipy(dim, kappa):
    keys = torch.nn.functional.normalize(torch.randn(3, dim, dtype=D), dim=-1)
    x = torch.nn.functional.normalize(torch.randn(6, dim, dtype=D), dim=-1)
    truth = sum(vonmises_fisher(key, kappa).pdf(x.numpy()) for key in keys.numpy()) / 3
    close(log_density(presets.von_mises_fisher(kappa), x, keys), torch.tensor(truth).log(), rtol=1e-10, atol=1e-10)


def test_von_mises_fisher_on_the_circle_of_any_radius():
    keys = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=D)
    energy = ReadEnergy(Cosine(), Exp(), Log(), Sphere(2.0), 3.0)
    at = lambda angle: 2 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=D)
    assert quad(lambda a: 2 * log_density(energy, at(a), keys).exp().item(), -math.pi, math.pi)[0] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dim, kappa", [(2, 1e-3), (3, 700.0), (3, 1e6), (300, 2.0), (2000, 1.0), (2000, 500.0), (20_000, 3000.0)])
def test_the_constant_where_bessel_functions_underflow(dim, kappa):
    with mp.workdps(40):
        order = mp.mpf(dim) / 2 - 1
        truth = order * mp.log(kappa) - mp.mpf(dim) / 2 * mp.log(2 * mp.pi) - mp.log(mp.besseli(order, kappa))
    assert von_mises_fisher_log_constant(dim, kappa) == pytest.approx(float(truth), rel=1e-11)


@pytest.mark.parametrize("kappa", [1.1e5, 1e9, 1.2e9, 1e12, 1e200])
def test_the_constant_of_the_narrowest_densities(kappa):
    """In three dimensions I_½ is elementary: C₃(κ) = κ/(4π sinh κ); in five C₅(κ) = κ³/(4π² [2κ cosh κ − 2 sinh κ])."""
    assert von_mises_fisher_log_constant(3, kappa) == pytest.approx(math.log(kappa / (2 * math.pi)) - kappa, rel=1e-14)
    assert von_mises_fisher_log_constant(5, kappa) == pytest.approx(3 * math.log(kappa) - math.log(4 * math.pi**2 * (kappa - 1)) - kappa, rel=1e-14)


@pytest.mark.parametrize("dim, kappa", [(200_001, 1.0), (3_000_000, 1e9), (4_000_000_000, 7.0), (250_000, 1e-4)])
def test_the_constant_in_very_many_dimensions(dim, kappa):
    """Against the ratio of neighbouring orders, ``I_(ν−1)(κ) − I_(ν+1)(κ) = (2ν/κ) I_ν(κ)``, which any wrong term of the expansion breaks."""
    order = 0.5 * dim - 1
    below, here, above = (_log_bessel(order + step, kappa) for step in (-1, 0, 1))
    left = math.exp(below - here) - math.exp(above - here)
    assert left == pytest.approx(2 * order / kappa, rel=4e-16 * abs(here) + 1e-12, abs=4e-16 * abs(here))


def test_patterns_without_a_direction_are_refused_unless_they_are_not_there():
    keys, x = torch.randn(3, 4, dtype=D), torch.nn.functional.normalize(torch.randn(5, 4, dtype=D), dim=-1)
    energy, padded = presets.von_mises_fisher(3.0), torch.cat([keys, torch.zeros(1, 4, dtype=D)])
    with pytest.raises(ValueError, match="1 of the patterns have length 0"):
        log_density(energy, x, padded)
    there = torch.tensor([True, True, True, False])
    close(log_density(energy, x, padded, presence=there), log_density(energy, x, keys))
    close(log_density(energy, x, padded * 1e-6, presence=there.double()), log_density(energy, x, keys))


@pytest.mark.parametrize("energy", [*KERNELS, presets.von_mises_fisher(40.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_read_in_single_precision(energy, dtype):
    keys = torch.nn.functional.normalize(torch.randn(3, 60), dim=-1).to(dtype)
    x = keys[:2] * 1.01
    found = log_density(energy, x, keys)
    assert found.dtype == torch.float32
    close(found.double(), log_density(energy, x.double(), keys.double()), rtol=1e-5, atol=1e-4)


def test_modes_cluster_directions():
    """Spherical mean shift: every direction settles at the mode of its cluster."""
    centres = torch.eye(3, dtype=D)
    label = torch.arange(60) % 3
    points = torch.nn.functional.normalize(centres[label] + 0.25 * torch.randn(60, 3, dtype=D), dim=-1)
    rest = FixedPoint(steps=500, tolerance=1e-9)(presets.von_mises_fisher(12.0), points, points).state
    same = rest @ rest.T > 0.999
    assert torch.equal(same, label.unsqueeze(0) == label.unsqueeze(1))
    close(rest.norm(dim=-1), torch.ones(60, dtype=D))


def test_nothing_stored_has_no_density_and_unknown_constants_are_refused():
    x, keys = torch.randn(2, 3, dtype=D), torch.randn(4, 3, dtype=D)
    assert (log_density(presets.distance(), x, keys[:0]) == -math.inf).all()
    assert (log_density(presets.distance(), x, keys, presence=torch.zeros(4)) == -math.inf).all()
    for energy in (presets.entmax(), presets.softmax1(), ReadEnergy(Euclidean(), Exp(), Sum()), ReadEnergy(Euclidean(), Exp(), Log(), Quadratic())):
        with pytest.raises(ValueError, match="log Z"):
            log_density(energy, x, keys)
    with pytest.raises(ValueError, match="not known in closed form"):
        log_partition(ReadEnergy(Euclidean(), lambda s: (1 - s) ** -4, Log()), keys)
    with pytest.raises(ValueError, match="same for all queries"):
        log_density(presets.distance(), x, keys, presence=torch.ones(2, 4, dtype=D))
    for wrong in ((1, 1.0), (3, 0.0), (3, math.inf)):
        with pytest.raises(ValueError, match="von Mises–Fisher"):
            von_mises_fisher_log_constant(*wrong)
