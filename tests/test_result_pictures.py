"""Every result of the analysis floor reads as a table and draws itself."""

import inspect

import numpy as np
import pytest
import torch

from hopfield_amem import analysis
from hopfield_amem.analysis import detection, measure_recall, novelty
from hopfield_amem.analysis.plots import save
from hopfield_amem.analysis.result import Result


def made():
    torch.manual_seed(0)
    patterns = torch.randn(12, 5)
    noisy = patterns + 0.4 * torch.randn(12, 5)
    return {
        "recall": measure_recall(lambda q, k: k[torch.cdist(q, k).argmin(-1)], noisy, patterns, torch.arange(12)),
        "detection": detection(np.linspace(0, 1, 20), np.linspace(-0.5, 0.6, 20)),
        "novelty": novelty(torch.cat([noisy, 5 + patterns[:2]]), patterns, memorised=0.8, spurious=2.5),
    }


@pytest.mark.parametrize("name", made())
def test_results_are_tables_and_pictures(name, tmp_path):
    found = made()[name]
    rows = found.rows()
    assert rows and all(set(row) == set(rows[0]) for row in rows) and found.table().count("\n") == len(rows)
    assert save(found.plot(), tmp_path / "picture.png").stat().st_size > 5000


def test_what_is_drawn_is_what_was_found():
    found = made()
    kept, passed = found["detection"].kept, found["detection"].passed
    assert np.trapezoid(kept, passed) == pytest.approx(found["detection"].auroc)
    curve = found["detection"].plot().axes[0].lines[0]
    np.testing.assert_array_equal(curve.get_xdata(), passed)
    kinds = [row["kind"] for row in found["novelty"].rows()]
    assert [kind == "memorised" for kind in kinds] == found["novelty"].memorised.tolist() and kinds[-1] != "memorised"
    drawn = found["novelty"].plot().axes[0].collections
    assert sum(len(points.get_offsets()) for points in drawn) == len(kinds)
    exact, identified = found["recall"].rows()
    assert exact["low"] <= exact["rate"] <= exact["high"] and identified["rate"] == float(found["recall"].identified.double().mean())


def test_every_result_says_both():
    results = [value for value in vars(analysis).values() if inspect.isclass(value) and issubclass(value, Result) and value is not Result]
    assert len(results) >= 7
    for kind in results:
        assert kind.rows is not Result.rows and kind.plot is not Result.plot and kind.plot.__doc__, kind
