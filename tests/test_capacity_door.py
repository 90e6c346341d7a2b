"""Capacity at the door: what is asked for in the wrong words is said, and any energy with a descent may ask."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from hopfield_amem import presets
from hopfield_amem.analysis import Estimate
from hopfield_amem.analysis.capacity import (
    Comparison,
    Noise,
    NoKnownBound,
    Reading,
    Search,
    Task,
    basin_radius,
    bound,
    compare,
    crosstalk,
    measure,
    separation,
    spurious_states,
)
from hopfield_amem.descent import GradientDescent

ENERGY = presets.log_sum_exp(8.0)
BRIEF = Search(precision=1.0, queries=128, largest=16)
PATTERNS = torch.nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=-1)


@pytest.mark.parametrize(
    ("wrong", "error", "why"),
    [
        (lambda: measure(lambda query, patterns: query * math.inf, 8), ValueError, "NaN or Inf"),
        (lambda: measure(lambda query, patterns: query * 1j, 8), ValueError, "complex"),
        (lambda: measure(ENERGY, 8, "binary"), TypeError, "got str"),
        (lambda: crosstalk(ENERGY, 8, "binary"), TypeError, "got str"),
        (lambda: compare(ENERGY, [8], PATTERNS), TypeError, "got Tensor"),
        (lambda: measure(ENERGY, 8, search=0.1), TypeError, "Search"),
        (lambda: measure(ENERGY, 8, seed=-1), ValueError, "at least 0"),
        (lambda: measure(ENERGY, 8, seed=1.5), TypeError, "whole number"),
        (lambda: bound(ENERGY, 8, setting="binary"), TypeError, "Setting"),
        (lambda: compare(ENERGY, 8), TypeError, "whole numbers"),
        (lambda: compare(ENERGY, [8.0]), TypeError, "whole numbers"),
        (lambda: spurious_states(ENERGY, PATTERNS, tolerance=-1.0), ValueError, "tolerance"),
        (lambda: spurious_states(ENERGY, PATTERNS, tolerance=math.nan), ValueError, "tolerance"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, error, why):
    with pytest.raises(error, match=why):
        wrong()


def test_widths_may_be_numpys():
    found, same = (compare(presets.epanechnikov(1.5), dims, Task(tolerance=0.5), search=BRIEF) for dims in (np.array([4]), (4,)))
    assert found == same and found.dims == (4,)


def test_why_there_is_no_bound_is_said_once_for_all_dimensions():
    """The exception names the other two routes at its width; a comparison, which takes both, says the reason alone."""
    with pytest.raises(NoKnownBound) as caught:
        bound(presets.epanechnikov(), 64)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and (again.reason, again.dim) == (caught.value.reason, 64)
    found = compare(presets.log_sum_exp(8.0), [2, 3], Task(corruption=Noise(1.0), tolerance=0.5), search=BRIEF)
    assert len(set(found.reasons.values())) == 1 and str(found).count("No known bound") == 1 and "two other routes" not in str(found).lower()


@pytest.mark.parametrize("log_value", [-700.0, 0.0, 639.0, 689.0, math.inf])
def test_pictures_of_numbers_near_the_end_of_floats(log_value, tmp_path):
    """Warnings are errors here: an axis must hold its own margin."""
    estimate = Estimate(math.exp(log_value) if log_value < 700 else math.inf, log_value=log_value)
    found = Comparison("E", "task", (8,), {"one": (estimate,)}, {}, {})
    assert found.save(tmp_path, "comparison")
    (label,) = (text.get_text() for text in found.plot().legends[0].get_texts())
    assert label.startswith("one") and ("nothing" in label) == (log_value > 640)


def test_a_pattern_that_is_alone_is_drawn(tmp_path):
    assert separation(PATTERNS[:1], 1.0).save(tmp_path, "alone") and separation(0 * PATTERNS, 1.0).save(tmp_path, "zero")


def test_basins_and_spurious_states_of_any_energy():
    """``Σ (|x_i| − |ξ_i|)²`` has a well in every quadrant, with ridges where a coordinate is 0: of (1, 1) and its negative, one in two is stored."""
    patterns = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    walk = GradientDescent(0.25, steps=30)

    def wells(x, memories):
        return (x.abs() - memories[..., :1, :].abs()).square().sum(-1)

    found = basin_radius(wells, patterns, descent=walk, directions=3)
    assert float(found.radius.min()) >= math.sqrt(0.5) - 1e-3  # the nearest ridge is 1 away, the pattern √2 long
    spurious = spurious_states(wells, patterns, torch.tensor([[2.0, 0.5], [-0.5, -2.0], [0.7, -0.4], [0.9, -2.0]]), descent=walk)
    torch.testing.assert_close(spurious.states, torch.tensor([[1.0, -1.0]]), rtol=0, atol=1e-4)
    assert spurious.shares["a stored pattern"] == 0.5 and spurious.counts.tolist() == [2]


def test_spurious_states_among_many_patterns_are_told_in_tiles():
    """200,000 patterns are 6 MiB; all their distances to 256 states, with either sign, would be 390."""
    code = """
import resource, torch
from hopfield_amem import presets
from hopfield_amem.analysis.capacity import spurious_states
from hopfield_amem.descent import FixedPoint
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
torch.set_num_threads(1)
draw = lambda count: torch.nn.functional.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
spurious_states(presets.log_sum_exp(50.0), draw(50), 8, descent=FixedPoint(1))
patterns, before = draw(200_000), rss()
found = spurious_states(presets.log_sum_exp(50.0), patterns, 256, descent=FixedPoint(1))
print(rss() - before, sum(found.shares.values()))
"""
    grown, shares = map(float, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert grown < 180 and shares == pytest.approx(1)


def test_a_capacity_of_any_energy_with_a_descent():
    """The energy of log-sum-exp written out by hand, descended by its gradient, holds what its factors hold."""

    def written(x, memories):
        return 0.5 * x.square().sum(-1) - torch.logsumexp(8.0 * (x.unsqueeze(-2) * memories.unsqueeze(-3)).sum(-1), -1) / 8.0

    task, search = Task(tolerance=0.5), Search(precision=0.3, queries=2**10, largest=2**10)
    ours = measure(ENERGY, 8, task, search=search).estimate
    theirs = measure(Reading(written, GradientDescent(1.0, steps=50)), 8, task, search=search).estimate
    assert theirs.value == pytest.approx(ours.value, rel=0.3)
