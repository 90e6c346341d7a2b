"""A million stores and recalls, and a million tokens written into a state that is handed on: whether memory grows, and whether the answers stay right.

    python benchmarks/endurance.py [--quick]

Patterns come in batches; the oldest are forgotten, so that a window of them is held. After a tenth of the way, resident size (of the process) and
allocated bytes (of Python's objects, by tracemalloc) must not grow. The same loops run, shorter, as a test.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from command import asked, fresh
from results import MEBIBYTE, where
from torch.nn.functional import normalize

from hopfield_amem import MEMORIES, associate, presets
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import PatternMemory

DIM, WINDOW = 32, 4  # width, batches of patterns held
LIMITS = {"resident": 8 * MEBIBYTE, "objects": MEBIBYTE / 4}  # bytes by which memory may grow after the first tenth


def pattern_memory(batch: int) -> Callable[[], float]:
    """Store a batch, recall it damaged by one step, forget the oldest. -> the share that was recalled right"""
    memory, draw = PatternMemory(DIM, presets.distance(2.0)), torch.Generator().manual_seed(0)

    def step() -> float:
        patterns = torch.randn(batch, DIM, generator=draw)
        ids = memory.store(patterns)
        found = memory.recall(patterns + 0.1 * torch.randn(batch, DIM, generator=draw), FixedPoint(steps=1)).ids
        if len(memory) > WINDOW * batch:
            memory.forget(oldest=len(memory) - WINDOW * batch)
        return float((found == ids).double().mean())

    return step


def written_memory(name: str, batch: int) -> Callable[[], float]:
    """Write a batch of tokens into the state, which is handed on. -> the relative error of reading the last key, after its exact write"""
    memory, draw, state = MEMORIES[name], torch.Generator().manual_seed(0), None

    def step() -> float:
        nonlocal state
        keys = normalize(torch.randn(batch, DIM, generator=draw), dim=-1)
        values = torch.randn(batch, DIM, generator=draw)
        decay = torch.full((batch,), 0.99) if memory.decay else None
        output, state = associate(memory, keys, keys, values, decay=decay, state=state)
        return 1 - float((output[-1] - values[-1]).norm() / values[-1].norm())

    return step


SUBJECTS = {
    "delta_net": lambda batch: written_memory("delta_net", batch),
    "gated_delta_net": lambda batch: written_memory("gated_delta_net", batch),
    "PatternMemory": pattern_memory,
}


def endured(name: str, total: int) -> dict:
    """So many patterns or tokens: seconds, memory at eleven moments, the worst answer (1: all right)."""
    torch.manual_seed(0)
    together = max(100, total // 2000)
    step, steps = SUBJECTS[name](together), total // together
    marks, worst, start = [], 1.0, time.perf_counter()
    tracemalloc.start()
    for done in range(steps + 1):
        if done % max(1, steps // 10) == 0:
            gc.collect()
            marks.append({"done": done * together, "resident": resident(), "objects": tracemalloc.get_traced_memory()[0]})
        if done < steps:
            worst = min(worst, step())
    tracemalloc.stop()
    return {"name": name, "seconds": time.perf_counter() - start, "marks": marks, "worst": worst} | grown(marks)


def grown(marks: list[dict]) -> dict:
    """By how much memory grew after the first tenth, and whether that is within the limits."""
    growth = {kind: marks[-1][kind] - marks[1][kind] for kind in LIMITS}
    return {"growth": growth, "met": all(growth[kind] <= limit for kind, limit in LIMITS.items())}


def resident() -> int:
    """Bytes of memory that the process holds now (Linux; 0 elsewhere)."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * 4096 if status.exists() else 0


def page(result: dict) -> str:
    lines = ["# A million stores and recalls", "", where(result["environment"]), "", f"`{result['command']}`", ""]
    lines += [f"Patterns and tokens of width {DIM}, float32, in 2,000 batches; a PatternMemory holds the last {WINDOW}. Growth: after the first tenth."]
    lines += ["Right: the share of a batch that is recalled, or one minus the relative error of reading the key that was just written; the worst of all steps."]
    lines += ["", "| memory | stored and recalled | seconds | resident, MiB: first tenth → end | growth of resident | of objects, KiB | right | verdict |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for row in result["rows"]:
        first, last = row["marks"][1]["resident"] / MEBIBYTE, row["marks"][-1]["resident"] / MEBIBYTE
        cells = [row["name"], f"{row['marks'][-1]['done']:,}", f"{row['seconds']:.0f}", f"{first:.1f} → {last:.1f}"]
        cells += [f"{row['growth']['resident'] / MEBIBYTE:.2f} MiB", f"{row['growth']['objects'] / 1024:.1f}", f"{row['worst']:.3f}"]
        lines.append("| " + " | ".join([*cells, "does not grow" if row["met"] else "**grows**"]) + " |")
    return "\n".join(lines) + "\n"


def rows(total: int) -> Iterator[dict]:
    for name in SUBJECTS:
        found = fresh(__file__, name, total)
        if found is not None:
            yield found


def main() -> None:
    run = asked(__file__, __doc__, endured)
    for row in run.rows(run.result(), rows(20_000 if run.quick else 1_000_000), page):
        print({name: row[name] for name in ("name", "seconds", "growth", "worst", "met")}, flush=True)


if __name__ == "__main__":
    main()
