"""What analyses share: estimates, tables and files, fitted power laws."""

import json
import math

import numpy as np
import pytest
import torch

from hopfield_amem.analysis import Estimate, power_law
from hopfield_amem.analysis.plots import base
from hopfield_amem.analysis.result import Result


class Table(Result):
    def rows(self):
        return [{"dim": 4, "capacity": 0.123456, "note": None}, {"dim": 16, "capacity": math.inf, "note": None}]

    def plot(self):
        return base.panels(1)[0]


class TestEstimate:
    def test_it_prints_what_it_is(self):
        found = Estimate(13.8, (12, 15.5), "random patterns", "measured", "one pattern", "here")
        assert str(found) == "13.8 [12, 15.5] (measured; one pattern; random patterns; here)"
        assert found.log_value == pytest.approx(math.log(13.8))
        assert str(Estimate(math.inf, kind="theorem", log_value=1000.0)).startswith("e^1000 ")

    @pytest.mark.parametrize("wrong", [{"kind": "guess"}, {"success": "some"}, {"interval": (2.0, 3.0)}, {"interval": (math.nan, 3.0)}])
    def test_it_refuses_what_it_does_not_know(self, wrong):
        with pytest.raises(ValueError, match="got"):
            Estimate(1.0, **wrong)

    def test_it_refuses_nan(self):
        with pytest.raises(ValueError, match="nan"):
            Estimate(math.nan)


class TestResult:
    def test_tables_leave_empty_columns_out(self):
        assert str(Table()).split("\n") == ["dim  capacity", "4    0.1235", "16   inf"]

    def test_files_are_whole(self, tmp_path):
        paths = Table().save(tmp_path / "new", "found")
        assert [path.name for path in paths] == ["found.json", "found.png"] and sorted(paths) == sorted((tmp_path / "new").iterdir())
        assert json.loads(paths[0].read_text())["rows"][1] == {"dim": 16, "capacity": None, "note": None}

    def test_pandas_is_asked_for(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pandas", None)
        with pytest.raises(ImportError, match="rows\\(\\)"):
            Table().to_pandas()


class TestPowerLaw:
    def test_an_exact_law(self):
        x = torch.tensor([1.0, 3.0, 10.0, 50.0])
        law = power_law(x, 2.5 * x**-0.75)
        assert law.exponent == pytest.approx(-0.75, abs=1e-6) and law.factor == pytest.approx(2.5, abs=1e-5)
        assert law.interval == pytest.approx((-0.75, -0.75), abs=1e-6)
        assert law([4.0]) == pytest.approx([2.5 * 4**-0.75], rel=1e-5)

    @pytest.mark.parametrize("trials", [False, True])
    def test_intervals_hold_the_truth_as_often_as_they_say(self, trials):
        rng, x = np.random.default_rng(1), np.geomspace(1, 1000, 12)
        held, widths = 0, []
        for _ in range(60):
            noise = rng.normal(0, 0.2, (30, 12) if trials else 12)
            law = power_law(x, 3 * x**0.5 * np.exp(noise - 0.02), confidence=0.9)
            held += law.interval[0] <= 0.5 <= law.interval[1]
            widths.append(law.interval[1] - law.interval[0])
        spread = 0.2 / np.sqrt(((np.log(x) - np.log(x).mean()) ** 2).sum() * (30 if trials else 1))  # of the slope
        assert 42 <= held <= 60 and 0.75 < np.mean(widths) / (2 * 1.645 * spread) < 1.1

    @pytest.mark.parametrize(
        "points",
        [([1, 2], [1, 2]), ([1, 2, 3], [1, 0, 1]), ([1, 2, 3], [1, math.nan, 1]), ([1, 2, -3], [1, 1, 1]), ([1, 2, 3], [1, 2])],
    )
    def test_it_refuses_what_has_no_law(self, points):
        with pytest.raises(ValueError, match="power law needs"):
            power_law(*points)
