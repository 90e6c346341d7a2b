"""Showing results: the same headers and cells for the terminal and for markdown, and the figure of growth."""

from __future__ import annotations

from pathlib import Path

from results import MEBIBYTE, write
from rich import box
from rich.console import Console
from rich.table import Table

ROW_HEADERS = (
    "time, s: ours / peer",
    "time ratio: fastest (median of pairs)",
    "extra memory over the inputs, MiB: ours / peer (ratio)",
    "beyond inputs and {results}, MiB: ours / peer (ratio)",
    "bars",
)
GROWTH_HEADERS = (
    "energy",
    "slots",
    "time, s",
    "extra memory over the inputs, MiB",
    "beyond inputs and gradients, MiB",
    "exponent of time in slots",
    "extra bytes per added byte of inputs",
    "bars",
)


def cells(result: dict) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of a result."""
    if result["kind"] == "growth":
        return list(GROWTH_HEADERS), [line for row in result["rows"] for line in _growth_lines(row)]
    headers = [header.format(results=result.get("results", "gradients")) for header in ROW_HEADERS]
    return [*result["labels"], *headers], [[*row["labels"], *_compared(row)] for row in result["rows"]]


def show(result: dict, console: Console) -> None:
    headers, rows = cells(result)
    table = Table(*headers, title=result["title"], caption=result.get("note"), box=box.SIMPLE_HEAVY)
    for row in rows:
        table.add_row(*(_coloured(cell) for cell in row))
    console.print(table)


def markdown(results: dict[str, dict], path: Path) -> Path:
    """All results as one page."""
    parts = ["# Benchmarks of reading\n", METHOD]
    for name, result in results.items():
        headers, rows = cells(result)
        parts.append(f"## {result['title']}\n")
        parts += [f"{result['note']}\n"] if result.get("note") else []
        parts.append("\n".join(_line(row) for row in [headers, ["---"] * len(headers), *rows]) + "\n")
        parts += ["![Time and memory against the number of slots](growth.png)\n"] if result["kind"] == "growth" else []
        parts.append(f"{_where(result['environment'])} Numbers: [{name}.json]({name}.json).\n")
    return write(path, "\n".join(parts))


METHOD = """One forward and one backward pass on a CPU in float32: batch 1, d = 64, β = 1/√d and 256 queries unless a table says otherwise.
The gradient reaches every input.

- **Time**: ours and the peer alternate in one process after a warm-up. The ratio is ours over theirs, of the fastest samples (and the median
  of the paired ratios). Samples during which other processes used more than a tenth of a core are taken again; where that did not help,
  the row says *busy*.
- **Extra memory over the inputs**: growth of the peak resident memory in a fresh process, the gradients of the inputs included, since they are
  part of the result. Freed blocks go back to the system at once, so that fragments of the heap do not count. **Beyond inputs and
  gradients** (or output, where only the forward pass is run): the same without those.
- **Bars** are judged on the ratio of the fastest samples and on the extra memory over the inputs, unless they say otherwise. *disagrees*
  marks outputs that differ by more than 1e-4; such a row meets no bar.
"""


def _compared(row: dict) -> list[str]:
    if row["skipped"]:
        return ["–", "–", "–", "–", f"left out: the peer {row['skipped']}"]
    ours, peer, ratios = row["time"]["ours"], row["time"]["peer"], row["ratios"]
    marks = [] if row["agrees"] else [f"disagrees by {row['agreement']['output']:.1e}"]
    busy = ours["busy"] + peer["busy"]
    marks += [f"busy in {sum(busy)} of {len(busy)} samples"] if any(busy) else []
    return [
        f"{ours['fastest']:.4g} / {peer['fastest']:.4g}",
        f"{ratios['time']:.3f} ({ratios['time, median of pairs']:.3f})",
        _mebibytes(row["memory"], "extra", ratios["memory"]),
        _mebibytes(row["memory"], "beyond", ratios["beyond"]),
        "; ".join([_judged(v) for v in row["verdicts"]] + marks),
    ]


def _growth_lines(row: dict) -> list[list[str]]:
    lines = []
    for point in row["points"]:
        busy = " (some samples busy)" if any(point["time"]["busy"]) else ""
        peak = point["memory"]
        figures = ["–", "–"] if peak is None else [f"{peak[k] / MEBIBYTE:.1f}" for k in ("extra", "beyond")]
        lines.append([row["energy"], f"{point['slots']:,}", f"{point['time']['fastest']:.4g}{busy}", *figures, "", "", ""])
    leak = row["bytes per byte of inputs"]
    lines[-1][-3:] = [f"{row['exponent']:.3f}", "–" if leak is None else f"{leak:.3f}", "; ".join(f"{v['text']}: {_met(v)}" for v in row["verdicts"])]
    return lines


def _mebibytes(peaks: dict, figure: str, ratio: float | None) -> str:
    ours, peer = (None if peaks[side] is None else peaks[side][figure] / MEBIBYTE for side in ("ours", "peer"))
    shown = " / ".join("–" if value is None else f"{value:.1f}" for value in (ours, peer))
    return shown if ratio is None else f"{shown} ({ratio:.3f})"


def _judged(verdict: dict) -> str:
    return f"{verdict['text']}: {_met(verdict)}"


def _met(verdict: dict) -> str:
    return "met" if verdict["met"] else "missed"


def _coloured(cell: str) -> str:
    for word, style in (("missed", "red"), ("met", "green"), ("disagrees", "red"), ("busy", "yellow")):
        cell = cell.replace(f" {word}", f" [{style}]{word}[/{style}]")
    return cell


def _line(row: list[str]) -> str:
    return "| " + " | ".join(row) + " |"


def _where(environment: dict) -> str:
    machine, versions = environment["machine"], ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    quick = " Quick run: small sizes, not to be quoted." if environment["quick"] else ""
    return f"{machine['cpu']}, {machine['cores']} cores, threads: {environment['threads']}; {versions}; {environment['date']}.{quick}"
