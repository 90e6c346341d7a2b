"""Models that are trained together train as one by one does, whoever trains them."""

import math
import pickle
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from small_models import TINY, recurrent, small
from torch import nn

from hopfield_amem.analysis import memorization
from hopfield_amem.analysis.memorization import (
    Corpus,
    Memorization,
    Training,
    UniformTokens,
    language_model,
    parameters,
    sweep,
    train,
    train_together,
)
from hopfield_amem.analysis.memorization.training import batches
from hopfield_amem.analysis.runs import Processes, slurm
from hopfield_amem.energies import Simplex, Tsallis


def test_every_row_comes_before_one_comes_again():
    for count in (1, 5, 40):
        drawn = torch.cat(list(batches(count, Training(steps=30, batch=8), 0)))[: 240 // count * count]
        assert (torch.bincount(drawn, minlength=count) == 240 // count).all()


@pytest.mark.parametrize("kind", [{"memory": "softmax"}, {"memory": "delta"}, {"memory": "deltaformer"}, {"memory": "entmax"}, {"feed_forward": "softmax"}])
def test_a_stack_trains_as_one_by_one_does(kind):
    data, training = UniformTokens(8, 12), Training(steps=15, batch=8, evaluations=5)
    corpora = [data(count, seed) for seed, count in enumerate((3, 17, 40))]
    fresh = lambda: [(torch.manual_seed(seed), language_model(9, 8, **kind))[1] for seed in range(3)]
    together = train_together(fresh(), corpora, training)
    apart = [train(model, corpus, training, seed=seed) for seed, (model, corpus) in enumerate(zip(fresh(), corpora, strict=True))]
    for mine, plain in zip(together, apart, strict=True):
        torch.testing.assert_close(torch.tensor(mine.curve), torch.tensor(plain.curve), rtol=1e-5, atol=1e-5)
        assert mine.together == 3 and plain.together == 1
    assert together[0].curve[-1][1] < together[0].curve[0][1]


def test_thresholds_stop_when_found_in_a_stack_too(monkeypatch):
    """Sparse weights of many models take as many Newton steps as those of one."""
    taken = []
    slope = Tsallis.slope
    monkeypatch.setattr(Tsallis, "slope", lambda self, score: taken.append(1) or slope(self, score))
    score = torch.randn(3, 40, 16, dtype=torch.float64)
    weigh = lambda rows: Simplex().weights(Tsallis(1.5), rows)
    plain, alone = weigh(score), len(taken)
    taken.clear()
    torch.testing.assert_close(torch.func.vmap(weigh)(score), plain)
    assert len(taken) == alone < 30


def test_what_cannot_be_stacked_says_so_and_is_trained():
    corpora = [UniformTokens(8, 12)(5, 0)] * 2
    with pytest.warns(RuntimeWarning, match="one after the other: their parameters differ"):
        found = train_together([language_model(9, 4), language_model(9, 8)], corpora, Training(steps=3))
    assert [run.together for run in found] == [1, 1]
    with pytest.warns(RuntimeWarning, match="one after the other"):
        train_together([recurrent(9), recurrent(9)], corpora, Training(steps=3))
    with pytest.raises(ValueError, match="One corpus and one seed"):
        train_together([recurrent(9)], corpora, Training())


def test_parameters_are_counted_where_they_belong():
    counts = parameters(language_model(33, 8))
    attention, memory = 4 * 8 * 9 + 2, 2 * 8 * 32 + 40  # four projections and their biases, β of two heads; keys, values, their biases
    assert counts == {"parameters": 2 * 33 * 8 + attention + memory + 6 * 8, "parameters attention": attention, "parameters feed-forward": memory}
    with pytest.raises(ValueError, match="'softmax', 'entmax'"):
        language_model(33, 8, memory="none")
    with pytest.raises(ValueError, match="multiple"):
        language_model(33, 6)


def executors(tmp_path):
    """Who else trains stacks: each as a context that gives an executor."""

    @contextmanager
    def dask():
        distributed = pytest.importorskip("distributed", reason="dask is in the extra cluster")
        with distributed.Client(n_workers=1, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as client:
            yield client

    @contextmanager
    def jobs():
        pytest.importorskip("submitit", reason="submitit is in the extra cluster")
        local = slurm(tmp_path / "logs", 1, cluster="local", timeout_min=2)
        yield replace(local, every=0.1)

    return {"processes": lambda: nullcontext(Processes(2)), "dask": dask, "slurm": jobs}


@pytest.mark.parametrize("who", ["processes", "dask", "slurm"])
def test_others_train_the_same_stacks(who, tmp_path):
    asked = (language_model, UniformTokens(8, 12), [{"width": 4}, {"width": 8}], (4, 12))
    here = sweep(*asked, training=TINY)
    with executors(tmp_path)[who]() as executor:
        found = sweep(*asked, training=TINY, folder=tmp_path / "runs", executor=executor)
    assert [record["together"] for record in found.records] == [2] * 4 and len(list((tmp_path / "runs").glob("*.json"))) == 4
    for one, other in zip(here.records, found.records, strict=True):
        assert (one["width"], one["examples"]) == (other["width"], other["examples"])
        assert one["training loss"] == pytest.approx(other["training loss"], rel=1e-3) and other["environment"]["threads"] == 1


class Dropping(nn.Module):
    """A model whose two modes are told apart by its loss: dropout of all that is known, in training alone."""

    def __init__(self, symbols, known=9.0):
        super().__init__()
        self.logits, self.drop, self.symbols = nn.Parameter(known * torch.eye(symbols)[0]), nn.Dropout(0.999), symbols

    def forward(self, tokens):
        return self.drop(self.logits.expand(*tokens.shape, -1))


def test_losses_on_other_data_and_references_are_those_of_evaluation():
    rows = torch.zeros(40, 9, dtype=torch.long)
    law = Corpus(rows, rows, 5, bits_per_example=8 * math.log2(5))
    training = Training(steps=4, batch=32, rate=1e-6)
    expected = 8 * math.log1p(4 * math.exp(-9.0)) / 8
    for count in (1, 3):  # alone, and as a stack
        models = [Dropping(5) for _ in range(count)]
        for run in train_together(models, [law] * count, training):
            assert run.together == count and run.model.training and run.model.drop.training
            assert [point[2] for point in run.curve] == pytest.approx([expected] * 4, rel=1e-3)
            assert min(point[1] for point in run.curve) > 1  # in training little is known
    found = sweep(Dropping, lambda examples, seed: replace(law, bits_per_example=None, reference=rows), [{}], (1,), training=training)
    assert found.records[0]["reference loss"] == pytest.approx(expected, rel=1e-3)


def test_a_reference_that_diverges_is_a_failure():
    rows = torch.zeros(4, 9, dtype=torch.long)
    made = []

    def bursting(symbols):
        made.append(Dropping(symbols, math.inf if made else 9.0))  # the trained one, its reference
        return made[-1]

    with pytest.raises(RuntimeError, match="training of the reference model diverged"):
        sweep(bursting, lambda examples, seed: Corpus(rows, rows, 5, reference=rows), [{}], (4,), training=Training(steps=2, batch=4))


def test_a_run_that_diverges_fails_alone(tmp_path):
    def bursting(symbols, width=8):
        model = language_model(symbols, width)
        if torch.initial_seed() == 1:
            model.embedding.weight.data.fill_(torch.inf)
        return model

    with pytest.raises(RuntimeError, match="diverged"):
        sweep(bursting, UniformTokens(8, 12), [{}], (4,), seeds=(0, 1, 2), training=Training(steps=3, batch=4), folder=tmp_path)
    assert sorted(record["seed"] for record in Memorization.load(tmp_path).records) == [0, 2]


def test_stacks_ask_once_how_large_models_are():
    made = []

    def data(examples, seed):
        made.append(examples)
        return UniformTokens(8, 12)(examples, seed)

    runs, configs = memorization.sweeps.asked(small, data, [{"width": 4}, {"width": 8}], (4, 8), seeds=(0,), training=TINY)
    assert runs.stacks(configs[:2]) == [[0, 1]] and not made  # one stack has no order
    for _ in range(3):
        assert runs.stacks(configs) == [[2, 3], [0, 1]]
    assert made == [4, 4] and pickle.loads(pickle.dumps(replace(runs, make_data=UniformTokens(8, 12)))).stacks(configs) == [[2, 3], [0, 1]]
