"""Capacity measured: seconds of a search, a sweep of loads against the plain loop over trials, memory at a million patterns, and estimates beside measurements.

    python benchmarks/capacity.py --threads 1   CPU, float32
    python benchmarks/capacity.py --quick       small sizes, to see that it runs

The plain loop is the trial as it is written: draw a memory, ask it for one pattern, look at the state; so many trials as ours asks queries, each with the same
descent. Its time is that of its first trials, multiplied. Ours asks 64 patterns of every memory, which depend on each other a little: beside the times stand
the widths of both 95 % intervals, and the ratio of times at equal width. Results go to benchmarks/results/capacity.json and .md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import memory as resident
import torch
from command import asked, fresh
from measure import Effort, timed
from results import MEBIBYTE, where
from scipy.stats import binomtest

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.analysis.capacity import Reading, Search, Task, crosstalk, measure
from hopfield_amem.analysis.capacity.trials import Sizes, rate_interval, successes

MEMORIES, ASKED = 16, 64
PLAIN = 32  # trials of the plain loop that are timed
ENERGIES: dict[str, tuple[ReadEnergy, Task, tuple[int, ...]]] = {
    "log_sum_exp(8)": (presets.log_sum_exp(8.0), Task(tolerance=0.5), (64, 100, 128, 200, 400, 800)),
    "distance(8)": (presets.distance(8.0), Task(success="argmax"), (64, 100, 128, 200, 400, 800)),
    "epanechnikov(1.6)": (presets.epanechnikov(1.6), Task(tolerance=0.5), (64, 100, 128, 200, 400, 800)),
}
COMPARED: dict[str, tuple[ReadEnergy, int, Task | None]] = {
    "log_sum_exp(8), d = 64, half the length": (presets.log_sum_exp(8.0), 64, Task(tolerance=0.5)),
    "log_sum_exp(10), d = 32, a tenth": (presets.log_sum_exp(10.0), 32, None),
    "log_sum_exp(8), d = 64, nearest": (presets.log_sum_exp(8.0), 64, Task(success="argmax")),
    "log_sum_exp(10), d = 16, all patterns": (presets.log_sum_exp(10.0), 16, Task(success="all patterns")),
    "distance(½), d = 24, gaussian": (presets.distance(0.5), 24, Task("gaussian", tolerance=0.5)),
    "hopfield, d = 200, exact": (presets.hopfield(), 200, None),
    "dense(3), d = 60, exact": (presets.dense(3), 60, None),
    "epanechnikov(1.5), d = 16, no theorem": (presets.epanechnikov(1.5), 16, Task(tolerance=0.5)),
    "entmax(1.5, β = 5), d = 10, no theorem": (presets.entmax(1.5, 5.0), 10, None),
    "sparsemax(β = 4), d = 10, no theorem": (presets.sparsemax(4.0), 10, None),
}


def searched(quick: bool) -> dict:
    """One row: the search for log_sum_exp at d = 64, to 5 % either way."""
    energy, dim = presets.log_sum_exp(8.0), 16 if quick else 64
    begun = time.perf_counter()
    found = measure(energy, dim, search=Search(precision=0.05))
    seconds = time.perf_counter() - begun
    low, high = found.estimate.interval or (0.0, 0.0)
    return {"energy": "log_sum_exp(8)", "dim": dim, "value": found.estimate.value, "low": low, "high": high, "seconds": seconds, "looks": len(found.loads),
            "queries": sum(found.queries), "met": seconds <= 60 and high <= low * 1.1025 + 1}  # fmt: skip


def swept(name: str, quick: bool) -> dict:
    """One row: rates at all loads, ours and by the plain loop."""
    energy, task, loads = ENERGIES[name]
    dim, loads, read = (16, loads[:2], Reading(energy)) if quick else (64, loads, Reading(energy))
    asked = MEMORIES * ASKED

    def ours() -> list[torch.Tensor]:
        return [successes(read, task, Sizes(dim, load, MEMORIES, min(load, ASKED)), 0) for load in loads]

    found = timed({"ours": ours, "plain": plain(read, task, dim, loads)}, Effort(3, 2, 0.02) if quick else Effort(rounds=5))
    seconds = {"ours": found["ours"]["fastest"], "plain": found["plain"]["fastest"] * asked / PLAIN}
    widths = [interval_widths(read, task, dim, load) for load in loads]
    informative = [w for w in widths if min(w) > 0.02] or widths  # where the rate is neither 0 nor 1
    worth = sum((p / o) ** 2 for o, p in informative) / len(informative)  # of our queries in independent ones
    ratio = seconds["plain"] / seconds["ours"]
    return {"energy": name, "dim": dim, "loads": loads, "seconds": seconds, "faster": ratio, "at equal width": ratio * worth, "widths": widths,
            "busy": any(found["ours"]["busy"] + found["plain"]["busy"]), "met": ratio * worth >= 5}  # fmt: skip


def plain(read: Reading, task: Task, dim: int, loads: tuple[int, ...]) -> Callable[[], list[float]]:
    """The loop over the first trials at every load."""
    generator = torch.Generator().manual_seed(0)

    def trial(load: int) -> float:
        patterns = task.ensemble.draw(1, load, dim, generator)
        return float(task.successes(read(patterns[:, :1], patterns), patterns))

    return lambda: [sum(trial(load) for _ in range(PLAIN)) / PLAIN for load in loads]


def interval_widths(read: Reading, task: Task, dim: int, load: int) -> tuple[float, float]:
    """Widths of the 95 % intervals: of dependent queries as ours, and of so many independent ones as the plain loop asks."""
    found = successes(read, task, Sizes(dim, load, 8 * MEMORIES, min(load, ASKED)), 1)  # more memories, to know the dependence well
    low, high = rate_interval(found, min(load, ASKED), 0.95)
    queries = 8 * MEMORIES * min(load, ASKED)
    alone = binomtest(round(float(found.mean()) * queries), queries).proportion_ci(0.95)
    return high - low, alone.high - alone.low


def million(quick: bool) -> dict:
    """One row: a look at 10⁶ patterns, in a fresh process."""
    return fresh(__file__, 10**4 if quick else 10**6)


def _peak_here(load: int) -> dict:
    read, task, sizes = Reading(presets.log_sum_exp(30.0)), Task(success="argmax"), Sizes(64, load, 1, ASKED)
    successes(read, task, Sizes(64, 1000, 16, ASKED), 0)
    begun = time.perf_counter()
    extra = resident.growth(lambda: successes(read, task, sizes, 0))
    return {"patterns": load, "dim": 64, "queries": ASKED, "seconds": time.perf_counter() - begun, "bytes": extra, "bytes of patterns": 4 * 64 * load}


def compared(name: str, quick: bool) -> dict:
    """One row: the estimate beside the measurement."""
    energy, dim, task = COMPARED[name]
    begun = time.perf_counter()
    found = measure(energy, dim, task, search=Search(precision=0.3 if quick else 0.1, largest=10**5, queries=2**11 if quick else 2**15)).estimate
    estimated = crosstalk(energy, dim, task).value
    return {"case": name, "estimated": estimated, "measured": found.value, "interval": found.interval, "seconds": time.perf_counter() - begun}


def tables(quick: bool) -> Iterator[tuple[str, dict]]:
    yield "search", searched(quick)
    for name in list(ENERGIES)[: 1 if quick else None]:
        yield "sweep", swept(name, quick)
    yield "million", million(quick)
    for name in list(COMPARED)[: 1 if quick else None]:
        yield "compared", compared(name, quick)


def page(result: dict) -> str:
    found = result["tables"]
    lines = ["# Capacity", "", where(result["environment"]), "", f"`{result['command']}`, {result['environment']['threads']} thread(s).", ""]
    for row in found.get("search", ()):
        lines += [f"`measure` of {row['energy']} at d = {row['dim']}, 5 % either way: {row['value']:.4g} [{row['low']:.4g}, {row['high']:.4g}] in "
                  f"{row['seconds']:.2f} s, {row['queries']:,} queries at {row['looks']} loads.", ""]  # fmt: skip
    lines += [
        f"A sweep of loads, {MEMORIES} memories with {ASKED} queries each at every load, against the plain loop of as many trials.", "",
        "| energy | d | loads | seconds | plain loop, seconds | times faster | at equal interval widths | machine |", "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in found.get("sweep", ()):
        seconds, loads = row["seconds"], f"{row['loads'][0]} to {row['loads'][-1]}"
        cells = [row["energy"], row["dim"], loads, f"{seconds['ours']:.3f}", f"{seconds['plain']:.2f}", f"{row['faster']:.0f} ×"]
        cells.append(f"{row['at equal width']:.0f} ×")
        lines.append("| " + " | ".join(map(str, [*cells, "others were busy" if row["busy"] else "idle"])) + " |")
    for row in found.get("million", ()):
        beside, patterns = (row["bytes"] - row["bytes of patterns"]) / MEBIBYTE, row["bytes of patterns"] / MEBIBYTE
        what = f"A look at {row['patterns']:,} patterns of width {row['dim']}, {row['queries']} queries"
        lines += ["", f"{what}: {row['seconds']:.1f} s, {beside:.0f} MiB beside the {patterns:.0f} MiB of patterns."]
    lines += ["", "Estimated (`crosstalk`) and measured (`measure`, 10 % either way).", "", "| memory | estimated | measured | interval | ratio | seconds |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for row in found.get("compared", ()):
        low, high = row["interval"]
        ratio, span = row["estimated"] / row["measured"], f"{low:.4g} to {high:.4g}"
        lines.append(f"| {row['case']} | {row['estimated']:.4g} | {row['measured']:.4g} | {span} | {ratio:.2f} | {row['seconds']:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    run = asked(__file__, __doc__, _peak_here)
    for table, row in run.tables(run.result(), tables(run.quick), page):
        print(table, row, flush=True)


if __name__ == "__main__":
    main()
