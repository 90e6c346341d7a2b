"""The authors' published grid (arXiv 2310.02984, their result files), to the last digit, and memories learned otherwise."""

import pytest
import torch

from hopfield_amem.analysis.scaling import MODELS, OPTIMIZERS, Learning, ZipfTask, grid_run, learn, recall_error, zipf

SEEDS = range(42, 52)
PUBLISHED = {  # per seed
    "matrix, SGD": (
        {"model": "matrix", "optimizer": "SGD", "lr": 10, "batch": 64, "dim": 10},
        (0.031935, 0.055834, 0.036587, 0.036457, 0.037532, 0.057700, 0.021922, 0.031284, 0.043037, 0.048369),
    ),
    "matrix, Adam": (
        {"model": "matrix", "optimizer": "Adam", "lr": 1, "batch": 1024, "dim": 50},
        (0.081815, 0.047907, 0.062729, 0.057586, 0.066872, 0.066894, 0.062907, 0.035176, 0.090865, 0.053705),
    ),
    "learnable, SGD": (
        {"model": "learnable", "optimizer": "SGD", "lr": 1, "batch": 64, "dim": 10},
        (0.010430, 0.007387, 0.007753, 0.008012, 0.009401, 0.008408, 0.006728, 0.008596, 0.005251, 0.007799),
    ),
}
MEANS = [  # over the ten seeds, to four digits
    ({"lr": 1, "batch": 1024, "dim": 10}, 0.2030),
    ({"lr": 1, "batch": 1024, "dim": 100}, 0.0730),
    ({"optimizer": "Adam", "lr": 1, "batch": 1024, "dim": 100}, 0.0458),
    ({"lr": 1, "batch": 1024, "dim": 10, "layer_norm": True}, 0.1435),
    ({"optimizer": "Adam", "lr": 1, "batch": 1024, "dim": 50, "layer_norm": True}, 0.0406),
    ({"lr": 0.1, "batch": 64, "dim": 10}, 0.1681),
    ({"lr": 1, "batch": 64, "dim": 50}, 0.0430),
    ({"model": "exponential", "lr": 1, "batch": 16, "dim": 10}, 0.0199),
    ({"optimizer": "Adam", "lr": 10, "batch": 1024, "dim": 10, "samples": 1024}, 0.1806),
    ({"optimizer": "Adam", "lr": 1, "batch": 16, "dim": 50, "samples": 1024}, 0.0351),
    ({"optimizer": "Adam", "lr": 10, "batch": 1024, "dim": 1000, "samples": 1024}, 0.0544),
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_seed_of_the_published_grid(name):
    run, errors = PUBLISHED[name]
    for seed, error in zip(SEEDS, errors, strict=True):
        assert grid_run(**run, samples=10_240, seed=seed) == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize(("run", "mean"), MEANS, ids=str)
def test_means_of_the_published_grid(run, mean):
    assert sum(grid_run(**run, seed=seed) for seed in SEEDS) / 10 == pytest.approx(mean, abs=5.1e-5)


def test_a_run_leaves_the_global_randomness_alone():
    torch.manual_seed(3)
    grid_run(samples=1024)
    after = torch.rand(())
    torch.manual_seed(3)
    assert torch.equal(torch.rand(()), after)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_model_learns_with_every_optimizer(model, optimizer):
    chance = 1 - 1 / 3
    for layer_norm in (False, True):
        found = learn(ZipfTask(20, 3, 0.0), 32, Learning(model, optimizer, 1.0, 16, layer_norm), samples=3200, seed=1)
        assert found.error < 0.4 * chance
        assert found.losses.shape == (200,) and found.losses[-20:].mean() < found.losses[:5].mean()


def test_the_memory_that_is_returned_is_the_one_that_was_measured():
    found = learn(ZipfTask(60, 4, 1.2), 24, Learning(rate=2.0, batch=32), samples=640, seed=5)
    p = zipf(60, 1.2)
    assert float(recall_error(found.memory, found.inputs, found.outputs, found.task.labels, probability=p)) == pytest.approx(found.error, abs=1e-6)
    (row,) = found.rows()
    assert row["error"] == found.error and row["steps"] == 20


def test_learned_embeddings_hold_what_a_matrix_cannot():
    """Two dimensions, one hundred inputs: a matrix between random embeddings fails where the embeddings may move."""
    errors = {model: learn(ZipfTask(100, 5, 2.0), 2, Learning(model, "adam", 0.1, 1000), samples=400_000, seed=0).error for model in ("matrix", "learnable")}
    assert errors["learnable"] < 0.03
    assert errors["matrix"] > 0.1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model": "tensor"}, "model must be one of"),
        ({"optimizer": "LBFGS"}, "'SGD' and 'Adam'"),
        ({"lr": 0.0}, "rate must be positive"),
        ({"lr": float("nan")}, "rate must be positive"),
        ({"dim": 0}, "dim must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"samples": 1000}, "multiple of the batch"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_runs_that_cannot_be_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        grid_run(**options)


def test_a_width_that_is_no_whole_number_is_refused():
    with pytest.raises(TypeError, match="dim must be a whole number"):
        grid_run(dim=10.0)  # type: ignore[arg-type]
