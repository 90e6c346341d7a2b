"""The page of benchmarks/feedforward.py."""

from __future__ import annotations

from results import MEBIBYTE


def page(result: dict) -> str:
    """All tables as Markdown."""
    where, versions, bars = result["environment"], result["environment"]["versions"], result["bars"]
    lines = [
        "# Feed-forward blocks as memories", "",
        f"`{result['command']}` on {where['machine']['cpu']}, {where['threads']} threads, {where['date'][:10]}; "
        f"Python {versions['python']}, torch {versions['torch']}. Forward and backward, float32, the same weights on both sides; the stock block of a name is "
        "that activation between two linear maps (gated: times a third), of GPT-2 and Llama the class of transformers, swapped by `hopfield_` with the model's "
        f"own activation. Times are the fastest of paired samples, the median of the pairs in brackets; memory is the peak over the inputs. "
        f"Bars: time ≤ {bars['time']:g} ×, memory ≤ {bars['memory']:g} × the stock block.", "",
    ]  # fmt: skip
    found = result["tables"]
    if rows := found.get("stock"):
        lines += ["## Against the stock block", "", "| block | tokens | dim × slots | ours | stock | time | memory, ours | memory, stock | memory |"]
        lines += ["|---" * 9 + "|", *map(_comparison, rows), ""]
    if rows := found.get("growth"):
        counts = [f"{p['slots']:,} slots" for p in rows[0]["points"]]
        lines += ["## Growth with the number of slots", "", "1,024 tokens, dim 128; memory beyond output and gradients.", ""]
        lines += ["| block | " + " | ".join(counts) + " | exponent |", "|---" * (len(counts) + 2) + "|"]
        for row in rows:
            for side in ("ours", "stock"):
                cells = [f"{_seconds(p['seconds'][side])}, {_bytes((p['peak'][side] or {}).get('beyond'))}" for p in row["points"]]
                lines += [f"| {row['kind']}, {side} | " + " | ".join(cells) + (f" | {row['exponent']:.2f} |" if side == "ours" else " | |")]
        lines += [""]
    return "\n".join(lines)


def _comparison(row: dict) -> str:
    case, ratios, met = row["case"], row["ratios"], row["met"]
    ours, stock = (_seconds(row["time"][side]["fastest"]) for side in ("ours", "stock"))
    peaks = [_bytes((row["peak"][side] or {}).get("extra")) for side in ("ours", "stock")]
    heavy = "not measured" if ratios["memory"] is None else f"{ratios['memory']:.2f}{_mark(met['memory'])}"
    agrees = "" if row["agrees"] else " (**differs**)"
    return (
        f"| {row['title']}{agrees} | {case['tokens'][0]} × {case['tokens'][1]:,} | {case['dim']} × {case['slots']:,} | {ours} | {stock} | "
        f"{ratios['time']['fastest']:.2f} ({ratios['time']['median']:.2f}){_mark(met['time'])} | {peaks[0]} | {peaks[1]} | {heavy} |"
    )


def _mark(met: bool) -> str:
    return "" if met else " **not met**"


def _seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _bytes(value: float | None) -> str:
    return "not measured" if value is None else f"{value / MEBIBYTE:.0f} MiB"
