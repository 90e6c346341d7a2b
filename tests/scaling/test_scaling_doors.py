"""Pictures of every result, and errors at the door."""

import json
import math

import pytest
import torch
from embeddings import INF, drawn

from hopfield_amem.analysis import scaling
from hopfield_amem.analysis.scaling import PowerScheme, Study, ThresholdScheme, ZipfTask


def test_every_result_is_drawn(tmp_path):
    results = {
        "sweep": scaling.sweep(ZipfTask(60, 5, 2.0), ["root", "top d/8"], (16, 32, 64), (None, 100), trials=3),
        "single": scaling.sweep(ZipfTask(60, 5, 2.0), {"mine": PowerScheme(0.3)}, (64,), trials=1),
        "exponents": scaling.exponents(["data, α = 1.5", "data, α = 2"]),
        "maps": scaling.association_maps(ZipfTask(10, 5, 1.5), 5, tokens=20),
        "dynamics": scaling.two_particles(rate=10.0, steps=10),
        "learned": scaling.learn(ZipfTask(20, 5, 2.0), 8, samples=2048),
    }
    for name, result in results.items():
        written, picture = result.save(tmp_path, name)
        assert json.loads(written.read_text())["rows"] and picture.stat().st_size > 5000
        assert result.table()
    figure = results["maps"].plot()
    frames = [patch for patch in figure.axes[1].patches if patch.get_width() < 1]
    assert len(frames) == len(results["maps"].pairs)


