"""Sweeps of models and data: what is missing is done, what fails is said, and records stand for their own runs alone."""

import errno
import json
import math
import os
import threading
import warnings
from functools import partial

import pytest
import torch
from small_models import TINY, recurrent, small, trainings
from torch import nn

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
    language_model,
    sweep,
)
from hopfield_amem.analysis.memorization.measures import findings

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
    assert all(f"no {broken} today" in said["reason"] and "test_memorization_sweeps.py" in said["traceback"] for said in reasons)
    unlucky.clear()
    stacks = trainings(monkeypatch)
    assert len(ask().records) == 12 and sum(stacks) == len(reasons) and not list(tmp_path.glob("*.failed.json"))


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


def test_text_is_measured_against_a_reference_model():
    found = sweep(language_model, Text(None, 16), [{"width": 8}], (8, 64), training=Training(steps=120, batch=16, rate=0.02))
    few, many = found.records
    assert few["reference loss"] < math.log(257) and few["together"] == 3  # the reference model is one of the stack
    assert few["data bits"] == pytest.approx(few["reference loss"] * 8 * 16 / math.log(2))
    assert 0 < few["memorised bits"] < few["data bits"] and few["training loss"] < many["training loss"] < few["validation loss"]


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
