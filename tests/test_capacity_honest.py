"""What a measured capacity must not be fooled by: guesses, ties, copies, seeds, dependence, wrong input."""

import math
import warnings
from functools import partial

import pytest
import torch
from scipy.stats import binomtest

from hopfield_amem import presets
from hopfield_amem.analysis.capacity import (
    Binary,
    Flips,
    Keep,
    Masking,
    Noise,
    Search,
    Spherical,
    Task,
    basin_radius,
    certificates,
    crosstalk,
    each_memory,
    measure,
    spurious_states,
)
from hopfield_amem.analysis.capacity.corruption import signed
from hopfield_amem.analysis.capacity.identity import identity
from hopfield_amem.analysis.capacity.task import nearest_is_own
from hopfield_amem.analysis.capacity.trials import rate_interval
from hopfield_amem.descent import FixedPoint, SpinDescent
from hopfield_amem.layers import HopfieldAttention, HopfieldLookup, PatternMemory, Wiring
from hopfield_amem.layers.pattern_memory import CapacityWarning

QUICK = Search(precision=0.3, queries=2**10, largest=1024)


@pytest.mark.parametrize("patterns", ["gaussian", "spherical"])
def test_noise_recalls_nothing(patterns):
    """Chance is one in N: half of the queries at N = 2."""

    def guessed(query, stored):
        return torch.randn_like(query)

    assert measure(guessed, 16, Task(patterns, success="argmax"), search=QUICK).estimate.value < 3
    assert measure(guessed, 16, Task(patterns), search=QUICK).estimate.value == 0


def test_a_tie_is_no_recall_and_a_copy_is_the_pattern_itself():
    assert measure(lambda query, stored: torch.zeros_like(query), 16, Task("binary", success="argmax"), search=QUICK).estimate.value <= 1
    patterns = torch.tensor([[1.0, 0.0], [1.0, -0.0], [0.0, 1.0], [-1.0, 0.0]]).unsqueeze(0)
    assert nearest_is_own(patterns[:, :2].clone(), patterns).all()
    between = torch.tensor([[[0.5, 0.5], [0.6, 0.5], [0.5, 0.6]]])
    assert nearest_is_own(between, patterns).tolist() == [[False, True, True]]
    many = torch.randn(3, 200, 5, generator=torch.Generator().manual_seed(0))
    many[:, 100:] = many[:, :100]
    state = many[:, :150] + 0.5 * torch.randn(3, 150, 5, generator=torch.Generator().manual_seed(1))
    gap = torch.cdist(state.double(), many.double()) - torch.cdist(state.double(), many.double()).diagonal(dim1=1, dim2=2).unsqueeze(-1)
    differs = (many[:, :150].unsqueeze(2) != many.unsqueeze(1)).any(-1)
    assert torch.equal(nearest_is_own(state, many), ((gap > 0) | ~differs).all(-1))


def test_states_of_another_precision_are_read_too():
    for success in ("argmax", "ε-close", "one pattern"):
        assert measure(lambda query, stored: query.double(), 8, Task(success=success), search=Search(largest=16)).estimate.value == 16


def together(scale):
    """All queries to a memory stand or fall together, with probability exp(−N/scale)."""

    def kept(query, stored):
        right = torch.rand(query.shape[0]) < math.exp(-stored.shape[1] / scale)
        return torch.where(right[:, None, None], query, -query)

    return kept


@pytest.mark.parametrize(("rate", "scale"), [(0.9, 2000), (0.99, 20_000)])
def test_intervals_hold_the_truth_where_queries_of_a_memory_stand_and_fall_together(rate, scale):
    truth, misses = -scale * math.log(rate), 0
    for seed in range(10):
        low, high = measure(together(scale), 4, Task(rate=rate), search=Search(0.2, largest=10**5, queries=2**14), seed=seed).estimate.interval
        misses += not low <= truth <= high
    assert misses <= 1


def test_memories_that_fare_alike_count_once_each():
    for alike, hits in ((torch.ones(40), 40), (torch.zeros(40), 0)):
        assert rate_interval(alike, 5, 0.95) == pytest.approx(tuple(binomtest(hits, 40).proportion_ci(0.95, "exact")), abs=1e-6)


def test_draws_are_not_the_users_of_the_same_seed(monkeypatch):
    torch.manual_seed(0)
    bits = torch.randn(40, 301).sign()
    assert spurious_states(presets.hopfield(), bits, 40).shares["a stored pattern"] < 0.3
    drawn, shifted = [], certificates._shifted

    def seen(patterns, shape, source):
        drawn.append(torch.randn(9, generator=source.clone_state()))
        return shifted(patterns, shape, source)

    monkeypatch.setattr(certificates, "_shifted", seen)
    basin_radius(presets.distance(5.0), torch.eye(3), directions=1, seed=0)
    assert not torch.equal(drawn[0], torch.randn(9, generator=torch.Generator().manual_seed(0)))


def limited(query, stored, most=3):
    return query if stored.shape[1] <= most else torch.zeros_like(query)


class Limited(torch.nn.Module):
    def __init__(self, most):
        super().__init__()
        self.most = most

    def forward(self, query, stored):
        return limited(query, stored, self.most)


def scaled(scale):
    linear = torch.nn.Linear(8, 8, bias=False)
    linear.weight.data = torch.eye(8) * scale
    return presets.learned_kernel(linear, 1.0)


def shifted(by):
    return lambda count, source: torch.nn.functional.normalize(torch.randn(count, 16, generator=source) + by, dim=-1)


