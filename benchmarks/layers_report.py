"""The page and the picture of benchmarks/layers.py."""

from __future__ import annotations

from pathlib import Path

from results import MEBIBYTE

NAMES = {
    "retrieve": "`retrieve` between the same projections", "SDPA": "torch's attention between the same projections", "kernel": "`retrieve` alone",
    "nn.MultiheadAttention": "`nn.MultiheadAttention`", "hopfield-layers": "`Hopfield` of hopfield-layers",
}  # fmt: skip


def page(result: dict) -> str:
    """All tables as Markdown."""
    where, found = result["environment"], result["tables"]
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("python", "torch", "difflayers"))
    case = next(iter(found.values()))[0]["case"]
    lines = [
        "# Layers against what they are made of", "",
        f"`{result['command']}` on {where['machine']['cpu']}, {where['threads']} threads, {where['date'][:10]}; {versions}. "
        f"`HopfieldAttention({case['dim']}, {case['heads']})` on float32 tokens (batch, length, {case['dim']}), self-attention, one learned inverse "
        "temperature per head; every side has the same weights, and outputs and gradients of the tokens agree to 1e-4 unless a row says otherwise. "
        "Ratios are the layer's over theirs: the median over alternating pairs, samples during which others used the machine left out where possible. "
        "Memory is the peak over inputs and weights, gradients included, each in a fresh process."
        + " Quick run: small sizes, not to be quoted." * where["quick"], "",
    ]  # fmt: skip
    if rows := found.get("overhead"):
        lines += ["## Overhead", "", f"Bar: at most {result['bar']:g} × the same projections around the bare kernel at the largest size.", ""]
        lines += [*_table(("batch × length", "passes", "layer"), ("retrieve", "SDPA", "kernel")), *(_overhead(row, rows, result["bar"]) for row in rows), ""]
    if rows := found.get("peers"):
        lines += [
            "## Against others, forward and backward",
            "",
            "| batch × length | extra steps | other | time: layer, other | ratio | memory: layer, other | ratio |",
        ]
        lines += ["|---" * 7 + "|", *(line for row in rows for line in _peers(row)), ""]
    if rows := found.get("growth"):
        lines += ["## Growth with the number of tokens", "", "One sequence, forward and backward: time, and memory beyond output and gradients.", ""]
        lines += ["![Time and memory against the number of tokens](layers.png)", ""]
        names = list(rows[0]["time"])
        lines += ["| length | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        lines += [f"| {row['case']['length']:,} | " + " | ".join(_point(row, name) for name in names) + " |" for row in rows]
        lines += [""]
    return "\n".join(lines)


def curve(rows: list[dict], path: Path) -> None:
    """Draw time and memory against the number of tokens, log-log."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name in rows[0]["time"]:
        there = [row for row in rows if name in row["time"]]
        lengths = [row["case"]["length"] for row in there]
        time.plot(lengths, [row["time"][name]["fastest"] for row in there], "o-", label=name)
        peaks = [(row["case"]["length"], row["peak"][name]["beyond"] / MEBIBYTE) for row in there if row["peak"][name]]
        memory.plot(*zip(*peaks, strict=True), "o-", label=name)
    for axes, title, unit in ((time, "Time of a forward and backward pass", "seconds"), (memory, "Memory beyond output and gradients", "MiB")):
        axes.set(title=title, xlabel="tokens", ylabel=unit, xscale="log", yscale="log")
        axes.grid(True, which="both", alpha=0.25)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _table(leading: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    return ["| " + " | ".join([*leading, *(NAMES[name] for name in names)]) + " |", "|---" * (len(leading) + len(names)) + "|"]


def _overhead(row: dict, rows: list[dict], bar: float) -> str:
    case = row["case"]
    judged = case["length"] == max(other["case"]["length"] for other in rows)
    cells = [f"{case['batch']} × {case['length']:,}", "forward, backward" if case["backward"] else "forward", _seconds(row["time"]["HopfieldAttention"])]
    for name, found in row["ratios"].items():
        median = found["time"]["median"]
        mark = "" if not judged or name == "kernel" else " (met)" if median <= bar else " **(not met)**"
        cells.append(f"{_seconds(row['time'][name])}: {median:.2f} ×{mark}")
    return "| " + " | ".join(cells) + " |" + _differs(row)


def _peers(row: dict) -> list[str]:
    case, ours = row["case"], row["time"]["HopfieldAttention"]
    return [
        f"| {case['batch']} × {case['length']:,} | {case['extra']} | {NAMES[name]} | {_seconds(ours)}, {_seconds(row['time'][name])} | "
        f"{found['time']['median']:.2f} | {_bytes(row['peak']['HopfieldAttention'], 'extra')}, {_bytes(row['peak'][name], 'extra')} | "
        f"{'–' if found['memory'] is None else format(found['memory'], '.2f')} |{_differs(row)}"
        for name, found in row["ratios"].items()
    ]


def _point(row: dict, name: str) -> str:
    return "–" if name not in row["time"] else f"{_seconds(row['time'][name])}, {_bytes(row['peak'][name], 'beyond')}"


def _differs(row: dict) -> str:
    return "" if row["agrees"] else f" differs: {row['agreement']}"


def _seconds(time: dict) -> str:
    busy = " (busy)" if all(time["busy"]) else ""
    return (f"{time['fastest'] * 1e3:.3g} ms" if time["fastest"] < 1 else f"{time['fastest']:.3g} s") + busy


def _bytes(peak: dict | None, figure: str) -> str:
    return "not measured" if peak is None else f"{peak[figure] / MEBIBYTE:.0f} MiB"
