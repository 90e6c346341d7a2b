"""The numbers of the demo: on the screen, and as a file."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from ..analysis import DAMAGES
from ..analysis.digits import CHOICES, DEGREE, QUERIES, Measurement, memories
from ..analysis.result import write
from ..energies import ENERGIES
from .pictures import PICTURES

FOOTNOTES = (
    "Exact: every pixel within half a grey level of the original (binary energies: equal). Identified: no stored digit is nearer.",
    "† On the unit sphere, because Σ F(β x·ξ) outgrows ½‖x‖². Weights that rise this slowly with similarity mix all stored digits:",
    "  such layers transform, they do not store.",
    f"dense has degree {DEGREE}; at degree 3, made for independent patterns, what digits share drowns what tells them apart.",
    "epanechnikov averages the digits within its support equally, so it is exact only where the original is alone there;",
    "  a query that no digit reaches stays where it is, with infinite energy, and is left out of its mean energies.",
    "k_subsets reads the sum of two digits, which is none of them.",
    "* More than a tenth of the queries still moved after 50 steps.",
)


def write_csv(table: list[Measurement], path: Path) -> None:
    """Every measurement as a row of a file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(asdict(table[0])))
    writer.writeheader()
    writer.writerows(asdict(m) for m in table)
    write(path, text.getvalue())


def report(console: Console, table: list[Measurement], accuracy: float, folder: Path) -> None:
    """What was found, on the screen, and where to go on."""
    loads = sorted({m.load for m in table})
    console = Console(file=console.file, width=max(console.width, 136))
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=f"Exact recall / identified in %, up to {QUERIES} damaged digits among N stored ones; steps and mean energy at N = {loads[-1]}",
    )
    for column in ("energy", "damage", *(f"N={load}" for load in loads), "steps", "energy before → after"):
        shown.add_column(column, justify="left" if column in ("energy", "damage") else "right", no_wrap=True)
    sphere = [name for name, energy in memories().items() if energy.confinement != ENERGIES[name].confinement]
    for name in ENERGIES:
        for kind in DAMAGES:
            lines = [m for m in table if (m.energy, m.damage) == (name, kind)]
            last, title = lines[-1], f"{name}{' †' if name in sphere else ''}" if kind == next(iter(DAMAGES)) else ""
            rates = (f"{100 * m.exact:.0f}/{100 * m.identified:.0f}" for m in lines)
            steps = f"{last.steps:.1f}{'' if last.converged > 0.9 else ' *'}"
            shown.add_row(title, kind, *rates, steps, f"{last.energy_before:.3g} → {last.energy_after:.3g}", end_section=kind == list(DAMAGES)[-1])
    console.print(shown)
    for line in FOOTNOTES:
        console.print(line, style="dim", highlight=False)
    for reason in dict.fromkeys(reason for _, reason in CHOICES.values()):
        names = ", ".join(f"{name} {beta:g}" for name, (beta, why) in CHOICES.items() if why == reason)
        console.print(f"β {names}: {reason}.", style="dim", highlight=False)
    console.print(f"A HopfieldLookup layer built from log_sum_exp classifies [bold]{accuracy:.1%}[/bold] of the held-out digits.", highlight=False)
    console.print(f"Pictures: {', '.join(str(folder / f'{n}.png') for n in PICTURES)}. Table: {folder / 'recall.csv'}.", highlight=False, soft_wrap=True)
    console.print("Read next: README.md, docs/guide.md, and the programs in examples/.", highlight=False)
