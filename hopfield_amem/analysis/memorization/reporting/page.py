"""The page of a report: one HTML file with its style, its script, its charts and its numbers inside."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...plots.report import SIZE, Chart, charts
from .bounds import short
from .report import MemorizationReport, model_sizes, points
from .rules import BINDINGS, SIGNS
from .sizes import Study
from .words import sentence, summary

if TYPE_CHECKING:
    from jinja2 import Environment

LOGARITHMIC = ("parameters", "data bits", "memorised bits", "low", "high")


def page(found: MemorizationReport) -> str:
    """The whole page. It refers to nothing outside of itself."""
    numbers = json.dumps(found.to_json(), indent=1, ensure_ascii=False)
    return (
        _environment()
        .from_string(_asset("report.html"))
        .render(
            reference=found.reference,
            studies=[_section(study, found, turn) for turn, study in enumerate(found.studies, 1)],
            rules=found.rules.sentences(),
            signs=[(SIGNS[binds], name) for binds, name in BINDINGS.items()],
            numbers=_inside(numbers, "application/json"),
            style=_asset("report.css"),
            script=_asset("report.js"),
        )
    )


def _section(study: Study, found: MemorizationReport, turn: int) -> dict[str, Any]:
    return {
        "name": study.name,
        "place": f"kind-{turn}",
        "summary": summary(study),
        "sizes": [sentence(size, found.rules) for size in study.sizes],
        "charts": [_chart(chart, turn, number) for number, chart in enumerate(charts(study), 1)],
        "tables": [
            ("Model sizes and the lines of their capacity", _table(model_sizes(study))),
            ("Every model size and data size", _table([{name: value for name, value in row.items() if name != "kind"} for row in points(study)])),
        ],
        "missing": list(study.missing.values()),
    }


def _chart(chart: Chart, turn: int, number: int) -> dict[str, Any]:
    width, height = (round(96 * inches) for inches in SIZE)
    image = _inside(chart.svg(), "image/svg+xml")
    return {"title": chart.title, "words": chart.words, "image": image, "width": width, "height": height, "place": f"{turn}-{number}"}


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Columns that hold something, and cells as text."""
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if any(row.get(name) not in (None, "") for row in rows)]
    return {"columns": columns, "rows": [[_cell(name, row.get(name)) for name in columns] for row in rows]}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name.startswith("share"):
        return f"{value:.0%}"
    if name == "binds":
        return f"{next(SIGNS[binds] for binds, word in BINDINGS.items() if word == value)} {value}"
    if isinstance(value, float):
        return short(value) if "bits" in name or name in LOGARITHMIC or abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _inside(text: str, kind: str) -> str:
    """A document as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
