"""``hopfield-amem memorize``: how many bits models of several sizes memorise of how many bits of data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, Seed, Shard, plainly, show


def memorize(
    preset: Annotated[
        str, typer.Option(help="tiny (about a minute on 2 cores), default (eight minutes) or large (estimated: half an hour of one H200).")
    ] = "tiny",
    out: Annotated[Path, typer.Option(help="Folder of the picture, the table, and in its folder 'runs' one record per run.")] = Path("out/memorize"),
    processes: Annotated[int, typer.Option(help="Stacks of models trained at once; 0: one per core, or 1 on a GPU.")] = 0,
    shard: Shard = "1/1",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train models of several sizes on data of several sizes: bits memorised, capacity in bits per parameter, double descent.

    A study cut short goes on where it stopped; --out keeps what was done. Several machines may share --out. With --shard only the records of that part
    are written; the command without it finds them and draws the picture.
    """
    import torch

    from ..analysis.memorization import study
    from ..analysis.plots import save
    from ..analysis.plots.memorization import surfaces
    from ..analysis.runs import Processes

    if processes < 0:
        raise typer.BadParameter(f"at least one process must work, or 0 for as many as there are cores; got {processes}.", param_hint="--processes")
    count = processes or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    with plainly():
        found = study(preset, folder=out / "runs", executor=Processes(count), seed=seed, part=shard)
        whole = shard == "1/1"
        show(found, "memorization", out if whole else None, as_json)
        if not whole:
            typer.echo(f"{len(found.records)} runs are done, kept in {out / 'runs'}: the same command without --shard collects them", err=True)
            return
        typer.echo(f"written: {found.keep(out / 'memorization.jsonl')}", err=True)
        several = [part for part in found.kinds().values() if len({record["parameters"] for record in part.records}) > 1]
        for number, part in enumerate(several, start=1):
            typer.echo(f"written: {save(surfaces(part), out / f'surfaces_{number}.png')}", err=True)
