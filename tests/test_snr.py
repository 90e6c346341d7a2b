"""The retrieval SNR: closed forms against scipy's quadrature, against keys that are drawn, and against what is printed."""

import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.analysis.snr import (
    AveragedGaussianKeys,
    GaussianKeys,
    SphericalKeys,
    closed,
    inverse_snr,
    measured_inverse_snr,
    printed_inverse_snr,
    required_dim,
    snr_sweep,
    value_bias,
)
from hopfield_amem.analysis.snr.closed import CLOSED
from hopfield_amem.analysis.snr.kernel import Kernel
from hopfield_amem.analysis.snr.laws import NormalScores
from hopfield_amem.analysis.snr.moments import log_mean
from hopfield_amem.energies import (
    Activation,
    Cosine,
    Dot,
    Epanechnikov,
    Euclidean,
    Exp,
    Free,
    Log,
    Manhattan,
    Power,
    RectifiedPower,
    Rounded,
    Sphere,
    Sum,
    Tsallis,
)


def powers(n, rectified=False):
    """κ = xⁿ, or max(x, 0)ⁿ."""
    return ReadEnergy(Dot(), (RectifiedPower if rectified else Power)(n + 1), Sum(), Sphere())


def kernel(function, beta=1.0):
    """A kernel of one's own."""
    return ReadEnergy(Dot(), Activation(function), Sum(), beta=beta)


def softmax(dim):
    return presets.log_sum_exp(dim**-0.5)


THRESHOLD = kernel(lambda s: (s - 0.25 * 64).relu())
SOLU = kernel(lambda s: s * s.exp(), 1 / 8)

