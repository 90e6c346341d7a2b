"""A memory written at run time: what goes in comes out, what is forgotten is gone, and it says when it holds too much."""

import copy
import itertools
import math
import pickle
import warnings

import pytest
import torch
from sklearn.datasets import load_digits

from hopfield_amem import presets, retrieve
from hopfield_amem.analysis import damage, exactly
from hopfield_amem.descent import Descended, FixedPoint, GradientDescent
from hopfield_amem.energies import Cosine, Dot, Exp, Hypercube, Log, Manhattan, ReadEnergy
from hopfield_amem.layers import CapacityWarning, PatternMemory, Recalled, pattern_memory
from hopfield_amem.storage import load_memory, save_memory

ENERGIES = {
    "distance": (None, None), "entmax": (presets.entmax(), "data"), "log_sum_exp": (presets.log_sum_exp(), "data"),
    "epanechnikov": (presets.epanechnikov(0.5), None), "manhattan": (ReadEnergy(Manhattan(), Exp(), Log()), "data"),
    "cosine": (ReadEnergy(Cosine(), Exp(), Log()), "data"),
    "binary": (ReadEnergy(Dot(), Exp(), Log(), Hypercube()), "data"),
}  # fmt: skip


def signs(count, width=32):
    return torch.randn(count, width).sign()


@pytest.mark.parametrize("count", [100, 1000])
def test_digits_come_back_from_their_upper_half_with_default_settings(count):
    """Raw grey levels, nothing trained, nothing chosen: exact is within half a grey level in every pixel."""
    images = torch.tensor(load_digits().data / 16, dtype=torch.float32).reshape(-1, 8, 8)[torch.randperm(1797)[:count]]
    memory = PatternMemory(64)
    memory.store(images.flatten(1))
    known = (torch.arange(8) < 4).repeat_interleave(8)
    for fill in (0.0, 1.0):
        found = memory.recall(damage(images, "lower half", fill=fill).flatten(1), known=known)
        rate = exactly(found.state, images.flatten(1), 0.5 / 16).double().mean().item()
        print(f"{count} digits, lower half masked: {rate:.1%} exact")
        assert rate >= 0.95 and torch.equal(found.ids, torch.arange(count)) == (rate == 1.0)
        assert found.converged.all()


@pytest.mark.filterwarnings("ignore::hopfield_amem.layers.CapacityWarning")  # an Epanechnikov kernel does not reach far
@pytest.mark.parametrize("name", ENERGIES)
def test_what_is_stored_is_recalled_with_its_values(name):
    memory, patterns, labels = PatternMemory(32, *ENERGIES[name], dtype=torch.float64), signs(17).double(), torch.eye(17, dtype=torch.float64)
    patterns = patterns / 32**0.5 if name == "cosine" else patterns
    ids = memory.store(patterns, labels)
    noisy = patterns + 0.1 * patterns.std() * torch.randn_like(patterns)
    found = memory.recall(noisy)
    assert isinstance(found, Descended) and isinstance(found, Recalled) and torch.equal(found.ids, ids)
    torch.testing.assert_close(found.state, patterns, rtol=0, atol=0.01)
    torch.testing.assert_close(found.values, labels, rtol=0, atol=0.01)
    torch.testing.assert_close(memory(noisy), found.values)
    expected = FixedPoint()(memory.spec, noisy, patterns)
    assert torch.equal(found.state, expected.state) and torch.equal(found.energy, expected.energy)
    torch.testing.assert_close(found.values, retrieve(memory.spec, expected.state, patterns, labels))
    one = memory.recall(noisy.view(1, 17, 1, 32)[:, 3], GradientDescent(steps=3))
    assert one.state.shape == (1, 1, 32) and one.ids.tolist() == [[3]] and one.values.shape == (1, 1, 17)