TWINS = {
    "modules of other numbers": lambda n: (Limited(3 * n), 8, Task()),
    "modules of other weights": lambda n: (scaled(6.0 * n - 5.0), 8, Task(success="argmax")),
    "a tensor β": lambda n: (presets.log_sum_exp(torch.tensor(2.0 + 1e-6 * n)), 8, Task(tolerance=0.5)),
    "rows": lambda n: (limited, 8, Task(torch.rand(99, 8, generator=torch.Generator().manual_seed(n)))),
}


@pytest.mark.parametrize("name", TWINS)
def test_no_kept_look_passes_for_that_of_another_memory(name):
    first, again, other = (TWINS[name](n) for n in (1, 1, 2))
    assert identity(first[0], first[2]) == identity(again[0], again[2]) != identity(other[0], other[2])


def test_kept_looks_are_those_of_the_memory_that_is_asked(tmp_path):
    sharp = Search(precision=1e-3, largest=1024)
    for most in (3, 300, 3):
        assert measure(Limited(most), 8, folder=tmp_path, search=sharp).estimate.value == most
        assert measure(partial(limited, most=most), 8, folder=Keep(tmp_path, f"partial {most}"), search=sharp).estimate.value == most
    drawn = [measure(presets.log_sum_exp(10.0), 16, Task(shifted(by), tolerance=0.3), folder=Keep(tmp_path, f"{by}"), search=QUICK) for by in (0.0, 3.0)]
    assert drawn[0].estimate.value > 2 * drawn[1].estimate.value
    assert measure(limited, 8, folder=tmp_path, search=QUICK).estimate.value == 3


def test_searches_with_generators_go_on(tmp_path):
    def spins():
        return SpinDescent(generator=torch.Generator().manual_seed(3))

    small = Search(precision=0.5, queries=256, largest=16)
    found = measure(presets.hopfield(), 40, descent=spins(), folder=tmp_path, search=small)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert measure(presets.hopfield(), 40, descent=spins(), folder=tmp_path, search=small) == found
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_what_cannot_be_told_needs_a_name(tmp_path):
    local = Limited(3)
    local.register_forward_hook(lambda *given: None)
    energy = presets.log_sum_exp(10.0)
    kernel = presets.learned_kernel(lambda rows: 2 * rows, 1.0)
    for memory, task in (
        (partial(limited, most=3), Task()), (lambda query, stored: query, Task()), (each_memory(lambda query, stored: query), Task()), (local, Task()),
        (energy, Task(shifted(0.0))), (kernel, Task()),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="Keep"):
            measure(memory, 16, task, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    for wrong in (lambda: Keep(3), lambda: Keep("here", "")):
        with pytest.raises(ValueError):
            wrong()


def test_few_rows_are_a_lower_limit():
    rows = Spherical().draw(1, 50, 16, torch.Generator().manual_seed(0))[0]
    assert measure(presets.log_sum_exp(20.0), 16, Task(rows, tolerance=0.5)).estimate.interval == (50, math.inf)


@pytest.mark.parametrize("damage", [Masking(0.3), Noise(1 / 1.03643), Flips(0.15)])
def test_damaged_bits_are_bits_again(damage):
    """All three leave 15 % of the bits wrong."""
    patterns = Binary().draw(1, 400, 100, torch.Generator().manual_seed(0))
    bits = signed(damage(patterns, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2))
    assert set(bits.unique().tolist()) == {-1.0, 1.0} and float((bits * patterns).mean()) == pytest.approx(0.7, abs=0.02)
    flipped = crosstalk(presets.dense(3), 100, Task("binary", Flips(0.15), "one pattern")).value
    assert crosstalk(presets.dense(3), 100, Task("binary", damage, "one pattern")).value == pytest.approx(flipped, rel=1e-3)
    task, search = Task("binary", damage, "one pattern"), Search(precision=0.5, queries=256)
    assert 15 < measure(presets.dense(3), 20, task, search=search).estimate.value < 45
    hard = measure(presets.dense(3), 20, Task("binary", type(damage)(0.45), "one pattern"), search=search).estimate.value
    assert (hard < 3) == isinstance(damage, Flips)  # of which half the bits are wrong


def test_flips_are_as_many_as_are_realised():
    patterns = torch.ones(1, 24)
    for share in (0.02, 0.03, 0.2):
        turned = float((Flips(share)(patterns, torch.Generator()) < 0).double().mean())
        assert Flips(share).start(24)[0] == pytest.approx(1 - 2 * turned) and Masking(share).start(24)[0] == pytest.approx(1 - turned)
    none, some = (crosstalk(presets.hopfield(), 24, Task("binary", damage, "one pattern")).value for damage in (Flips(0.02), None))
    assert none == some


def test_layers_are_measured():
    """A layer holds what its energy holds."""
    energy, task = presets.log_sum_exp(8.0), Task(tolerance=0.5)
    ours = measure(energy, 16, task, descent=FixedPoint(1), search=QUICK).estimate.value

    def lookup(query, stored):
        return HopfieldLookup.store(energy, stored)(query)

    def memory(query, stored):
        held = PatternMemory(16, energy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CapacityWarning)
            held.store(stored)
        return held.recall(query, FixedPoint(1)).state

    attention = HopfieldAttention(16, 1, energy, wiring=Wiring(static=("query", "keys", "values", "output")))
    for layer in (each_memory(lookup), each_memory(memory), attention):
        assert measure(layer, 16, task, search=QUICK).estimate.value == pytest.approx(ours, rel=0.1)
