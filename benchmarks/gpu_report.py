"""docs/performance.md: bars, verdicts and tables from the results, or "not measured" where there are none."""

from __future__ import annotations

import math

from gpu_cases import GROWTH_BAR, LINES, STEEPEST, Bar, Case, cases
from gpu_peers import OURS
from results import MEBIBYTE

NOT_MEASURED = "not measured"
NAMES = {"flash": "SDPA flash", "cudnn": "SDPA cuDNN", "flex": "FlexAttention", "own softmax": "our softmax", "copy": "copy"}
Rows = dict[str, dict]

HEAD = """# Performance

Reads on a CPU, with their peers: [benchmarks/results/retrieve.md](../benchmarks/results/retrieve.md).

This page is about the generated kernels on a GPU (`retrieve(..., backend="triton")`). Measure it with

    make gpu                      # the kernel tests, compiled; then every case below; none starts after 8 minutes
    make gpu QUICK=1              # fewer cases, none after 2 minutes; its page lands in benchmarks/results/quick
    make gpu GPU_PYTHON=python3   # in the machine's own environment instead of .venv

"""

METHOD = """
- **Ratio**: the peer's time over ours, so more is better. Medians by CUDA events (`triton.testing.do_bench`: warmed up, L2 cleared before every run); ours and
  the peers alternate in rounds in one process, and the median of the rounds counts. Inputs are bfloat16 and standard normal; 16,384 tokens and a hidden
  size of 2,048 are cut into batch and heads, β = 1/√d, unless a table says otherwise.
- **Checked first**: output, and gradients where there are any, of one head against the reference in float32, ‖a − b‖ / ‖b‖ ≤ 0.02 (0.06 for Epanechnikov,
  whose weights jump). *wrong* marks what is further away, ours or the peer's; such a case meets no bar.
- **TFLOP/s** count the matrix products as attention benchmarks do: 4·heads·queries·slots·d forward, 2.5 times that backward, half when causal.
- **Peak**: memory of one run beyond what was there before it, in MiB; outputs and gradients are part of it.
"""


def page(result: dict | None, quick: bool = False) -> str:
    """The whole page."""
    rows = {} if result is None else result["rows"]
    listed = cases(quick)
    parts = [HEAD, "## Bars\n\n", _table(["what", "bar", "measured ratio", "verdict"], summary(rows, listed)), METHOD, f"\n{where(result)}\n"]
    for name, line in LINES.items():
        parts.append(f"\n## {line.title}\n\n" + (f"{line.note}\n\n" if line.note else ""))
        headers, cells = details(name, rows, [case for case in listed if case.line == name])
        parts.append(_table(headers, cells))
    return "".join(parts)


def summary(rows: Rows, listed: list[Case]) -> list[list[str]]:
    """One row per bar: what, bar, measured ratios, verdict."""
    found = []
    for name, line in LINES.items():
        own = [case for case in listed if case.line == name]
        found += [[line.title, bar.text, *_overall(bar, rows, own)] for bar in line.bars]
        if name == "growth":
            found.append([line.title, GROWTH_BAR, *_grown(rows, own)])
    return found


def verdict(bar: Bar, row: dict | None) -> tuple[str, float | None]:
    """ "met", "missed", "wrong", "failed", "peer failed" or "not measured", and the ratio where there is one."""
    if row is None:
        return NOT_MEASURED, None
    ours, peer = row["contenders"][OURS], row["contenders"].get(bar.peer, {"failed": "not run"})
    if "failed" in ours:
        return "failed", None
    if "failed" in peer:
        return "peer failed", None
    ratio = peer["ms"] / ours["ms"]
    if not (ours["agrees"] and peer["agrees"]):
        return "wrong", ratio
    return ("met" if ratio >= bar.least else "missed"), ratio


def exponent(points: list[tuple[int, float]]) -> float | None:
    """Slope of log y in log x by least squares; None for fewer than two points."""
    if len(points) < 2:
        return None
    xs, ys = [math.log(x) for x, _ in points], [math.log(max(y, 1.0)) for _, y in points]
    middle, height = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - middle) * (y - height) for x, y in zip(xs, ys, strict=True)) / sum((x - middle) ** 2 for x in xs)


def details(name: str, rows: Rows, own: list[Case]) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of a line's table: a row per case, a column per contender."""
    line = LINES[name]
    headers = ["case", "ours"] + [f"{NAMES.get(peer, peer)} (ratio)" for peer in line.peers] + ["peak, MiB"]
    headers += ["bars"] if line.bars else []
    return headers, [_case(case, rows.get(case.name)) for case in own]


def where(result: dict | None) -> str:
    """The machine and the versions that the numbers belong to."""
    if result is None:
        return f"GPU: {NOT_MEASURED}."
    environment = result["environment"]
    gpu, versions = environment["gpu"], ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    quick = " Quick run: few cases, short rounds." if environment["quick"] else ""
    card = f"{gpu['name']}, {gpu['memory GiB']} GiB, {gpu['processors']} multiprocessors, driver {gpu['driver']}"
    return f"{card}; {versions}; code {environment['code']}; {environment['date']}.{quick}"


