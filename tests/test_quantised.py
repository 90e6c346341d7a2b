"""Product-quantised slots: the reads of the decoded patterns, never put together; exact with enough centroids, bounded otherwise."""

import itertools
import math

import pytest
import torch
from sklearn.datasets import load_digits

from hopfield_amem import presets, retrieve
from hopfield_amem.analysis import identified
from hopfield_amem.descent import FixedPoint, Flow, GradientDescent
from hopfield_amem.energies import Dot, Exp, Hypercube, Log, Manhattan, ReadEnergy, RectifiedPower, Sphere, Sum, TopK
from hopfield_amem.kernels import Gates, Reference
from hopfield_amem.kernels.quantised import Quantised
from hopfield_amem.layers import QuantisedMemory

close = torch.testing.assert_close
ENERGIES = {
    "log_sum_exp": presets.log_sum_exp(2.0), "distance": presets.distance(3.0), "epanechnikov": presets.epanechnikov(0.1), "entmax": presets.entmax(1.5),
    "sparsemax": presets.sparsemax(2.0), "softmax1": presets.softmax1(), "sphere": ReadEnergy(Dot(), Exp(), Log(), Sphere(2.0), 2.0),
    "binary": ReadEnergy(Dot(), Exp(), Log(), Hypercube()), "relu": presets.relu_feed_forward(), "cold": presets.distance(1e8),
}  # fmt: skip


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def filled(energy, count=100, parts=4, centroids=16, width=12):
    patterns = double(count, width)
    memory = QuantisedMemory.fit(energy, patterns, parts, centroids=centroids)
    return memory, patterns, memory.store(patterns)