P, F = scaling.zipf(6, 2.0), torch.arange(6) % 3
E, U = drawn(6, 3, 4)
NAN = torch.full((6,), math.nan)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: scaling.zipf(0, 2.0), "inputs must be at least 1"),
        (lambda: scaling.zipf(5, math.nan), "alpha"),
        (lambda: ZipfTask(10, 1), "classes must be at least 2"),
        (lambda: ZipfTask(10, 5, -1.0), "alpha"),
        (lambda: scaling.unseen_mass(1.0, 10), "needs α > 1"),
        (lambda: scaling.finite_data_law(0.5, 10), "needs α > 1"),
        (lambda: scaling.finite_data_law(2.0, math.inf), "tokens must be positive"),
        (lambda: scaling.scaling_exponent(1.0, 1.0), "needs α > 1"),
        (lambda: scaling.scaling_exponent(math.nan, 1.0), "needs α > 1"),
        (lambda: scaling.scaling_exponent(2.0, -1.0), "rho"),
        (lambda: scaling.scaling_exponent(2.0, 1.0, False, 1), "classes must be at least 2"),
        (lambda: scaling.scaling_exponent(2.0, 0.0, False, INF), "no one power of d"),
        (lambda: scaling.finite_data_error(torch.zeros(0), 10), "There is no input"),
        (lambda: scaling.finite_data_error(torch.tensor([0.5, 0.1]), 10), "sum to one"),
        (lambda: scaling.finite_data_error(P, 0), "tokens must be at least 1"),
        (lambda: scaling.predicted_recall_error(P, P, F, 0), "dim must be at least 1"),
        (lambda: scaling.predicted_recall_error(P, -P, F, 4), "not negative"),
        (lambda: scaling.predicted_recall_error(P, NAN, F, 4), "must be finite"),
        (lambda: scaling.predicted_recall_error(NAN, P, F, 4), "must be finite"),
        (lambda: scaling.predicted_recall_error(P, P, F[:4], 4), "one weight and one class"),
        (lambda: scaling.recall_error_bounds(P, torch.zeros(6), F, 4), "not all 0"),
        (lambda: scaling.optimal_threshold(P, F - 1, 4), "count from 0"),
        (lambda: scaling.optimal_threshold(P, F[:3], 4), "one weight and one class"),
        (lambda: scaling.overflow_dimension(10, 0.0), "share"),
        (lambda: scaling.scheme("cubic"), "There is no scheme 'cubic'"),
        (lambda: scaling.sweep(ZipfTask(), ["cubic"], (10,)), "There is no scheme 'cubic'"),
        (lambda: scaling.sweep(ZipfTask(), [], (10,)), "no scheme to sweep"),
        (lambda: scaling.sweep(ZipfTask(), ["root"], ()), "dims is empty"),
        (lambda: scaling.sweep(ZipfTask(), ["root"], (10, 0)), "at least 1"),
        (lambda: scaling.sweep(ZipfTask(), ["root"], (10, 10)), "twice"),
        (lambda: scaling.sweep(ZipfTask(), ["root"], (10,), trials=0), "trials must be at least 1"),
        (lambda: scaling.sweep(ZipfTask(), ["root"], (10,), (0,)), "tokens must be at least 1"),
        (lambda: scaling.sweep(ZipfTask(), ["root"], (10,), ()), "tokens is empty"),
        (lambda: scaling.sweep(ZipfTask(), ["root"], (10,), (None, None)), "more than once"),
        (lambda: scaling.sweep(ZipfTask(), ["best top"], (10,), (100,)), "true p"),
        (lambda: scaling.sweep(ZipfTask(9, 3), ["root"], (4,), trials=2).law("rot"), "not 'rot' at None"),
        (lambda: scaling.sweep(ZipfTask(9, 3), ["root"], (4,), trials=2).law("root"), "three different"),
        (lambda: scaling.sweep(ZipfTask(9, 3), ["root"], (4,), trials=2).data_law("root", 5), "not 5"),
        (lambda: scaling.sweep(ZipfTask(9, 3), ["root"], (4,), trials=2).data_law("root", 4), "three different"),
        (lambda: scaling.exponents(["nothing"]), "table of exponents"),
        (lambda: Study(trials=0), "trials must be at least 1"),
        (lambda: Study(seed=-1), "seed must be at least 0"),
        (lambda: PowerScheme(math.nan), "rho"),
        (lambda: ThresholdScheme(per=0.0), "per must be positive"),
        (lambda: scaling.SCHEMES["best top"].weights(torch.ones(2, 6) / 6, F, 4), "one distribution"),
        (lambda: scaling.store(E, U, F + 1, P), "outputs have 3 classes"),
        (lambda: scaling.store(E, U, F, NAN), "must be finite"),
        (lambda: scaling.recall_error(torch.eye(3), E, U, F, probability=P), "takes inputs"),
        (lambda: scaling.recall_error(torch.full((4, 4), math.nan), E, U, F, probability=P), "NaN"),
        (lambda: scaling.recall_error(torch.eye(4), E[:0], U, F, probability=P), "empty"),
        (lambda: scaling.memory_recall_probe(torch.eye(4), E, U), "outputs have 3 classes"),
        (lambda: scaling.margins(torch.eye(4), E, U[:1], F * 0), "two classes"),
        (lambda: scaling.sampled_errors(P, torch.ones(2, 6), F, dim=4, trials=3), "weights must be"),
        (lambda: scaling.learning_dynamics(E, U, F, P, rate=1.0, steps=1, update="newton"), "update must be one of"),
        (lambda: scaling.learning_dynamics(E, U, F, P, rate=math.nan, steps=1), "rate must be positive"),
        (lambda: scaling.two_particles(rate=1.0, steps=1, overlap=2.0), "overlap"),
        (lambda: scaling.orthogonal_margin(0.0, 1.0, 1), "probability"),
        (lambda: scaling.association_maps(ZipfTask(), 0, tokens=1), "dim must be at least 1"),
        (lambda: scaling.association_maps(ZipfTask(), 4, tokens=1, start=torch.zeros(3, 3)), "takes inputs"),
        (lambda: scaling.saturated_weight(-1, 1.0, 5.0), "visits must be at least 0"),
        (lambda: scaling.sgd_storage_weights(P, 10, rate=1.0, batch=11), "more than the 10 tokens"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: scaling.zipf(2.5, 2.0), lambda: scaling.finite_data_error([0.5, 0.5], 3), lambda: scaling.store(E, U, F.double(), P),
        lambda: scaling.store(E.long(), U, F, P), lambda: ZipfTask(True, 5), lambda: scaling.sweep(ZipfTask(), {"x": object()}, (4,)),
        lambda: scaling.sweep(ZipfTask(), "root", (4,)),
    ],
)  # fmt: skip
def test_what_is_of_the_wrong_type_is_refused(call):
    with pytest.raises(TypeError):
        call()
