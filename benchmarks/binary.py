"""Binary memories against plain NumPy loops with the same rule: time in pairs, peak memory, and growth with the number of patterns.

    python benchmarks/binary.py               CPU, float32
    python benchmarks/binary.py --quick       small sizes, to see that it runs

Recall turns the spins of damaged patterns one by one until a whole sweep turns none, ours and theirs in the same order, and must end in the same states.
The plain loop is the rule as it is written: for every query and every spin the overlaps with all patterns, and F with the spin up and down; its time is that
of its first updates, multiplied. The incremental loop keeps the overlaps, as a careful program would, and runs to the end. Search finds the nearest of
many packed patterns, against bits counted from a table, query by query, and against float32 products. Results go to benchmarks/results/binary.json and .md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import memory as resident
import numpy as np
import torch
from binary_cases import SEED, Recall, Search, incremental, ours, plain, workload
from command import asked, fresh
from measure import Effort, ratio, timed
from results import MEBIBYTE, where

from hopfield_amem.descent import SpinDescent
from hopfield_amem.kernels import pack

FASTER = 20.0  # times the plain loop
SEARCHED = 1.0  # seconds for one query
UPDATES = 40  # of the plain loop, timed


def recalled(case: Recall, effort: Effort) -> dict:
    """One row: our recall against both loops."""
    mine, careful = ours(case), incremental(case)
    agrees, sweeps = torch.equal(mine(), careful()), SpinDescent(generator=torch.Generator().manual_seed(SEED))(case.spec, *case.data()).steps
    time = timed({"ours": mine, "incremental": careful, "plain": plain(case, UPDATES)}, effort)
    scale = float(sweeps.sum()) * case.bits / UPDATES
    time["plain"] = time["plain"] | {"fastest": time["plain"]["fastest"] * scale, "seconds": [s * scale for s in time["plain"]["seconds"]]}
    ratios = {name: 1 / ratio(time["ours"], time[name])["fastest"] for name in ("plain", "incremental")}
    row = {"case": asdict(case), "agrees": agrees, "sweeps": sweeps.tolist(), "time": time, "faster": ratios, "peak": peak(case)}
    return row | {"met": agrees and ratios["plain"] >= FASTER}


def searched(case: Search, effort: Effort) -> dict:
    """One row: packed search against counting bits from a table, and against products."""
    query, stored = case.data()
    packed = pack(stored)
    octets, asked = (np.packbits(t.numpy() > 0, axis=-1) for t in (stored, query))
    table = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)

    def tabled() -> torch.Tensor:
        return torch.tensor([int(table[octets ^ row].sum(-1, dtype=np.int32).argmin()) for row in asked])

    runs = {"ours": lambda: packed.nearest(query)[1].squeeze(-1), "table": tabled, "products": lambda: (query @ stored.mT).argmax(-1)}
    agrees = all(torch.equal(run(), torch.arange(case.queries)) for run in runs.values())
    time = timed(runs, effort)
    faster = {name: 1 / ratio(time["ours"], time[name])["fastest"] for name in ("table", "products")}
    sizes = {"bytes packed": packed.words.nbytes, "bytes float32": stored.nbytes}
    row = {"case": asdict(case), "agrees": agrees, "time": time, "faster": faster, "peak": peak(case), **sizes}
    return row | {"met": agrees and time["ours"]["fastest"] / case.queries <= SEARCHED}


def grown(cases: list[Recall | Search], effort: Effort) -> dict:
    """Time and memory against the number of patterns."""
    from scipy.stats import linregress

    points = []
    for case in cases:
        time = timed({"ours": workload(case)}, effort)["ours"]["fastest"]
        points.append({"patterns": case.patterns, "seconds": time, "peak": peak(case)})
    logs = np.log([[p["patterns"], p["seconds"]] for p in points])
    return {"kind": type(cases[0]).__name__, "case": asdict(cases[0]), "points": points, "exponent": float(linregress(logs[:, 0], logs[:, 1]).slope)}


def peak(case: Recall | Search) -> int | None:
    """Bytes over patterns and queries, in a fresh process."""
    return fresh(__file__, type(case).__name__, asdict(case))


def _peak_here(kind: str, fields: dict) -> int:
    case = {"Recall": Recall, "Search": Search}[kind](**fields)
    work = workload(case)
    work()  # loads every library on the path that this size takes
    return resident.growth(work)


def tables(quick: bool) -> Iterator[tuple[str, dict]]:
    effort = Effort(rounds=3, retries=2, shortest=0.02) if quick else Effort(rounds=5, retries=7)
    small = {"bits": 100, "patterns": 300} if quick else {}
    for energy in ("dense", "exponential"):
        for queries in (1, 4) if quick else (1, 16):
            yield "recall", recalled(Recall(energy, queries=queries, **small), effort)
    for queries in (1, 4) if quick else (1, 100):
        yield "search", searched(Search(queries=queries, **small), effort)
    sizes = (300, 600) if quick else (5_000, 10_000, 20_000, 40_000)
    yield "growth", grown([Recall("dense", small.get("bits", 1000), n) for n in sizes], effort)
    yield "growth", grown([Search(small.get("bits", 1000), n, 10) for n in (sizes if quick else (25_000, 50_000, 100_000, 200_000))], effort)


def page(result: dict) -> str:
    """The results as a page."""
    lines = ["# Binary memories", "", where(result["environment"]), "", f"`{result['command']}`", ""]
    if rows := result["tables"].get("recall"):
        lines += ["Asynchronous recall, 10 % of the bits damaged, until nothing turns; times faster than NumPy loops with the same updates.", ""]
        lines += ["| energy | bits × patterns | queries | seconds | plain loop | incremental loop | same states | MiB |", "|---|---|---|---|---|---|---|---|"]
        for row in rows:
            case, faster = row["case"], row["faster"]
            size = f"{case['bits']:,} × {case['patterns']:,}"
            cells = [case["energy"], size, case["queries"], f"{row['time']['ours']['fastest']:.3f}", f"{faster['plain']:.0f} ×"]
            cells += [f"{faster['incremental']:.1f} ×", "yes" if row["agrees"] else "NO", _mebibytes(row["peak"])]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    if rows := result["tables"].get("search"):
        lines += ["", "Nearest of packed patterns, times faster than a table of bit counts query by query, and than float32 products.", ""]
        lines += [
            "| bits × patterns | queries | seconds | table | products | same index | MiB beyond patterns | MiB of patterns |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            case, faster = row["case"], row["faster"]
            cells = [f"{case['bits']:,} × {case['patterns']:,}", case["queries"], f"{row['time']['ours']['fastest']:.4f}", f"{faster['table']:.1f} ×"]
            cells += [f"{faster['products']:.1f} ×", "yes" if row["agrees"] else "NO", _mebibytes(row["peak"]), _mebibytes(row["bytes packed"])]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    for row in result["tables"].get("growth", ()):
        points = ", ".join(f"{p['patterns']:,}: {p['seconds']:.3f} s, {_mebibytes(p['peak'])} MiB" for p in row["points"])
        lines += ["", f"{row['kind']} against the number of patterns, {row['case']['queries']} queries: exponent of time {row['exponent']:.2f}. {points}."]
    return "\n".join(lines) + "\n"


def _mebibytes(count: int | None) -> str:
    return "–" if count is None else f"{count / MEBIBYTE:.1f}"


def main() -> None:
    run = asked(__file__, __doc__, _peak_here)
    for table, row in run.tables(run.result(), tables(run.quick), page):
        print(table, {k: row[k] for k in ("case", "agrees", "faster", "met", "exponent") if k in row}, flush=True)


if __name__ == "__main__":
    main()