TABLE = {  # formula at N = 256 and N = 2048, d = 64 (the analyst's own table of arXiv 2505.19488, §2.1)
    "linear": (powers(1), 4.0, 32.0),
    "relu": (powers(1, True), 2.0, 16.0),
    "square": (powers(2), 0.1875, 1.5),
    "cube": (powers(3), 0.01465, 0.1172),
    "fourth": (powers(4), 0.00160, 0.01282),
    "squared relu": (powers(2, True), 0.0938, 0.750),
    "exp, τ = 8": (presets.log_sum_exp(1 / 8), 2.13e-4, 1.703e-3),
    "exp, τ = 16": (presets.log_sum_exp(1 / 16), 0.1416, 1.133),
    "SoLU, τ = 8": (SOLU, 1.66e-5, 1.33e-4),
    "ReLU, threshold a quarter": (THRESHOLD, 0.0410, 0.328),
    "SiLU": (presets.silu_feed_forward(1 / 8), 1.424, 11.39),
    "GELU": (presets.gelu_feed_forward(1 / 8), 1.701, 13.61),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("column, count", [(1, 256), (2, 2048)])
def test_the_table_of_kernels(name, column, count):
    energy, formula = TABLE[name][0], TABLE[name][column]
    found = inverse_snr(energy, count, GaussianKeys(64))
    assert found.kind == "exact" and not found.rare
    assert found.mean * count / (count - 1) == pytest.approx(formula, rel=0.01)  # SiLU and GELU are printed with κ(k_i, k_i) taken for √d


@pytest.mark.parametrize("name", ["linear", "squared relu", "exp, τ = 8", "ReLU, threshold a quarter", "GELU"])
def test_keys_that_are_drawn_agree(name):
    energy = TABLE[name][0]
    found, drawn = inverse_snr(energy, 256, GaussianKeys(64)), measured_inverse_snr(energy, 256, GaussianKeys(64), trials=300, confidence=0.999)
    assert drawn.kind == "measured" and drawn.interval is not None and drawn.interval[0] <= found.log_mean <= drawn.interval[1]
    assert found.log_typical == pytest.approx(drawn.log_typical, abs=0.15)


@pytest.mark.parametrize("tau", [2.0, 3.0, 4.0, 8.0])
def test_at_small_temperatures_the_mean_is_rare_and_the_typical_value_is_what_occurs(tau):
    """Random energies freeze: at τ = 2 the formula says 2.6e-11, memories have 1.6e-16 in the median."""
    energy = presets.log_sum_exp(1 / tau)
    found, drawn = inverse_snr(energy, 2048, GaussianKeys(64)), measured_inverse_snr(energy, 2048, GaussianKeys(64), trials=150)
    assert found.log_typical == pytest.approx(drawn.log_typical, abs=0.35)
    frozen = 8 / tau > math.sqrt(2 * math.log(2048)) / 2
    assert found.rare == frozen and ("rare keys" in str(found)) == frozen
    if tau == 2.0:
        assert found.mean == pytest.approx(2.6e-11, rel=0.01) and found.typical == pytest.approx(1.6e-16, rel=0.1)


@pytest.mark.parametrize("dim", [1, 2, 17, 63, 100])
@pytest.mark.parametrize("separation", [Exp(), Power(1), Power(4), RectifiedPower(1), RectifiedPower(3), Epanechnikov()])
def test_closed_forms_are_integrals(dim, separation, monkeypatch):
    """Every registered closed form against the library's quadrature, at sizes 1, 17, 63 and 100 and for three similarities."""
    beta = 0.3
    dot = ReadEnergy(Dot(), separation, Sum(), Sphere(), beta)
    cases = [(dot, GaussianKeys(dim)), (dot, GaussianKeys(dim, 2.5))]
    if dim > 1:
        cases += [(dot, SphericalKeys(dim)), (ReadEnergy(Cosine(), separation, Sum(), beta=beta), GaussianKeys(dim))]
    if isinstance(separation, (Exp, RectifiedPower)):
        cases += [(ReadEnergy(Euclidean(), Exp(), Log(), beta=beta), GaussianKeys(dim))]
    forms = [inverse_snr(energy, 100, keys).log_mean for energy, keys in cases]
    with monkeypatch.context() as patch:
        patch.setattr("hopfield_amem.analysis.snr.moments.closed_form", lambda *_: None)
        integrals = [inverse_snr(energy, 100, keys).log_mean for energy, keys in cases]
    np.testing.assert_allclose(forms, integrals, rtol=1e-10, atol=1e-10)


def test_quadrature_against_scipy():
    """SiLU, whose mean square has no closed form, and Epanechnikov over distances, a distribution function."""
    silu, _ = integrate.quad(lambda z: (z / (1 + math.exp(-z))) ** 2 * stats.norm.pdf(z), -40, 40, epsabs=0, epsrel=1e-12, limit=400)
    own = math.sqrt(17) / (1 + math.exp(-math.sqrt(17)))
    assert inverse_snr(presets.silu_feed_forward(17**-0.5), 101, GaussianKeys(17)).mean == pytest.approx(100 * silu / own**2, rel=1e-10)
    for dim, beta in ((3, 0.2), (64, 1 / 40)):
        within = stats.ncx2.cdf(2 / beta, dim, dim)
        assert inverse_snr(presets.epanechnikov(beta), 101, GaussianKeys(dim)).mean == pytest.approx(100 * within, rel=1e-9)
    cap = stats.beta.sf((1 + 1 - 1 / 2.0) / 2, 1.5, 1.5)  # 1 − cos t < 1/β in four dimensions
    assert inverse_snr(presets.epanechnikov(2.0), 101, SphericalKeys(4)).mean == pytest.approx(100 * cap, rel=1e-9)


@pytest.mark.parametrize("dim", [1000, 6000, 10**5])
def test_distances_in_many_dimensions(dim, monkeypatch):
    """scipy's scaled Bessel functions underflow there."""
    energy = presets.distance(dim**-0.5)
    exact = inverse_snr(energy, 1000, GaussianKeys(dim))
    monkeypatch.setattr("hopfield_amem.analysis.snr.moments.closed_form", lambda *_: None)
    assert inverse_snr(energy, 1000, GaussianKeys(dim)).log_mean == pytest.approx(exact.log_mean, rel=1e-11)
    assert math.isfinite(exact.log_typical or math.nan)


def test_the_expansion_of_bessel_functions_meets_scipys():
    from scipy.special import ive

    from hopfield_amem.analysis.snr.bessel import _uniform

    for order, close in ((20.0, 5e-8), (50.0, 1e-9), (200.0, 5e-12)):
        z = order * np.array([0.3, 1.0, 3.0, 10.0])
        np.testing.assert_allclose(_uniform(order, z / order) - z, np.log(ive(order, z)), rtol=0, atol=close)


def test_kernels_that_jump_where_nobody_said():
    """Rounded to integers, κ = round(s), and a threshold of one's own: against sums of normal distribution functions."""
    steps = np.arange(-400, 401)
    chance = stats.norm.cdf((steps + 0.5) / 8) - stats.norm.cdf((steps - 0.5) / 8)  # s ~ N(0, 8²)
    found = inverse_snr(Rounded(0), 101, GaussianKeys(64))
    assert found.mean == pytest.approx(100 * float(chance @ steps**2) / 64**2, rel=1e-4) and "quadrature to" in found.assumption
    b = 0.25 * 8
    tail = stats.norm.sf(b) * (1 + b**2) - b * stats.norm.pdf(b)
    assert inverse_snr(THRESHOLD, 101, GaussianKeys(64)).mean == pytest.approx(100 / 64 * tail / 0.75**2, rel=1e-8)


def test_over_the_lengths_of_the_keys_that_are_asked_for_the_mean_is_larger():
    """``N (1 + 4(τ − 1)/τ²)^(−d/2)``: at τ = √d by 7.2, 10.9 and 15.6 for d = 32, 64, 128, while the median stays."""
    for dim, ratio in ((32, 7.2), (64, 10.9), (128, 15.6)):
        energy, tau = softmax(dim), math.sqrt(dim)
        averaged, one = inverse_snr(energy, 1000, AveragedGaussianKeys(dim)), inverse_snr(energy, 1000, GaussianKeys(dim))
        assert averaged.log_mean == pytest.approx(math.log(999) - 0.5 * dim * math.log1p(4 * (tau - 1) / tau**2), abs=1e-9)
        assert math.exp(averaged.log_mean - one.log_mean) == pytest.approx(ratio, rel=0.01)
        assert averaged.rare and averaged.log_typical == pytest.approx(one.log_typical, abs=0.2)


@pytest.mark.parametrize(
    "energy, dim",
    [(presets.log_sum_exp(1.15), 64), (presets.log_sum_exp(0.5), 1000), (powers(1), 17), (powers(2, True), 6), (presets.distance(0.3), 63)],
)
def test_closed_forms_over_lengths_are_integrals(energy, dim, monkeypatch):
    """Where the integrand sits far from √d, too: at β = 1.15 about 1.8 √d."""
    form = inverse_snr(energy, 2, AveragedGaussianKeys(dim)).log_mean
    monkeypatch.setattr("hopfield_amem.analysis.snr.moments.closed_form", lambda *_: None)
    integral = inverse_snr(energy, 2, AveragedGaussianKeys(dim))
    assert integral.log_mean == pytest.approx(form, rel=1e-11, abs=1e-11) and "over lengths" in integral.assumption


def test_over_lengths_against_scipy_where_there_is_no_closed_form():
    """SiLU at β = 1/2 in five dimensions, as a double integral."""
    silu = lambda s: s / (1 + math.exp(-s)) if s > -700 else 0.0
    square = lambda r: integrate.quad(lambda z: silu(0.5 * r * z) ** 2 * stats.norm.pdf(z), -12, 12, epsrel=1e-9, limit=200)[0]
    expected, _ = integrate.quad(lambda r: square(r) / silu(0.5 * r * r) ** 2 * stats.chi.pdf(r, 5), 0, 12, epsrel=1e-7, limit=200)
    assert inverse_snr(presets.silu_feed_forward(0.5), 2, AveragedGaussianKeys(5)).mean == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "energy, diverges, converges",
    [(powers(1), 2, 3), (powers(1, True), 1, 4), (powers(3), 6, 7), (presets.silu_feed_forward(1.0), 2, 3)],
)
def test_in_few_dimensions_the_mean_over_lengths_diverges(energy, diverges, converges, monkeypatch):
    """``E‖k‖^(−2n)`` is infinite for d ≤ 2n: said by closed forms and found by quadrature."""
    for form in (True, False):
        found = inverse_snr(energy, 9, AveragedGaussianKeys(diverges))
        assert found.mean == math.inf and found.typical is not None and found.typical < math.inf and "diverges" in str(found)
        assert math.isfinite(inverse_snr(energy, 9, AveragedGaussianKeys(converges)).log_mean)
        if form:
            monkeypatch.setattr("hopfield_amem.analysis.snr.moments.closed_form", lambda *_: None)


