"""Associative memories of a Zipf law: the sum of outer products, its schemes of storing, what saturates."""

import math

import pytest
import torch
from embeddings import close, drawn

from hopfield_amem.analysis import scaling
from hopfield_amem.analysis.scaling import PowerScheme, ThresholdScheme, ZipfTask


def test_zipf():
    close(scaling.zipf(3, 1.0), torch.tensor([6.0, 3.0, 2.0], dtype=torch.float64) / 11)
    close(scaling.zipf(4, 0.0), torch.full((4,), 0.25, dtype=torch.float64))
    task = ZipfTask(7, 3, 1.5)
    assert task.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    counts = task.frequencies(10_000, 50) * 10_000
    assert (counts.sum(-1) == 10_000).all()
    close(counts.mean(0) / 10_000, task.probability, atol=0.003, rtol=0)


@pytest.mark.parametrize(
    ("alpha", "tokens", "exact", "law"),
    [
        (1.5, 100, 0.202404, 0.202853), (1.5, 1000, 0.094135, 0.094156), (1.5, 10_000, 0.043702, 0.043703), (1.5, 100_000, 0.020285, 0.020285),
        (2.0, 100, 0.068840, 0.069099), (2.0, 1000, 0.021843, 0.021851), (2.0, 10_000, 0.006910, 0.006910), (2.0, 100_000, 0.002185, 0.002185),
    ],
)  # fmt: skip
def test_finite_data(alpha, tokens, exact, law):
    assert scaling.unseen_mass(alpha, tokens) == pytest.approx(exact, abs=1e-6)
    assert scaling.finite_data_law(alpha, tokens) == pytest.approx(law, abs=1e-6)


def test_finite_data_of_finitely_many_inputs():
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    assert scaling.finite_data_error(p, 3) == pytest.approx(0.5 * 0.125 + 0.3 * 0.343 + 0.2 * 0.512)
    assert scaling.finite_data_error(torch.ones(1), 1) == 0
    many = scaling.zipf(10**6, 3.0)  # a tail beyond 10⁶ of 4e-13
    for tokens in (1, 10, 23, 24, 1000):
        assert scaling.finite_data_error(many, tokens) == pytest.approx(scaling.unseen_mass(3.0, tokens), rel=1e-9)


def test_the_memory_is_the_sum_of_outer_products():
    for count, classes, dim in ((1, 1, 1), (17, 5, 3), (63, 4, 9), (100, 100, 17)):
        inputs, outputs = drawn(count, classes, dim)
        labels, q = torch.arange(count) % classes, torch.rand(count, dtype=torch.float64)
        matrix = scaling.store(inputs, outputs, labels, q)
        close(matrix, sum(w * torch.outer(outputs[y], e) for w, y, e in zip(q, labels, inputs, strict=True)))
        scores = torch.stack([outputs @ matrix @ e for e in inputs])
        close(scaling.association_map(matrix, inputs, outputs, softmax=False), scores)
        p = torch.rand(count, dtype=torch.float64)
        wrong = float(sum(share for share, row, y in zip(p / p.sum(), scores, labels, strict=True) if int(row.argmax()) != int(y)))
        assert float(scaling.recall_error(matrix, inputs, outputs, labels, probability=p / p.sum())) == pytest.approx(wrong, abs=1e-12)


def test_orthonormal_embeddings_are_recalled_whatever_the_weights():
    inputs = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64)).Q[:30]
    labels, q = torch.arange(30) % 7, torch.rand(30, dtype=torch.float64) + 0.01
    outputs = torch.eye(7, 40, dtype=torch.float64)
    matrix = scaling.store(inputs, outputs, labels, q)
    assert scaling.recall_error(matrix, inputs, outputs, labels, probability=scaling.zipf(30, 1.0)) == 0
    close(scaling.association_map(matrix, inputs, outputs, softmax=False), torch.nn.functional.one_hot(labels, 7) * q.unsqueeze(-1))
    close(scaling.margins(matrix, inputs, outputs, labels), q)


def test_batches_of_memories():
    inputs, outputs = (torch.stack(parts) for parts in zip(*(drawn(12, 3, 4, seed) for seed in range(6)), strict=True))
    labels, p = torch.arange(12) % 3, scaling.zipf(12, 1.5)
    q = torch.rand(6, 12, dtype=torch.float64)
    together = scaling.recall_error(scaling.store(inputs, outputs, labels, q), inputs, outputs, labels, probability=p)
    alone = [scaling.recall_error(scaling.store(e, u, labels, w), e, u, labels, probability=p) for e, u, w in zip(inputs, outputs, q, strict=True)]
    close(together, torch.stack(alone))


def test_the_recall_probe_finds_planted_pairs():
    keys, values = torch.randn(30, 200, dtype=torch.float64), torch.randn(50, 100, dtype=torch.float64)
    targets = torch.randperm(50)[:30]
    matrix = values[targets].mT @ keys
    assert scaling.memory_recall_probe(matrix, keys, values, targets=targets) == 1
    assert scaling.memory_recall_probe(values[:30].mT @ keys, keys, values) == 1
    assert scaling.memory_recall_probe(matrix, keys, values, targets=(targets + 1) % 50) == 0
    torch.manual_seed(0)
    half = values[targets[:15]].mT @ keys[:15]  # the others are left to chance
    assert 0.5 <= scaling.memory_recall_probe(half, keys, values, targets=targets) < 0.7
    positions = torch.eye(64, dtype=torch.float64)
    previous = torch.diag(torch.ones(63, dtype=torch.float64), 1)  # takes p_t to p_(t−1)
    assert scaling.memory_recall_probe(previous, positions[1:], positions[:-1], targets=torch.arange(63)) == 1