def progress(case: Case, row: dict) -> str:
    """A case in one line, for the terminal."""
    shown = [f"{name} {_contender(name, case, row)}" for name in row["contenders"]]
    return f"{case.name}: " + "; ".join(shown)


def broken(rows: Rows) -> list[str]:
    """Cases in which our own kernels failed or were wrong."""
    return [name for name, row in rows.items() if not row["contenders"][OURS].get("agrees", False)]


def _overall(bar: Bar, rows: Rows, own: list[Case]) -> list[str]:
    judged = [verdict(bar, rows.get(case.name)) for case in own if _applies(bar, case)]
    verdicts, ratios = [v for v, _ in judged], [r for _, r in judged if r is not None]
    if all(v == NOT_MEASURED for v in verdicts):
        return [NOT_MEASURED, NOT_MEASURED]
    span = "–" if not ratios else f"{min(ratios):.2f}x" if len(ratios) == 1 else f"{min(ratios):.2f}–{max(ratios):.2f}x"
    kinds = list(dict.fromkeys(verdicts))
    return [span, kinds[0] if len(kinds) == 1 else ", ".join(f"{kind} in {verdicts.count(kind)} of {len(verdicts)}" for kind in kinds)]


def _applies(bar: Bar, case: Case) -> bool:
    return bar.peer in case.peers and bar.dim in (None, case.dim)


def _grown(rows: Rows, own: list[Case]) -> list[str]:
    """Exponents of our peak memory in the number of slots, and the verdict over all energies."""
    energies = list(dict.fromkeys(case.energy for case in own))
    curves = {energy: [case for case in own if case.energy == energy] for energy in energies}
    if not any(case.name in rows for case in own):
        return [NOT_MEASURED, NOT_MEASURED]
    shown, complete = [], True
    steepest = -math.inf
    for energy, curve in curves.items():
        points = [(case.slots, _peak(rows, case)) for case in curve]
        known = [(slots, peak) for slots, peak in points if peak is not None]
        slope = exponent(known)
        complete = complete and len(known) == len(points) and slope is not None
        steepest = steepest if slope is None else max(steepest, slope)
        shown.append(f"{energy} {'–' if slope is None else f'{slope:.2f}'}")
    judged = "met" if complete and steepest <= STEEPEST else "missed" if steepest > STEEPEST else "curve not complete"
    return ["exponents: " + ", ".join(shown), judged]


def _peak(rows: Rows, case: Case) -> int | None:
    ours = rows.get(case.name, {"contenders": {}})["contenders"].get(OURS, {})
    return ours.get("peak") if ours.get("agrees") else None


def _case(case: Case, row: dict | None) -> list[str]:
    line = LINES[case.line]
    if row is None:
        return [label(case), *[NOT_MEASURED] * (2 + len(line.peers) + bool(line.bars))]
    peers = [_contender(peer, case, row) if peer in case.peers else "–" for peer in line.peers]
    peaks = " / ".join(_mebibytes(row["contenders"].get(name, {})) for name in (OURS, *case.peers))
    judged = [f"{bar.text}: {verdict(bar, row)[0]}" for bar in line.bars if _applies(bar, case)]
    return [label(case), _contender(OURS, case, row), *peers, peaks, *(["; ".join(judged)] if line.bars else [])]


def label(case: Case) -> str:
    """What tells a case apart within its line."""
    size = f"{case.batch * case.heads} x {case.queries:,} x {case.slots:,}, d={case.dim}"
    energy = f"{case.energy}, " if case.line in ("eager", "growth") else ""
    phase = f", {case.phase}" if case.line in ("eager", "entmax") else ""
    return f"{energy}{size}{', tied' if case.tied else ''}{phase}"


def _contender(name: str, case: Case, row: dict) -> str:
    """Time, rate, ratio and doubts of a contender."""
    found = row["contenders"].get(name, {"failed": "not run"})
    if "failed" in found:
        return f"failed: {found['failed']}"
    rate = f"{row['bytes'] / found['ms'] / 1e9:.2f} TB/s" if case.limited_by_memory else f"{row['flops'] / found['ms'] / 1e9:.0f} TFLOP/s"
    text = f"{found['ms']:.3f} ms, {rate}"
    ours = row["contenders"][OURS]
    text += f" ({found['ms'] / ours['ms']:.2f}x)" if name != OURS and "ms" in ours else ""
    text += f" [{found['variant']}]" if found.get("variant") else ""
    return text if found["agrees"] else f"{text}, wrong by {found['error']:.1e}"


def _mebibytes(found: dict) -> str:
    return "–" if found.get("peak") is None else f"{found['peak'] / MEBIBYTE:,.0f}"


def _table(headers: list[str], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [headers, ["---"] * len(headers), *rows])
