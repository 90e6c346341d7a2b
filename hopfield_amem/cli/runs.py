"""``hopfield-amem runs``: take the runs of a study, see how they stand, collect them."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import AsJson, Shard, plainly, warnings_as_lines

runs = typer.Typer(help="Studies of many runs: one record per run, so that nothing is lost.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="Folder of the runs.")]


@runs.command()
def take(
    work: Annotated[str, typer.Argument(help="The function of one config, as module:function.")],
    configs: Annotated[Path, typer.Argument(help="The configs: a JSON list, or JSON Lines.")],
    folder: Folder,
    processes: Annotated[int, typer.Option(help="Processes that work at once.")] = 1,
    shard: Shard = "1/1",
) -> None:
    """Do the runs that are missing. Several may share a folder."""
    from ..analysis.runs import shard as part
    from ..analysis.runs import take as taken

    with plainly():
        asked = part(_configs(configs), shard)
        done = _plainly_failing(lambda: taken(_function(work), asked, folder=folder, processes=processes, title=work))
    typer.echo(f"{len(done)} runs are done, kept in {folder}")


@runs.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Which runs are done, failed (and why), claimed, abandoned, corrupt."""
    from ..analysis.runs import status as looked

    with plainly():
        found = looked(folder)
    typer.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if as_json else found)


@runs.command()
def collect(folder: Folder, out: Annotated[Path, typer.Option(help="The table: a file that ends in .parquet, .csv or .jsonl.")]) -> None:
    """Write all finished runs into one table."""
    from ..analysis.runs import collect as collected

    with plainly(), warnings_as_lines():
        written = _plainly_failing(lambda: collected(folder, out))
    typer.echo(f"written: {written}")


def _configs(path: Path) -> list[dict[str, Any]]:
    """A JSON list of dicts, or one dict a line."""
    from ..analysis.result import decoded

    try:
        text = path.read_text(encoding="utf-8")
        found = decoded(text) if text.lstrip().startswith("[") else [decoded(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} holds no configs: {error}.") from None
    if not found or not all(isinstance(config, dict) for config in found):
        raise ValueError(f"Expected JSON objects, one per run, in {path}.")
    return found


def _function(named: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """``module:function``, modules of the current folder included, here and in processes that are started."""
    module, _, name = named.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"Expected module:function, got {named!r}: {error}.") from None


def _plainly_failing(act: Callable[[], Any]) -> Any:
    """What an act gives; failed runs, disks and missing libraries end the command with what they say."""
    try:
        return act()
    except (RuntimeError, OSError, ImportError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