def test_cold_softmax_diverges_over_lengths(monkeypatch):
    """``(1 + 4β − 4β²)^(−d/2)`` up to β = (1 + √2)/2 = 1.207; where the quadrature cannot see whether it converges it refuses."""
    assert inverse_snr(presets.log_sum_exp(1.2), 2, AveragedGaussianKeys(64)).log_mean == pytest.approx(-32 * math.log(0.04), rel=1e-12)
    assert inverse_snr(presets.log_sum_exp(1.21), 2, AveragedGaussianKeys(64)).mean == math.inf
    monkeypatch.setattr("hopfield_amem.analysis.snr.moments.closed_form", lambda *_: None)
    with pytest.raises(ValueError, match="or diverges"):
        inverse_snr(presets.log_sum_exp(1.3), 2, AveragedGaussianKeys(17))


def test_values_with_a_mean_add_up():
    """``N²/(2πd)`` for ReLU, ``N² e^(d/τ² − 2d/τ)`` for exp (1.04e4 and 1.28), nothing for odd kernels; drawn values of one length agree."""
    keys = GaussianKeys(64)
    assert value_bias(powers(1, True), 2048, keys) == pytest.approx(1.04e4, rel=5e-3) == 2047 * 2046 / (128 * math.pi)
    assert value_bias(softmax(64), 2048, keys) == pytest.approx(1.28, rel=2e-3) == 2047 * 2046 * math.exp(-15)
    assert value_bias(powers(1), 2048, keys) < 1e-15 and value_bias(powers(3), 2048, keys) < 1e-15
    assert value_bias(powers(2), 1001, keys) == pytest.approx(1000 * 999 / 64**2, rel=1e-9)
    assert value_bias(presets.log_sum_exp(1.5), 3, keys) == pytest.approx(2 * math.exp(2.25 * 64 - 2 * 1.5 * 64), rel=1e-9)  # far from where keys are
    assert value_bias(softmax(64), 2, keys) == value_bias(softmax(64), 1, keys) == 0
    generator = torch.Generator().manual_seed(0)
    asked, others = keys.asked(1, generator), torch.randn(4000, 40, 64, generator=generator, dtype=torch.float64)
    mean = torch.tensor([1.0, 0.0], dtype=torch.float64)
    noise = ((others @ asked[0]).relu().unsqueeze(-1) * (mean + torch.randn(4000, 40, 2, generator=generator, dtype=torch.float64))).sum(1).square().sum(-1)
    expected = 3 * inverse_snr(powers(1, True), 41, keys).mean + value_bias(powers(1, True), 41, keys)  # E‖v‖² = 3, ‖μ‖² = 1
    assert float(noise.mean()) / 64**2 == pytest.approx(expected, rel=0.05)
    for wrong, error in ((lambda: value_bias(presets.entmax(), 5, keys), ValueError), (lambda: value_bias(powers(1), 5, torch.randn(5, 3)), TypeError)):
        with pytest.raises(error):
            wrong()


