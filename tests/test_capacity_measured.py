"""Capacity measured: searches with known answers, intervals, what is asked of memories, and what guards their patterns."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import normalize

from hopfield_amem import ReadEnergy, presets, retrieve
from hopfield_amem.analysis import Estimate
from hopfield_amem.analysis.capacity import (
    Binary,
    Correlated,
    Flips,
    Gaussian,
    Keep,
    Masking,
    Noise,
    Rows,
    Search,
    Spherical,
    Task,
    basin_radius,
    compare,
    crosstalk,
    each_memory,
    measure,
    metastable_census,
    separation,
    spurious_states,
)
from hopfield_amem.analysis.capacity.comparison import growth
from hopfield_amem.analysis.capacity.trials import rate_interval
from hopfield_amem.descent import FixedPoint
from hopfield_amem.energies import Dot, RectifiedPower, Sphere, Sum

COARSE = Search(precision=0.1, queries=2**13)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(count, dim, seed=0):
    return Spherical().draw(1, count, dim, generator(seed))[0]


def holds(most):
    """A memory of known capacity: it returns what it is asked, up to so many patterns, and nothing beyond."""
    return lambda query, patterns: query if patterns.shape[1] <= most else torch.zeros_like(query)


def fades(scale):
    """A memory that succeeds with probability exp(−N/scale)."""
    return lambda query, patterns: torch.where(torch.rand(query.shape[:-1]).unsqueeze(-1) < math.exp(-patterns.shape[1] / scale), query, -query)


@pytest.mark.parametrize("most", [0, 1, 2, 37, 1000])
def test_a_memory_that_breaks_at_a_load_is_found_exactly(most):
    found = measure(holds(most), 8, search=Search(precision=1e-4)).estimate
    assert found.value == most and found.interval == (most, most + 1) and found.kind == "measured"


def test_the_largest_load_is_a_lower_limit():
    found = measure(holds(10**9), 4, search=Search(largest=500)).estimate
    assert (found.value, found.interval) == (500, (500, math.inf))
    found = measure(holds(10**9), 4, Task(torch.rand(20, 4))).estimate  # all rows there are
    assert (found.value, found.interval) == (20, (20, math.inf))


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_truth_and_are_as_narrow_as_asked(seed):
    for scale, rate in ((100, 0.5), (1000, 0.9)):
        truth = -scale * math.log(rate)
        found = measure(fades(scale), 4, Task(rate=rate), search=Search(precision=0.05), seed=seed).estimate
        low, high = found.interval
        assert low <= truth <= high <= 1.25 * low and found.value == pytest.approx(truth, rel=0.05)


def test_intervals_of_rates_are_clopper_and_pearsons_and_widen_with_dependence():
    from scipy.stats import binomtest

    coins = (torch.rand(400, 25, generator=generator()) < 0.3).float().mean(1)
    exact = binomtest(round(float(coins.sum()) * 25), 10_000).proportion_ci(0.95, "exact")
    assert rate_interval(coins, 25, 0.95) == pytest.approx(tuple(exact), abs=2e-3)
    together = (torch.rand(400, generator=generator()) < 0.3).float()  # all queries to a memory succeed, or none
    exact = binomtest(int(together.sum()), 400).proportion_ci(0.95, "exact")
    assert rate_interval(together, 25, 0.95) == pytest.approx(tuple(exact), abs=5e-3)
    hits = [low <= 0.3 <= high for low, high in (rate_interval((torch.rand(20, 25) < 0.3).float().mean(1), 25, 0.95) for _ in range(200))]
    assert sum(hits) >= 180


ENERGIES = {
    "log_sum_exp": (presets.log_sum_exp(8.0), 32, Task(tolerance=0.5), None, 0.1),
    "log_sum_exp, nearest": (presets.log_sum_exp(8.0), 48, Task(success="argmax"), None, 0.1),
    "log_sum_exp, one step": (presets.log_sum_exp(8.0), 16, Task(tolerance=0.5), FixedPoint(1), 0.1),
    "distance, gaussian": (presets.distance(0.5), 16, Task("gaussian", tolerance=0.5), None, 0.3),
    "dense, spin by spin": (presets.dense(3), 40, None, None, 0.2),
    "exponential, spin by spin": (presets.exponential(), 12, None, None, 0.35),
    "dense, damaged": (presets.dense(3), 24, Task("binary", Flips(0.2), "one pattern"), None, 0.3),
    "hopfield, at once": (presets.hopfield(), 200, None, FixedPoint(1), 0.15),
    "hopfield, bits": (presets.hopfield(), 200, Task("binary", success="one bit", rate=0.995), FixedPoint(1), 0.15),
    "epanechnikov, no theorem": (presets.epanechnikov(1.5), 16, Task(tolerance=0.5), None, 0.3),
    "entmax, no theorem": (presets.entmax(1.5, 5.0), 10, None, None, 0.6),
    "cubic weights on a sphere, no theorem": (ReadEnergy(Dot(), RectifiedPower(4), Sum(), Sphere()), 24, Task(tolerance=0.5), None, 0.6),
}


@pytest.mark.parametrize("name", ENERGIES)
def test_the_estimate_is_near_what_is_measured(name):
    energy, dim, task, descent, within = ENERGIES[name]
    measured = measure(energy, dim, task, descent=descent, search=Search(precision=0.15, queries=2**10)).estimate.value
    estimated = crosstalk(energy, dim, task, descent=descent).value
    assert abs(math.log(estimated / measured)) <= math.log1p(within), f"{estimated:.4g} estimated, {measured:.4g} measured"


def test_looks_are_kept_and_repeatable(tmp_path):
    calls = []

    def counted(query, patterns):
        calls.append(patterns.shape)
        return fades(100)(query, patterns)

    kept = Keep(tmp_path, "fades(100)")
    first = measure(counted, 4, search=COARSE, folder=kept)
    before = len(calls)
    assert before and measure(counted, 4, search=COARSE, folder=kept) == first and len(calls) == before
    next(iter(sorted(tmp_path.glob("*.json")))).unlink()  # cut short: only what is missing is done again
    assert measure(counted, 4, search=COARSE, folder=kept) == first and before < len(calls) < 2 * before
    assert measure(counted, 4, search=COARSE) == first and measure(counted, 4, search=COARSE, seed=1) != first


def test_ensembles_are_what_they_say():
    for ensemble in (Binary(), Spherical(2.0), Gaussian(0.5), Correlated(0.3)):
        patterns = ensemble.draw(20, 50, 64, generator())
        assert patterns.shape == (20, 50, 64) and patterns.dtype == torch.float32
        assert float(patterns.square().sum(-1).mean()) == pytest.approx(ensemble.square(64), rel=0.03)
        cosine = normalize(patterns, dim=-1) @ normalize(patterns, dim=-1).mT
        off = cosine[:, ~torch.eye(50, dtype=torch.bool)]
        assert float(off.mean()) == pytest.approx(0.3 if isinstance(ensemble, Correlated) else 0.0, abs=0.05)
        if not isinstance(ensemble, Correlated):
            product, square, log_probability = ensemble.overlaps(64, 3.0, lengths=True)
            chance = log_probability.exp()
            assert float(chance.sum()) == pytest.approx(1) and float((chance * square).sum()) == pytest.approx(ensemble.square(64), rel=1e-2)
            assert float((chance * product.square()).sum()) == pytest.approx(3.0 * ensemble.square(64) / 64, rel=1e-2)


def test_corruptions_are_what_they_say():
    patterns = Binary().draw(4, 10, 40, generator())
    assert ((Flips(0.25)(patterns, generator()) != patterns).sum(-1) == 10).all()
    assert ((Masking(0.25)(patterns, generator()) == 0).sum(-1) == 10).all()
    for corruption in (Flips(0.2), Masking(0.4), Noise(0.5)):
        patterns = Spherical(3.0).draw(1, 4000, 60, generator())
        damaged, (own, rest) = corruption(patterns, generator(1)), corruption.start(60)
        along = (damaged * patterns).sum(-1) / 9
        assert float(along.mean()) == pytest.approx(own, abs=0.01)
        assert float((damaged - along.unsqueeze(-1) * patterns).square().sum(-1).mean()) / 9 == pytest.approx(rest, abs=0.02)


def test_patterns_of_the_user():
    rows = unit(300, 16)
    energy = presets.log_sum_exp(10.0)
    drawn = measure(energy, 16, Task(rows, tolerance=0.5), search=Search(precision=0.2)).estimate

    def sampler(count, source):
        return normalize(torch.randn(count, 16, generator=source), dim=-1)

    sampled = measure(energy, 16, Task(sampler, tolerance=0.5), search=COARSE)
    assert drawn.value == pytest.approx(sampled.estimate.value, rel=0.35) and "300 given patterns" in drawn.assumption
    alike = measure(energy, 16, Task(Rows(rows[:1] + 0.1 * rows), success="argmax")).estimate
    assert alike.value < 0.2 * drawn.value  # patterns that are alike are hard to tell apart
    assert measure(presets.hopfield(), 60, Task(Correlated(0.5), success="one pattern"), search=COARSE).estimate.value < 4


def test_every_success_orders_as_it_must():
    energy, search = presets.log_sum_exp(10.0), Search(precision=0.2, queries=2**13)
    value = {
        success: measure(energy, 12, Task(success=success, tolerance=0.3), search=search).estimate.value for success in ("ε-close", "all patterns", "argmax")
    }
    assert value["all patterns"] < value["ε-close"] <= 1.3 * value["argmax"]


def test_functions_and_layers_are_measured_too():
    energy = presets.log_sum_exp(8.0)
    task = Task(tolerance=0.5)
    ours = measure(energy, 16, task, descent=FixedPoint(1), search=COARSE).estimate
    for function in (lambda query, patterns: retrieve(energy, query, patterns), each_memory(lambda query, patterns: retrieve(energy, query, patterns))):
        assert measure(function, 16, task, search=COARSE).estimate.value == pytest.approx(ours.value, rel=0.05)


def test_bad_retrievals_are_refused(tmp_path):
    for wrong, reason in (
        (lambda query, patterns: query[:, :1], "each_memory"), (lambda query, patterns: query * math.nan, "NaN"), (lambda query, patterns: None, "NoneType"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=reason):
            measure(wrong, 8)
        with pytest.raises(ValueError, match=reason):
            measure(wrong, 8, folder=Keep(tmp_path, "wrong"))
    for error, wrong in (
        (ValueError, lambda: measure(holds(3), 0)), (TypeError, lambda: measure(3, 8)), (TypeError, lambda: measure(holds(3), 8, descent=FixedPoint())),
        (ValueError, lambda: Search(precision=0.0)), (ValueError, lambda: Search(confidence=1.0)), (ValueError, lambda: Search(largest=0)),
        (ValueError, lambda: compare(presets.hopfield(), [])), (ValueError, lambda: compare(presets.hopfield(), [8, 8])),
        (TypeError, lambda: compare(holds(3), [8])), (ValueError, lambda: measure(holds(9), 8, Task(lambda count, source: None))),
        (ValueError, lambda: measure(holds(99), 7, Task(torch.rand(20, 8)))), (ValueError, lambda: measure(presets.linear_attention(9.0), 8)),
    ):  # fmt: skip
        with pytest.raises(error):
            wrong()


def test_a_million_patterns_fit_beside_themselves():
    code = """
