"""State tracking and recall: what a causal memory can follow, trained and by construction.

python benchmarks/state_tracking.py swaps         one layer of every model, n = 3 … 32; --device cuda: n up to 512
python benchmarks/state_tracking.py depth         Transformers of 1, 2 and 4 layers
python benchmarks/state_tracking.py words         the word problem of S₅
python benchmarks/state_tracking.py reachability  two random trees, with and without erase keys of their own
python benchmarks/state_tracking.py recall        associative recall, trained, against the size of the state
python benchmarks/state_tracking.py construct     weights by hand, no training
python benchmarks/state_tracking.py errors        how rounding grows in what is written
python benchmarks/state_tracking.py store         recall of random pairs, no training, against the size of the state

A study goes on where it was cut off: every finished run is a file in the output folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import results
import torch
import tracking_construction
import tracking_errors
import tracking_report
import tracking_store
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from studies import finished
from tracking_runs import STUDIES, take

RESULTS = Path(__file__).parent / "results" / "tracking"
CORES = os.cpu_count() or 1
app = typer.Typer(add_completion=False, rich_markup_mode=None)
Output = Annotated[Path, typer.Option(help="Folder of the results.")]
Processes = Annotated[int, typer.Option(help="Runs at a time, one thread each.", min=1)]


def study(name: str):
    """The command that takes the runs of a study."""

    def command(output: Output = RESULTS, processes: Processes = CORES, device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu") -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=Console()) as progress:
            take(STUDIES[name](device), output / (name if device == "cpu" else f"{name}-{device}"), processes, progress)
        report(output)

    command.__doc__ = STUDIES[name].__doc__
    return command


for _name in STUDIES:
    app.command(_name)(study(_name))


@app.command()
def construct(output: Output = RESULTS, exchanges: Annotated[int, typer.Option(help="Random exchanges, then every position is read.", min=1)] = 10_000) -> None:
    """Weights by hand: every kernel with 128 elements in 128 dimensions, and with 256."""
    _untrained(output, "construct", tracking_construction.study(exchanges))


@app.command()
def errors(output: Output = RESULTS) -> None:
    """The error of what is written, along the sequence, for every κ₁, dtype and length of keys."""
    _untrained(output, "errors", tracking_errors.study())


@app.command()
def store(output: Output = RESULTS) -> None:
    """Recall of random pairs without training, against the size of the state."""
    _untrained(output, "store", tracking_store.study())


def _untrained(output: Path, name: str, rows: list[dict]) -> None:
    results.save(output, name, {"environment": results.environment(torch.get_num_threads(), quick=False), "rows": rows})
    report(output)
    print(tracking_report.UNTRAINED[name].table(rows))


@app.command()
def page(output: Output = RESULTS) -> None:
    """Write the page and the figures again from the finished runs."""
    report(output)


def report(output: Path) -> None:
    """The page and the figures of everything that is there."""
    trained = {folder.name: finished(folder) for folder in sorted(output.iterdir()) if folder.is_dir()}
    trained = {name: records for name, records in trained.items() if records}
    untrained = results.load(output, iter(tracking_report.UNTRAINED))
    tracking_report.figures(trained, untrained, output)
    results.write(output / "tracking.md", tracking_report.page(trained, untrained))


if __name__ == "__main__":
    app()
