"""Every reproduced paper has a script, results of its full preset, and a page that shows just these."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "examples" / "papers").glob("*.py") if path.stem != "reproduction")


sys.path.append(str(ROOT / "examples" / "papers"))
reproduction = import_module("reproduction")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_shows_the_results_of_its_script(name):
    record = json.loads((reproduction.PAGES / "results" / f"{name}.json").read_text(encoding="utf-8"))
    page = (reproduction.PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert record["full"] and record["claims"] and record["environment"]["finished"] and (reproduction.PAGES / "results" / f"{name}.png").exists()
    assert {claim["verdict"] for claim in record["claims"]} <= set(reproduction.VERDICTS)
    assert reproduction.rendered(record) in page
    assert len(page.replace(reproduction.rendered(record), "").split()) > 60  # what was done, and what the verdicts rest on


def test_the_index_counts_the_verdicts_of_every_paper_and_of_no_other():
    index = (reproduction.PAGES / "index.md").read_text(encoding="utf-8")
    results = {path.stem for path in (reproduction.PAGES / "results").glob("*.json")}
    assert set(SCRIPTS) == results
    assert reproduction.indexed() in index, "python examples/papers/reproduction.py writes the table anew"
    for name in SCRIPTS:
        line = next(line for line in index.splitlines() if f"({name}.md)" in line)
        record = json.loads((reproduction.PAGES / "results" / f"{name}.json").read_text(encoding="utf-8"))
        counts = [cell.strip() for cell in line.split("|")[2:6]]
        asked = [claim["verdict"] for claim in record["claims"] if not claim["own"]]
        assert counts == [str(asked.count(verdict) or "") for verdict in reproduction.VERDICTS]
