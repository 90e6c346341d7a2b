"""The command line: ``hopfield-amem --help``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .holds import capacity
from .laws import association_scaling, snr
from .looks import landscape
from .memorize import memorize
from .report import report
from .runs import runs

ClickException: Any = typer.BadParameter.__mro__[2]  # of typer's own click, or of the package: that depends on typer's version


class OneLine(TyperGroup):
    """Commands whose errors are one line on standard error, however narrow the terminal."""

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **options)
        try:
            status = super().main(*args, standalone_mode=False, **options)
        except typer.Abort:
            typer.echo("Aborted.", err=True)
            sys.exit(1)
        except ClickException as error:
            if type(error).__name__ != "NoArgsIsHelpError":  # which has printed the help
                typer.echo(f"Error: {' '.join(error.format_message().split())}", err=True)
            sys.exit(error.exit_code)
        sys.exit(status if isinstance(status, int) else 0)


app = typer.Typer(cls=OneLine, no_args_is_help=True, add_completion=False)


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"hopfield_amem {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False) -> None:
    """Energy-based associative memories: write the energy, get the layer, the kernel and the capacity law."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the pictures and the table.")] = Path("out/demo"),
    loads: Annotated[str, typer.Option(help="Numbers of stored digits, separated by commas, each 1 to 1797.")] = "10,25,100,400,1797",
    seed: Annotated[int, typer.Option(help="Seed of the order of the digits, the damage and the training.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Loads 10 and 100 and ten epochs only: a few seconds.")] = False,
) -> None:
    """Recall 1,797 digit images with every preset energy, draw pictures, and train a memory to classify them."""
    try:
        numbers = [int(load) for load in loads.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected whole numbers separated by commas, for example 25,400; got {loads!r}.", param_hint="--loads") from None
    from ..demo import run

    try:
        run(out, [10, 100] if quick else numbers, seed=seed, epochs=10 if quick else 60)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def energies(
    markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/energies.md, with weights, capacity, backends, references.")] = False,
) -> None:
    """List the preset energies and memories, and their equations."""
    if markdown:
        from ..analysis.catalogue import page

        typer.echo(page(), nl=False)
        return
    from rich.console import Console
    from rich.table import Table

    from .. import ENERGIES, MEMORIES

    table = Table("preset", "energy", title="hopfield_amem.ENERGIES")
    for name, energy in ENERGIES.items():
        table.add_row(name, str(energy))
    written = Table("preset", "memory that is written", title="hopfield_amem.MEMORIES", show_lines=True)
    for name, memory in MEMORIES.items():
        written.add_row(name, str(memory))
    Console().print(table, written)


for command in (capacity, snr, association_scaling, landscape, memorize, report):
    app.command()(command)
app.add_typer(runs, name="runs")
