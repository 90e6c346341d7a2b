"""The figure of growth: time and memory against slots."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from results import MEBIBYTE


def growth(result: dict, path: Path) -> Path:
    """Draw the growth table, log-log."""
    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for row in result["rows"]:
        points = [p for p in row["points"] if p["memory"] is not None]
        slots = [p["slots"] for p in points]
        time.plot(slots, [p["time"]["fastest"] for p in points], "o-", label=f"{row['energy']}, exponent {row['exponent']:.2f}")
        line = memory.plot(slots, [p["memory"]["extra"] / MEBIBYTE for p in points], "o-", label=row["energy"])[0]
        memory.plot(slots, [p["memory"]["beyond"] / MEBIBYTE for p in points], "o--", color=line.get_color(), label=f"{row['energy']}, beyond gradients")
    _label(time, "Time of a forward and backward pass", "seconds")
    _label(memory, "Extra memory over the inputs", "MiB")
    queries = result["rows"][0]["points"][0]["case"]["queries"]
    figure.suptitle(f"Chunked reads: {queries} queries, one head, d = 64, one step, threads: {result['environment']['threads']}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path


def _label(axes, title: str, unit: str) -> None:
    axes.set(title=title, xlabel="slots", ylabel=unit, xscale="log", yscale="log")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
