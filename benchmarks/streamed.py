"""A memory that stays on disk: 4 GB of slots read through a small resident size, against the same read with all slots in memory.

    python benchmarks/streamed.py [--quick]

A file of random patterns is written in pieces, 32 damaged ones are asked for. Every read runs in a fresh process; resident is the largest size of that
process above what torch and this library take, mapped pages of the file included. The file is removed at the end.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import memory as resident
import torch
from command import asked, fresh
from results import MEBIBYTE, where
from torch import Tensor

from hopfield_amem import ReadEnergy, presets, retrieve
from hopfield_amem.storage import load_memory
from hopfield_amem.streamed import StreamedMemory, write_memory

DIM, QUERIES, TOGETHER = 256, 32, 2**16
LIMIT = 2**30  # bytes: what 4 GB of slots must be read through


def energy(name: str) -> ReadEnergy:
    return presets.distance(0.5) if name == "distance" else presets.entmax(1.5, 0.02)


def pieces(slots: int) -> Iterator[tuple[Tensor, None]]:
    draw = torch.Generator().manual_seed(0)
    for first in range(0, slots, TOGETHER):
        yield torch.randn(min(TOGETHER, slots - first), DIM, generator=draw), None


def queries() -> Tensor:
    stored = next(pieces(TOGETHER))[0][:QUERIES]
    return stored + 0.5 * torch.randn(stored.shape, generator=torch.Generator().manual_seed(1))


def measured(path: str, way: str) -> dict:
    """One read: seconds, the growth of the resident size, and a sketch of the result to compare."""
    found: list[Tensor] = []
    query = queries()
    retrieve(energy("distance"), query, query), retrieve(energy("entmax"), query, query)

    def read() -> None:
        if way == "streamed":
            found.append(StreamedMemory(path).retrieve(query))
        else:
            stored = load_memory(path)
            found.append(retrieve(stored.spec, query, stored.keys))

    start = time.perf_counter()
    growth = resident.growth(read)
    return {"resident": growth, "seconds": time.perf_counter() - start, "state": found[0].tolist()}


def table(slots: int) -> Iterator[dict]:
    for name in ("distance", "entmax"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "memory.safetensors"
            if shutil.disk_usage(folder).free < 2 * slots * DIM * 4:
                raise SystemExit(f"{folder} has not the room for a file of {slots * DIM * 4 / 1e9:.1f} GB. Set TMPDIR to a folder that has.")
            start = time.perf_counter()
            growth = resident.growth(lambda path=path, name=name: write_memory(path, energy(name), pieces(slots), slots))
            row = {"energy": name, "slots": slots, "file": path.stat().st_size, "writing": {"resident": growth, "seconds": time.perf_counter() - start}}
            reads = {way: fresh(__file__, str(path), way) for way in ("streamed", "in memory")}
        states = [torch.tensor(read.pop("state")) for read in reads.values()]
        yield row | reads | {"difference": float((states[0] - states[1]).norm() / states[1].norm()), "met": reads["streamed"]["resident"] <= LIMIT}


def page(result: dict) -> str:
    lines = ["# Slots streamed from a file", "", where(result["environment"]), "", f"`{result['command']}`", ""]
    lines += [f"{QUERIES} damaged queries, one step, float32, width {DIM}. Resident: growth of the process during the read, mapped pages of the file included."]
    lines += ["", "| energy | slots | file GB | read | seconds | resident MiB | relative difference |", "|---|---|---|---|---|---|---|"]
    for row in result["rows"]:
        for way in ("streamed", "in memory"):
            seconds, growth = row[way]["seconds"], row[way]["resident"] / MEBIBYTE
            cells = [row["energy"], f"{row['slots']:,}", f"{row['file'] / 1e9:.2f}", way, f"{seconds:.1f}", f"{growth:.0f}"]
            lines.append("| " + " | ".join([*cells, f"{row['difference']:.1e}" if way == "streamed" else "–"]) + " |")
    writing = max(row["writing"]["resident"] for row in result["rows"]) / MEBIBYTE
    return "\n".join([*lines, "", f"Written in pieces through {writing:.0f} MiB."]) + "\n"


def main() -> None:
    run = asked(__file__, __doc__, measured)
    for row in run.rows(run.result(), table(50_000 if run.quick else 4_000_000), page):
        print({name: row[name] for name in ("energy", "streamed", "in memory", "difference", "met")}, flush=True)


if __name__ == "__main__":
    main()
