"""Benchmarks of ``retrieve``: time and memory against attention, hopfield-layers, full matrices and entmax, and growth with slots.

python benchmarks/retrieve.py                     every table; writes benchmarks/results
python benchmarks/retrieve.py --only attention    one table; repeat the option for more
python benchmarks/retrieve.py --quick             small sizes, to see that everything runs; writes benchmarks/results/quick
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import report
import results
import run
import typer
from rich.console import Console
from tables import COMPARISONS, FULL, QUICK

RESULTS = Path(__file__).parent / "results"
ALL_CORES = os.cpu_count() or 1
NAMES = (*COMPARISONS, "growth")
TableName = StrEnum("TableName", NAMES)
app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def tables(
    context: typer.Context,
    only: Annotated[list[TableName] | None, typer.Option(help="Run this table only. Repeat for more.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, for a smoke run.")] = False,
    threads: Annotated[int, typer.Option(help="OpenMP threads. Default: all cores.", min=1)] = ALL_CORES,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Measure the time and memory of reads: run the tables, print them, and write their JSON, the figure and the markdown page."""
    if context.invoked_subcommand is not None:
        return
    folder = output or (RESULTS / "quick" if quick else RESULTS)
    console = Console()
    for name in [str(table) for table in only or TableName]:
        _run(name, quick, threads, folder, console)
        _page(folder)


@app.command()
def page(folder: Annotated[Path, typer.Argument(help="Folder of the results.")] = RESULTS) -> None:
    """Write the markdown page again from the JSON files, and print the tables."""
    console = Console()
    for result in results.load(folder, NAMES).values():
        report.show(result, console)
    _page(folder)


def _run(name: str, quick: bool, threads: int, folder: Path, console: Console) -> None:
    """Run one table, saving it after every row."""
    sizes, environment = QUICK if quick else FULL, results.environment(threads, quick)
    stages = run.scaling(sizes, threads) if name == "growth" else run.comparison(name, sizes, threads)
    result: dict = {}
    with console.status(f"{name} …") as status:
        for stage in stages:
            result = {"environment": environment, **stage}
            results.save(folder, name, result)
            status.update(f"{name}: {len(result['rows'])} rows done …")
    report.show(result, console)


def _page(folder: Path) -> None:
    found = results.load(folder, NAMES)
    if "growth" in found:
        import figure

        figure.growth(found["growth"], folder / "growth.png")
    report.markdown(found, folder / "retrieve.md")


if __name__ == "__main__":
    app()