def test_keys_of_length_one():
    """Exact 8.05e-4, Gaussian approximation 8.5e-4 at d = 64, N = 1024, τ = 1/8 (in N, not N − 1); the exact form falls with τ for ever."""
    energy, keys = presets.log_sum_exp(8.0), SphericalKeys(64)
    assert inverse_snr(energy, 1024, keys).mean * 1024 / 1023 == pytest.approx(8.05e-4, rel=1e-3)
    assert printed_inverse_snr(energy, 1024, keys).mean == pytest.approx(8.5e-4, rel=5e-3)
    assert inverse_snr(presets.distance(8.0), 1024, keys).log_mean == pytest.approx(inverse_snr(energy, 1024, keys).log_mean, abs=1e-10)
    exact = [inverse_snr(presets.log_sum_exp(b), 1024, keys).log_mean for b in (1.0, 8.0, 32.0, 128.0, 2048.0)]
    printed = [printed_inverse_snr(presets.log_sum_exp(b), 1024, keys).log_mean for b in (1.0, 8.0, 32.0, 128.0, 2048.0)]
    assert (np.diff(exact) < 0).all() and not (np.diff(printed) < 0).all()


def test_required_dimensions():
    counts = (10**3, 10**4, 10**5, 10**6)
    assert [required_dim(powers(2), count).dim for count in counts] == [55, 174, 548, 1733]
    assert [required_dim(powers(3), count).dim for count in counts] == [25, 54, 115, 247]
    assert [required_dim(softmax, count).dim for count in counts] == [20, 32, 46, 63]
    assert [required_dim(softmax, count, 100).dim for count in counts] == [46, 63, 83, 105]
    assert [required_dim(presets.log_sum_exp(0.5), count).dim for count in counts] == [14, 19, 24, 28]
    assert required_dim(powers(1), 1000).dim == 999 and required_dim(powers(1), 1000, 100).dim == 99900  # N − 1 others
    assert required_dim(powers(1), 1).dim == 1
    for dim, count in ((64, 1.2e6), (128, 9e8)):  # what heads of this width hold at SNR = 1
        assert inverse_snr(softmax(dim), round(count), GaussianKeys(dim)).mean == pytest.approx(1, rel=0.02)
    assert required_dim(lambda d: presets.log_sum_exp(d**0.5), 1000, keys=SphericalKeys).dim in (20, 21)


