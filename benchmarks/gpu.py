"""Benchmarks of the generated kernels on a GPU, against SDPA, FlexAttention, adasplash and full matrices. See docs/performance.md.

python benchmarks/gpu.py            every case that is not there yet, none started after 8 minutes; writes benchmarks/results/gpu.json and docs/performance.md
python benchmarks/gpu.py --quick    fewer cases, none started after 2 minutes; writes benchmarks/results/quick
python benchmarks/gpu.py page       write docs/performance.md again from the results
python benchmarks/gpu.py check      fail, saying why, where there is no GPU to measure

An interrupted run goes on where it stopped, as long as machine, versions and code are the same; a complete one is measured anew.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import gpu_report
import gpu_run
import results
import torch
import typer
from gpu_cases import cases

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "performance.md"
NO_GPU = "make gpu needs an NVIDIA GPU that torch can use (torch.cuda.is_available() is False here), so nothing was tested or measured."
app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def gpu(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer cases, none started after 2 minutes.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Start no case after so many minutes. Default: 8, quick 2.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Cases whose name contains this only. Repeat for more.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Forget what an interrupted run has measured.")] = False,
) -> None:
    """Measure every case, save each as it is done, and write the page."""
    if context.invoked_subcommand is not None:
        return
    _require_gpu()
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # one kernel at a time: a pool of compilers would take longer to start
    wanted, environment = cases(quick), gpu_run.environment(quick)
    folder, path = _places(quick)
    stored = None if anew else results.load(folder, iter(["gpu"])).get("gpu")
    chosen = [case for case in wanted if not only or any(part in case.name for part in only)]
    rows = gpu_run.kept(stored, environment, wanted, chosen)
    pending = [case for case in chosen if case.name not in rows]
    try:
        _measure(pending, rows, environment, folder, 60 * (minutes or (2 if quick else 8)))
    finally:
        _page(folder, path, quick)
    _conclude(rows, wanted, quick)


@app.command()
def page() -> None:
    """Write docs/performance.md again from benchmarks/results/gpu.json."""
    _page(*_places(False), False)


@app.command()
def check() -> None:
    """Fail, saying why, where there is no GPU to measure."""
    _require_gpu()


def _measure(pending, rows: dict[str, dict], environment: dict, folder: Path, seconds: float) -> None:
    by_name = {case.name: case for case in pending}
    deadline = time.monotonic() + seconds
    print(gpu_report.where({"environment": environment}), flush=True)
    for name, row in gpu_run.rows(pending, environment["quick"], deadline):
        rows[name] = row
        results.save(folder, "gpu", {"environment": environment, "rows": rows})
        print(gpu_report.progress(by_name[name], row), flush=True)


def _conclude(rows: dict[str, dict], wanted, quick: bool) -> None:
    """Print the bars; fail where our own kernels failed or were wrong."""
    for what, bar, measured, verdict in gpu_report.summary(rows, wanted):
        print(f"{what}: {bar}: {measured}: {verdict}" if measured != verdict else f"{what}: {bar}: {verdict}")
    left = len(wanted) - len(rows)
    if left:
        print(f"{left} of {len(wanted)} cases are left; the same command goes on with them.")
    if gpu_report.broken(rows):
        print("Our kernels failed or were wrong in: " + ", ".join(gpu_report.broken(rows)))
        raise typer.Exit(1)


def _page(folder: Path, path: Path, quick: bool) -> None:
    found = results.load(folder, iter(["gpu"])).get("gpu")
    print(f"wrote {results.write(path, gpu_report.page(found, quick))}")


def _places(quick: bool) -> tuple[Path, Path]:
    """Folder of the results, and the page."""
    return (RESULTS / "quick", RESULTS / "quick" / "performance.md") if quick else (RESULTS, PAGE)


def _require_gpu() -> None:
    if not torch.cuda.is_available():
        typer.echo(NO_GPU, err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
