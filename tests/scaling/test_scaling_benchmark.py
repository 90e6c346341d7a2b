"""The benchmark of the scaling laws: what it asks for, keeps, and refuses."""

import sys

import pytest
import scaling as benchmark

from hopfield_amem.analysis import scaling
from hopfield_amem.analysis.scaling import Study


def run(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["scaling.py", *options])
    benchmark.main()


def test_a_row_that_is_not_there_ends_in_a_sentence(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--rows", "data, α = 2", "top d/9")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "there is no row 'top d/9'" in said and "--list" in said and "Traceback" not in said


def test_every_row_has_a_number_from_elsewhere_and_is_listed(monkeypatch, capsys):
    assert set(benchmark.ELSEWHERE) == set(scaling.ROWS)
    run(monkeypatch, "--list")
    assert capsys.readouterr().out.splitlines() == list(scaling.ROWS)


def test_finished_points_of_the_joint_table_are_kept(tmp_path):
    first = benchmark.joint(Study(trials=2, folder=tmp_path))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 24 and first["trials"] == 2
    assert benchmark.joint(Study(trials=2, folder=tmp_path))["errors"] == first["errors"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