def test_the_certificate_comes_with_what_is_recalled():
    memory = PatternMemory(32)
    memory.store(signs(5))
    found = memory.recall(memory.patterns[:2] + 0.1)
    assert found.converged.all() and found.margin.min() > 0 and found.bound.max() < 0.1 and found.values is None and "100% of 2" in str(found)
    assert torch.equal(memory(memory.patterns[:2]), memory.recall(memory.patterns[:2]).state)


@pytest.mark.parametrize("name", ENERGIES)
def test_unknown_features_do_not_matter(name):
    memory, patterns = PatternMemory(32, *ENERGIES[name], dtype=torch.float64), signs(9).double()
    patterns = patterns / 32**0.5 if name == "cosine" else patterns
    memory.store(patterns)
    known = torch.rand(9, 32) < 0.8
    found = memory.recall(torch.where(known, patterns, math.nan), known=known)
    torch.testing.assert_close(found.state, patterns, rtol=0, atol=0.01)
    for row in range(9):  # queries that know different features do not matter to each other
        alone = memory.recall(patterns[row : row + 1], known=known[row])
        torch.testing.assert_close(alone.state, found.state[row : row + 1], rtol=1e-6, atol=1e-6)
    everything = memory.recall(patterns + 0.01, known=torch.ones(32).bool())
    torch.testing.assert_close(everything.state, memory.recall(patterns + 0.01).state)


def test_a_few_known_features_count_as_all():
    """As many features, β and patterns as one likes: reading by k of d features with the same content at every place is reading by all."""
    memory = PatternMemory(6, presets.distance(0.3), dtype=torch.float64)
    memory.store(torch.randn(7, 1, dtype=torch.float64).expand(7, 6))
    query = torch.randn(3, 1, dtype=torch.float64).expand(3, 6)
    read = pattern_memory.completed(memory.spec, query, memory.patterns, torch.tensor([True, False, True, False, False, False]))
    torch.testing.assert_close(read[:, 1], retrieve(memory.spec, query, memory.patterns)[:, 1])
    torch.testing.assert_close(read[:, 0], query[:, 0])


def test_ids_are_given_once():
    memory, patterns = PatternMemory(8), torch.randn(7, 8)
    assert memory.store(patterns[:3]).tolist() == [0, 1, 2] and memory.store(patterns[3:4]).tolist() == [3]
    memory.forget([1, 3, 3])
    assert memory.ids.tolist() == [0, 2] and torch.equal(memory.patterns, patterns[[0, 2]]) and len(memory) == 2
    assert memory.store(patterns[4:]).tolist() == [4, 5, 6]
    memory.forget(oldest=2)
    assert memory.ids.tolist() == [4, 5, 6] and torch.equal(memory.patterns, patterns[4:])
    memory.forget(memory.recall(patterns[5:6] + 0.001).ids)  # what is similar to a query
    assert memory.ids.tolist() == [4, 6]
    memory.forget(torch.tensor([6, 4]))
    assert len(memory) == 0 and memory.store(patterns[:1], torch.ones(1, 3)).tolist() == [7]  # emptied, it may begin to hold values
    assert memory.values.shape == (1, 3)


@pytest.mark.filterwarnings("ignore::hopfield_amem.layers.CapacityWarning")
def test_an_event_is_stored_without_copying_the_others():
    memory, places = PatternMemory(4, presets.distance(1.0)), set()
    for _ in range(1000):
        memory.store(torch.randn(1, 4))
        places.add(memory.patterns.data_ptr())
    assert len(memory) == 1000 and len(places) <= 11


