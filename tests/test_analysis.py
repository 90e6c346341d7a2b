"""Laws of damage, recall, predicted capacity and landscapes."""

import math
import subprocess
import sys
from functools import partial

import pytest
import torch

from hopfield_amem import ENERGIES, presets, retrieve
from hopfield_amem.analysis import DAMAGES, crosstalk_capacity, damage, exactly, identified, landscape, measure_recall, predicted_recall, principal_plane
from hopfield_amem.energies import Sphere


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def patterns(count, width=32, seed=0):
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator(seed)), dim=-1)


def images(count=50):
    return torch.rand(count, 8, 8, generator=generator(1))


def sample(count=24, others=40):
    own = patterns(count, seed=2)
    return own + 0.1 * patterns(count, seed=3), own, patterns(others, seed=4)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_repeatable_stays_grey_and_vanishes_with_its_amount(kind):
    original = images()
    damaged = damage(original, kind, generator())
    torch.testing.assert_close(damaged, damage(original, kind, generator()), rtol=0, atol=0)
    assert damaged.shape == original.shape and not torch.equal(damaged, original)
    assert float(damaged.min()) >= 0 and float(damaged.max()) <= 1
    assert torch.equal(damage(original, kind, generator(), amount=0.0), original)


def test_each_damage_does_what_it_says():
    original = images(400)
    fill = torch.full((8, 8), 0.25)
    half = damage(original, "lower half", fill=fill)
    assert torch.equal(half[:, :4], original[:, :4]) and bool((half[:, 4:] == 0.25).all())
    hit = damage(original, "salt and pepper", generator(), amount=0.3)
    changed = hit[hit != original]
    assert set(changed.tolist()) == {0.0, 1.0}
    assert len(changed) / original.numel() == pytest.approx(0.3, abs=0.02)
    grey = torch.full((400, 8, 8), 0.5)
    assert float((damage(grey, "pixel noise", generator(), amount=0.05) - grey).std()) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((images(), "rust"), "Unknown damage"), ((images() * 16, "lower half"), "Grey levels"), ((torch.zeros(5), "lower half"), "height, width")],
)
def test_damage_explains_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        damage(*arguments)


def test_damage_explains_a_bad_amount():
    with pytest.raises(ValueError, match="amount"):
        damage(images(), "salt and pepper", amount=1.5)


def test_exact_is_the_largest_deviation_and_identified_allows_duplicates():
    stored = patterns(6)
    state = stored[:3].clone()
    state[1, 4] += 0.02
    assert exactly(state, stored[:3], 0.01).tolist() == [True, False, True]
    assert exactly(state, stored[:3], torch.tensor([[0.01], [0.03], [0.01]])).all()
    doubled = torch.cat([stored, stored])
    assert identified(state, doubled, torch.tensor([6, 1, 8])).all()
    assert not identified(state, stored, torch.tensor([3, 4, 5])).any()


def test_measured_recall_of_the_identity_and_of_a_memory():
    stored, own = patterns(20), torch.arange(20)
    assert measure_recall(lambda query, keys: query, stored, stored, own).exact.all()
    noisy = stored + 0.05 * patterns(20, seed=9)
    assert not measure_recall(lambda query, keys: query, noisy, stored, own).exact.any()
    found = measure_recall(partial(retrieve, presets.log_sum_exp(100.0), steps=3), noisy, stored, own)
    assert found.exact.all() and str(found).startswith("100.0% of 20 queries recalled exactly, 100.0% identified")


def test_measured_recall_explains_bad_input():
    stored, own = patterns(4), torch.arange(4)
    for arguments, message in (
        ((stored[:, :3], stored, own), "query"),
        ((stored, stored, own[:2]), "integer index"),
        ((stored, stored, own + 1), "must index"),
    ):
        with pytest.raises(ValueError, match=message):
            measure_recall(lambda query, keys: query, *arguments)
    with pytest.raises(ValueError, match="one state per query"):
        measure_recall(lambda query, keys: query[:1], stored, stored, own)


@pytest.mark.parametrize("name", ENERGIES)
def test_predicted_recall_is_a_rate_that_starts_at_one_and_falls(name):
    loads = [1, 2, 5, 20, 41, 100, 1000, 10_000]
    energy = presets.epanechnikov(1.0) if name == "epanechnikov" else ENERGIES[name]
    rates = predicted_recall(energy, *sample(), loads=loads)
    assert rates.shape == (len(loads),) and float(rates[0]) == 1.0  # alone, the own pattern holds all the weight
    assert bool(((rates >= 0) & (rates <= 1)).all())
    within, beyond = rates[:5], rates[5:]
    assert bool((within.diff() <= 0).all()) and bool((beyond.diff() <= 0).all())


@pytest.mark.parametrize("energy", [presets.log_sum_exp(8.0), presets.linear_attention(), presets.sparsemax(4.0)])
def test_prediction_within_the_sample_is_the_majority_of_the_weight(energy):
    query, own, others = sample()
    weights = torch.stack([energy.weights(q[None], torch.cat([o[None], others]))[0] for q, o in zip(query, own, strict=True)]).abs()
    majority = (weights[:, 0] > 0.5 * weights.sum(-1)).float().mean()
    assert float(predicted_recall(energy, query, own, others, loads=[41])) == pytest.approx(float(majority))


