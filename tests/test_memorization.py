"""How much models memorise: exact bits, models that know everything or nothing, stacks that train as one by one does, sweeps that go on."""

import errno
import gzip
import json
import math
import os
import pickle
import re
import threading
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from hopfield_amem.analysis import memorization, take
from hopfield_amem.analysis.memorization import (
    Corpus,
    Glosses,
    Memorization,
    Text,
    Training,
    UniformTokens,
    ZipfFacts,
    attainable_memorization,
    capacity_from_sweep,
    double_descent_size,
    extracted,
    language_model,
    membership_f1,
    parameters,
    predicted_memorization,
    sweep,
    train,
    train_together,
    unintended_memorization,
)
from hopfield_amem.analysis.memorization.fits import curve_of, plateaus
from hopfield_amem.analysis.memorization.kinds import MEASURED
from hopfield_amem.analysis.memorization.measures import findings
from hopfield_amem.analysis.memorization.training import batches
from hopfield_amem.analysis.runs import Processes, slurm
from hopfield_amem.cli import app
from hopfield_amem.energies import Simplex, Tsallis


class Knowing(nn.Module):
    """Predicts the tokens of rows it holds as one who knows that the row is one of them; of every other row nothing."""

    def __init__(self, rows, symbols):
        super().__init__()
        self.rows, self.symbols, self.none = rows, symbols, nn.Parameter(torch.zeros(()))

    def forward(self, tokens):
        rows, length = self.rows.to(tokens), tokens.shape[1]
        agree = (rows[:, None, :length] == tokens).cumprod(-1).double()  # (stored, batch, T)
        counts = torch.einsum("nbt,ntv->btv", agree, nn.functional.one_hot(rows[:, 1 : length + 1], self.symbols).double())
        counts = torch.where(counts.sum(-1, keepdim=True) > 0, counts, 1.0)
        return counts.log()


def test_published_membership():
    """F1 of GPT-2 XL and small at the sizes predicted for 0.55, 0.75 and 0.95 (arXiv 2505.24832; numbers of the corrected formula)."""
    for size, counts, values in (
        (1.556e9, (170_654_583, 76_795_021, 18_851_574), (0.5463, 0.7451, 0.9499)),
        (1.24e8, (13_566_442, 6_104_935, 1_498_634), (0.5467, 0.7457, 0.9501)),
    ):
        for count, value in zip(counts, values, strict=True):
            assert membership_f1(count, 64, 50257, size) == pytest.approx(value, abs=1.5e-3)
    assert membership_f1(1e15, 64, 50257, 1e6) == pytest.approx(0.5)
    assert membership_f1(1, 64, 50257, 1e12) == 1


def test_the_capacity_law_has_its_corner_where_the_second_descent_begins():
    corner = double_descent_size(6.67e5, 64, 2048)
    assert predicted_memorization(6.67e5, corner / 2, 64, 2048) == pytest.approx(corner / 2 * 704)  # 704 bits per sequence
    assert predicted_memorization(6.67e5, corner, 64, 2048) == pytest.approx(3.54 * 6.67e5)
    assert predicted_memorization(6.67e5, 9 * corner, 64, 2048, alpha=3.54) == pytest.approx(3.54 * 6.67e5)
    for bad, says in (((0, 1, 4, 4), "parameters"), ((1, -1, 4, 4), "sequences"), ((1, 1, 0, 4), "at least"), ((1, 1, 4, 1), "at least")):
        with pytest.raises(ValueError, match=says):
            predicted_memorization(*bad)


def test_bits_beyond_a_reference():
    model, reference = torch.tensor([0.5, 0.25, 0.125]).log(), torch.tensor(0.25).log()
    torch.testing.assert_close(unintended_memorization(model, reference), torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="one reference for each"):
        unintended_memorization(model, torch.zeros(2))


@pytest.mark.parametrize("examples", [1, 17, 63, 100])
def test_uniform_tokens_have_the_bits_they_should(examples):
    data = UniformTokens(11, 12)
    corpus = data(examples, 3)
    assert corpus.bits == pytest.approx(examples * 12 * math.log2(11))
    assert not {*map(tuple, corpus.training.tolist())} & {*map(tuple, corpus.validation.tolist())}
    torch.testing.assert_close(data(200, 3).training[:examples], corpus.training)
    with pytest.raises(ValueError, match="repeat each other"):
        UniformTokens(2, 4)(40, 0)