import resource, torch
from hopfield_amem import presets
from hopfield_amem.analysis.capacity import Reading, Task
from hopfield_amem.analysis.capacity.trials import Sizes, successes
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
torch.set_num_threads(1)
read = Reading(presets.log_sum_exp(60.0))
successes(read, Task(success="argmax"), Sizes(16, 1000, 16, 64), 0)
before = rss()
found = successes(read, Task(success="argmax"), Sizes(16, 10**6, 2, 16), 0)
print(rss() - before, float(found.mean()))
"""
    grown, rate = map(float, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert grown < 200 and rate > 0.9  # MiB; a memory is 61, its scores against 16 queries 61 more


def test_comparisons_hold_all_three_and_their_growth(tmp_path):
    found = compare(presets.hopfield(), [48, 96, 192], descent=FixedPoint(1), search=Search(precision=0.2, queries=2**10))
    assert {row["kind"] for row in found.rows()} == {"heuristic", "measured"} and len(found.rows()) == 9
    proved = found.growth["McEliece et al. 1987"]
    assert proved.kind == "power" and 0.7 < proved.rate < 0.9 and set(found.growth) == set(found.series)  # d/ln d
    paths = found.save(tmp_path, "hopfield")
    stored = json.loads(paths[0].read_text())
    assert stored["growth"]["measured"]["rate"] == found.growth["measured"].rate and paths[1].stat().st_size > 10_000 and "measured grows like" in str(found)
    without = compare(presets.epanechnikov(1.5), [8], Task(tolerance=0.5), search=COARSE)
    assert set(without.series) == {"crosstalk estimate", "measured"} and "no theorem" in str(without)
    alike = compare(presets.hopfield(), [12], Task("correlated", success="one pattern"), descent=FixedPoint(1), search=Search(precision=0.5, queries=256))
    assert set(alike.series) == {"measured"} and "No crosstalk estimate" in str(alike)


@pytest.mark.parametrize(
    ("energy", "task", "bounds", "reason"),
    [(presets.polynomial(3), Task("binary", Flips(0.25), "one pattern"), 1, ""), (presets.log_sum_exp(8.0), Task(corruption=Noise(1.0)), 0, "Noise"),
     (presets.polynomial(3), Task("binary", Flips(0.5), "one pattern"), 0, "half of the bits"),
     (presets.polynomial(3), Task("binary", Masking(0.25), "one pattern"), 0, "Masking"),
     (presets.log_sum_exp(8.0), Task(corruption=Flips(0.2)), 0, "asked for themselves")],
)  # fmt: skip
def test_comparisons_draw_no_bound_that_ignores_the_damage(energy, task, bounds, reason):
    found = compare(energy, [20], task, search=Search(precision=0.5, queries=128, largest=64))
    assert sum(name not in ("crosstalk estimate", "measured") for name in found.series) == bounds
    assert reason in found.reasons.get(20, "")


def test_growth_is_exponential_or_a_power():
    dims = [10, 20, 40, 80]

    def law(logs):
        return growth(dims, [Estimate(math.exp(v) if v < 700 else math.inf, log_value=v) for v in logs])

    power, steep, huge = law([2.5 * math.log(d) + 1 for d in dims]), law([0.3 * d - 1 for d in dims]), law([30.0 * d for d in dims])
    assert (power.kind, steep.kind, huge.kind) == ("power", "exponential", "exponential")
    assert (power.rate, steep.rate, huge.rate) == (pytest.approx(2.5), pytest.approx(0.3), pytest.approx(30.0))
    assert float(power(20)) == pytest.approx(math.e * 20**2.5) and float(steep(20)) == pytest.approx(math.exp(5))
    assert growth(dims[:2], [Estimate(2.0), Estimate(3.0)]) is None
    assert growth(dims, [Estimate(9.0, (9.0, math.inf))] * 4) is None


def test_separation_is_brute_force_and_its_theorem_holds():
    patterns, beta = unit(40, 16).double(), 25.0
    found = separation(patterns, beta)
    gram = patterns @ patterns.T
    brute = (gram.diagonal().unsqueeze(-1) - gram).masked_fill(torch.eye(40, dtype=torch.bool), math.inf).amin(-1)
    torch.testing.assert_close(found.delta, brute)
    assert found.threshold == pytest.approx(2 / (beta * 40) + math.log(2 * 39 * 40 * beta) / beta) and torch.equal(found.stored, brute >= found.threshold)
    moved = (presets.log_sum_exp(beta).settle(patterns, patterns) - patterns).norm(dim=-1)
    assert (moved <= found.error).all() and (found.error <= 2 * 39 * torch.exp(-beta * brute) + 1e-12).all()
    rest = FixedPoint(100)(presets.log_sum_exp(beta), patterns, patterns).state
    assert found.stored.any() and ((rest - patterns).norm(dim=-1)[found.stored] < 0.2).all()
    twins = separation(torch.cat([patterns, patterns[:1]]), beta)
    assert float(twins.delta[0]) == pytest.approx(0, abs=1e-12) and not twins.stored[0] and separation(patterns[:1], beta).stored.all()


def test_basins_reach_the_middle():
    """Two points on a line: a cold memory recovers all that is nearer to its own."""
    found = basin_radius(presets.distance(200.0), torch.tensor([[1.0], [-1.0]]), directions=6)
    reached = set(found.radius.flatten().round(decimals=2).tolist())
    assert reached == {1.0, 2.0} and found.largest == 2.0
    colder = [float(basin_radius(presets.log_sum_exp(beta), unit(30, 16)).radius.mean()) for beta in (2.0, 10.0, 40.0)]
    assert colder == sorted(colder) and colder[0] == 0


def test_basins_of_spins_are_half_of_all_bits_when_alone():
    (alone,) = Binary().draw(1, 1, 21, generator())
    found = basin_radius(presets.hopfield(), alone, directions=4)
    assert (found.radius * 21 == 10).all()  # eleven wrong bits are nearer to the negative
    crowded = basin_radius(presets.hopfield(), Binary().draw(1, 20, 100, generator())[0])
    assert float(crowded.radius.mean()) < 0.3 and set((crowded.radius * 100).round().flatten().tolist()) <= set(range(51))


def test_census_of_cold_and_hot_memories():
    patterns = unit(50, 20)
    cold, hot = metastable_census(presets.log_sum_exp(60.0), patterns), metastable_census(presets.log_sum_exp(0.1), patterns)
    assert (cold.sizes == 1).all() and (cold.classes == 4).all() and (hot.sizes >= 44).all() and (hot.classes == 1).all()
    between = metastable_census(presets.log_sum_exp(8.0), patterns, torch.randn(60, 20))
    assert sum(row["descents"] for row in between.rows()) == 60 and between.sizes.max() > 1


def test_mixtures_of_three_are_found_and_named():
    patterns = Binary().draw(1, 3, 301, generator())[0]
    mixture = (patterns[0] - patterns[1] + patterns[2]).sign().unsqueeze(0)
    found = spurious_states(presets.hopfield(), patterns, torch.cat([mixture, patterns, -patterns]))
    assert found.mixtures == (((0, 1), (1, -1), (2, 1)),) and torch.equal(found.states, mixture)
    assert found.shares["a stored pattern"] == found.shares["the negative of one"] == pytest.approx(3 / 7)
    drawn = spurious_states(presets.hopfield(), patterns, 100)
    assert sum(drawn.shares.values()) == pytest.approx(1) and 0 < len(drawn.states) <= 8  # four mixtures and their negatives
    assert spurious_states(presets.exponential(), patterns, 40).states.shape == (0, 301)


def test_figures_draw_what_was_found(tmp_path):
    patterns = unit(20, 8)
    results = (
        measure(fades(50), 4, search=COARSE), separation(patterns, 10.0), basin_radius(presets.log_sum_exp(20.0), patterns, directions=3),
        metastable_census(presets.log_sum_exp(5.0), patterns), spurious_states(presets.hopfield(), Binary().draw(1, 3, 31, generator())[0], 30),
    )  # fmt: skip
    for number, found in enumerate(results):
        path = found.save(tmp_path, str(number))[1]
        assert path.stat().st_size > 5000 and found.table() and str(found)


def test_errors_at_the_door():
    patterns, energy = unit(5, 4), presets.log_sum_exp()
    for wrong in (
        lambda: separation(patterns[:0], 1.0), lambda: separation(patterns * math.nan, 1.0), lambda: separation(patterns, 0.0),
        lambda: basin_radius(energy, patterns, directions=0), lambda: basin_radius(energy, patterns, tolerance=-1.0), lambda: basin_radius(energy, patterns[0]),
        lambda: metastable_census(energy, patterns, patterns[:, :2]), lambda: metastable_census(energy, patterns, mass=0.0),
        lambda: spurious_states(energy, patterns, 0), lambda: spurious_states(energy, patterns, patterns[:, :2]),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()
