"""``hopfield-amem report``: what the runs of a folder say of memorization, as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import AsJson, plainly

APART = ("seconds", "training seconds", "together", "environment", "provenance")


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of the records, one JSON file for every run, in it or below it.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the page, its picture and its numbers; without it the same.")] = None,
    as_json: AsJson = False,
) -> None:
    """Memorised bits against data bits, their bounds, and which of them binds: one page (HTML), the same as PNG and JSON."""
    from ..analysis.memorization.reporting.report import report as written
    from ..analysis.memorization.reporting.report import summarise

    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is no folder.", param_hint="FOLDER")
    records, unread = _records(folder)
    for line in unread:
        typer.echo(line, err=True)
    if not records:
        raise typer.BadParameter(f"there is no record of a run in {folder}: hopfield-amem memorize --out {folder} writes them.", param_hint="FOLDER")
    with plainly():
        found = summarise(records)
        page = written(records, folder if out is None else out)
    typer.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if as_json else found)
    for path in (page, page.with_suffix(".png"), page.with_suffix(".json")):
        typer.echo(f"written: {path}", err=True)


def _records(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The runs in a folder, each once, and a line for every file that could not be read and every run that failed."""
    from ..analysis.memorization.reporting.records import NEEDED

    records: dict[str, dict[str, Any]] = {}
    told = []
    for path in sorted([*folder.rglob("*.json"), *folder.rglob("*.jsonl")]):
        try:
            text = path.read_text(encoding="utf-8")
            given = [json.loads(line) for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else [json.loads(text)]
        except (OSError, ValueError) as error:
            told.append(f"left out, as it cannot be read: {path}: {error}")
            continue
        for found in filter(lambda found: isinstance(found, dict), given):
            if "traceback" in found:
                told.append(f"left out, as the run failed: {path}: {found.get('reason', '')}")
            record = found["config"] | found["findings"] if {"config", "findings"} <= set(found) else found
            if set(NEEDED) <= set(record):
                records[_what(record)] = record
    return list(records.values()), told


def _what(record: dict[str, Any]) -> str:
    """What a run is and found, without when and where it was done: a record may stand in a file of its own and in one of all."""
    return json.dumps({name: value for name, value in record.items() if name not in APART}, sort_keys=True)
