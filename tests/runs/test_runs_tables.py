"""Shards, status, tables and commands of a study."""

import json
import sys

import pytest
import torch
from small_work import squared
from typer.testing import CliRunner

from hopfield_amem.analysis import take
from hopfield_amem.analysis.plots import save
from hopfield_amem.analysis.runs import collect, records, shard, status
from hopfield_amem.cli import app


class TestTables:
    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_shards_are_a_partition(self, count):
        parts = [shard(range(7), f"{i}/{count}") for i in range(1, count + 1)]
        assert sorted(x for part in parts for x in part) == list(range(7)) and max(map(len, parts)) - min(map(len, parts)) <= 1

    @pytest.mark.parametrize("wrong", ["0/3", "4/3", "1", "a/b", "-1/3", "1/0"])
    def test_other_shards_are_refused(self, wrong):
        with pytest.raises(ValueError, match="i/n"):
            shard([1], wrong)

    @pytest.fixture
    def folder(self, tmp_path):
        with pytest.raises(RuntimeError):
            take(squared, [{"x": 1}, {"x": 2}, {"x": 9, "fail": True}], folder=tmp_path / "runs")
        (tmp_path / "runs" / "notes.json").write_text("{}")  # somebody's own file
        return tmp_path / "runs"

    def test_status_says_how_it_stands(self, folder, tmp_path):
        found = status(folder)
        assert str(found).startswith("2 done, 1 failed\n") and "too large" in str(found) and "by far" not in found.table()
        assert [(row["state"], row["runs"]) for row in found.rows()] == [("done", 2), ("failed", 1)]
        assert [bar.get_width() for bar in found.plot().axes[0].patches] == [2, 1, 0, 0, 0]
        assert save(found.plot(), tmp_path / "picture.png").stat().st_size > 5000

    def test_runs_below_a_folder_are_its_runs(self, folder, tmp_path):
        assert len(records(folder)) == 2 and records(tmp_path) == records(folder) and status(tmp_path) == status(folder)
        assert collect(tmp_path, tmp_path / "above.csv").read_text() == collect(folder, tmp_path / "t.csv").read_text()

    def test_tables_have_columns_with_dots(self, folder, tmp_path):
        import csv

        rows = list(csv.DictReader(collect(folder, tmp_path / "t.csv").read_text().splitlines()))
        assert sorted((row["x"], row["y"], row["deep.a.b"], row["tensor"], row["nothing"]) for row in rows) == [
            ("1", "1", "1.5", "[0, 1]", ""),
            ("2", "4", "1.5", "[0, 1]", ""),
        ]
        lines = [json.loads(line) for line in collect(folder, tmp_path / "t.jsonl").read_text().splitlines()]
        assert sorted(line["x"] for line in lines) == [1, 2] and lines[0]["tensor"] == [0, 1] and lines[0]["environment.torch"] == torch.__version__
        with pytest.raises(ValueError, match="parquet"):
            collect(folder, tmp_path / "t.xlsx")

    def test_parquet_keeps_kinds(self, tmp_path):
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is in the extra analysis")
        take(
            lambda config: {"z": [None, 1.5, 2][config["x"]], "big": 2**62 + config["x"], "mixed": [1, "a", [2]][config["x"]]},
            [{"x": x} for x in range(3)],
            folder=tmp_path,
        )
        found = sorted(parquet.read_table(collect(tmp_path, tmp_path / "t.parquet")).to_pylist(), key=lambda row: row["x"])
        assert [(row["z"], row["big"], row["mixed"]) for row in found] == [(None, 2**62, "1"), (1.5, 2**62 + 1, "a"), (2.0, 2**62 + 2, "[2]")]

    def test_parquet_is_asked_for(self, folder, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ImportError, match=r"analysis.*csv"):
            collect(folder, tmp_path / "t.parquet")


class TestCommands:
    def run(self, *words):
        return CliRunner().invoke(app, ["runs", *map(str, words)])

    def test_a_study_from_the_shell(self, study, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "asked.jsonl").write_text("\n".join(json.dumps(config) for config in study.configs(study.log, 5, 0.0)))
        for part in ("1/2", "2/2"):
            assert "runs are done" in self.run("take", "study:work", "asked.jsonl", study.folder, "--shard", part).output
        assert "5 done, 0 failed" in self.run("status", study.folder).output
        assert json.loads(self.run("status", study.folder, "--json").output)["rows"][0]["runs"] == 5
        assert self.run("collect", study.folder, "--out", "t.csv").exit_code == 0 and (tmp_path / "t.csv").read_text().count("\n") == 6

    def test_bad_words_and_failed_runs_are_lines(self, study, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "asked.json").write_text('[{"x": 1}]')
        assert self.run("take", "study:nothing", "asked.json", "runs").exit_code == 2 == self.run("status", "nowhere").exit_code
        assert self.run("take", "study:work", "study.py", "runs").exit_code == 2
        failed = self.run("take", "study:work", "asked.json", "runs")
        assert failed.exit_code == 1 and "1 of 1 runs failed" in failed.output
