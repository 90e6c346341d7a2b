"""Capacity proved and estimated: published numbers, closed forms, and what simulations say of them."""

import math

import pytest
import torch

from hopfield_amem import ENERGIES, ReadEnergy, presets
from hopfield_amem.analysis import minimal_separation, separating_beta, spherical_code, spherical_code_bounds
from hopfield_amem.analysis.capacity import (
    Binary,
    Correlated,
    Flips,
    Gaussian,
    NoKnownBound,
    Rows,
    Setting,
    Spherical,
    Task,
    attention_capacity,
    bit_error_probability,
    bound,
    crosstalk,
    exponential_storage_bound,
    linear_memory_capacity,
    mlp_memory_capacity,
    retrieval_threshold,
    separation,
    theorem,
    theorems,
)
from hopfield_amem.descent import FixedPoint, SpinDescent
from hopfield_amem.energies import Dot, Exp, Free, Hypercube, Log, Manhattan, Power, RectifiedPower, Sum

ONE = FixedPoint(1)
THRESHOLDS = {
    "gaussian": {0.3: 0.2550, 0.7: 0.4550, 1: 0.5000, 2: 0.5000},
    "spherical": {0.3: 0.2568, 0.7: 0.4936, 1: 0.6226, 2: 0.9088},
    "binary": {0.3: 0.2557, 0.7: 0.4727, 1: 0.5662, 2: 0.6750},
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def load_at(energy, dim, task=None, **options):
    return crosstalk(energy, dim, task, **options).value


def of(energy, dim, success, **setting):
    return [e.value for e in bound(energy, dim, success=success, setting=Setting(**setting))]


@pytest.mark.parametrize(("numbers", "c", "value"), [((20, 3, 1.0, 0.001), 3.15461, 7.413), ((75, 1, 1.0, 0.001), 1.37188, 10.973)])
def test_ramsauers_examples(numbers, c, value):
    found = exponential_storage_bound(*numbers)
    assert found.c == pytest.approx(c, abs=1e-5) and found.value == pytest.approx(value, abs=1e-3) and found.holds
    w = found.b / found.c  # W₀(y) with y = exp(a + ln b), so that w e^w = y
    assert w * math.exp(w) == pytest.approx(math.exp(found.a + math.log(found.b)))
    assert found.value == pytest.approx(math.sqrt(numbers[3]) * found.c ** ((numbers[0] - 1) / 4))


def test_what_the_theorem_promises_is_stored():
    """At twice the promised number all random patterns are separated enough to be stored, in each of twenty memories."""
    (promise,) = of(presets.log_sum_exp(1.0), 20, "ε-close", patterns=Spherical(3 * math.sqrt(19)))[:1]
    assert promise == pytest.approx(7.413, abs=1e-3)
    for seed in range(20):
        patterns = Spherical(3 * math.sqrt(19)).draw(1, round(2 * promise), 20, generator(seed))[0]
        assert separation(patterns.double(), 1.0).stored.all()


def test_hot_memories_are_promised_nothing():
    """At β‖ξ‖² ≪ 1 all patterns share one fixed point, and one ball of Definition 1; the condition on c does not see that."""
    hot = exponential_storage_bound(64, 1 / math.sqrt(63), 0.001, 0.001)
    assert hot.c >= hot.least and hot.value == pytest.approx(13.56, abs=0.01) and not hot.disjoint and not hot.holds
    with pytest.raises(NoKnownBound, match="share one ball"):
        bound(presets.log_sum_exp(0.001), 64, success="all patterns")
    patterns = Spherical().draw(1, 13, 64, generator())[0].double()
    rest = FixedPoint(200)(presets.log_sum_exp(0.001), patterns, patterns).state
    assert (rest - rest[0]).norm(dim=-1).max() < 1e-6 and not separation(patterns, 0.001).stored.any()
    for beta in (0.003, 0.03, 0.3, 3.0):
        found = exponential_storage_bound(20, 3.0, beta, 0.001)
        if found.holds:  # the separation that is needed keeps balls of radius 1/(βNM) apart
            count, square = found.value, 9.0 * 19
            needed = 2 / (beta * count) + math.log(2 * (count - 1) * count * beta * square) / beta
            assert math.sqrt(2 * needed) > 2 / (beta * count * math.sqrt(square))


@pytest.mark.parametrize("beta", [0.01, 0.03])
def test_collapsed_patterns_are_not_certified(beta):
    patterns = Spherical().draw(1, 4, 8, generator(1))[0].double()
    found = separation(patterns, beta)
    assert (found.delta >= found.threshold).any() == (beta == 0.01) and not found.stored.any()
    nearest = torch.cdist(patterns, patterns).fill_diagonal_(math.inf).amin(-1)
    assert (nearest <= 2 / (beta * 4)).all()  # balls of radius 1/(βNM) meet


@pytest.mark.parametrize(("separation", "flips"), [(Power(2), 0.1), (Power(3), 0.2), (RectifiedPower(3), 0.2), (Power(4), 0.1)])
def test_loads_fall_with_wrong_bits_as_turning_single_spins_shows(separation, flips):
    dim, wrong, trials = 60, 0, 150
    energy = ReadEnergy(Dot(), separation, Sum(), Hypercube())
    load = round(of(energy, dim, "one bit", bit_error=0.05, flips=flips)[-1])
    assert load == pytest.approx((1 - 2 * flips) ** (2 * separation.degree - 2) * of(energy, dim, "one bit", bit_error=0.05)[-1], abs=1)
    for seed in range(trials):
        memory = Binary().draw(1, load, dim, generator(seed))[0]
        query = Flips(flips)(memory[:1], generator(seed))
        overlap = memory @ query.T - memory * query  # of the other spins, per pattern and spin
        field = (separation(overlap + 1) - separation(overlap - 1)) * memory * memory[:1]
        wrong += int((field.sum(0) < 0).sum())
    assert wrong / (trials * dim) == pytest.approx(0.05, rel=0.3)


def test_bounds_speak_of_damage_or_not_at_all():
    for energy, flips in ((presets.log_sum_exp(1.0), 0.1), (presets.linear_attention(), 0.1), (presets.log_sum_exp(0.3), 0.2)):
        with pytest.raises(NoKnownBound, match="asked for themselves"):
            bound(energy, 40, setting=Setting(flips=flips))
    known = bound(presets.hopfield(), 400, setting=Setting(flips=0.2))
    assert all("0.2 of them wrong" in e.assumption for e in known) and not any("Amit" in e.reference for e in known)


@pytest.mark.parametrize("name", ENERGIES)
def test_theorems_say_nothing_asymptotic(name):
    try:
        found = bound(ENERGIES[name], 64)
    except NoKnownBound:
        return
    assert all(e.kind == "heuristic" for e in found if "asymptotic" in e.assumption or "∞" in e.assumption)


@pytest.mark.parametrize("ensemble", THRESHOLDS)
def test_thresholds_of_the_random_energy_model(ensemble):
    entropy = {
        "gaussian": lambda z: 0.5 * z.square(),
        "spherical": lambda z: -0.5 * torch.log1p(-z.square()),
        "binary": lambda z: 0.5 * ((1 + z) * torch.log1p(z) + (1 - z) * torch.log1p(-z)),
    }[ensemble]
    z = torch.linspace(0, 4.0 if ensemble == "gaussian" else 1.0, 400_001, dtype=torch.float64)[1:-1]
    for lam, expected in THRESHOLDS[ensemble].items():
        found = retrieval_threshold(lam, ensemble)
        assert found.alpha == pytest.approx(expected, abs=1e-4)
        assert found.condensed == (ensemble == "gaussian" and lam >= 1)
        reached = entropy(z) <= found.alpha  # overlaps that some of e^(αd) patterns have: the sum over them is as large as the own term
        assert float((found.alpha + lam * z - entropy(z))[reached].max()) == pytest.approx(lam, abs=2e-4) or found.condensed
    assert retrieval_threshold(1e-6, ensemble).alpha == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize(
    ("dim", "patterns", "degree", "gaussian", "asymptotic"),
    [(400, 33, 2, 0.00025, 0.00027), (400, 60, 2, 0.0049, 0.0055), (400, 400, 2, 0.1587, None), (120, 501, 3, 0.00098, 0.00107),
     (120, 723, 3, 0.00499, 0.00560), (40, 578, 4, 0.0033, 0.0037)],
)  # fmt: skip
def test_bit_errors_are_those_published(dim, patterns, degree, gaussian, asymptotic):
    found = bit_error_probability(dim, patterns, degree)
    assert found.gaussian == pytest.approx(gaussian, rel=0.02)
    if asymptotic:
        assert found.asymptotic == pytest.approx(asymptotic, rel=0.02) and found.asymptotic > found.gaussian


@pytest.mark.parametrize(("separation", "patterns"), [(Power(2), 60), (Power(3), 723), (RectifiedPower(3), 1446)])
def test_bit_errors_are_what_turning_single_spins_shows(separation, patterns):
    """Krotov & Hopfield's loads at half a percent, within 15 % of the Gaussian; rectified, twice the patterns, since half of the crosstalk is gone."""
    dim, wrong, trials = (400, 0, 200) if separation.degree == 2 else (120, 0, 600)
    for seed in range(trials):
        memory = Binary().draw(1, patterns, dim, generator(seed))[0]
        overlap = memory @ memory[:1].T - memory * memory[:1]  # of the other spins, per pattern and spin
        field = (separation(overlap + 1) - separation(overlap - 1)) * memory * memory[:1]
        wrong += int((field.sum(0) < 0).sum())
    load = patterns / 2 if isinstance(separation, RectifiedPower) else patterns
    assert wrong / (trials * dim) == pytest.approx(bit_error_probability(dim, load, int(separation.degree)).gaussian, rel=0.15)


def test_hopfields_network_below_and_above_the_critical_load():
    for load, low, high in ((100, 0.99, 1.0), (180, 0.0, 0.6)):
        patterns = Binary().draw(1, load, 1000, generator())[0]
        state = SpinDescent(sweeps=30, generator=generator())(presets.hopfield(), patterns[:10], patterns).state
        assert low <= float((state * patterns[:10]).mean()) <= high


def test_bounds_of_networks_of_spins():
    assert of(presets.hopfield(), 1000, "one pattern") == [pytest.approx(500 / math.log(1000))]
    assert of(presets.hopfield(), 1000, "all patterns") == [pytest.approx(250 / math.log(1000))]
    assert of(presets.hopfield(), 1000, "one bit", bit_error=0.005) == [pytest.approx(138), pytest.approx(150.7, abs=0.1)]
    for degree, share in ((3, 0.0502), (4, 0.01005)):
        (load,) = of(presets.polynomial(degree), 100, "one bit", bit_error=0.005)
        assert load == pytest.approx(share * 100 ** (degree - 1), rel=2e-3)
        (one,), (every,) = (of(presets.polynomial(degree), 100, success) for success in ("one pattern", "all patterns"))
        assert one == pytest.approx(degree * every) and bit_error_probability(100, one, degree).asymptotic < 0.01
    assert of(presets.dense(3), 100, "one bit") == [pytest.approx(2 * of(presets.polynomial(3), 100, "one bit")[0])]


def test_the_exponential_network_corrects_what_its_theorem_says():
    known = bound(presets.exponential(), 16, success="one pattern", setting=Setting(flips=0.0))
    assert known[0].value == pytest.approx(2**8 + 1) and known[0].kind == "heuristic" and "asymptotic" in known[0].assumption
    patterns = Binary().draw(1, 257, 16, generator())[0]
    rest = SpinDescent(generator=generator())(presets.exponential(), patterns, patterns).state
    assert (rest == patterns).all(-1).float().mean() > 0.9
    far = SpinDescent(generator=generator())(presets.exponential(), patterns.roll(1, 0), patterns).state
    assert (far == patterns).all(-1).float().mean() < 0.1
    fewer = of(presets.exponential(), 16, "one pattern", flips=0.1)[0]
    assert 1 < fewer < known[0].value
    assert bound(presets.exponential(), 4000, success="one pattern")[0].value == math.inf


def test_as_many_as_a_spherical_code_may_hold():
    *_, found = bound(presets.log_sum_exp(30.0), 3, success="ε-close", setting=Setting(closeness=0.1))
    assert found.kind == "theorem" and found.value == 4 and found.interval is None
    assert separating_beta(spherical_code_bounds(4, 3)[0], 4, 0.1) <= 30 < separating_beta(spherical_code_bounds(5, 3)[0], 5, 0.1)
    code = spherical_code(4, 3, starts=4)
    assert minimal_separation(code) >= spherical_code_bounds(4, 3)[0]
    assert (presets.log_sum_exp(30.0).settle(code, code) - code).norm(dim=-1).max() <= 0.1


def test_no_spherical_code_is_too_large_to_be_stored():
    """A ring of 2000 patterns hardly moves: that Δ is too small for the theorem says nothing of how many are stored at most."""
    angle = torch.arange(2000, dtype=torch.float64) * (2 * math.pi / 2000)
    ring = torch.stack([angle.cos(), angle.sin()], -1)
    assert separating_beta(float(minimal_separation(ring)), 2000, 0.1) > 1e6
    assert (presets.log_sum_exp(30.0).settle(ring, ring) - ring).norm(dim=-1).max() <= 0.1


def test_facts_in_matrices_and_layers():
    found = linear_memory_capacity(128)
    assert found.facts == pytest.approx(1161, abs=1) and 2 * found.facts * math.log(found.facts) == pytest.approx(128**2)
    assert found.bits_per_parameter == pytest.approx(0.5 / math.log(2))
    layer = attention_capacity(31, 10, 10, tokens=50, total=2500)
    assert (layer.sequences, layer.previous) == (320, 280) and layer.accuracy == pytest.approx(0.1454, abs=1e-4)
    assert attention_capacity(4, 4, 8).accuracy is None and mlp_memory_capacity(64, 256) == 64 * 256
    assert of(presets.log_sum_exp(), 64, "argmax", heads=8, head_dim=8) == [128.0]
    assert of(presets.relu_feed_forward(), 64, "argmax", width=256) == [64.0 * 256]
    assert of(presets.linear_attention(), 64, "argmax") == [linear_memory_capacity(64).facts]


@pytest.mark.parametrize(("share", "accuracy"), [(0.25, 0.969), (0.5, 0.841), (1.0, 0.494)])
def test_a_hebbian_matrix_recalls_half_of_the_sharp_threshold(share, accuracy):
    facts, right = round(share * linear_memory_capacity(64).facts), 0.0
    for seed in range(8):
        keys, values = torch.randn(2, facts, 64, generator=generator(seed)).unbind(0)
        right += float(((keys @ (keys.T @ values)) @ values.T).argmax(-1).eq(torch.arange(facts)).float().mean()) / 8
    assert right == pytest.approx(accuracy, abs=0.04)


@pytest.mark.parametrize("name", ENERGIES)
def test_every_energy_has_a_bound_or_a_reason(name):
    try:
        found = bound(ENERGIES[name], 64)
        assert all(e.value >= 1 and e.kind in ("theorem", "heuristic") and e.reference and e.assumption for e in found)
    except NoKnownBound as reason:
        assert "crosstalk(energy, 64)" in str(reason) and "measure(energy, 64)" in str(reason)


def test_reasons_why_there_is_no_bound():
    for energy, options, reason in (
        (presets.epanechnikov(), {}, "no theorem is registered"),
        (presets.softmax1(), {}, "null slot"),
        (presets.relu_feed_forward(), {}, "width="),
        (presets.hopfield(), {"success": "argmax"}, "not of 'argmax'"),
        (presets.hopfield(), {"setting": Setting(Correlated(0.2))}, "random bits, not"),
        (lambda x, keys: x.sum(-1), {}, "factors of a ReadEnergy"),
    ):
        with pytest.raises(NoKnownBound, match=reason):
            bound(energy, 64, **options)


def test_users_register_theorems(monkeypatch):
    monkeypatch.setattr(theorems, "THEOREMS", list(theorems.THEOREMS))
    known = theorems.Estimate(7.0, None, "mine", "theorem", "argmax", "here")

    @theorem(similarity=Manhattan, confinement=Free)
    def mine(energy, dim, setting):
        yield known

    assert bound(ReadEnergy(Manhattan(), Exp(), Log()), 5) == [known]


def test_the_estimate_of_hopfields_network_is_that_of_amit_gutfreund_and_sompolinsky():
    """α_c = 0.138 as d grows: the noise that a pattern's own answer adds is what makes it less than 2/π."""
    task = Task("binary", success="one bit", rate=0.95)
    assert load_at(presets.hopfield(), 20_000, task) / 20_000 == pytest.approx(0.138, rel=0.02)


def test_the_estimate_of_one_step_is_the_closed_form():
    """All spins at once, from the pattern: (1 + α)/√α = Q⁻¹(p), self-coupling included."""
    quantile = 2.5758
    root = 0.5 * (quantile - math.sqrt(quantile**2 - 4))
    found = load_at(presets.hopfield(), 2000, Task("binary", success="one bit", rate=0.995), descent=ONE)
    assert found / 2000 == pytest.approx(root**2, rel=0.02)


@pytest.mark.parametrize(("ensemble", "patterns"), [("binary", Binary()), ("spherical", Spherical(20.0)), ("gaussian", Gaussian())])
def test_the_estimate_of_log_sum_exp_is_the_random_energy_threshold(ensemble, patterns):
    found = crosstalk(presets.log_sum_exp(0.5), 400, Task(patterns, tolerance=0.27), descent=ONE)  # where its weight is about ½
    assert found.log_value / 400 == pytest.approx(retrieval_threshold(0.5, ensemble).alpha, abs=0.004)
    assert (found.kind, found.success, found.interval) == ("heuristic", "ε-close", None)


def test_estimates_grow_with_dimension_and_fall_with_damage():
    growing = [load_at(presets.dense(3), dim) for dim in (20, 40, 80)]
    assert growing == sorted(growing)
    falling = [load_at(presets.dense(3), 60, Task("binary", Flips(share), "one pattern")) for share in (0.0, 0.1, 0.2, 0.3)]
    assert falling == sorted(falling, reverse=True)
    assert load_at(presets.log_sum_exp(0.1), 16) < 2  # hot: nothing but the only pattern is recalled
    assert load_at(presets.log_sum_exp(1e4), 300) == math.inf


def test_energies_out_of_closed_form_are_estimated_from_a_sample():
    for energy in (ReadEnergy(Manhattan(), Exp(), Log(), beta=1.0), presets.k_subsets(2, 1.0)):
        found = crosstalk(energy, 16)
        assert found.success == "argmax" and "sample" in found.assumption
        patterns = Spherical().draw(1, round(found.value), 16, generator(1))[0]
        weights = energy.weights(patterns[:100], patterns)
        share = 0.5 / energy.scaling.patterns(energy.separation)
        held = (weights[:, :100].diagonal() > share * weights.sum(-1)).float().mean()
        assert 0.2 < held < 0.8  # about half of the patterns hold most of the weight at that load


def test_errors_at_the_door():
    energy = presets.log_sum_exp()
    for wrong in (
        lambda: bound(energy, 0), lambda: bound(energy, 8, success="luck"), lambda: Setting(bit_error=0.5), lambda: Setting(heads=0),
        lambda: Setting(failure=1.0), lambda: Setting("triangular"), lambda: crosstalk(energy, 1), lambda: crosstalk(energy, 8, Task(Correlated())),
        lambda: crosstalk(energy, 8, Task(torch.rand(9, 8))), lambda: Task("triangular"), lambda: Task(success="often"), lambda: Task(tolerance=0.0),
        lambda: Task(rate=1.0), lambda: Task(corruption=0.1), lambda: Flips(1.5), lambda: Spherical(0.0), lambda: Gaussian(-1.0), lambda: Correlated(1.0),
        lambda: Rows(torch.empty(0, 3)), lambda: Rows(torch.full((2, 3), math.nan)), lambda: exponential_storage_bound(1, 1, 1, 0.1),
        lambda: retrieval_threshold(0.0, "binary"), lambda: retrieval_threshold(1.0, "correlated"), lambda: bit_error_probability(10, 0),
        lambda: linear_memory_capacity(1), lambda: attention_capacity(2, 9, 8), lambda: attention_capacity(2, 4, 8, tokens=5),
        lambda: mlp_memory_capacity(0, 4), lambda: bound(energy.at(torch.ones(2)), 8), lambda: crosstalk(energy.at(torch.ones(2)), 8),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(TypeError, match="measure"):
        crosstalk(lambda x, keys: x, 8)
    assert ReadEnergy(Dot(), Power(2), Sum()) == presets.linear_attention()  # what the linear bound is about
