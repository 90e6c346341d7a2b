"""``hopfield-amem capacity``: how many patterns an energy holds, proved, estimated and measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Out, energy_of, numbers, plainly, rows_of, show

if TYPE_CHECKING:
    from torch import Tensor

    from ..analysis.capacity import Corruption, Task


def capacity(
    energy: Annotated[str, typer.Option(help="A preset energy, for example log_sum_exp(beta=8).")] = "log_sum_exp(beta=8)",
    dims: Annotated[str | None, typer.Option(help="Widths d of the patterns, separated by commas; without it 16,32,64, or the width of your own.")] = None,
    patterns: Annotated[
        str | None, typer.Option(help="binary, spherical, gaussian, correlated, or a .npy file of your own, (n, d); without it what suits the energy.")
    ] = None,
    damage: Annotated[str | None, typer.Option(help="flips=0.1, masking=0.3 or noise=0.2; without it stored patterns are asked for themselves.")] = None,
    rate: Annotated[float | None, typer.Option(help="Share of the queries that must succeed; without it what suits the energy.")] = None,
    precision: Annotated[float, typer.Option(help="Half the relative width of the interval of a measurement.")] = 0.1,
    largest: Annotated[int, typer.Option(help="Largest number of stored patterns that is tried.")] = 100_000,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Capacity against the dimension: every theorem that applies, the crosstalk estimate, and a Monte Carlo measurement with its interval.

    With --out every finished measurement is kept in its folder "runs", and a search cut short goes on there.
    """
    from ..analysis.capacity import Search, compare

    read = energy_of(energy)
    stored = rows_of(Path(patterns)) if patterns is not None and patterns.endswith(".npy") else patterns
    usual = "16,32,64" if stored is None or isinstance(stored, str) else str(stored.shape[1])
    widths = numbers(usual if dims is None else dims, "--dims")
    with plainly():
        task = _task(read, stored, damage, rate)
        found = compare(read, widths, task, search=Search(precision, largest=largest), folder=None if out is None else out / "runs")
        show(found, "capacity", out, as_json)


def _task(energy, patterns: str | Tensor | None, damage: str | None, rate: float | None) -> Task:
    """What suits the energy, with what was asked for otherwise."""
    from dataclasses import replace

    from ..analysis.capacity.task import suited

    asked = {"patterns": patterns, "corruption": _damage(damage), "rate": rate}
    return replace(suited(energy), **{name: value for name, value in asked.items() if value is not None})


def _damage(text: str | None) -> Corruption | None:
    from ..analysis.capacity import Flips, Masking, Noise

    if text is None:
        return None
    kinds = {"flips": Flips, "masking": Masking, "noise": Noise}
    name, _, amount = text.partition("=")
    if name not in kinds:
        raise ValueError(f"damage is flips=share, masking=share or noise=scale, got {text!r}.")
    try:
        number = float(amount)
    except ValueError:
        raise ValueError(f"damage takes a number, for example {name}=0.1; got {text!r}.") from None
    return kinds[name](number)
