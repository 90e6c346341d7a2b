"""``hopfield-amem landscape``: the energy of stored patterns, on a plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Out, Seed, energy_of, plainly, rows_of, show

if TYPE_CHECKING:
    from torch import Tensor

    from ..analysis import Landscape, Plane
    from ..energies import ReadEnergy


def landscape(
    energy: Annotated[str, typer.Option(help="A preset energy, for example distance(beta=12).")] = "distance(beta=12)",
    patterns: Annotated[Path | None, typer.Option(help="Patterns (n, d) as a .npy file; without it ten handwritten digits.")] = None,
    resolution: Annotated[int, typer.Option(help="Grid points per side.")] = 80,
    paths: Annotated[int, typer.Option(help="How many descents are drawn, from random points of the plane.")] = 8,
    seed: Seed = 0,
    out: Out = Path("out/landscape"),
    as_json: AsJson = False,
) -> None:
    """Energy and basins of attraction on two principal components of stored patterns."""

    from ..analysis import descent_paths, principal_plane
    from ..analysis import landscape as sampled
    from ..analysis.plots import save
    from ..analysis.runs import progress

    read = energy_of(energy)
    with plainly():
        keys = _patterns(patterns, read, seed)
        plane = principal_plane(keys)
        with progress("descents", None):
            found = sampled(read, keys, plane, resolution=resolution)
        drawn = descent_paths(read, _starts(found, plane, read, paths, seed), keys, plane) if paths > 0 else None
        show(found, "landscape", out, as_json, figure=drawn is None)
        if out is not None and drawn is not None:
            typer.echo(f"written: {save(found.plot(drawn), out / 'landscape.png')}", err=True)


def _starts(found: Landscape, plane: Plane, energy: ReadEnergy, count: int, seed: int) -> Tensor:
    """States at random points of the grid."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    points = torch.stack([axis[torch.randint(len(axis), (count,), generator=generator)] for axis in (found.horizontal, found.vertical)], -1)
    return energy.confinement.project(plane.lift(points))


def _patterns(path: Path | None, energy: ReadEnergy, seed: int) -> Tensor:
    import torch

    if path is None:
        from ..analysis.digits import Digits

        digits = Digits.load(seed)
        first = torch.stack([(digits.labels == label).nonzero()[0, 0] for label in range(10)])
        return digits.encode(digits.images[first], energy)
    return rows_of(path)
