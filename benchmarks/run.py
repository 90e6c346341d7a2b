"""Running the tables: every row is checked for agreement, timed in pairs, and measured for memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import measure
import memory
import torch
from cases import Case, workload
from tables import COMPARISONS, GROWTH_ENERGIES, Bar, Match, Sizes, growth

TOLERANCE = 1e-4  # of outputs, relative to their largest entry where that exceeds 1
STEEPEST = 1.05  # exponent of time in slots
LEAK = 0.05  # bytes per added byte of inputs below which memory counts as constant


def comparison(name: str, sizes: Sizes, threads: int) -> Iterator[dict]:
    """The table after each of its rows."""
    torch.set_num_threads(threads)
    table = COMPARISONS[name](sizes)
    rows: list[dict] = []
    for match in table.matches:
        rows.append(_row(match, sizes.effort, threads))
        yield {"kind": "comparison", "title": table.title, "note": table.note, "labels": table.labels, "results": table.results, "rows": rows}


def scaling(sizes: Sizes, threads: int) -> Iterator[dict]:
    """The growth table after each of its energies."""
    torch.set_num_threads(threads)
    title = "Growth of log_sum_exp, relu_feed_forward and entmax (chunked, one step, one head) with the number of slots"
    rows: list[dict] = []
    for energy in GROWTH_ENERGIES:
        cases = growth(energy, sizes)
        points = [_point(case, sizes.effort, threads) for case in cases]
        rows.append({"energy": energy, "points": points, **_fit(points)})
        yield {"kind": "growth", "title": title, "rows": rows}


def _row(match: Match, effort: measure.Effort, threads: int) -> dict:
    row = {"labels": match.labels, "ours": asdict(match.ours), "peer": asdict(match.peer), "skipped": match.skipped}
    if match.skipped:
        return row | {"verdicts": []}
    row |= _timed(match, effort)
    row["memory"] = {"ours": memory.peak(match.ours, threads), "peer": memory.peak(match.peer, threads)}
    row["ratios"] = _ratios(row)
    row["verdicts"] = [_verdict(bar, row["ratios"], row["agrees"]) for bar in match.bars]
    return row


def _timed(match: Match, effort: measure.Effort) -> dict:
    """Agreement and times. The inputs are gone when this returns, before memory is measured elsewhere."""
    ours, peer = workload(match.ours), workload(match.peer)
    gap = measure.agreement(ours(), workload(match.truth or match.peer)())
    return {"agreement": gap, "agrees": gap["output"] <= TOLERANCE, "time": measure.timed({"ours": ours, "peer": peer}, effort)}


def _ratios(row: dict) -> dict:
    time = measure.ratio(row["time"]["ours"], row["time"]["peer"])
    peaks = row["memory"]
    known = peaks["ours"] is not None and peaks["peer"] is not None
    over = {name: memory.ratio(peaks["ours"], peaks["peer"], figure) if known else None for name, figure in (("memory", "extra"), ("beyond", "beyond"))}
    megabytes = peaks["ours"]["beyond"] / 1e6 if peaks["ours"] is not None else None
    return {"time": time["fastest"], "time, median of pairs": time["median"], **over, "megabytes": megabytes}


def _verdict(bar: Bar, ratios: dict, agrees: bool) -> dict:
    value = ratios[bar.figure]
    return {**asdict(bar), "value": value, "met": bool(agrees and value is not None and value <= bar.limit)}


def _point(case: Case, effort: measure.Effort, threads: int) -> dict:
    time = measure.timed({"ours": workload(case)}, effort)["ours"]
    return {"slots": case.slots, "case": asdict(case), "time": time, "memory": memory.peak(case, threads)}


def _fit(points: list[dict]) -> dict:
    """Exponent of time in slots, extra bytes per byte of inputs (gradients left out), and their bars."""
    from scipy.stats import linregress

    slots = torch.tensor([float(p["slots"]) for p in points]).log().numpy()
    exponent = float(linregress(slots, torch.tensor([p["time"]["fastest"] for p in points]).log().numpy()).slope)
    known = [p["memory"] for p in points if p["memory"] is not None]
    leak = float(linregress([m["inputs"] for m in known], [m["beyond"] for m in known]).slope) if len(known) > 1 else None
    verdicts = [
        {"text": f"time exponent ≤ {STEEPEST}", "value": exponent, "met": exponent <= STEEPEST},
        {"text": "memory constant beyond inputs and gradients", "value": leak, "met": leak is not None and leak <= LEAK},
    ]
    return {"exponent": exponent, "bytes per byte of inputs": leak, "verdicts": verdicts}
