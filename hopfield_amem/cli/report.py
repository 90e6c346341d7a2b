"""``hopfield-amem report``: what the runs of a folder say of memorization, as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, plainly, warnings_as_lines


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of the runs, in it or below it; where there are none, of files with one record in each line.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the page, its picture and its numbers; without it the same.")] = None,
    as_json: AsJson = False,
) -> None:
    """Memorised bits against data bits, their bounds, and which of them binds: one page (HTML), the same as PNG and JSON."""
    from ..analysis.memorization import Memorization, summarise
    from ..analysis.memorization import report as written
    from ..analysis.runs import status

    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is no folder: hopfield-amem memorize --out {folder} writes one.", param_hint="FOLDER")
    with plainly(), warnings_as_lines():
        runs = Memorization.load(folder)
        found = summarise(runs)
        page = written(runs, folder if out is None else out)
    for run, (state, _, why) in status(folder).others.items():
        if state == "failed":
            typer.echo(f"left out, as the run {run} failed: {why}", err=True)
    typer.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if as_json else found)
    for path in (page, page.with_suffix(".png"), page.with_suffix(".json")):
        typer.echo(f"written: {path}", err=True)
