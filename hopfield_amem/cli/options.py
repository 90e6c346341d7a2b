"""What commands share: energies and lists of numbers given as text, and how results are shown and kept."""

from __future__ import annotations

import ast
import inspect
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from ..analysis.result import Result
    from ..energies import ReadEnergy

LONGEST = 500  # characters of an energy
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Out = Annotated[Path | None, typer.Option(help="Folder in which the numbers (JSON) and the picture (PNG) are written.")]
Shard = Annotated[str, typer.Option(help="Only part i/n of the runs, i = 1, …, n: for arrays of jobs that share a folder.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is random.")]


def energy_of(text: str) -> ReadEnergy:
    """A preset energy from ``name`` or ``name(argument=number, …)``, as in Python. Nothing is executed but the preset."""
    from ..energies import ReadEnergy, presets

    known = {name: made for name, made in vars(presets).items() if inspect.isfunction(made) and inspect.signature(made).return_annotation == "ReadEnergy"}
    try:
        if len(text) > LONGEST:
            raise ValueError(f"{len(text)} characters are no name of a preset")
        call = ast.parse(text.strip(), mode="eval").body
        name = call.func if isinstance(call, ast.Call) else call
        if not isinstance(name, ast.Name) or name.id not in known:
            raise ValueError(f"expected one of {', '.join(sorted(known))}")
        given = (
            ([ast.literal_eval(a) for a in call.args], {k.arg: ast.literal_eval(k.value) for k in call.keywords}) if isinstance(call, ast.Call) else ([], {})
        )
        energy = known[name.id](*given[0], **given[1])  # type: ignore[arg-type]
        if not isinstance(energy, ReadEnergy):
            raise ValueError(f"{name.id} is no energy of states and patterns")
        return energy
    except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError) as error:
        raise typer.BadParameter(
            f"{error}; got {text[:LONGEST]!r}. Write a preset as in Python, for example log_sum_exp(beta=8).", param_hint="--energy"
        ) from None


def numbers(text: str, option: str, kind: Callable[[str], Any] = int) -> list[Any]:
    """Numbers separated by commas, at least one."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected numbers separated by commas, for example 16,32,64; got {text!r}.", param_hint=option) from None


def rows_of(path: Path) -> Tensor:
    """Patterns (n, d) of a .npy file. Nothing in it is executed."""
    import numpy as np
    import torch

    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("an archive of several")
        loaded = torch.as_tensor(found)
    except FileNotFoundError:
        raise typer.BadParameter(f"There is no file {path}.", param_hint="--patterns") from None
    except (OSError, ValueError, TypeError, EOFError, SyntaxError, OverflowError, MemoryError):
        raise typer.BadParameter(
            f"{path} holds no array of numbers. Write one, patterns (n, d), with numpy.save(path, array).", param_hint="--patterns"
        ) from None
    if loaded.ndim != 2 or loaded.is_complex() or not bool(loaded.isfinite().all()):
        raise typer.BadParameter(f"expected finite, real patterns (n, d), got {loaded.dtype} {tuple(loaded.shape)} in {path}.", param_hint="--patterns")
    return loaded.to(torch.promote_types(loaded.dtype, torch.float32))


@contextmanager
def plainly() -> Iterator[None]:
    """Errors of bad values as one line."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from None
    except (OSError, RuntimeError) as error:
        typer.echo(f"Error: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Warnings on standard error, each as one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                typer.echo(warning.message, err=True)


def show(result: Result, name: str, out: Path | None, as_json: bool, *, figure: bool = True) -> None:
    """Print a result, and write it where it was asked for."""
    typer.echo(json.dumps(result.to_json(), indent=1, ensure_ascii=False) if as_json else result)
    if out is not None:
        for path in result.save(out, name, figure=figure):
            typer.echo(f"written: {path}", err=True)
