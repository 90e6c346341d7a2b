"""The table of energies is what the presets say of themselves."""

import inspect
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hopfield_amem import ENERGIES, ReadEnergy, energies, presets
from hopfield_amem.analysis.catalogue import CLASSES, SIMILARITIES, capacity_class, capacity_source, catalogue, page
from hopfield_amem.cli import app
from hopfield_amem.energies import Dot, Exp, Log, Manhattan, Similarity, Simplex


def test_the_page_is_up_to_date():
    written = (Path(__file__).parents[1] / "docs/energies.md").read_text(encoding="utf-8")
    assert written == page() == CliRunner().invoke(app, ["energies", "--markdown"]).output


def test_every_energy_has_a_row_with_a_reference_and_its_backends():
    rows = catalogue()
    assert [row.preset for row in rows][: len(ENERGIES)] == list(ENERGIES)
    assert {row.preset for row in rows} >= {"fermi_dirac", "hard_max", "jensen_shannon", "kullback_leibler", "sequential_k_subsets"}
    for row in rows:
        assert row.reference and row.energy.startswith("E(x) = ") and row.backends.startswith("reference, chunked") and row.weights
    served = {row.preset for row in rows if "triton" in row.backends}
    assert {"log_sum_exp", "hybrid", "polynomial", "entmax"} <= served and not served & {"normmax", "k_subsets", "top_k"}


@pytest.mark.parametrize("name", CLASSES)
def test_energies_of_other_kinds_say_their_equation_and_source(name):
    line = next(line for line in page().splitlines() if line.startswith(f"| `{name}` |"))
    _, _, equation, source, _ = line.split(" | ") if line.count(" | ") == 4 else ("", *line.strip("| ").split(" | "), "")
    assert "=" in equation and source


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_say_their_equation_and_newer_ones_their_source(name):
    line = next(line for line in page().splitlines() if line.startswith(f"| `{name}` | `S"))
    assert "=" in line and (name not in ("Dot", "Euclidean", "Inverse", "Mapped", "Simplicial") or "arxiv.org" in line)
    assert set(SIMILARITIES) == {kind.__name__ for kind in vars(energies).values() if inspect.isclass(kind) and issubclass(kind, Similarity)} - {
        "Similarity", "Custom", "Invariant",
    }  # fmt: skip


def test_capacities_say_from_where_they_are_known():
    """Not the reference beside it: von Mises and Fisher proved nothing about memories."""
    ours = {row.preset: row.capacity for row in catalogue()}
    assert all(": " in said and re.search(r"\b(19|20)\d\d\b", said) for said in ours.values() if said)
    assert {name for name, said in ours.items() if "Theorem 3" in said} == {"log_sum_exp", "distance", "von_mises_fisher", "hard_max"}
    assert "Demircigil" in ours["exponential"] and "Krotov" in ours["dense"] and "2404.03828" in ours["softmax1"]
    for scaling in (Simplex(), Log()):
        assert "Theorem 3" in capacity_source(ReadEnergy(Dot(), Exp(), scaling)) and not capacity_source(ReadEnergy(Manhattan(), Exp(), scaling))


@pytest.mark.parametrize(
    "energy, capacity",
    [
        (presets.hopfield(), "linear, d"),
        (presets.dense(5), "polynomial, d^4"),
        (presets.exponential(), "exponential"),
        (presets.entmax(), "exponential"),
        (presets.gelu_feed_forward(), ""),
        (presets.linear_attention(), ""),
    ],
)
def test_capacity_classes(energy, capacity):
    assert capacity_class(energy) == capacity
