"""The command that runs a study, and the page that shows it."""

import json
import re
from pathlib import Path

import pytest
from small_models import TINY, trainings
from typer.testing import CliRunner

from hopfield_amem.analysis import memorization
from hopfield_amem.analysis.memorization import (
    Memorization,
    Training,
    UniformTokens,
)
from hopfield_amem.cli import app


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
    page = Path(__file__).parents[2] / "docs" / "memorization.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    found: dict = {}
    for block in blocks:
        exec(block, found)
    assert len(blocks) >= 3 and found["runs"][0].together == 24