def test_reserved_room_is_what_is_held():
    memory, patterns = PatternMemory(8, presets.distance(1.0)), torch.randn(9, 8)
    memory.store(patterns[:2], patterns[:2])
    memory.reserve(9)
    held = memory._keys.data_ptr()
    for pattern in patterns[2:].split(1):
        memory.store(pattern, pattern)
    assert len(memory._keys) == 9 and memory._keys.data_ptr() == held
    assert torch.equal(memory.patterns, patterns) and torch.equal(memory.values, patterns) and memory.ids.tolist() == list(range(9))
    memory.forget(oldest=9)
    held = memory._keys.data_ptr()
    memory.store(patterns, patterns[:, :3])
    assert len(memory._keys) == 9 and memory._keys.data_ptr() == held  # the room stayed
    memory.load_state_dict(memory.state_dict())
    memory.forget(oldest=1)
    memory.store(patterns[:1], patterns[:1, :3])
    assert len(memory._keys) == len(memory._values) == 9
    memory.reserve(9)
    for count in (8, -1, 10.0, True):
        with pytest.raises(ValueError, match="at least the 9 that are stored"):
            memory.reserve(count)


def test_an_earlier_recall_can_be_differentiated_after_later_events():
    memory = PatternMemory(8, presets.distance(0.5))
    memory.store(torch.randn(5, 8), torch.randn(5, 2))
    query = torch.randn(3, 8, requires_grad=True)
    expected = torch.autograd.grad(memory(query).square().sum(), query)
    later = memory(query)
    for _ in range(4):
        memory.store(torch.randn(1, 8), torch.randn(1, 2))
    memory.forget(oldest=3)
    torch.testing.assert_close(torch.autograd.grad(later.square().sum(), query), expected)


@pytest.mark.filterwarnings("ignore::hopfield_amem.layers.CapacityWarning")
def test_beta_follows_what_is_stored():
    memory = PatternMemory(8)
    memory.store(torch.randn(50, 8))
    wide = memory.spec.beta
    memory.store(0.001 * torch.randn(5, 8))
    assert memory.spec.beta == wide  # a tenth does not matter yet
    memory.store(0.001 * torch.randn(45, 8))
    assert memory.spec.beta > 100 * wide
    memory.forget(oldest=50)
    memory.forget(oldest=50)
    memory.store(10 * torch.randn(50, 8))
    assert memory.spec.beta < wide
    fixed = PatternMemory(8, presets.entmax(beta=3.0))
    fixed.store(torch.randn(50, 8))
    assert fixed.spec == presets.entmax(beta=3.0) and PatternMemory(8, presets.entmax(), 4.0).spec.beta == 4.0


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_scale_of_the_patterns_does_not_matter(scale):
    memory, patterns = PatternMemory(8, dtype=torch.float64), torch.randn(30, 8, dtype=torch.float64)
    memory.store(scale * patterns)
    torch.testing.assert_close(memory.recall(scale * (patterns + 0.05)).state, scale * patterns, rtol=0, atol=0.01 * scale)


def test_a_load_that_passes_the_capacity_is_told_once_per_doubling():
    memory = PatternMemory(3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(300):
            memory.store(torch.randn(1, 3))
    assert {w.category for w in told} == {CapacityWarning} and 1 <= len(told) <= 5
    counts = [int(str(w.message).split()[0]) for w in told]
    assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(counts)) and set(counts) <= {16, 32, 64, 128, 256}
    assert all(w.filename == __file__ for w in told) and memory.capacity() < 300
    spacious = PatternMemory(64)
    spacious.store(torch.randn(1000, 64))  # warnings are errors here
    assert spacious.capacity() > 1000 and PatternMemory(3).capacity() == math.inf
    memory.forget(oldest=290)
    with pytest.warns(CapacityWarning):
        memory.store(torch.randn(100, 3))


def test_the_estimate_of_the_capacity_is_near_what_is_measured():
    """Half of the queries that lost half of their features fail about where it says."""
    patterns, predicted, measured = torch.randn(4000, 10), [], []
    for load in (60, 250, 1000, 4000):
        memory = PatternMemory(10, presets.distance(8.0))
        memory._append(patterns[:load], None)  # without a warning
        predicted.append(memory.capacity())
        query = torch.where(torch.rand(load, 10) < 0.5, patterns[:load].mean(0), patterns[:load])
        measured.append((memory.recall(query[:200], FixedPoint(1)).ids == torch.arange(min(load, 200))).double().mean().item())
    crossing = next(load for load, rate in zip((60, 250, 1000, 4000), measured, strict=True) if rate < 0.5)
    assert all(crossing / 8 <= found <= 2 * crossing for found in predicted), (predicted, measured)


