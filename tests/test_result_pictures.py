"""Every result of the analysis floor reads as a table and draws itself."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from hopfield_amem import analysis, presets
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


def test_nothing_found_is_said():
    """Starts that no slot reaches rest nowhere that has a finite energy."""
    found = analysis.fixed_points(presets.epanechnikov(1e9), torch.ones(3, 2), torch.zeros(4, 2))
    assert found.rows() == [] and str(found) == "nothing was found"


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


@pytest.mark.parametrize("package", [analysis.capacity, analysis.snr, analysis.scaling, analysis.memory_model, analysis.icl])
def test_the_gallery_draws_every_kind_of_result(package):
    name = package.__name__.rpartition(".")[2]
    asked = re.findall(rf"\b{name}\.(\w+)\(", (Path(__file__).parents[1] / "examples" / "gallery.py").read_text(encoding="utf-8"))
    drawn = {inspect.signature(getattr(package, word)).return_annotation for word in asked}
    results = {word for word in package.__all__ if inspect.isclass(getattr(package, word)) and issubclass(getattr(package, word), Result)}
    assert results and results <= drawn, f"{results - drawn} are not in the gallery"


def test_every_result_says_both():
    results = [value for value in vars(analysis).values() if inspect.isclass(value) and issubclass(value, Result) and value is not Result]
    assert len(results) >= 7
    for kind in results:
        assert kind.rows is not Result.rows and kind.plot is not Result.plot and kind.plot.__doc__, kind
