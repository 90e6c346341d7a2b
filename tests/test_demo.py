"""The demo end to end on a small scale, and the command line around it."""

import csv
import io

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from hopfield_amem import ENERGIES
from hopfield_amem.analysis import DAMAGES
from hopfield_amem.analysis.digits import CHOICES, Digits, memories
from hopfield_amem.cli import app
from hopfield_amem.demo import PICTURES, pictures, run
from hopfield_amem.energies import Hypercube, Log, Simplex


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder, text = tmp_path_factory.mktemp("demo"), io.StringIO()
    with pytest.MonkeyPatch.context() as coarse:
        coarse.setattr(pictures, "RESOLUTION", 25)
        summary = run(folder, [5, 60], epochs=3, console=Console(file=text))
    with (folder / "recall.csv").open(encoding="utf-8") as file:
        return folder, text.getvalue(), summary, list(csv.DictReader(file))


def test_the_demo_leaves_its_pictures_and_nothing_half_written(demo):
    folder, *_ = demo
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in PICTURES} | {"recall.csv"}
    for name in PICTURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_says_where_things_are(demo):
    folder, text, *_ = demo
    assert all(name in text for name in ENERGIES)
    assert "…" not in text.split("Exact:")[0]
    *_, pictures, following = text.strip().splitlines()
    assert str(folder / "gallery.png") in pictures
    assert "README.md" in following and "docs/guide.md" in following and "examples/" in following


def test_every_energy_damage_and_load_is_measured_once(demo):
    lines = demo[3]
    assert {(m["energy"], m["damage"], m["load"]) for m in lines} == {(e, d, n) for e in ENERGIES for d in DAMAGES for n in ("5", "60")}
    assert len(lines) == 2 * len(ENERGIES) * len(DAMAGES)
    for m in lines:
        rates = [float(m[key]) for key in ("exact", "identified", "converged", "predicted")]
        assert all(0 <= rate <= 1 for rate in rates)
        assert float(m["exact"]) <= float(m["identified"])
        assert 1 <= float(m["steps"]) <= 50


def test_descent_lowers_the_energy_and_cold_memories_recall(demo):
    for m in demo[3]:
        if m["energy"] not in ("gelu_feed_forward", "silu_feed_forward") and m["energy_before"] != "nan":
            assert float(m["energy_after"]) <= float(m["energy_before"]) + 1e-5
        if m["energy"] in ("log_sum_exp", "distance", "sparsemax", "entmax", "softmax1") and m["damage"] != "salt and pepper":
            assert float(m["exact"]) > 0.8


def test_the_layer_learns(demo):
    assert demo[2]["held_out_accuracy"] >= 0.95


def test_every_preset_has_a_beta_with_a_reason_and_can_descend():
    assert set(CHOICES) == set(ENERGIES) == set(memories())
    for name, energy in memories().items():
        assert type(energy.separation) is type(ENERGIES[name].separation) and energy.beta == CHOICES[name][0] and CHOICES[name][1]
        if isinstance(energy.scaling, (Log, Simplex)):
            assert energy.confinement == ENERGIES[name].confinement


def test_the_stated_gaps_between_digits_hold():
    digits = Digits.load(0)
    patterns = digits.encode(digits.images, ENERGIES["distance"])
    gap = 1 - (patterns @ patterns.T).fill_diagonal_(-1).amax(-1)
    assert float((gap >= 0.08).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert float((gap >= 0.03).float().mean()) >= 0.985
    assert 2 * 1796 * float(torch.tensor(-170 * 0.08).exp()) < 0.5 / 16 / float(digits.contrast.max())


def test_encoded_digits_decode_to_themselves():
    digits, own = Digits.load(3), torch.arange(40)
    for energy in memories().values():
        patterns = digits.encode(digits.images[own], energy)
        expected = (digits.images[own] > 0.5).float() if isinstance(energy.confinement, Hypercube) else digits.images[own]
        torch.testing.assert_close(digits.decode(patterns, own, energy), expected, rtol=0, atol=1e-6)


def test_bad_settings_are_explained(tmp_path):
    with pytest.raises(ValueError, match="loads must be between"):
        run(tmp_path, [0, 10])
    with pytest.raises(ValueError, match="epochs"):
        run(tmp_path, [10], epochs=0)
    for loads in ("10,many", "5000"):
        result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--loads", loads])
        assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_the_command_line_lists_the_energies():
    result = CliRunner().invoke(app, ["energies"], env={"COLUMNS": "200"})
    assert result.exit_code == 0 and all(name in result.output for name in ENERGIES)
    assert "demo" in CliRunner().invoke(app, ["--help"]).output
