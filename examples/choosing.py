"""Which energy for which data: how many damaged patterns come back, and how exactly. --full writes the table and picture of docs/choosing.md.

python examples/choosing.py            small, some seconds: that it runs
python examples/choosing.py --full     about a minute on one core; finished runs are kept in out/choosing
"""

import argparse
import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.analysis import capacity, take
from hopfield_amem.analysis.plots import save
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.analysis.result import write

ROOT = Path(__file__).parents[1]
PAGE, PICTURE = ROOT / "docs" / "choosing.md", ROOT / "docs" / "pictures" / "choosing.png"
BEGIN, END = "<!-- results: written by the script -->", "<!-- end of results -->"
BETAS = (2.0, 8.0, 32.0)  # for unit vectors every energy is given the best of these, at every damage
ENERGIES: dict[str, dict[str, Any]] = {
    "bits": {
        "hopfield": presets.hopfield,
        "dense(3)": lambda: presets.dense(3),
        "dense(4)": lambda: presets.dense(4),
        "exponential": presets.exponential,
    },
    "unit vectors": {
        "log_sum_exp": presets.log_sum_exp,
        "entmax(1.5)": lambda beta: presets.entmax(1.5, beta),
        "sparsemax": presets.sparsemax,
        "distance": presets.distance,
        "epanechnikov": presets.epanechnikov,
    },
}
CLOSE, EXACT = 0.1, 1e-4  # how far from its pattern, in lengths of it, a unit vector may end
DAMAGE = {"bits": (0.0, 0.1, 0.2, 0.3), "unit vectors": (0.0, 0.3, 0.6, 0.9)}
DIMS = {"bits": 24, "unit vectors": 10}


def energy(kind: str, name: str, beta: float | None) -> ReadEnergy:
    """The energy of one line of the table."""
    make = ENERGIES[kind][name]
    return make() if beta is None else make(beta)


def task(kind: str, damage: float, tolerance: float) -> capacity.Task:
    """What is asked of half of the queries: bits, a share of them flipped, whole; unit vectors with noise of a share of their length within a tolerance."""
    if kind == "bits":
        return capacity.Task("binary", capacity.Flips(damage), "one pattern")
    return capacity.Task("spherical", capacity.Noise(damage) if damage else None, tolerance=tolerance)


def work(config: dict[str, Any]) -> dict[str, Any]:
    """One measurement: the most patterns of which half come back."""
    kind = config["kind"]
    search = capacity.Search(config["precision"], largest=config["largest"], queries=min(2**11, 10 * config["largest"]))
    asked = task(kind, config["damage"], config["tolerance"])
    found = capacity.measure(energy(kind, config["energy"], config["beta"]), config["dim"], asked, search=search).estimate
    return {"value": found.value, "low": found.interval[0], "high": found.interval[1]}


def configs(full: bool) -> list[dict[str, Any]]:
    """Every kind, energy, β, damage and tolerance; without full one of each energy, small and rough."""
    found = []
    for kind, energies in ENERGIES.items():
        size = {"dim": DIMS[kind], "precision": 0.25, "largest": 2000} if full else {"dim": 6, "precision": 1.0, "largest": 20}
        for name in energies:
            for damage, tolerance in cases(kind) if full else cases(kind)[-1:]:
                for beta in (None,) if kind == "bits" else BETAS if full else BETAS[:1]:
                    found.append({"kind": kind, "energy": name, "damage": damage, "tolerance": tolerance, "beta": beta, **size})
    return found


def cases(kind: str) -> list[tuple[float, float]]:
    """Damages and tolerances, a column of the table for each."""
    return [(damage, CLOSE) for damage in DAMAGE[kind]] + ([(0.3, EXACT)] if kind == "unit vectors" else [])


def best(records: list[dict[str, Any]]) -> dict[tuple, dict[str, Any]]:
    """(kind, energy, damage, tolerance) -> the measurement at the β that holds most."""
    found: dict[tuple, dict[str, Any]] = {}
    for record in records:
        key = tuple(record[part] for part in ("kind", "energy", "damage", "tolerance"))
        if key not in found or record["value"] > found[key]["value"]:
            found[key] = record
    return found


def open_above(record: dict[str, Any]) -> bool:
    """Whether the largest load still came back (records keep infinities as None)."""
    return record["high"] is None or math.isinf(record["high"])


def cell(record: dict[str, Any]) -> str:
    """A number with its interval."""
    return f"over {record['low']:.0f}" if open_above(record) else f"{record['value']:.0f} [{record['low']:.0f}, {record['high']:.0f}]"


def table(found: dict[tuple, dict[str, Any]], kind: str) -> str:
    """The measurements of one kind of patterns as Markdown."""
    asked = [case for case in cases(kind) if any(key[2:] == case and key[0] == kind for key in found)]
    heads = [f"{damage:.0%} flipped" if kind == "bits" else f"noise {damage:g}" + ", to 0.0001" * (tolerance == EXACT) for damage, tolerance in asked]
    rows = [f"| `{name}` | " + " | ".join(cell(found[kind, name, *case]) for case in asked) + " |" for name in ENERGIES[kind]]
    return "\n".join([f"| {kind} | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(asked), *rows])


def picture(found: dict[tuple, dict[str, Any]]) -> Figure:
    """Capacity against damage, a panel for each kind of patterns; hollow where the largest load still came back. Later curves are smaller: equal ones show."""
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    for place, (kind, energies) in zip(figure.subplots(1, 2), ENERGIES.items(), strict=True):
        for size, name, colour, marker in zip(range(12, 2, -2), energies, COLOURS, MARKERS, strict=False):
            points = [(damage, found[kind, name, damage, CLOSE]) for damage in DAMAGE[kind]]
            place.plot(*zip(*((damage, point["value"]) for damage, point in points), strict=True), color=colour, linewidth=size / 4)
            for damage, point in points:
                place.plot(damage, point["value"], marker, color=colour, markersize=size, fillstyle="none" if open_above(point) else "full")
            place.plot([], [], color=colour, marker=marker, label=name)
        place.set(yscale="log", title=f"{kind}, d = {DIMS[kind]}", ylabel="patterns of which half come back")
        place.set_xlabel("share of bits flipped" if kind == "bits" else "length of the noise / length of the pattern")
        place.legend(fontsize=8)
        place.grid(alpha=0.3)
    return figure


def page(tables: str) -> None:
    """Write the table and the picture into docs/choosing.md, between its marks."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    shown = f"![Patterns that come back against the damage of the queries](pictures/{PICTURE.name})"
    write(PAGE, f"{before}{BEGIN}\n\n{shown}\n\n{tables}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the sizes of the page")
    full = parser.parse_args().full
    found = best(take(work, configs(full), folder=ROOT / "out" / "choosing" if full else None))
    tables = "\n\n".join(table(found, kind) for kind in ENERGIES)
    print(tables)
    if full:
        save(picture(found), PICTURE)
        page(tables)