@pytest.mark.filterwarnings("ignore::hopfield_amem.layers.CapacityWarning")
def test_looking_at_the_capacity_leaves_the_random_numbers_alone():
    memory, state = PatternMemory(64), torch.random.get_rng_state()
    memory.store(torch.ones(40, 64) * torch.arange(40).unsqueeze(-1))
    memory.capacity()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("energy, beta", [(None, None), (presets.entmax(), "data"), (presets.sparsemax(beta=3.0), None)])
@pytest.mark.parametrize("with_values", [False, True])
def test_a_saved_memory_goes_on_where_it_was(energy, beta, with_values, tmp_path):
    memory = PatternMemory(8, energy, beta, dtype=torch.float64)
    memory.store(torch.randn(9, 8, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64) if with_values else None)
    memory.forget([8, 0])
    query = torch.randn(4, 8, dtype=torch.float64)
    memory.save(tmp_path / "m.safetensors")
    twin = PatternMemory(8, energy, beta, dtype=torch.float64)
    twin.load_state_dict(memory.state_dict())
    for other in (PatternMemory.load(tmp_path / "m.safetensors"), twin, copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert torch.equal(other.ids, memory.ids) and torch.equal(other.patterns, memory.patterns) and other.beta == memory.beta
        assert other.spec.beta == pytest.approx(memory.spec.beta, rel=1e-9)
        torch.testing.assert_close(other(query), memory(query))
        more = (torch.ones(1, 8, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64) if with_values else None)
        assert other.store(*more).tolist() == [9]  # the number of a forgotten pattern is not given again
        assert len(memory) == 7


def test_other_stored_memories_can_be_loaded_and_ours_read(tmp_path):
    keys = torch.randn(5, 8)
    save_memory(tmp_path / "plain", presets.distance(3.0), keys)
    memory = PatternMemory.load(tmp_path / "plain")
    assert memory.ids.tolist() == [0, 1, 2, 3, 4] and memory.spec == presets.distance(3.0) and memory.store(keys[:1]).tolist() == [5]
    memory.save(tmp_path / "ours")
    stored = load_memory(tmp_path / "ours")
    assert torch.equal(stored.keys, memory.patterns) and torch.equal(stored.extra["ids"], memory.ids)
    PatternMemory(8).save(tmp_path / "empty")
    assert len(PatternMemory.load(tmp_path / "empty")) == 0
    save_memory(tmp_path / "heads", presets.distance(), keys.expand(2, 5, 8))
    with pytest.raises(ValueError, match=r"patterns \(n, d\)"):
        PatternMemory.load(tmp_path / "heads")


def test_a_memory_moves_like_a_module():
    memory = PatternMemory(8)
    memory.store(torch.randn(5, 8), torch.eye(5))
    memory.double()
    assert memory.patterns.dtype == memory.values.dtype == torch.float64 and memory.ids.dtype == torch.long and not list(memory.parameters())
    found = torch.nn.Sequential(torch.nn.Identity(), memory)(memory.patterns)
    torch.testing.assert_close(found, torch.eye(5, dtype=torch.float64), rtol=0, atol=0.01)
    half = memory.to(torch.bfloat16)
    assert torch.equal(half.recall(half.patterns).ids, torch.arange(5)) and half.recall(half.patterns).state.dtype == torch.bfloat16
    assert "dim=8, patterns=5, values=5" in repr(memory)
    strided = PatternMemory(8)
    strided.store(torch.randn(8, 5).T)
    assert torch.equal(strided.recall(strided.patterns.T.contiguous().T).ids, torch.arange(5))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(strided.recall(strided.patterns).ids, torch.arange(5))


def full():
    memory = PatternMemory(4)
    memory.store(torch.randn(3, 4), torch.randn(3, 2))
    return memory


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (lambda: PatternMemory(0), ValueError, "positive width"),
        (lambda: PatternMemory(4, "distance"), ValueError, "built from a ReadEnergy"),
        (lambda: PatternMemory(4, presets.distance().at(torch.ones(2))), ValueError, "beta is a number"),
        (lambda: PatternMemory(4, beta="auto"), ValueError, "'data'"),
        (lambda: PatternMemory(4).recall(torch.zeros(1, 4)), ValueError, "empty"),
        (lambda: full().store(torch.zeros(4)), ValueError, "unsqueeze"),
        (lambda: full().store(torch.zeros(2, 5), torch.zeros(2, 2)), ValueError, r"patterns \(n, 4\)"),
        (lambda: full().store(torch.zeros(2, 4)), ValueError, "2 before, None now"),
        (lambda: full().store(torch.zeros(2, 4), torch.zeros(2, 3)), ValueError, "2 before, 3 now"),
        (lambda: full().store(torch.zeros(2, 4), torch.zeros(3, 2)), ValueError, "one value"),
        (lambda: full().store(torch.zeros(2, 4).double(), torch.zeros(2, 2).double()), ValueError, "Convert"),
        (lambda: full().store(torch.zeros(2, 4).long()), TypeError, "floating-point"),
        (lambda: full().store(torch.full((2, 4), math.nan), torch.zeros(2, 2)), ValueError, "patterns holds NaN"),
        (lambda: full().store(torch.zeros(2, 4), torch.full((2, 2), math.inf)), ValueError, "values holds NaN or Inf"),
        (lambda: full().recall(torch.zeros(2, 5)), ValueError, "last dimension"),
        (lambda: full().recall(torch.zeros(2, 4), known=torch.ones(3).bool()), ValueError, "known is boolean"),
        (lambda: full().recall(torch.zeros(2, 4), known=torch.ones(4)), ValueError, "known is boolean"),
        (lambda: full().recall(torch.zeros(2, 4), known=[True] * 4), ValueError, "known is boolean"),
        (lambda: full().recall(torch.zeros(2, 5), known=torch.ones(5).bool()), ValueError, "last dimension"),
        (lambda: full().recall(torch.zeros(4), known=torch.ones(4).bool()), ValueError, "unsqueeze"),
        (lambda: full().recall(torch.zeros(2, 4), known=torch.zeros(4).bool()), ValueError, "at least one"),
        (lambda: full().forget(), ValueError, "Say what to forget"),
        (lambda: full().forget([0], oldest=1), ValueError, "Say what to forget"),
        (lambda: full().forget([0, 7]), ValueError, r"under \[7\]"),
        (lambda: full().forget(torch.tensor([True, False, True])), ValueError, "mask of rows"),
        (lambda: full().forget([1.5]), ValueError, "whole numbers"),
        (lambda: full().forget(oldest=True), ValueError, "3 patterns are stored"),
        (lambda: full().forget(oldest=4), ValueError, "3 patterns are stored"),
        (lambda: full().forget(oldest=-1), ValueError, "3 patterns are stored"),
        (lambda: PatternMemory(5).load_state_dict(full().state_dict()), ValueError, r"patterns \(n, 5\)"),
        (lambda: PatternMemory.load("/nowhere/at/all"), FileNotFoundError, "no stored memory"),
    ],
)
def test_errors_say_what_to_do(wrong, kind, message):
    with pytest.raises(kind, match=message):
        wrong()


def test_a_refused_call_changes_nothing():
    memory = full()
    before = memory.patterns.clone()
    for wrong in (lambda: memory.forget([0, 9]), lambda: memory.store(torch.zeros(1, 4)), lambda: memory.store(torch.zeros(1, 9), torch.zeros(1, 2))):
        with pytest.raises(ValueError):
            wrong()
    assert len(memory) == 3 and torch.equal(memory.patterns, before) and memory.store(before[:1], torch.zeros(1, 2)).tolist() == [3]