def test_facts_are_met_as_zipf_has_it():
    data = ZipfFacts(64, 8, 3, alpha=1.0)
    corpus = data(20000, 0)
    keys, counts = torch.unique(corpus.training, dim=0, return_counts=True)
    assert corpus.bits == len(keys) * 9 == 64 * 9  # three tokens of eight each, all facts met
    assert corpus.counted == (3, 4, 5) and corpus.length == 6  # 128 keys in base 8: three digits
    expected = torch.arange(1, 65).double() ** -1
    torch.testing.assert_close(counts.sort(descending=True).values.double() / 20000, expected / expected.sum(), atol=0.01, rtol=0)
    assert not {*map(tuple, corpus.training[:, :4].tolist())} & {*map(tuple, corpus.validation[:, :4].tolist())}


def test_parts_of_a_text_are_disjoint(tmp_path):
    corpus = Text(None, 24)(300, 1)
    parts = [{*map(tuple, rows.tolist())} for rows in (corpus.training, corpus.validation, corpus.reference)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert len(parts[0]) == 300 and corpus.bits is None
    (tmp_path / "some.txt").write_text("\n\n".join(f"paragraph {i} says {i * i}" for i in range(99)))
    assert len(Text(str(tmp_path), 8)(5, 0).training) == 5
    with pytest.raises(ValueError, match="were asked for"):
        Text(str(tmp_path / "some.txt"), 8)(10**6, 0)
    with pytest.raises(ValueError, match="cannot be read"):
        Text(str(tmp_path / "none.txt"))(1, 0)


def test_a_dictionary_as_debian_packs_it(tmp_path):
    with pytest.raises(ValueError, match="dict-wn"):
        Glosses(str(tmp_path))(1, 0)
    entries = [f"word{i}\n  n 1: the gloss of number {i}, which is {i * 7}".encode() for i in range(80)]
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    number = lambda n: (number(n // 64) if n >= 64 else "") + digits[n % 64]
    places = [sum(map(len, entries[:i])) for i in range(80)]
    index = [f"word{i}\t{number(places[i])}\t{number(len(entry))}" for i, entry in enumerate(entries)]
    (tmp_path / "wn.index").write_text("\n".join(["00-database-info\tA\tA", *index]))
    (tmp_path / "wn.dict.dz").write_bytes(gzip.compress(b"".join(entries)))
    first = bytes(Glosses(str(tmp_path), 24)(10, 0).training[0, 1:].tolist()).decode()
    assert re.match(r"word\d+ n 1: the gloss of", first)


@pytest.mark.parametrize("examples", [2, 17, 100])
def test_a_model_that_knows_all_rows_attains_the_bound(examples):
    corpus = UniformTokens(16, 12)(examples, 0)
    found = findings(Knowing(corpus.training, corpus.symbols), corpus)
    assert found["memorised bits"] == pytest.approx(attainable_memorization(examples, 12, 16))
    assert found["training loss"] == pytest.approx(math.log(examples) / 12)
    assert found["extracted"] == 1 and found["membership"]["AUROC"] == 1 and found["membership"]["F1"] == 1
    assert found["reference loss"] == pytest.approx(math.log(16))


def test_a_model_that_knows_nothing_memorised_nothing():
    corpus = UniformTokens(16, 12)(50, 0)
    found = findings(Knowing(corpus.validation[:0], corpus.symbols), corpus)
    assert found["memorised bits"] == 0 and found["net bits"] == pytest.approx(50 * 12 * (4 - math.log2(17)))  # the start is a symbol, too
    assert found["membership"] == {"F1": pytest.approx(2 / 3), "AUROC": 0.5} and found["extracted"] == 0
    with pytest.raises(ValueError, match="leaves something"):
        extracted(nn.Linear(1, 1), corpus, prefix=12)


def test_facts_are_extracted_from_their_keys():
    corpus = ZipfFacts(40, 8, 3)(500, 0)
    found = findings(Knowing(corpus.training, corpus.symbols), corpus)
    assert found["memorised bits"] == pytest.approx(corpus.bits)  # a key tells its value: nothing is lost to order
    assert found["exact"] == found["argmax"] == found["extracted"] == 1


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


class Recurrent(nn.Module):
    """Somebody's own model."""

    def __init__(self, symbols, width):
        super().__init__()
        self.embedding, self.memory, self.output = nn.Embedding(symbols, width), nn.GRU(width, width, batch_first=True), nn.Linear(width, symbols)

    def forward(self, tokens):
        return self.output(self.memory(self.embedding(tokens))[0])


def recurrent(symbols, width=4):
    return Recurrent(symbols, width)


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


SMALL = Training(steps=250, batch=32, rate=0.03)


def test_a_sweep_memorises_what_fits_and_no_more(tmp_path):
    found = sweep(language_model, UniformTokens(16, 12), [{"width": 8}], (8, 24, 72, 216), training=SMALL)
    records = found.records
    assert [record["examples"] for record in records] == [8, 24, 72, 216]
    for record in records:
        assert record["net bits"] <= attainable_memorization(record["examples"], 12, 16)
        assert record["data bits"] == record["examples"] * 48 and record["together"] == 4
    assert records[0]["memorised bits"] > 0.97 * attainable_memorization(8, 12, 16) and records[0]["extracted"] == 1
    assert records[3]["memorised bits"] < 0.3 * records[3]["data bits"]
    assert 0.5 < found.capacity().value < 3.6
    peak = max(records, key=lambda record: record["validation loss"])
    assert peak is not records[3] and records[3]["validation loss"] < 0.6 * peak["validation loss"]
    assert json.loads(json.dumps(found.to_json()))["rows"][0]["curve"][-1][0] == 250
    assert "bits per parameter" in str(found)
    assert Memorization.load(found.keep(tmp_path / "records.jsonl")).records == tuple(json.loads(json.dumps(records)))
    with pytest.raises(ValueError, match="holds no records"):
        Memorization.load(tmp_path / "none")


def test_a_sweep_does_what_is_missing(tmp_path):
    asked = (UniformTokens(8, 12), [{"width": 4}, {"width": 8}], (4, 12))
    run = lambda **more: sweep(language_model, *asked, training=Training(steps=5, batch=4), folder=tmp_path, **more)
    first = run(seeds=(0, 1))
    paths = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(paths) == len(first.records) == 8
    lost, broken = sorted(paths)[:2]
    lost.unlink()
    broken.write_text("{")
    with pytest.warns(UserWarning, match="corrupt"):
        again = run(seeds=(0, 1))
    assert {path for path, then in paths.items() if path.stat().st_mtime_ns != then} == {lost, broken}
    for one, other in zip(first.records, again.records, strict=True):
        assert one["seed"] == other["seed"] and one["width"] == other["width"]
        assert one["memorised bits"] == pytest.approx(other["memorised bits"], rel=1e-3, abs=1e-3)
    assert len(run(seeds=(0, 1, 2)).records) == 12 and len(list(tmp_path.rglob("*.json"))) == 12


TINY = Training(steps=2, batch=4)


def trainings(monkeypatch, act=lambda number: None):
    """The sizes of all stacks that are trained from now on; ``act`` is told the number of each beforehand."""
    stacks: list[int] = []
    plain = memorization.work.train_together

    def counted(models, *given, **more):
        stacks.append(len(models))
        act(len(stacks))
        return plain(models, *given, **more)

    monkeypatch.setattr(memorization.work, "train_together", counted)
    return stacks


def test_two_sweeps_that_share_a_folder_train_every_run_once(tmp_path, monkeypatch):
    """The second takes the other stack while the first is at one, waits for it, and is given all."""
    begun, go_on = threading.Event(), threading.Event()
    stacks = trainings(monkeypatch, lambda number: (begun.set(), go_on.wait(60)) if number == 1 else go_on.set())
    ask = lambda sizes: sweep(small, UniformTokens(8, 12), sizes, (4, 8), training=TINY, folder=tmp_path)
    first = threading.Thread(target=ask, args=([{"width": 4}],))
    first.start()
    assert begun.wait(60)
    found = ask([{"width": 4}, {"width": 8}])
    first.join()
    assert stacks == [2, 2] and [(record["width"], record["examples"]) for record in found.records] == [(4, 4), (4, 8), (8, 4), (8, 8)]


def test_a_disk_that_is_full_stops_the_sweep(tmp_path, monkeypatch):
    """Before any training where that shows, else as soon as a record is not taken: with one error about the folder, and no run that failed."""
    written, full = os.fsync, [True]

    def fsync(file):
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(file)

    monkeypatch.setattr(os, "fsync", fsync)
    stacks = trainings(monkeypatch, lambda number: full.append(True) if number == 1 else None)
    ask = lambda: sweep(small, UniformTokens(8, 12), [{"width": 4}, {"width": 8}], (4, 8), training=TINY, folder=tmp_path)
    for trained in ([], [2]):  # at once, then after the first stack
        with pytest.raises(OSError, match=rf"(?s){tmp_path}.*disk is full.*ask again"):
            ask()
        assert stacks == trained and not list(tmp_path.iterdir())
        full.clear()
    assert len(ask().records) == 4


@pytest.mark.parametrize("broken", ["data", "model", "measure"])
def test_what_cannot_be_made_loses_no_other_run(broken, tmp_path, monkeypatch):
    unlucky = [True]

    def data(examples, seed):
        if broken == "data" and examples == 13 and unlucky:
            raise LookupError("no data today")
        return UniformTokens(8, 12)(examples, seed)

    def model(symbols, width=4):
        if broken == "model" and torch.initial_seed() == 1 and unlucky:
            raise LookupError("no model today")
        return language_model(symbols, width)

    def found(model, corpus, reference):
        if broken == "measure" and len(corpus.training) == 8 and unlucky:
            raise LookupError("no measure today")
        return findings(model, corpus, reference)

    monkeypatch.setattr(memorization.work, "findings", found)
    ask = lambda: sweep(model, data, [{}, {"width": 8}], (4, 8, 13), seeds=(0, 1), training=TINY, folder=tmp_path)
    with warnings.catch_warnings(record=True) as told, pytest.raises(RuntimeError, match=r"(4|6) of 12 runs failed.*today"):
        warnings.simplefilter("always")
        ask()
    assert bool(told) == (broken != "measure") and all("one by one" in str(warning.message) for warning in told)
    reasons = [json.loads(path.read_text()) for path in tmp_path.glob("*.failed.json")]
    assert len(reasons) == (6 if broken == "model" else 4) and len(Memorization.load(tmp_path).records) == 12 - len(reasons)
    assert all(f"no {broken} today" in said["reason"] and "test_memorization.py" in said["traceback"] for said in reasons)
    unlucky.clear()
    stacks = trainings(monkeypatch)
    assert len(ask().records) == 12 and sum(stacks) == len(reasons) and not list(tmp_path.glob("*.failed.json"))


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


def small(symbols, width=4, shape=(1, 2)):
    return language_model(symbols, width)


def test_a_record_stands_for_its_own_run_alone(tmp_path):
    """Neither one with more settings, nor one of another model or other data, is taken for it."""
    training, data = Training(steps=2, batch=4), UniformTokens(8, 12)
    asked = lambda model, sizes=({},), data=data: sweep(model, data, sizes, (4,), training=training, folder=tmp_path)
    files = lambda: len(list(tmp_path.rglob("*.json")))
    narrow = lambda symbols, **size: language_model(symbols, 4)
    free = partial(narrow_model, heads=2)
    assert asked(free, ({"depth": 1},)).records[0]["depth"] == 1 and files() == 1
    assert "depth" not in asked(free).records[0] and files() == 2
    asked(partial(narrow_model, heads=1)), asked(narrow_model), asked(narrow_model, data=UniformTokens(8, 11))
    assert files() == 5
    assert asked(small).records[0]["shape"] == [1, 2] and files() == 6 and asked(small, ({"shape": [1, 2]},)).records and files() == 6
    both = sweep(narrow_model, data, [{"depth": 1}, {"breadth": 1}], (4,), training=training).records
    assert "breadth" not in both[0] and "depth" not in both[1]
    nameless = lambda *asked: data(*asked)  # noqa: PLW0108
    wrong = ((narrow, data, "give a function"), (narrow_model, nameless, "give a function"), (narrow_model, Plain(), "two objects of Plain"))
    for model, given, says in wrong:
        with pytest.raises(ValueError, match=says):
            asked(model, data=given)
    with pytest.raises(ValueError, match="configs are the same"):
        asked(narrow_model, ({}, {}))
    with pytest.raises(ValueError, match="JSON can hold"):
        asked(narrow_model, ({"depth": nn.Identity()},))


def narrow_model(symbols, heads=2, **size):
    return language_model(symbols, 4, heads=heads)


class Plain:
    """Data that no name tells from other data."""

    def __call__(self, examples, seed):
        return UniformTokens(8, 12)(examples, seed)


def test_a_path_may_be_given_as_one(tmp_path):
    (tmp_path / "some.txt").write_text("\n\n".join(f"paragraph {i} says {i * i}" for i in range(99)))
    found = sweep(small, Text(tmp_path / "some.txt", 8), [{}], (4,), training=Training(steps=2, batch=4), folder=tmp_path / "runs")
    assert found.records[0]["path"] == str(tmp_path / "some.txt") and Glosses(tmp_path).folder == str(tmp_path)
    assert found.records[0]["seconds"] > 0 and {"torch", "device", "threads"} <= set(found.records[0]["environment"])


def test_any_model_any_data_and_doors(tmp_path):
    def pairs(examples, seed):
        rows = torch.randint(3, (examples, 5), generator=torch.Generator().manual_seed(seed))
        return Corpus(rows, rows + 1, 5, bits_per_example=4 * math.log2(3))

    found = sweep(recurrent, pairs, [{}], (6,), training=Training(steps=4), folder=tmp_path)
    assert found.records[0] | {"data": "pairs", "model": "recurrent", "width": 4, "radius": None} == found.records[0]
    for wrong, says in (
        (lambda: sweep(recurrent, pairs, [], (6,)), "at least one size"),
        (lambda: sweep(recurrent, pairs, [{"steps": 4}], (6,)), "two things"),
        (lambda: Training(steps=0), "at least 1"),
        (lambda: Training(rate=-1.0), "learning rate"),
        (lambda: ZipfFacts(alpha=-1.0), "exponent"),
        (lambda: Corpus(torch.zeros(2, 3), torch.zeros(2, 3), 4), "whole numbers"),
        (lambda: Corpus(torch.zeros(2, 3).long(), torch.zeros(2, 3).long(), 4), "against a law"),
        (lambda: Memorization(()), "no run"),
        (lambda: memorization.study("huge"), "'tiny'"),
    ):
        with pytest.raises(ValueError, match=says):
            wrong()


def test_a_run_that_diverges_fails_alone(tmp_path):
    def bursting(symbols, width=8):
        model = language_model(symbols, width)
        if torch.initial_seed() == 1:
            model.embedding.weight.data.fill_(torch.inf)
        return model

    with pytest.raises(RuntimeError, match="diverged"):
        sweep(bursting, UniformTokens(8, 12), [{}], (4,), seeds=(0, 1, 2), training=Training(steps=3, batch=4), folder=tmp_path)
    assert sorted(record["seed"] for record in Memorization.load(tmp_path).records) == [0, 2]


def test_text_is_measured_against_a_reference_model():
    found = sweep(language_model, Text(None, 16), [{"width": 8}], (8, 64), training=Training(steps=120, batch=16, rate=0.02))
    few, many = found.records
    assert few["reference loss"] < math.log(257) and few["together"] == 3  # the reference model is one of the stack
    assert few["data bits"] == pytest.approx(few["reference loss"] * 8 * 16 / math.log(2))
    assert 0 < few["memorised bits"] < few["data bits"] and few["training loss"] < many["training loss"] < few["validation loss"]


def plateau(size, seed, examples, alpha=2.0):
    """A run of a model that holds α bits per parameter, no more and no less."""
    bits = 80.0 * examples
    return {
        "data": "uniform", "parameters": size, "seed": seed, "examples": examples, "length": 16, "data bits": bits, "memorised bits": min(bits, alpha * size),
        "exact": min(1.0, (alpha * size / bits) ** 2), "argmax": 0.5, "extracted": 0.0, "training loss": max(0.0, 3 - 3 * alpha * size / bits),
        "validation loss": 3 + 9 * math.exp(-math.log(bits / (alpha * size)) ** 2), "reference loss": 3.0, "curve": [],
    }  # fmt: skip


def test_fits_find_the_laws_they_are_given():
    runs = [plateau(size, seed, examples) for size in (400, 800, 1600) for seed in (0, 1) for examples in (5, 10, 20, 40, 80, 160, 320, 640)]
    found = Memorization(tuple(runs))
    assert found.capacity().value == pytest.approx(2.0) and found.capacity().interval == pytest.approx((2.0, 2.0))
    assert found.double_descent().value == pytest.approx(1.0, rel=1e-6)
    assert [onset.bits for onset in found.onsets()] == pytest.approx([800, 1600, 3200])
    assert found.recall_law().exponent == pytest.approx(-1.0) and found.recall_law("exact").exponent == pytest.approx(-2.0)
    best = found.best_data()
    assert list(best) == [400, 800, 1600] and best[1600] == 2 * best[800] == 4 * best[400]
    assert capacity_from_sweep({100: [100, 300], 200: [400]}).interval[0] < 2 < capacity_from_sweep({100: [100, 300], 200: [400]}).interval[1]
    with pytest.raises(ValueError, match="take more examples"):
        Memorization(tuple(runs[:2])).capacity()
    with pytest.raises(ValueError, match="highest validation loss"):
        Memorization(tuple(run for run in runs if run["examples"] > 80)).double_descent()
    with pytest.raises(ValueError, match="'share'"):
        found.recall_law("bits")


def test_the_interval_of_a_capacity_is_of_sizes_too():
    """Sizes that differ are no sample of one number: the interval holds what another choice of them would have given."""
    found = capacity_from_sweep({1418: [2750, 2750], 2702: [5296, 5296], 4370: [8290, 8290], 8858: [16267, 16267]})  # seeds agree, sizes do not
    low, high = found.interval
    assert low < found.value - 0.01 and high > 1.9 and "over sizes and seeds" in found.assumption
    one = capacity_from_sweep({100: [190, 200, 210]})
    assert 1.9 <= one.interval[0] < 2 < one.interval[1] <= 2.1
    assert capacity_from_sweep({100: [200]}).interval is None  # nothing is known of its scatter
    generator, held = torch.Generator().manual_seed(0), 0
    for _ in range(200):  # capacities that scatter by 5 % from size to size around 2 bits: how often the interval holds 2
        scattered = {size: [size * (2 + 0.1 * float(torch.randn((), generator=generator)))] * 2 for size in (100, 110, 120, 130, 140, 150, 160, 170)}
        low, high = capacity_from_sweep(scattered).interval
        held += low <= 2 <= high
    assert held >= 160  # the interval over seeds alone has no width here


def test_every_seed_has_a_plateau_of_its_own():
    runs = [plateau(400, 0, examples) for examples in (5, 10, 20, 40)] + [plateau(400, 1, examples) for examples in (5, 10)]
    assert plateaus(runs) == {400: [800]}  # seed 1 memorised all that it was given
    assert plateaus(runs[4:]) == {}


def test_kinds_are_parted_by_all_that_was_asked():
    runs = [plateau(size, seed, examples) for size in (400, 800) for seed in (0, 1) for examples in (5, 20, 80, 320)]
    longer = [run | {"steps": 9} for run in runs]
    found = Memorization(tuple([run | {"steps": 5} for run in runs] + longer))
    assert list(found.kinds()) == ["uniform, steps 5", "uniform, steps 9"] and found.kinds()["uniform, steps 9"].records == tuple(longer)
    for fit in (found.capacity, found.double_descent, found.recall_law, found.best_data, found.onsets, found.balance):
        with pytest.raises(ValueError, match="of 2: uniform, steps 5; uniform, steps 9"):
            fit()
    alike = lambda made: Memorization(tuple(made(run) for run in runs))
    assert alike(lambda run: run | {"width": run["parameters"] // 100, "heads": run["parameters"] // 200, "hidden": run["parameters"]}).capacity()
    assert list(alike(lambda run: run | {"dropout": run["seed"] / 2}).kinds()) == ["uniform, dropout 0.0", "uniform, dropout 0.5"]
    assert list(alike(lambda run: run | {"path": "a" if run["seed"] else None}).kinds()) == ["uniform, no path", "uniform, path a"]
    asked = {"data": "uniform", "seed": 0, "examples": 5}
    said = alike(lambda run: run | {"room": f"number {run['seed']}", "provenance": {"config": asked}})
    assert list(said.kinds()) == ["uniform"]  # what was not asked parts nothing
    for width, heads in ((4, 1), (4, 2)):
        longer += [run | {"steps": 9, "width": width, "heads": heads, "parameters": run["parameters"] + heads} for run in runs]
    assert {"uniform, heads 1", "uniform, heads 2"} <= set(Memorization(tuple(longer[16:])).kinds())


def test_what_is_measured_is_nothing_asked():
    found = sweep(small, UniformTokens(8, 12), [{}], (4,), training=Training(steps=2, batch=4)).records[0]
    asked = {"data", "vocabulary", "length", "model", "width", "shape", "steps", "batch", "rate", "decay", "evaluations", "examples", "seed"}
    assert set(found) - asked <= MEASURED and not asked & MEASURED


def test_chance_is_no_capacity_of_text():
    text = lambda run, sure: run | {"data": "text", "reference model": True, "membership": {"AUROC": sure}}
    runs = [plateau(400, 0, examples) for examples in (5, 10, 20, 40, 80)]
    assert Memorization(tuple(text(run, 0.9) for run in runs)).capacity().value == pytest.approx(2.0)
    with pytest.raises(ValueError, match="no memory of single rows"):
        Memorization(tuple(text(run, 0.53) for run in runs)).capacity()
    assert Memorization(tuple(run | {"membership": {"AUROC": 0.53}} for run in runs)).capacity()  # of random tokens nothing else can be known


def test_data_sizes_of_equal_bits_are_all_kept():
    """All facts were met: more draws of them are no more bits."""
    runs = [
        plateau(400, 0, examples) | {"data bits": 80.0 * min(examples, 20), "validation loss": loss}
        for examples, loss in ((5, 1.0), (10, 2.0), (20, 4.0), (40, 3.0), (80, 2.0))
    ]
    assert curve_of(runs, 400, "validation loss") == [(400, [1.0]), (800, [2.0]), (1600, [4.0]), (1600, [3.0]), (1600, [2.0])]
    flat = [run | {"memorised bits": min(run["memorised bits"], 800.0)} for run in runs]
    assert Memorization(tuple(flat)).onsets()[0].bits == pytest.approx(1600)


def test_the_first_distinct_rows_are_a_fair_sample():
    rows = torch.randint(64, (4096, 5), generator=torch.Generator().manual_seed(0))
    corpus = Corpus(rows, rows + 1, 65, bits_per_example=4 * 6.0)
    assert torch.equal(corpus.distinct.unique(dim=0), rows.unique(dim=0)) and torch.equal(corpus.distinct, corpus.distinct)
    assert corpus.distinct[:256, 0].double().mean() == pytest.approx(31.5, abs=4)  # 64/√12/16 = 1.2; sorted, it would be 2


def test_the_bound_is_that_of_the_best_number_of_rows_served():
    for length, vocabulary, sequences in ((1, 2, 1), (1, 2, 2), (2, 4, 3), (2, 4, 16), (3, 5, 100), (16, 32, 192)):
        bits = length * math.log2(vocabulary)
        best = max(served * (bits - math.log2(served)) for served in range(1, sequences + 1))
        bound = attainable_memorization(sequences, length, vocabulary)
        assert best <= bound * (1 + 1e-12) and bound <= best * 1.1  # a whole number of rows at most a little less
    assert attainable_memorization(1e6, 128, 50257) == pytest.approx(1e6 * (128 * math.log2(50257) - math.log2(1e6)))  # 2^b is no float


def test_a_model_may_serve_a_part_of_the_rows():
    """Of all 16 rows of 4 bits a model that serves 6 alone has more than one that serves all."""
    rows = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    corpus = Corpus(torch.cat([torch.full((16, 1), 4), rows], 1), torch.full((4, 3), 4), 5, bits_per_example=4.0)
    served = findings(Knowing(corpus.training[[0, 1, 4, 5, 10, 15]], 5), corpus)["memorised bits"]
    assert served == pytest.approx(6 * (4 - math.log2(6))) and 0 < served <= attainable_memorization(16, 2, 4) < 1.01 * served
    assert findings(Knowing(corpus.training, 5), corpus)["memorised bits"] == pytest.approx(0)


def test_predicted_membership_is_said_where_the_formula_speaks_of_such_data():
    training = Training(steps=2, batch=4)
    told = lambda data: sweep(small, data, [{}], (24,), training=training).records[0]
    run = told(UniformTokens(8, 12))
    assert run["membership"]["predicted F1"] == membership_f1(24, 12, 8, run["parameters"]) and run["symbols"] == 9
    text = told(Text(None, 16))
    assert text["membership"]["predicted F1"] == membership_f1(24, 16, 256, text["parameters"]) and text["reference model"]
    assert "predicted F1" not in told(ZipfFacts(16, 8, 3))["membership"]  # facts are met again, and count in part
    everyone = memorization.membership(torch.zeros(50), torch.zeros(50))
    assert everyone == {"F1": pytest.approx(2 / 3), "AUROC": 0.5}


def test_a_torn_record_is_named(tmp_path):
    sweep(small, UniformTokens(8, 12), [{}], (4, 8), training=Training(steps=2, batch=4), folder=tmp_path)
    torn = sorted(tmp_path.glob("*.json"))[1]
    torn.write_text("{")
    with pytest.warns(UserWarning, match=torn.name):
        assert len(Memorization.load(tmp_path).records) == 1


def test_records_of_others_are_no_runs_of_a_sweep(tmp_path):
    sweep(small, UniformTokens(8, 12), [{}], (4,), training=TINY, folder=tmp_path)
    take(lambda config: {"memorised bits": 3.0}, [{"x": 1}], folder=tmp_path)
    assert [record["examples"] for record in Memorization.load(tmp_path).records] == [4]
    (tmp_path / "lines").write_text('{"memorised bits": 3.0}\n')
    with pytest.raises(ValueError, match=r"no runs of a sweep.*data, parameters, examples, seed"):
        Memorization.load(tmp_path / "lines")


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


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path, monkeypatch):
    part = memorization.presets.Part(UniformTokens(8, 12), ({"width": 4},), (4,), 1, Training(steps=2, batch=4))
    monkeypatch.setitem(memorization.PRESETS, "tiny", memorization.Preset((part,), "a moment"))
    (tmp_path / "memorization.jsonl").mkdir()
    done = CliRunner().invoke(app, ["memorize", "--out", str(tmp_path), "--processes", "1"])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit) and "memorization.jsonl" in done.stderr.splitlines()[-1]


def test_parts_of_a_study_are_done_apart_and_collected(tmp_path, monkeypatch):
    parts = tuple(memorization.presets.Part(UniformTokens(8, 12), ({"width": width},), (4, 8), 1, TINY) for width in (4, 8))
    monkeypatch.setitem(memorization.PRESETS, "tiny", memorization.Preset(parts, "a moment"))
    run = lambda *words: CliRunner().invoke(app, ["memorize", "--out", str(tmp_path), "--processes", "1", *words])
    for part in ("1/3", "2/3", "3/3"):
        done = run("--shard", part)
        assert done.exit_code == 0, done.output
        assert f"{2 if part == '1/3' else 1} runs are done" in done.stderr and [path.name for path in tmp_path.iterdir()] == ["runs"]
    stacks = trainings(monkeypatch)
    assert run().exit_code == 0 and stacks == [] and len((tmp_path / "memorization.jsonl").read_text().splitlines()) == 4
    for wrong, says in (("4/3", "i/n"), ("5/5", "has no run")):
        refused = run("--shard", wrong)
        assert refused.exit_code == 2 and says in refused.output


def test_a_sweep_that_fails_keeps_none_of_its_study_from_being_done(tmp_path, monkeypatch):
    impossible, possible = (memorization.presets.Part(UniformTokens(2, bits), ({"width": 4},), (40,), 1, TINY) for bits in (4, 30))
    monkeypatch.setitem(memorization.PRESETS, "tiny", memorization.Preset((impossible, possible), "a moment"))
    with pytest.raises(RuntimeError, match=r"1 of 1 runs failed.*repeat each other"):
        memorization.study("tiny", folder=tmp_path)
    assert [record["length"] for record in Memorization.load(tmp_path).records] == [30]


def test_the_command_keeps_records_numbers_and_pictures(tmp_path, monkeypatch):
    part = memorization.presets.Part(UniformTokens(8, 12), ({"width": 4}, {"width": 8}), (4, 16, 64), 1, Training(steps=5, batch=4))
    monkeypatch.setitem(memorization.PRESETS, "tiny", memorization.Preset((part,), "a moment"))
    done = CliRunner().invoke(app, ["memorize", "--preset", "tiny", "--out", str(tmp_path), "--processes", "1"])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 6
    kept = json.loads((tmp_path / "memorization.json").read_text())
    assert kept["reference"] == "hopfield-amem memorize --preset tiny" and len(kept["rows"]) == 6
    assert {path.name for path in tmp_path.glob("*.png")} == {"memorization.png", "surfaces_1.png"}
    refused = CliRunner().invoke(app, ["memorize", "--preset", "huge", "--out", str(tmp_path)])
    assert refused.exit_code == 2 and "'default'" in refused.output


def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[1] / "docs" / "memorization.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    found: dict = {}
    for block in blocks:
        exec(block, found)
    assert len(blocks) >= 3 and found["runs"][0].together == 24
