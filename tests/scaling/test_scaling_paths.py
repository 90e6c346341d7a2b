"""Recall errors along the path of SGD, against a plain loop, and equation 16 beside them."""

import pytest
import torch

from hopfield_amem.analysis import scaling
from hopfield_amem.analysis.scaling import ZipfTask


@pytest.mark.parametrize("batch", [1, 7])
def test_paths_are_those_of_sgd_on_the_same_batches(batch):
    """Every draw again by autograd, token by token."""
    task = ZipfTask(12, 4, 1.0)
    found = scaling.learning_paths(task, 6, rates=[3.0, 1.0, 0.5, 10.0, 0.1], batch=batch, trials=4)
    assert (found.counts.sum(-1) == batch).all()
    for trial, (inputs, outputs) in enumerate(zip(*found.embeddings, strict=True)):
        memory = torch.zeros(6, 6, requires_grad=True)
        for step, rate in enumerate(found.rates):
            tokens = torch.arange(12).repeat_interleave(found.counts[step, trial])
            loss = torch.nn.functional.cross_entropy(inputs[tokens] @ memory.mT @ outputs.mT, task.labels[tokens])
            (gradient,) = torch.autograd.grad(loss, memory)
            memory = (memory - rate * gradient).detach().requires_grad_()
        torch.testing.assert_close(found.memory[trial], memory.detach(), rtol=1e-4, atol=1e-5)
        error = scaling.recall_error(memory, inputs, outputs, task.labels, probability=task.probability)
        assert float(found.errors[trial, -1]) == pytest.approx(float(error), abs=1e-6)


def test_before_the_first_step_the_first_class_is_answered_and_after_one_step_both_store_the_batch():
    task = ZipfTask(20, 5, 2.0)
    found = scaling.learning_paths(task, 8, rates=[1.0], batch=50, trials=6)
    empty = float(task.probability[task.labels > 0].sum())
    torch.testing.assert_close(found.errors[:, 0], torch.full((6,), empty, dtype=torch.float64))
    weights = 0.8 * found.counts[0].double() / 50  # 1 − 1/M of γ c/B
    stored = scaling.store(*found.embeddings, task.labels, weights)
    expected = scaling.recall_error(stored, *found.embeddings, task.labels, probability=task.probability)
    torch.testing.assert_close(found.approximated[:, 1], expected)


def test_where_embeddings_hardly_overlap_equation_16_says_what_sgd_recalls():
    task = ZipfTask(30, 3, 1.5)
    gap = {}
    for dim in (4, 400):
        found = scaling.learning_paths(task, dim, rates=[1.0] * 20, batch=8, trials=6)
        gap[dim] = float((found.errors - found.approximated).abs().mean())
    assert gap[400] < 0.015 and gap[4] > 0.03  # in four dimensions they interfere


def test_they_are_drawn_and_told(tmp_path):
    found = scaling.learning_paths(ZipfTask(10, 5, 1.5), 5, rates=[10.0, 1.0], trials=2)
    written, picture = found.save(tmp_path, "paths")
    assert written.exists() and picture.stat().st_size > 5000
    assert [row["rate"] for row in found.rows()] == [None, 10.0, 1.0] and len(found.plot().axes[0].lines) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"rates": []}, "no step"), ({"rates": [1.0, -1.0]}, "positive"), ({"rates": [1.0], "batch": 0}, "batch"), ({"rates": [1.0], "trials": 0}, "trials")],
)
def test_what_cannot_be_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        scaling.learning_paths(ZipfTask(10, 5, 1.5), 5, **options)
