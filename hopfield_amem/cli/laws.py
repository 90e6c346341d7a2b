"""``hopfield-amem snr`` and ``hopfield-amem association-scaling``: what is retrieved among noise, and how errors fall with size and data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, Out, Seed, energy_of, numbers, plainly, show

ENSEMBLES = {"gaussian": "GaussianKeys", "averaged": "AveragedGaussianKeys", "sphere": "SphericalKeys"}


def snr(
    energy: Annotated[list[str] | None, typer.Option(help="A preset energy, for example log_sum_exp(beta=0.125); may be given again.")] = None,
    counts: Annotated[str, typer.Option(help="Numbers N of stored keys, separated by commas.")] = "16,64,256,1024,4096",
    dims: Annotated[str, typer.Option(help="Dimensions d, separated by commas; several d need one N.")] = "64",
    keys: Annotated[str, typer.Option(help="gaussian (the asking key given), averaged (over it, too) or sphere (unit keys).")] = "gaussian",
    trials: Annotated[int, typer.Option(help="Monte Carlo trials at every place; 0 for none.")] = 0,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Retrieval SNR⁻¹ against N or d: computed, as printed, and measured."""
    from ..analysis import snr as ratios

    energies = {text: energy_of(text) for text in energy or ["linear_attention()", "relu_feed_forward()", "log_sum_exp(beta=0.125)"]}
    places, widths = numbers(counts, "--counts"), numbers(dims, "--dims")
    if len(places) > 1 and len(widths) > 1:
        raise typer.BadParameter("one of --counts and --dims is the axis: give one number to the other.")
    if keys not in ENSEMBLES:
        raise typer.BadParameter(f"expected one of {', '.join(ENSEMBLES)}, got {keys!r}.", param_hint="--keys")
    made = getattr(ratios, ENSEMBLES[keys])
    along_width = len(widths) > 1
    with plainly():
        if along_width:
            cases = {name: lambda dim, read=read: (read, places[0], made(dim)) for name, read in energies.items()}
        else:
            cases = {name: lambda count, read=read: (read, count, made(widths[0])) for name, read in energies.items()}
        found = ratios.snr_sweep(cases, widths if along_width else places, axis="d" if along_width else "N", trials=trials, seed=seed)
        show(found, "snr", out, as_json)


def association_scaling(
    rows: Annotated[
        list[str] | None,
        typer.Option(help="A row of the table of exponents, may be given again; 'all', or 'list' to see their names. Their data are their own."),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Exponent α ≥ 0 of the Zipf law p(x) ∝ x^−α; 2 if not given.")] = None,
    inputs: Annotated[int | None, typer.Option(help="Inputs N; 1000 if not given.")] = None,
    classes: Annotated[int | None, typer.Option(help="Classes M; 5 if not given.")] = None,
    schemes: Annotated[str | None, typer.Option(help="How associations are weighted, names separated by commas; all if not given.")] = None,
    dims: Annotated[str | None, typer.Option(help="Widths d, separated by commas; 20,50,100,200,500 if not given.")] = None,
    trials: Annotated[int | None, typer.Option(help="Draws at each point; 30, or what a row takes, if not given.")] = None,
    processes: Annotated[int, typer.Option(help="Processes that work at once.")] = 1,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Errors of outer-product memories on Zipf data against their width, or rows of the table of exponents beside theory.

    With --out every finished point is kept in its folder "runs", and a study cut short goes on there.
    """
    from ..analysis import scaling

    runs: Path | None = None if out is None else out / "runs"
    if rows == ["list"]:
        typer.echo("\n".join(scaling.ROWS))
        return
    own = {"--alpha": alpha, "--inputs": inputs, "--classes": classes, "--schemes": schemes, "--dims": dims}
    if rows and any(value is not None for value in own.values()):
        raise typer.BadParameter(f"rows have data of their own: leave {', '.join(name for name, value in own.items() if value is not None)} out.")
    with plainly():
        if rows:
            named = None if rows == ["all"] else rows
            found = scaling.exponents(named, study=scaling.Study(trials=trials, seed=seed, folder=runs, processes=processes))
        else:
            named = [name.strip() for name in schemes.split(",")] if schemes else list(scaling.SCHEMES)
            task = scaling.ZipfTask(1000 if inputs is None else inputs, 5 if classes is None else classes, 2.0 if alpha is None else alpha)
            widths = numbers(dims or "20,50,100,200,500", "--dims")
            found = scaling.sweep(task, named, widths, trials=30 if trials is None else trials, seed=seed, folder=runs, processes=processes)
        show(found, "association-scaling", out, as_json)