def test_schemes():
    frequency, labels = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    weigh = lambda chosen, dim=8: chosen.weights(frequency, labels, dim).tolist()
    assert weigh(PowerScheme(0.0)) == [1, 0, 1, 1]  # what never occurs is not stored
    assert weigh(PowerScheme(1.0)) == frequency.tolist()
    assert weigh(ThresholdScheme(per=4.0)) == [1, 0, 1, 0]
    assert weigh(ThresholdScheme(0.5, 8.0)) == [0.5**0.5, 0, 0, 0]
    assert weigh(ThresholdScheme(per=32.0, growth=2.0)) == [1, 0, 1, 0]
    assert weigh(ThresholdScheme(per=12.0)) == [0, 0, 0, 0]
    assert weigh(ThresholdScheme(per=1.0)) == [1, 0, 1, 1]  # capped by what occurs
    ties = torch.full((2, 4), 0.25)
    assert ThresholdScheme(per=4.0).weights(ties, labels, 8).tolist() == [[1, 1, 0, 0]] * 2
    for chosen in scaling.SCHEMES.values():
        assert chosen.weights(scaling.zipf(30, 2.0), torch.arange(30) % 5, 20).shape == (30,)


def test_what_saturates():
    table = {0.001: (0.00091, 0.00909, 0.09053), 0.1: (0.09091, 0.86772, 4.10841), 1.0: (0.90909, 4.23198, 6.86198), 10.0: (9.09091, 9.1879, 9.84184)}
    for rate, row in table.items():
        assert [scaling.saturated_weight(visits, rate, 10.0) for visits in (1, 10, 100)] == pytest.approx(row, abs=6e-6)
    p = scaling.zipf(10, 1.0)
    whole = scaling.sgd_storage_weights(p, 1000, rate=0.01, batch=1000)
    close(whole / whole[0], p / p[0])  # one huge batch: q ∝ p
    single = scaling.sgd_storage_weights(p, 1000, rate=10.0)
    assert float(single.min() / single.max()) > 0.8 > float(p.min() / p.max())  # large steps, small batch: once and alike
    close(single, torch.tensor([scaling.saturated_weight(round(1000 * float(share)), 10.0, 4.0) for share in p], dtype=torch.float64), rtol=0.02, atol=0)


@pytest.mark.parametrize(("rate", "classes"), [(1.0, 5.0), (0.01, 5.0), (0.0009, 1e6), (300.0, 2.0), (3.0, 0.5), (1e-6, 5.0)])
def test_many_visits_are_those_one_by_one(rate, classes):
    """Every visit by the equation in plain floats; then numbers of visits that could not be taken one by one, by the growth log(M n γ)."""
    weight, checked = 0.0, {10: 0.0, 3000: 0.0, 100_000: 0.0}
    for visit in range(1, 100_001):
        weight += rate / (1 + math.exp(weight) / classes) if weight < 700 else 0.0
        if visit in checked:
            checked[visit] = weight
    for visits, expected in checked.items():
        assert scaling.saturated_weight(visits, rate, classes) == pytest.approx(expected, rel=1e-8, abs=1e-7)
    many = scaling.saturated_weight(10**15, rate, classes)
    if rate > 100:
        assert many == pytest.approx(weight)  # what one huge step stores is all there ever will be
    else:
        assert many + math.exp(many) / classes == pytest.approx(10**15 * rate, rel=1e-6)
    p = scaling.zipf(10, 1.0)
    stored = scaling.sgd_storage_weights(p, 30_000, rate=rate, classes=5)
    alone = [scaling.saturated_weight(round(30_000 * float(share)), rate, 4.0) for share in p]
    close(stored, torch.tensor(alone, dtype=torch.float64), rtol=1e-3, atol=1e-3)


def test_stored_weights_are_those_of_sgd_on_embeddings_that_do_not_overlap():
    """Orthonormal inputs and 60 orthonormal outputs, one token at a time, against the map, which leaves out what 59 other classes lose: one part in 60.

    The first step has none of that, γ(1 − 1/M): with M instead of M − 1 in the map it would be γ(1 − 1/(M + 1)).
    """
    for classes in (2, 3, 60):
        first = scaling.sgd_storage_weights(torch.ones(1), 1, rate=0.5, classes=classes)
        assert float(first) == pytest.approx(0.5 * (1 - float(torch.zeros(classes, dtype=torch.float64).softmax(-1)[0])), rel=1e-12)
    for rate, counts in ((0.5, (40, 11, 3)), (5.0, (40, 11, 3)), (0.01, (54, 36, 10))):
        scores = torch.zeros(3, 60, dtype=torch.float64)
        for x, visits in enumerate(counts):
            for _ in range(visits):
                scores[x] += rate * (torch.nn.functional.one_hot(torch.tensor(x), 60) - scores[x].softmax(-1))
        p = torch.tensor(counts, dtype=torch.float64) / sum(counts)
        close(scaling.sgd_storage_weights(p, sum(counts), rate=rate, classes=60), scores.diagonal(), rtol=0.03, atol=0)
