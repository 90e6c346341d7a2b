"""How benchmarks are run: where their results go, what they begin with, and figures of fresh processes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from command import RESULTS, asked, fresh

SCRIPT = f"""
import sys
sys.path[:0] = [{str(RESULTS.parent)!r}, {str(RESULTS.parents[1])!r}]
import torch
from command import asked
asked(__file__, None, lambda number, more: {{"doubled": [2 * number, *more], "threads": torch.get_num_threads()}} if number else 1 / 0)
"""


def given(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["speed.py", *options])
    return asked("benchmarks/speed.py", "How fast.")


def test_quick_results_never_overwrite_those_that_count(monkeypatch, tmp_path):
    threads = torch.get_num_threads()
    assert given(monkeypatch).out == RESULTS == Path(__file__).parents[1] / "benchmarks/results"
    assert given(monkeypatch, "--quick").out == RESULTS / "quick"
    run = given(monkeypatch, "--quick", "--out", str(tmp_path / "new"), "--threads", str(threads))
    result = run.result(rows=[1])
    assert run.keep(result, "a page").read_text() == "a page" and (tmp_path / "new/speed.md").exists()
    assert json.loads((tmp_path / "new/speed.json").read_text()) == result and result["rows"] == [1]
    assert result["command"] == "python benchmarks/speed.py --quick" and result["environment"]["threads"] == threads and result["environment"]["quick"]


def test_options_that_are_not_there_end_the_run(monkeypatch):
    with pytest.raises(SystemExit):
        given(monkeypatch, "--slow")


def test_figures_of_fresh_processes_come_back(tmp_path, capsys):
    script = tmp_path / "speed.py"
    script.write_text(SCRIPT)
    assert fresh(str(script), 3, ["x"]) == {"doubled": [6, "x"], "threads": torch.get_num_threads()}
    assert fresh(str(script), 0, []) is None and "division by zero" in capsys.readouterr().err


def test_rows_are_written_as_they_come(monkeypatch, tmp_path):
    run = given(monkeypatch, "--quick", "--out", str(tmp_path))
    page = lambda result: f"{len(result.get('rows', result.get('tables')))} so far"
    kept = lambda: json.loads((tmp_path / "speed.json").read_text())
    taken = run.rows(run.result(bar=2), iter([{"x": 1}, {"x": 2}]), page)
    assert next(taken) == {"x": 1} and kept()["rows"] == [{"x": 1}] and kept()["bar"] == 2 and (tmp_path / "speed.md").read_text() == "1 so far"
    assert list(taken) == [{"x": 2}] and kept()["rows"] == [{"x": 1}, {"x": 2}]
    several = run.tables(run.result(), iter([("a", 1), ("b", 2), ("a", 3)]), page)
    assert list(several) == [("a", 1), ("b", 2), ("a", 3)] and kept()["tables"] == {"a": [1, 3], "b": [2]}