def test_a_required_dimension_that_is_rare_says_so():
    found = required_dim(presets.log_sum_exp(0.5), 10**6, 1e6)
    assert found.noise.rare and "hardly ever" in str(found)
    assert required_dim(presets.log_sum_exp(0.5), 10**6, 1e6, statistic="typical").dim < found.dim
    with pytest.raises(ValueError, match="No dimension up to"):
        required_dim(presets.log_sum_exp(2.0), 100)


@pytest.mark.parametrize("energy", [presets.entmax(1.5, 0.02), presets.sparsemax(0.01), presets.normmax(beta=0.02)])
def test_a_threshold_has_a_mean_field(energy):
    found, drawn = inverse_snr(energy, 256, GaussianKeys(64)), measured_inverse_snr(energy, 256, GaussianKeys(64), trials=100, confidence=0.999)
    assert found.kind == "approximation" and "mean field" in found.assumption
    assert found.mean == pytest.approx(drawn.mean, rel=0.12) and found.typical == pytest.approx(drawn.typical, rel=0.15)


def test_heads_are_noisier_than_one_head_of_their_width():
    """``N e^(2 − 2√(d/h))`` at d = 64 and N = 2048: heads buy several queries per token, not capacity."""
    for heads, noise in ((1, 1.7e-3), (2, 0.185), (4, 5.08), (8, 52.9)):
        assert inverse_snr(softmax(64 // heads), 2048, GaussianKeys(64 // heads)).mean == pytest.approx(noise, rel=5e-3)


def test_a_separation_alone_weighs_inner_products():
    assert inverse_snr(Power(2), 101, GaussianKeys(10)).mean == pytest.approx(10) and required_dim(RectifiedPower(2), 101).dim == 50
    assert measured_inverse_snr(RectifiedPower(2), 17, GaussianKeys(5), trials=3) == measured_inverse_snr(powers(1, True), 17, GaussianKeys(5), trials=3)


def test_softmax_by_any_scaling_is_one_memory():
    exact = inverse_snr(presets.log_sum_exp(0.2), 50, GaussianKeys(17))
    for energy in (presets.softmax1(0.2), presets.entmax(1.0, 0.2), ReadEnergy(Dot(), Tsallis(1.0), Sum(), beta=0.2)):
        assert inverse_snr(energy, 50, GaussianKeys(17)).log_mean == pytest.approx(exact.log_mean, abs=1e-10)
    for count in (2, 17):
        drawn = [measured_inverse_snr(energy, count, GaussianKeys(17), trials=5) for energy in (presets.log_sum_exp(0.2), presets.softmax1(0.2))]
        assert drawn[0].log_mean == pytest.approx(drawn[1].log_mean, abs=1e-10)


def test_keys_of_ones_own():
    """Pairs by hand; drawing all of the keys measures the same; correlated keys are noisier than independent ones."""
    keys = torch.randn(30, 5, dtype=torch.float64)
    energy = presets.log_sum_exp(0.4)
    squares = torch.exp(2 * 0.4 * (keys @ keys.mT - keys.square().sum(-1, keepdim=True))).fill_diagonal_(0).sum(1)
    found = inverse_snr(energy, 30, keys)
    assert found.kind == "exact" and found.mean == pytest.approx(float(squares.mean()), rel=1e-12)
    assert found.typical == pytest.approx(float(squares.median()), rel=1e-12)
    fewer = inverse_snr(energy, 7, keys)
    assert fewer.mean == pytest.approx(float(squares.mean()) * 6 / 29, rel=1e-12) and fewer.typical is None and "typically" not in str(fewer)
    drawn = measured_inverse_snr(energy, 30, keys, trials=400, confidence=0.999)
    assert drawn.interval is not None and drawn.interval[0] <= found.log_mean <= drawn.interval[1]
    many = torch.randn(400, 64, generator=torch.Generator().manual_seed(1))
    squeezed = many * torch.linspace(0, 2, 64).sqrt()
    rank = 64**2 / float(torch.linspace(0, 2, 64).sum()) ** 2 * float(torch.linspace(0, 2, 64).square().sum()) / 64  # tr(Σ²)/tr(Σ)² · d
    independent, correlated = (float(inverse_snr(powers(1), 400, keys).typical or 0) for keys in (many, squeezed))
    assert correlated / independent == pytest.approx(rank, rel=0.1)  # the effective rank in place of d


def test_of_very_many_keys_part_is_asked_for_and_the_mean_is_measured():
    keys = torch.randn(2050, 3, dtype=torch.float64)
    found = inverse_snr(powers(2), 2050, keys)
    asked = keys[::2]
    noise = ((asked @ keys.mT) / asked.square().sum(1, keepdim=True)).pow(4)
    assert found.kind == "measured" and "1025 of 2050" in found.assumption and found.mean == pytest.approx(float((noise.sum(1) - 1).mean()), rel=1e-9)


def test_printed_forms_are_those_in_print():
    """Closed forms that are the library's, or one's own, are not the paper's."""
    assert printed_inverse_snr(powers(3), 256, GaussianKeys(64)).mean == pytest.approx(256 * 15 / 64**3, rel=1e-12)
    assert printed_inverse_snr(powers(2, True), 256, GaussianKeys(64)).mean == pytest.approx(256 * 1.5 / 64**2, rel=1e-12)
    for energy, keys in (
        (presets.epanechnikov(0.1), GaussianKeys(64)), (ReadEnergy(Dot(), Epanechnikov(), Sum(), Sphere()), GaussianKeys(64)),
        (presets.distance(0.1), GaussianKeys(64)), (powers(2), SphericalKeys(64)), (powers(2), AveragedGaussianKeys(64)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="No formula is printed"):
            printed_inverse_snr(energy, 256, keys)


def test_as_an_estimate_it_is_how_close_answers_are():
    """``E‖r‖²/(c²‖v‖²)`` is ε² of an answer that is ε-close."""
    energy = presets.log_sum_exp(0.2)
    exact, printed, drawn = (f(energy, 50, GaussianKeys(17)) for f in (inverse_snr, printed_inverse_snr, measured_inverse_snr))
    assert [found.estimate.kind for found in (exact, printed, drawn)] == ["theorem", "heuristic", "measured"]
    assert exact.estimate.value == exact.mean and exact.estimate.log_value == exact.log_mean and exact.estimate.success == "ε-close"
    assert drawn.estimate.interval is not None and drawn.interval is not None and drawn.estimate.interval[0] == pytest.approx(math.exp(drawn.interval[0]))
    steep = inverse_snr(presets.log_sum_exp(5.0), 100, GaussianKeys(1000)).estimate
    assert steep.value == math.inf and steep.log_value == pytest.approx(math.log(99) + 50_000 - 10_000, rel=1e-12)
    keys = torch.randn(4000, 50, 17, dtype=torch.float64)
    keys[:, 0] *= math.sqrt(17) / keys[:, 0].norm(dim=-1, keepdim=True)
    weight = (0.2 * (keys @ keys[:, 0].unsqueeze(-1)).squeeze(-1)).exp()
    values = torch.randn(4000, 50, 9, dtype=torch.float64)
    off = ((weight[..., None] * values).sum(1) / weight[:, :1] - values[:, 0]).square().sum(-1).mean() / 9
    assert float(off) == pytest.approx(exact.estimate.value, rel=0.1)


def test_a_sweep_shows_how_far_it_is(monkeypatch):
    seen = []

    @contextmanager
    def shown(title, total):
        seen.append(total)
        yield lambda: seen.append(1)

    monkeypatch.setattr("hopfield_amem.analysis.snr.sweep.progress", shown)
    snr_sweep({"linear": lambda n: (powers(1), n, GaussianKeys(4)), "square": lambda n: (powers(2), n, GaussianKeys(4))}, [2, 4, 8])
    assert seen == [6] + 6 * [1]


def test_a_sweep_holds_what_is_known_and_shows_where_the_print_fails(tmp_path):
    cases = {
        "softmax": lambda tau: (presets.log_sum_exp(1 / tau), 2048, GaussianKeys(64)),
        "length one": lambda tau: (presets.log_sum_exp(64 / tau), 2048, SphericalKeys(64)),
        "Manhattan": lambda tau: (ReadEnergy(Manhattan(), Exp(), Log(), Free(), 1 / tau), 17, GaussianKeys(5)),
    }
    sweep = snr_sweep(cases, [2.0, 8.0, 32.0], axis="temperature τ", trials=5)
    assert [point.printed_fails for point in sweep.curves["softmax"]] == [True, False, False]
    assert [point.printed_fails for point in sweep.curves["length one"]] == [True, False, False]
    assert all(point.computed is None and point.measured is not None for point in sweep.curves["Manhattan"])
    assert sweep.to_json()["kind"] == "SNRSweep" and len(sweep.rows()) == 3 * (3 + 3 + 1) and "printed fails" in sweep.table()
    panels = sweep.plot().axes
    assert [len(panel.patches) for panel in panels] == [1, 1, 0] and panels[0].get_xlabel() == "temperature τ"
    assert [path.name for path in sweep.save(tmp_path, "snr")] == ["snr.json", "snr.png"]


def test_a_closed_form_of_ones_own_is_registered():
    class Cubed(Exp):
        def __call__(self, score):
            return (3 * score).exp() / 3

        slope = lambda self, score: (3 * score).exp()

    @closed(Cubed, NormalScores)
    def form(separation, law):
        return 18 * law.spread**2 - 6 * law.own

    try:
        energy = ReadEnergy(Dot(), Cubed(), Sum(), Sphere(), 0.1)
        assert "closed form" in inverse_snr(energy, 50, GaussianKeys(16)).assumption
        with pytest.raises(ValueError, match="No formula is printed"):
            printed_inverse_snr(energy, 50, GaussianKeys(16))
    finally:
        del CLOSED[Cubed, NormalScores]


def test_one_key_alone_meets_no_noise_and_millions_fit():
    assert inverse_snr(presets.log_sum_exp(), 1, GaussianKeys(3)).mean == 0
    assert measured_inverse_snr(presets.log_sum_exp(), 1, GaussianKeys(3)).mean == 0
    found = inverse_snr(softmax(64), 10**9, GaussianKeys(64))
    assert math.isfinite(found.log_mean) and found.mean == pytest.approx(1e9 * math.exp(2 - 16), rel=1e-6)
    steep = inverse_snr(presets.log_sum_exp(5.0), 100, GaussianKeys(1000))
    assert math.isfinite(steep.log_mean) and steep.mean == math.inf and steep.rare and "10^" in str(steep)


@pytest.mark.parametrize(
    "wrong, why",
    [
        (lambda: inverse_snr(presets.log_sum_exp(), 0, GaussianKeys(3)), "at least 1"),
        (lambda: inverse_snr(presets.log_sum_exp(), 2.5, GaussianKeys(3)), "at least 1"),
        (lambda: inverse_snr(presets.log_sum_exp(), 5, GaussianKeys(0)), "at least 1"),
        (lambda: inverse_snr(presets.log_sum_exp(), 5, SphericalKeys(1)), "at least 2"),
        (lambda: inverse_snr(presets.log_sum_exp(), 5, GaussianKeys(3, -1.0)), "squared length"),
        (lambda: inverse_snr(presets.log_sum_exp(0.0), 5, GaussianKeys(3)), "positive"),
        (lambda: inverse_snr(presets.log_sum_exp(torch.ones(2)), 5, GaussianKeys(3)), "one temperature"),
        (lambda: inverse_snr(presets.log_sum_exp(), 5, torch.full((4, 3), torch.nan)), "NaN"),
        (lambda: inverse_snr(presets.log_sum_exp(), 5, torch.ones(1, 3)), "n ≥ 2"),
        (lambda: inverse_snr(presets.log_sum_exp(), 5, torch.ones(0, 3)), "n ≥ 2"),
        (lambda: inverse_snr(powers(1), 5, torch.zeros(4, 3)), "with itself is 0"),
        (lambda: inverse_snr(ReadEnergy(Euclidean(), RectifiedPower(2), Sum()), 5, GaussianKeys(3)), "retrieves nothing"),
        (lambda: inverse_snr(ReadEnergy(Manhattan(), Exp(), Log(), Free()), 5, GaussianKeys(3)), "measured_inverse_snr"),
        (lambda: inverse_snr(presets.top_k(3), 5, GaussianKeys(3)), "measured_inverse_snr"),
        (lambda: inverse_snr(presets.entmax(), 5, torch.randn(9, 3)), "measured_inverse_snr"),
        (lambda: inverse_snr(kernel(lambda s: s * s.exp(), 5.0), 5, GaussianKeys(1000)), "overflow|not finite"),
        (lambda: log_mean(Kernel(presets.log_sum_exp(1e3), 0.5), NormalScores(1e3, 1e4)), "further out"),
        (lambda: printed_inverse_snr(presets.entmax(), 5, GaussianKeys(3)), "No formula is printed"),
        (lambda: measured_inverse_snr(presets.log_sum_exp(), 5, torch.randn(4, 3)), "There are 4 keys"),
        (lambda: measured_inverse_snr(presets.log_sum_exp(), 5, GaussianKeys(3), trials=1), "two trials"),
        (lambda: measured_inverse_snr(presets.log_sum_exp(), 5, GaussianKeys(3), seed=-1), "at least 0"),
        (lambda: inverse_snr(THRESHOLD, 5, AveragedGaussianKeys(64)), "retrieves nothing"),
        (lambda: required_dim(presets.log_sum_exp(), 5, 0.0), "SNR > 0"),
        (lambda: snr_sweep({}, [1]), "at least one"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        wrong()


def test_a_mean_beyond_floats_is_infinite_and_rare():
    """``e^(2β²n − 2βn)`` at β = 10²⁰⁰ has a logarithm that no float holds."""
    found, printed = inverse_snr(presets.log_sum_exp(1e200), 5, GaussianKeys(3)), printed_inverse_snr(presets.log_sum_exp(1e200), 5, GaussianKeys(3))
    assert found.mean == printed.mean == math.inf and found.rare and found.typical == 0
    assert printed_inverse_snr(presets.log_sum_exp(1e200), 5, SphericalKeys(3)).mean == math.inf


def test_what_are_no_keys_is_refused():
    with pytest.raises(TypeError, match="GaussianKeys"):
        inverse_snr(presets.log_sum_exp(), 5, 64)
    with pytest.raises(TypeError, match="seed"):
        measured_inverse_snr(presets.log_sum_exp(), 5, GaussianKeys(3), seed="a")
    with pytest.raises(TypeError, match="ReadEnergy"):
        inverse_snr(torch.exp, 5, GaussianKeys(64))