def test_colder_memories_are_predicted_to_hold_more():
    capacities = [crosstalk_capacity(presets.log_sum_exp(beta), *sample()) for beta in (2.0, 4.0, 8.0, 16.0)]
    assert capacities == sorted(capacities) and capacities[0] < capacities[-1]


def test_capacity_is_where_the_predicted_rate_crosses():
    energy, (query, own, others) = presets.log_sum_exp(5.0), sample()
    capacity = crosstalk_capacity(energy, query, own, others, rate=0.75)
    assert 1 <= capacity < math.inf
    around = predicted_recall(energy, query, own, others, loads=[int(capacity), int(capacity) + 1])
    assert float(around[0]) >= 0.75 > float(around[1])


def test_capacity_knows_zero_and_beyond():
    query, own, others = sample()
    assert crosstalk_capacity(presets.log_sum_exp(1e4), query, own, others, largest=500) == math.inf
    far = presets.epanechnikov(1e3)  # no query is within the support of its own pattern
    assert crosstalk_capacity(far, query, own, others) == 0.0


def test_prediction_from_a_sample_foresees_the_recall_of_random_patterns():
    """Random patterns are exchangeable, the case the estimate is made for: within 0.2 of what 1,500 of them do."""
    energy, stored = presets.log_sum_exp(60.0), patterns(1500, width=16, seed=5)
    query = torch.nn.functional.normalize(stored + 0.6 * patterns(1500, width=16, seed=6), dim=-1)
    measured = measure_recall(partial(retrieve, energy, steps=20), query[:200], stored, torch.arange(200), tolerance=0.02)
    predicted = predicted_recall(energy, query[-100:], stored[-100:], stored[-200:-100], loads=[1500])
    assert float(predicted) == pytest.approx(float(measured.identified.float().mean()), abs=0.2)


def test_predictions_explain_bad_input():
    query, own, others = sample()
    energy = presets.log_sum_exp()
    for arguments, options, message in (
        ((query, own[:3], others), {}, "own pattern"),
        ((query, own, others[:0]), {}, "at least one"),
        ((query, own, others), {"rate": 0.0}, "rate"),
        ((query, own, others), {"largest": 0}, "largest load"),
    ):
        with pytest.raises(ValueError, match=message):
            crosstalk_capacity(energy, *arguments, **options)
    with pytest.raises(ValueError, match="at least 1"):
        predicted_recall(energy, query, own, others, loads=[0])


def test_the_principal_plane_is_orthonormal_and_takes_the_largest_variance():
    points = patterns(60) * torch.linspace(3, 0.1, 32)
    plane = principal_plane(points)
    torch.testing.assert_close(plane.axes @ plane.axes.mT, torch.eye(2), rtol=0, atol=1e-5)
    there = torch.randn(5, 2, generator=generator())
    torch.testing.assert_close(plane.coordinates(plane.lift(there)), there, rtol=1e-4, atol=1e-5)
    variance = plane.coordinates(points).var(0, correction=0)
    largest = torch.linalg.eigvalsh(points.T.cov(correction=0)).flip(0)[:2]
    torch.testing.assert_close(variance, largest, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="at least 3 floating-point patterns"):
        principal_plane(points[:2])


def test_basins_of_a_cold_memory_are_the_cells_of_the_nearest_pattern():
    keys = 3 * torch.tensor([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])
    energy = presets.distance(50.0)
    field = landscape(energy, keys, principal_plane(keys), resolution=21)
    grid = torch.stack(torch.meshgrid(field.horizontal, field.vertical, indexing="xy"), -1).reshape(-1, 2)
    distance = torch.cdist(grid, field.patterns)
    clear = distance.sort(-1).values.diff(dim=-1)[:, 0] > 0.2
    assert torch.equal(field.basin.flatten()[clear], distance.argmin(-1)[clear])
    points = principal_plane(keys).lift(grid)
    torch.testing.assert_close(field.energy.flatten(), energy(points, keys))


def test_points_out_of_reach_belong_to_no_basin():
    keys = 3 * patterns(4, width=2)
    field = landscape(presets.epanechnikov(8.0), keys, principal_plane(keys), resolution=15)
    assert bool((field.basin == -1).any())
    assert torch.equal(field.basin == -1, field.energy == math.inf)


def test_states_on_a_sphere_are_projected_before_their_energy():
    from dataclasses import replace

    keys = patterns(5, width=4)
    energy = replace(presets.log_sum_exp(5.0), confinement=Sphere(1.0))
    field = landscape(energy, keys, principal_plane(keys), resolution=8)
    assert bool(field.energy.isfinite().all()) and float(field.energy.min()) >= -1 - math.log(5) / 5 - 1e-5  # x·ξ ≤ 1
    with pytest.raises(ValueError, match="resolution"):
        landscape(energy, keys, principal_plane(keys), resolution=1)


def test_importing_the_analysis_leaves_pictures_and_data_sets_alone():
    code = "import sys, hopfield_amem.analysis, hopfield_amem.cli; sys.exit(any(m in sys.modules for m in ('matplotlib', 'sklearn', 'torchdiffeq')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
