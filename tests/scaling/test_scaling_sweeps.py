"""Sampled errors, sweeps over sizes, and the exponents measured on them."""

import json
import sys

import pytest
import torch
from embeddings import drawn

from hopfield_amem.analysis import scaling
from hopfield_amem.analysis.scaling import PowerScheme, Study, ZipfTask


@pytest.mark.parametrize(("classes", "dim"), [(5, 17), (5, 3), (100, 12), (1, 4)])
def test_sampled_errors_have_the_law_of_full_embeddings(classes, dim):
    """Fewer dimensions than classes, and more: means and spreads of 300 draws against embeddings that are drawn whole."""
    labels, p = torch.arange(100) % classes, scaling.zipf(100, 1.5)
    q = p**0.25 * (torch.arange(100) % 9 != 2)  # some classes of 100 are empty
    fast = scaling.sampled_errors(p, q, labels, dim=dim, trials=300)
    whole = []
    for seed in range(300):
        inputs, outputs = drawn(100, classes, dim, seed)
        whole.append(scaling.recall_error(scaling.store(inputs, outputs, labels, q), inputs, outputs, labels, probability=p))
    slow = torch.stack(whole)
    error = float((fast.var() + slow.var()) / 300) ** 0.5
    assert abs(float(fast.mean() - slow.mean())) <= 4 * error
    assert classes == 1 or 0.75 < float(fast.std() / slow.std()) < 1.35


def test_draws_repeat_and_weights_may_differ_by_trial():
    task = ZipfTask(50, 5, 1.5)
    sample = lambda q, trials, seed=0: scaling.sampled_errors(task.probability, q, task.labels, dim=20, trials=trials, seed=seed)
    assert torch.equal(sample(torch.ones(50), 9), sample(torch.ones(9, 50), 9))
    assert not torch.equal(sample(torch.ones(50), 9), sample(torch.ones(50), 9, 1))
    empty = torch.ones(9, 50)
    empty[4] = 0
    assert sample(empty, 9)[4] == pytest.approx(float(task.probability[task.labels != 0].sum()))
    tiny = torch.logspace(0, -150, 50, dtype=torch.float64)  # squares below the smallest float32
    assert sample(tiny, 3).isfinite().all()


JOINT = torch.tensor([
    [0.361, 0.346, 0.172, 0.170, 0.169, 0.170], [0.361, 0.337, 0.115, 0.066, 0.055, 0.056],
    [0.361, 0.337, 0.110, 0.057, 0.031, 0.017], [0.361, 0.337, 0.109, 0.056, 0.030, 0.006],
], dtype=torch.float64)  # fmt: skip


def test_the_joint_table():
    """Widths × data of the authors, 100 trials, against an independent rerun of 100: each within 4 standard errors of the difference and rounding."""
    found = scaling.joint_table()
    (errors,) = found.errors
    spread = errors.std(-1) / 10
    assert ((errors.mean(-1) - JOINT).abs() < 4 * 2**0.5 * spread + 0.001).all()
    width, data = found.law("top d/12", tokens=10_000, between=(20, 200)), found.data_law("top d/12", 1000, between=(10, 1000))
    assert abs(width.exponent + 1.05) < 0.03 and abs(data.exponent + 0.495) < 0.03
    first = found.rows()[0]
    assert first["T"] == first["d"] == 10 and first["trials"] == 100 and first["predicted"] is None
    assert first["error"] == pytest.approx(float(ZipfTask().probability[ZipfTask().labels != 0].sum()))  # nothing is stored: the first class


def test_sweeps_go_on_where_they_stopped(tmp_path):
    ask = lambda dims: scaling.sweep(ZipfTask(30, 3, 1.5), ["root", "top d/8"], dims, trials=4, folder=tmp_path)
    first = ask((8, 16))
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 4
    planted = json.loads(kept[0].read_text()) | {"errors": [0.25] * 4}
    kept[0].write_text(json.dumps(planted))
    more = ask((8, 16, 32))
    assert len(list(tmp_path.iterdir())) == 6
    assert int((more.errors == 0.25).all(-1).sum()) == 1  # what is there is taken, not done again
    assert int((more.errors[..., :2, :] == first.errors).all(-1).sum()) == 3
    assert more.mean("root").shape == (3,)


def test_one_scheme_may_have_two_names():
    found = scaling.sweep(ZipfTask(9, 3), {"a": PowerScheme(0.5), "other": PowerScheme(1.0), "b": PowerScheme(0.5)}, (4, 8), (20, None), trials=3)
    assert torch.equal(found.errors[0], found.errors[2]) and not torch.equal(found.errors[0], found.errors[1])
    alone = scaling.sweep(ZipfTask(9, 3), {"other": PowerScheme(1.0)}, (4, 8), (20, None), trials=3)
    assert torch.equal(found.errors[1], alone.errors[0])
    assert [row["scheme"] for row in found.rows()] == ["a"] * 4 + ["other"] * 4 + ["b"] * 4


def test_laws_are_fitted_once_and_never_by_the_picture(monkeypatch):
    found = scaling.sweep(ZipfTask(60, 5, 2.0), ["root", "top d/8"], (16, 32, 64), (None, 100), trials=3)
    assert set(found.laws) == {(name, amount) for name in ("root", "top d/8") for amount in (None, 100)}
    assert found.laws["root", 100] == found.law("root", tokens=100)
    kept = {(law["scheme"], law["T"]): law["exponent"] for law in found.to_json()["laws"]}
    assert kept == {which: law.exponent for which, law in found.laws.items()}

    def refuse(*_):
        raise AssertionError("a picture fits nothing")

    monkeypatch.setattr(sys.modules["hopfield_amem.analysis.scaling.sweep"], "power_law", refuse)
    line = next(line for line in found.plot().axes[0].lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3)
    assert line.get_ydata().tolist() == pytest.approx(found.laws["root", None](found.dims).tolist())
    assert scaling.sweep(ZipfTask(60, 5, 2.0), ["root"], (16, 32), trials=2).laws == {}


@pytest.mark.parametrize(("alpha", "name", "exponent"), [(1.5, "top d/8", 0.5), (2.0, "top d/8", 1.0), (1.5, "frequency", 1 / 6), (2.0, "frequency", 0.25)])
def test_measured_exponents(alpha, name, exponent):
    found = scaling.sweep(ZipfTask(30_000, 5, alpha), [name], (100, 178, 316, 562, 1000), trials=40)
    law = found.law(name)
    assert abs(-law.exponent - exponent) <= 0.05
    assert law.interval[0] <= law.exponent <= law.interval[1]
    assert abs(-law.exponent - scaling.scaling_exponent(alpha, float(name == "frequency"), name != "frequency").value) <= 0.05


def test_rows_of_the_table_of_exponents():
    names = ["data, α = 1.5", "joint: T, d = 1000", "joint: d, T = 10,000"]
    found = scaling.exponents(names, study=Study(trials=30))
    assert [row["row"] for row in found.rows()] == names
    exact = found.rows()[0]
    assert exact["exponent"] == pytest.approx(0.3330, abs=5e-5) and exact["theory"] == pytest.approx(1 / 3)
    for row in found.rows():
        assert row["low"] <= row["exponent"] <= row["high"] and abs(row["exponent"] - row["theory"]) < 0.15
    assert len([name for name in scaling.ROWS if "α = 2" in name]) == len([name for name in scaling.ROWS if "α = 1.5" in name]) == 11
