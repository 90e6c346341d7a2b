"""Gradient descent on a memory: particles, the Hessian, sharpness, association maps."""

import math

import pytest
import torch
from embeddings import close, drawn

from hopfield_amem.analysis import scaling
from hopfield_amem.analysis.scaling import ZipfTask


def test_two_particles():
    """The losses and where γ is after 34 steps, from published settings (arXiv 2402.18724): a rate of 10 oscillates, and wins."""
    fast, slow = (scaling.two_particles(rate=rate, steps=34) for rate in (10.0, 1.0))
    assert fast.losses[:9].tolist() == pytest.approx([0.6931, 1.1631, 0.4976, 0.7528, 0.6438, 1.3487, 0.2896, 0.3343, 0.5587], abs=1e-4)
    assert slow.losses[:9].tolist() == pytest.approx([0.6931, 0.5898, 0.5564, 0.5413, 0.5318, 0.5242, 0.5174, 0.5109, 0.5047], abs=1e-4)
    assert int(fast.losses.argmax()) == 5
    assert [float(found.losses[-1]) for found in (fast, slow)] == pytest.approx([0.05424, 0.3722], abs=1e-4)
    assert (fast.memory[0] - fast.memory[1]).tolist() == pytest.approx([3.322, -16.979], abs=6e-4)
    assert (slow.memory[0] - slow.memory[1]).tolist() == pytest.approx([1.456, -3.437], abs=6e-4)
    assert fast.oscillations > 5 and slow.oscillations == 0
    assert float(fast.stability[0]) == pytest.approx(10 / 2 * 0.5 * (1 + math.sqrt(1 - 4 * 0.75 * 0.25 * (1 - 0.95**2))) / 2)  # W = 0, by hand
    assert slow.stability.max() < 1
    assert fast.errors[-1] == 0 and (fast.margins[-1] > 0).all()


def test_two_particles_are_the_recursion_of_their_difference():
    found = scaling.two_particles(rate=3.0, steps=5, overlap=0.3, probability=0.6)
    gamma = torch.zeros(2, dtype=torch.float64)
    inputs = torch.tensor([[1.0, 0.0], [0.3, (1 - 0.09) ** 0.5]], dtype=torch.float64)
    for _ in range(5):
        gamma = gamma + 6 * sum(p * s * e * torch.sigmoid(-s * e @ gamma) for p, s, e in zip((0.6, 0.4), (1, -1), inputs, strict=True))
    close(found.memory[0] - found.memory[1], gamma)


def test_orthogonal_inputs_grow_like_log_t():
    margin = 0.0
    for _ in range(20_000):
        margin += 2 * 0.75 * 0.05 / (1 + math.exp(margin))
    assert margin == pytest.approx(7.3092, abs=1e-4)
    assert scaling.orthogonal_margin(0.75, 0.05, 20_000) == pytest.approx(7.3090, abs=1e-4)
    assert scaling.orthogonal_margin(0.75, 0.05, 0) == pytest.approx(0, abs=1e-12)
    found = scaling.two_particles(rate=0.01, steps=200, overlap=0.0)
    assert float(found.margins[-1, 0]) == pytest.approx(scaling.orthogonal_margin(0.75, 0.01, 200), abs=2e-3)
    m = scaling.orthogonal_margin(0.2, 1.0, 1e12)
    assert m + math.exp(m) == pytest.approx(1 + 0.4e12)


def test_the_hessian():
    inputs, outputs = drawn(6, 4, 3)
    labels, p, matrix = torch.arange(6) % 4, scaling.zipf(6, 1.0), torch.randn(3, 3, dtype=torch.float64)

    def loss(flat):
        return p @ torch.nn.functional.cross_entropy(inputs @ flat.view(3, 3).mT @ outputs.mT, labels, reduction="none")

    expected = torch.autograd.functional.hessian(loss, matrix.flatten())
    close(scaling.hessian(matrix, inputs, outputs, probability=p), expected)
    assert scaling.sharpness(matrix, inputs, outputs, probability=p) == pytest.approx(float(torch.linalg.eigvalsh(expected)[-1]))
    inputs, outputs = drawn(30, 5, 9)
    p, matrix = scaling.zipf(30, 1.0), torch.randn(9, 9, dtype=torch.float64)  # 81 entries: by products
    whole = torch.linalg.eigvalsh(scaling.hessian(matrix, inputs, outputs, probability=p))[-1]
    assert scaling.sharpness(matrix, inputs, outputs, probability=p) == pytest.approx(float(whole), rel=1e-8)


@pytest.mark.parametrize("factor", [1.0, 30.0, 100.0, 1e6])
def test_sharpness_of_answers_that_are_nearly_or_wholly_certain(factor):
    """A large memory, by Lanczos: down to curvatures that are subnormal or 0."""
    inputs, outputs = torch.eye(9), torch.eye(9)
    memory, p = factor * torch.eye(9), torch.full((9,), 1 / 9)
    whole = torch.linalg.eigvalsh(scaling.hessian(memory, inputs, outputs, probability=p).double())[-1]
    assert scaling.sharpness(memory, inputs, outputs, probability=p) == pytest.approx(float(whole), rel=1e-5, abs=1e-30)


def test_learning_follows_the_gradient():
    inputs, outputs = drawn(10, 5, 10)
    labels, p = torch.arange(10) % 5, scaling.zipf(10, 2.0)
    matrix = torch.zeros(10, 10, dtype=torch.float64, requires_grad=True)
    loss = p @ torch.nn.functional.cross_entropy(inputs @ matrix.mT @ outputs.mT, labels, reduction="none")
    (gradient,) = torch.autograd.grad(loss, matrix)
    step = {"gradient": gradient, "sign": gradient.sign(), "normalised": gradient / gradient.norm()}
    for update in scaling.UPDATES:
        found = scaling.learning_dynamics(inputs, outputs, labels, p, rate=0.5, steps=1, update=update)
        close(found.memory, -0.5 * step[update])
        assert float(found.losses[0]) == pytest.approx(math.log(5)) and found.losses[1] < found.losses[0]
    longer = scaling.learning_dynamics(inputs, outputs, labels, p, rate=1.0, steps=100, update="sign")
    assert longer.errors[-1] == 0
    assert len(longer.rows()) == 101 and longer.margins.shape == (101, 10)


def test_association_maps_show_what_one_token_does():
    task = ZipfTask(10, 5, 1.5)
    maps = scaling.association_maps(task, 5, tokens=1, rate=1.0, seed=2)
    (pair,) = maps.pairs
    close(maps.before, torch.full((10, 5), 0.2))
    assert maps.after[pair] > maps.before[pair]  # what was seen is believed more
    others = torch.ones(10, dtype=torch.bool)
    others[pair[0]] = False
    assert (maps.after[others] - maps.before[others]).abs().max() > 0.01  # and what was not seen moves along: embeddings overlap
    close(maps.after.sum(-1), torch.ones(10))
    longer = scaling.association_maps(task, 5, tokens=1000, seed=2)
    assert [row["seen"] for row in longer.rows()] == longer.seen.bincount(minlength=10).tolist()
    assert len(longer.rows()) == 10 and longer.rows()[0]["after"] > longer.rows()[0]["before"]
    again = scaling.association_maps(task, 5, tokens=5, seed=2, start=longer.memory)
    close(again.before, longer.after)
