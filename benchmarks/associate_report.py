"""The page of benchmarks/associate.py."""

from __future__ import annotations

MEBIBYTE = 2**20


def page(result: dict) -> str:
    """All tables as Markdown."""
    where, versions = result["environment"], result["environment"]["versions"]
    lines = [
        "# Memories that are written token by token", "",
        f"`{result['command']}` on {where['machine']['cpu']}, {where['threads']} threads, {where['date'][:10]}; "
        f"Python {versions['python']}, torch {versions['torch']}. "
        "Forward and backward, float32, 4 heads, d = 64, unless said otherwise. Memory is the peak over the inputs, *beyond* without output and gradients.", "",
    ]  # fmt: skip
    found = result["tables"]
    for title, rows in (
        ("Chunked against the plain recurrence", found.get("recurrence")),
        ("Against flash-linear-attention", found.get("flash-linear-attention")),
    ):
        if rows:
            lines += [
                f"## {title}",
                "",
                "| memory | tokens | ours | peer | times as fast | bar | memory, ours (beyond) | memory, peer |",
                "|---|---|---|---|---|---|---|---|",
            ]
            lines += [_comparison(row) for row in rows] + [""]
    if rows := found.get("growth"):
        lines += ["## Growth with the number of tokens", "", "| memory | " + " | ".join(f"{p['tokens']:,}" for p in rows[0]["points"]) + " | exponent | bar |"]
        lines += ["|---" * (len(rows[0]["points"]) + 3) + "|"]
        for row in rows:
            cells = [f"{_seconds(p['seconds'])}, {_bytes((p['peak'] or {}).get('beyond'))}" for p in row["points"]]
            lines += [f"| {row['memory']} | " + " | ".join(cells) + f" | {row['exponent']:.2f} | ≤ {row['bar']}{_mark(row)} |"]
        lines += [""]
    if rows := found.get("generation"):
        lines += ["## Generating one token", "", "| memory | " + " | ".join(f"after {p['context']:,}" for p in rows[0]["points"]) + " |"]
        lines += ["|---" * (len(rows[0]["points"]) + 1) + "|"]
        lines += [f"| {row['memory']} | " + " | ".join(f"{_seconds(p['seconds'])}, {p['numbers']:,} numbers" for p in row["points"]) + " |" for row in rows] + [
            ""
        ]
    return "\n".join(lines)


def _comparison(row: dict) -> str:
    ours, peer = (row["time"][side]["fastest"] for side in ("ours", "peer"))
    peak = {side: row["peak"][side] or {} for side in ("ours", "peer")}
    memory = f"{_bytes(peak['ours'].get('extra'))} ({_bytes(peak['ours'].get('beyond'))}) | {_bytes(peak['peer'].get('extra'))}"
    return f"| {row['memory']} | {row['tokens']:,} | {_seconds(ours)} | {_seconds(peer)} | {row['faster']:.1f} | ≥ {row['bar']:g}{_mark(row)} | {memory} |"


def _mark(row: dict) -> str:
    return " met" if row["met"] else " **not met**"


def _seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _bytes(value: float | None) -> str:
    return "not measured" if value is None else f"{value / MEBIBYTE:.0f} MiB"
