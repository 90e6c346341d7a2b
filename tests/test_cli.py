"""Commands of the analysis floor: tables, JSON, files, and one clear line for bad values."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import hopfield_amem
from hopfield_amem.cli import app
from hopfield_amem.cli.options import energy_of
from hopfield_amem.energies import presets


def run(*words):
    return CliRunner().invoke(app, list(words))


def refused(*words):
    """What stands in the box of an error, on one line."""
    found = run(*words)
    assert found.exit_code == 2, found.output
    return re.sub(r"[\s│]+", " ", found.output)


def test_the_version_is_told():
    assert run("--version").output == f"hopfield_amem {hopfield_amem.__version__}\n"


def test_energies_are_written_as_in_python():
    assert energy_of("log_sum_exp(beta=8)") == presets.log_sum_exp(8)
    assert energy_of(" entmax(1.5, beta=2.0) ") == presets.entmax(1.5, 2.0)
    assert energy_of("distance") == presets.distance()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("softmin", "expected one of dense, distance"),
        ("delta_net", "expected one of"),
        ("log_sum_exp(gamma=1)", "gamma"),
        ("log_sum_exp(beta=-1)", "beta"),
        ("log_sum_exp(beta=__import__('os'))", "malformed"),
        ("log_sum_exp(", "never closed"),
        ("presets.distance()", "expected one of"),
    ],
)
def test_what_is_no_energy_is_said(text, says):
    assert says in refused("landscape", "--energy", text)


def test_a_landscape_of_ones_own_patterns(tmp_path):
    np.save(tmp_path / "keys.npy", np.random.default_rng(0).normal(size=(5, 7)))
    words = ("landscape", "--patterns", str(tmp_path / "keys.npy"), "--resolution", "9", "--out", str(tmp_path / "out"), "--energy", "distance(4.0)")
    found = run(*words)
    assert found.exit_code == 0 and "share of the plane" in found.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"landscape.json", "landscape.png"}
    rows = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["rows"]
    assert sum(row["share of the plane"] for row in rows) == pytest.approx(1.0)
    np.save(tmp_path / "bad.npy", np.full((3, 4), np.nan))
    assert "finite, real patterns" in refused("landscape", "--patterns", str(tmp_path / "bad.npy"))
    assert "There is no file" in refused("landscape", "--patterns", str(tmp_path / "none.npy"))
    (tmp_path / "table.csv").write_text("1,2\n3,4\n")
    said = refused("landscape", "--patterns", str(tmp_path / "table.csv"))
    assert "numpy.save" in said and "pickle" not in said
    assert "resolution" in refused("landscape", "--resolution", "1")


def test_capacities_of_an_energy(tmp_path):
    words = ("capacity", "--energy", "hopfield", "--dims", "16", "--precision", "0.3", "--out", str(tmp_path))
    found = run(*words)
    assert found.exit_code == 0 and "crosstalk estimate" in found.output, found.output
    kept = sorted((tmp_path / "runs").iterdir())
    assert kept and run(*words).exit_code == 0 and sorted((tmp_path / "runs").iterdir()) == kept  # nothing is measured again
    rows = json.loads((tmp_path / "capacity.json").read_text())["rows"]
    assert [row["from"] for row in rows] == ["McEliece et al. 1987", "crosstalk estimate", "measured"]
    assert "damage is flips=share" in refused("capacity", "--damage", "scratches=1")
    assert "takes a number" in refused("capacity", "--damage", "flips=many")
    assert "separated by commas" in refused("capacity", "--dims", "16;32")


def test_snr_along_counts_or_widths(tmp_path):
    words = ("snr", "--energy", "linear_attention()", "--dims", "32", "--counts", "1,11", "--json")
    rows = json.loads(run(*words, "--out", str(tmp_path)).stdout)["rows"]
    assert [row["mean"] for row in rows if row["kind"] == "exact"][1] == pytest.approx(10 / 32) and (tmp_path / "snr.png").exists()
    widths = json.loads(run("snr", "--counts", "100", "--dims", "16,64", "--keys", "sphere", "--json").stdout)["rows"]
    assert {row["d"] for row in widths} == {16, 64}
    assert "is the axis" in refused("snr", "--counts", "1,2", "--dims", "3,4")
    assert "expected one of gaussian" in refused("snr", "--keys", "ring")


def test_errors_against_width_and_the_table_of_exponents(tmp_path):
    words = ("association-scaling", "--inputs", "60", "--dims", "8,16,32", "--schemes", "frequency", "--trials", "4", "--out", str(tmp_path))
    found = run(*words)
    assert found.exit_code == 0 and "predicted" in found.output
    errors = [row["error"] for row in json.loads((tmp_path / "association-scaling.json").read_text())["rows"]]
    assert len(errors) == 3 and errors[0] > errors[2] > 0
    assert len(list((tmp_path / "runs").glob("*.json"))) == 3
    names = run("association-scaling", "--rows", "list").stdout.splitlines()
    assert len(names) > 3
    rows = run("association-scaling", "--rows", names[1], "--rows", names[2], "--trials", "1", "--json")  # names hold commas
    assert {row["row"] for row in json.loads(rows.stdout)["rows"]} == set(names[1:3])
    assert "There is no scheme" in refused("association-scaling", "--schemes", "none")
    assert "rows of the table" in refused("association-scaling", "--rows", "none")
    assert "data of their own" in refused("association-scaling", "--rows", "all", "--alpha", "2")


@pytest.mark.parametrize(
    "words",
    [("capacity", "--dims", "0"), ("capacity", "--energy", "nothing"), ("capacity", "--precision", "much"), ("snr", "--counts", "0"), ("nothing",),
     ("association-scaling", "--rows", "none"), ("landscape", "--resolution", "1"), ("landscape", "--resolution")],
)  # fmt: skip
def test_bad_values_get_one_line(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    found = run(*words)
    assert found.exit_code == 2 and not found.stdout
    assert found.stderr.startswith("Error: ") and found.stderr.count("\n") == 1


def test_without_a_command_there_is_help():
    assert "landscape" in run().output and not run().stderr


def test_every_row_of_the_table_of_exponents_is_one_command():
    """By its whole name, commas included."""
    found = run("association-scaling", "--rows", "data, α = 2", "--rows", "data, α = 1.5", "--json")
    rows = json.loads(found.stdout)["rows"]
    assert [row["row"] for row in rows] == ["data, α = 2", "data, α = 1.5"] and rows[0]["theory"] == 0.5
    assert run("association-scaling", "--rows", "joint: d, T = 10,000", "--trials", "5").exit_code == 0


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    found = run("snr", "--counts", "4", "--out", str(tmp_path / "file"))
    assert found.exit_code == 1 and found.stderr.strip().count("\n") == 0 and found.stderr.startswith("Error: ")
    np.save(tmp_path / "complex.npy", np.ones((3, 4), dtype=complex))
    assert "finite, real patterns" in refused("landscape", "--patterns", str(tmp_path / "complex.npy"))


def test_patterns_without_an_estimate_are_measured():
    found = run("capacity", "--energy", "log_sum_exp(8)", "--patterns", "correlated", "--dims", "8", "--precision", "0.4", "--largest", "200", "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert [row["kind"] for row in result["rows"]].count("measured") == 1 and "No crosstalk estimate" in str(result["reasons"])


def test_capacity_of_rows_in_a_file(tmp_path):
    rows = np.random.default_rng(0).normal(size=(200, 8))
    np.save(tmp_path / "rows.npy", rows)
    found = run("capacity", "--energy", "distance(20)", "--patterns", str(tmp_path / "rows.npy"), "--precision", "0.5", "--json")
    assert found.exit_code == 0
    measured = [row for row in json.loads(found.stdout)["rows"] if row["kind"] == "measured"]
    assert [row["dim"] for row in measured] == [8] and measured[0]["value"] <= 200
    assert "dim is 16" in refused("capacity", "--patterns", str(tmp_path / "rows.npy"), "--dims", "16")