@pytest.mark.parametrize("name", ENERGIES)
def test_reads_are_those_of_the_decoded_patterns(name):
    energy = ENERGIES[name]
    memory, patterns, moved = filled(energy)
    slots, state, values = memory.code.decode(), energy.confinement.project(double(2, 17, 12)), double(100, 3)
    close((patterns - slots).norm(dim=-1), moved)
    mine, definition = Quantised(energy, memory.code), Reference(energy, slots, Gates())
    for method in ("settle", "energy", "value", "force"):
        close(getattr(mine, method)(state), getattr(definition, method)(state), rtol=1e-10, atol=1e-10)
    close(memory.read(state, values), definition.read(state, values), rtol=1e-10, atol=1e-10)
    close(memory.energy(state), definition.energy(state), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("count", [1, 17, 63, 100, 256])
def test_it_is_exact_with_as_many_centroids_as_slots(count):
    """Every descent then is the descent among the patterns themselves."""
    energy = presets.distance(3.0)
    memory, patterns, moved = filled(energy, count, parts=3, centroids=256)
    assert torch.equal(memory.code.decode(), patterns) and (moved == 0).all() and memory.codes.dtype == torch.uint8
    query = patterns[:9] + 0.3 * double(min(9, count), 12)
    for descent in (FixedPoint(), GradientDescent(step_size=0.5, record=True), Flow(time=3.0)):
        mine, plain = memory.recall(query, descent), descent(energy, query, patterns)
        close(mine.state, plain.state, rtol=1e-7, atol=1e-7)
        close(mine.energy, plain.energy, rtol=1e-7, atol=1e-7)
        close(mine.margin, plain.margin, rtol=1e-7, atol=1e-7)
        if not isinstance(descent, Flow):
            assert torch.equal(mine.steps, plain.steps) and torch.equal(mine.converged, plain.converged)
    close(memory.read(query, patterns), retrieve(energy, query, patterns, patterns))


def test_scores_err_by_no_more_than_the_codes_move():
    memory, patterns, moved = filled(presets.log_sum_exp())
    query = 3 * double(50, 12)
    score = Quantised(memory.spec, memory.code).similarity(query)
    assert ((score - query @ patterns.mT).abs() <= query.norm(dim=-1, keepdim=True) * moved + 1e-12).all()
    far = Quantised(presets.distance(), memory.code).similarity(query)
    spread = torch.cdist(query, patterns) + torch.cdist(query, memory.code.decode())
    assert ((far + 0.5 * torch.cdist(query, patterns).square()).abs() <= 0.5 * moved * spread + 1e-9).all()


def test_finer_codes_move_less_and_cost_more():
    patterns = double(2000, 16)
    found = []
    for parts in (1, 2, 4, 8, 16):
        memory = QuantisedMemory.fit(presets.distance(), patterns, parts)
        found.append((memory.store(patterns).mean(), memory.compression))
        held = parts * 2000 + 256 * 16 * 8  # a byte per part and slot, and the codebooks
        assert memory.compression == 2000 * 16 * 8 / held == memory.code.decode().numel() * 8 / (memory.codes.numel() + memory.codebooks.numel() * 8)
    moved, ratio = zip(*found, strict=True)
    assert all(a > b for a, b in itertools.pairwise(moved)) and all(a > b for a, b in itertools.pairwise(ratio))
    rough = [QuantisedMemory.fit(presets.distance(), patterns, 4, centroids=count).store(patterns).mean() for count in (1, 4, 16, 64)]
    assert all(a > b for a, b in itertools.pairwise(rough))


def test_queries_pass_a_few_at_a_time(monkeypatch):
    memory, _, _ = filled(presets.entmax())
    query = double(3, 7, 12)
    whole, near = memory(query), memory.nearest(query, 5)
    monkeypatch.setattr("hopfield_amem.kernels.rows.BUDGET", 400)  # four rows of a hundred scores
    close(memory(query), whole)
    for mine, theirs in zip(memory.nearest(query, 5), near, strict=True):
        close(mine, theirs)
    exact = memory.spec.similarity(query, memory.code.decode()).topk(5, -1)
    close(near[0], exact.values)
    assert torch.equal(near[1], exact.indices)


def test_patterns_come_in_portions_and_nothing_else_matters():
    memory, patterns, _ = filled(presets.distance(2.0))
    twin = QuantisedMemory(memory.spec, memory.codebooks)
    for part in patterns.split(37):
        twin.store(part)
    assert torch.equal(twin.codes, memory.codes) and len(twin) == 100
    assert torch.equal(twin.codebooks, memory.codebooks) and "patterns=100" in repr(twin)
    other = QuantisedMemory(memory.spec, torch.zeros_like(memory.codebooks))
    other.load_state_dict(memory.state_dict())
    query = double(5, 12)
    close(other(query), memory(query))


def test_gradients_reach_queries_and_codebooks():
    memory, _, _ = filled(presets.log_sum_exp(1.5), count=20, centroids=5)
    values = double(20, 2)

    def read(query, books):
        code = type(memory.code)(books, memory.codes)
        engine = Quantised(memory.spec, code)
        return engine.read(query, values), engine.energy(query), engine.settle(query), engine.force(query)

    assert torch.autograd.gradcheck(read, (double(3, 12).requires_grad_(), memory.codebooks.clone().requires_grad_()))
    query, descent = double(3, 12).requires_grad_(), FixedPoint(steps=3, tolerance=0.0)
    states = memory.recall(query, descent).state, descent(memory.spec, query, memory.code.decode()).state
    close(*(torch.autograd.grad(state.square().sum(), query)[0] for state in states), rtol=1e-9, atol=1e-9)
    settled = memory.recall(query, FixedPoint(steps=200, tolerance=1e-10, gradient="implicit"))
    assert settled.converged.all() and not settled.state.requires_grad  # a fixed point forgets where it started, and codes are no parameters


def test_dtypes_and_layouts():
    memory, patterns, _ = filled(presets.distance(2.0))
    single = QuantisedMemory(memory.spec, memory.codebooks.float())
    single.store(patterns.float())
    query = patterns[:6] + 0.1 * double(6, 12)
    close(single(query.float()).double(), memory(query), rtol=1e-5, atol=1e-5)
    assert single(query.half()).dtype == torch.float16 and single.read(query.half(), torch.eye(100).half()).dtype == torch.float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (single(query.float()).double() - memory(query)).abs().max() < 0.05
    close(memory(query.mT.contiguous().mT), memory(query))
    close(memory(query[:1].expand(63, 12))[40], memory(query)[0])
    assert memory(query[:0]).shape == (0, 12)
    half = QuantisedMemory.fit(memory.spec, patterns.bfloat16(), 4)
    assert half.codebooks.dtype == torch.float32


def test_digits_in_eight_and_sixteen_bytes():
    """1,797 digits of 64 numbers; queries with 30 % of a grey range of noise; β from the gaps between digits."""
    images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    energy, descent, query, own = presets.distance(8.0), FixedPoint(steps=5), images[:200] + 0.3 * torch.randn(200, 64), torch.arange(200)
    rate = {"64 numbers": identified(descent(energy, query, images).state, images, own).double().mean().item()}
    for parts in (8, 16):
        memory = QuantisedMemory.fit(energy, images, parts)
        memory.store(images)
        rate[f"{parts} bytes"] = identified(memory.recall(query, descent).state, images, own).double().mean().item()
    print(rate)
    exact, eight, sixteen = rate.values()
    assert eight > exact - 0.2 and sixteen > exact - 0.05


def test_what_is_bounded_below_on_the_patterns_is_recalled():
    """The largest eigenvalue of the quantised patterns decides, as it does for the patterns themselves."""
    memory, patterns, _ = filled(presets.relu_feed_forward(1e-3))
    descent = GradientDescent(0.5, steps=4)
    close(memory.recall(patterns, descent).state, descent(memory.spec, patterns, memory.code.decode()).state)


def test_errors_at_the_door():
    memory, patterns, _ = filled(presets.distance())
    fit = QuantisedMemory.fit
    for wrong in (lambda: fit(ReadEnergy(Manhattan(), Exp()), patterns, 4), lambda: fit(presets.distance(torch.ones(1)), patterns, 4),
                  lambda: fit(memory.spec, patterns, 5), lambda: fit(memory.spec, patterns[:0], 4), lambda: fit(memory.spec, patterns, 4, centroids=257),
                  lambda: fit(memory.spec, patterns * math.nan, 4), lambda: QuantisedMemory(memory.spec, torch.zeros(4, 300, 3)),
                  lambda: memory.store(patterns[:, :3]), lambda: memory.store(patterns * math.inf), lambda: memory(double(2, 5)),
                  lambda: memory.read(patterns, patterns[:3]), lambda: QuantisedMemory(memory.spec, memory.codebooks)(patterns)):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()
    for scaling in (Sum(), TopK(3, Sum())):
        with pytest.raises(ValueError, match="unbounded below on these patterns"):
            filled(ReadEnergy(Dot(), RectifiedPower(2), scaling))[0].recall(patterns)
    with pytest.raises(ValueError, match="outgrows"):
        filled(presets.squared_relu_feed_forward())[0].recall(patterns)
    with pytest.raises(TypeError):
        memory.store([1.0])
