"""Scaling laws for associative memories: how the recall error falls with width and data, for the ways to weigh what is stored.

Cabannes, Dohmatob & Bietti 2024 (arXiv 2310.02984), the experiments without learning: schemes, exponents, width and data together, overflow, thresholds.

python examples/papers/scaling_laws_associative_memories.py           seconds
python examples/papers/scaling_laws_associative_memories.py --full    docs/papers/scaling_laws_associative_memories.md
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce

from hopfield_amem.analysis import power_law, scaling
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.analysis.scaling import Exponents, Finding, Study, Sweep, ZipfTask

PAPER = Paper("Scaling laws for associative memories", "2310.02984", "2 minutes on one core")
SCHEMES = ("equal", "frequency", "top d/8")
ROWS = ("equal", "frequency", "root", "fourth root", "top d/8", "data")
NAIVE = ZipfTask(100, 5, 0.5)
WIDTHS = (30, 56, 100, 178, 316, 562, 1000)


def work(scale: Scale) -> Reproduction:
    """All experiments, their claims and the figure."""
    trials = scale.pick(3, 100)
    widths = sorted({round(d) for d in np.geomspace(10, 1000, scale.pick(5, 20))})
    schemes = scaling.sweep(ZipfTask(1000, 5, 2.0), SCHEMES, widths, trials=trials, folder=scale.runs)
    rows = [f"{name}, α = {alpha}" for name in scale.pick(("frequency", "top d/8", "data"), ROWS) for alpha in scale.pick(("2",), ("1.5", "2"))]
    exponents = scaling.exponents(rows, study=Study(trials=scale.pick(2, None), folder=scale.runs))
    joint = scaling.joint_table(trials=trials, folder=scale.runs)
    grid = scale.pick(4, 30)
    dims, tokens = (sorted({round(x) for x in np.geomspace(10, most, grid)}) for most in (1000, 10_000))
    naive = scaling.sweep(NAIVE, ["equal"], dims, tokens, trials=trials, folder=scale.runs)
    kept = thresholds(WIDTHS[:: scale.pick(3, 1)])
    claims = (
        *scheme_claims(schemes),
        *map(exponent_claim, exponents.findings),
        *joint_claims(joint),
        naive_claim(naive),
        threshold_claim(kept),
        bound_claim(schemes),
    )
    numbers = {"schemes": schemes.to_json(), "exponents": exponents.to_json(), "joint": joint.to_json(), "naive": naive.to_json(), "thresholds": kept}
    return Reproduction(claims, figure(schemes, exponents, joint, naive, kept), numbers)


def thresholds(widths: tuple[int, ...]) -> dict[str, list[int]]:
    """How many of 10,000 inputs it is best to store, by the closed form."""
    task = ZipfTask(10_000, 5, 2.0)
    return {"d": list(widths), "P": [scaling.optimal_threshold(task.probability, task.labels, dim) for dim in widths]}


def scheme_claims(found: Sweep) -> list[Claim]:
    """The paper's own setting: N = 1000, α = 2, guides d^−¼ and d^−1."""
    claims = []
    for name, guide in (("frequency", 0.25), ("top d/8", 1.0)):
        law = found.law(name, between=(50, 1000))
        claims.append(
            Claim(f"q {'= p' if guide < 1 else '= 1 for x ≤ d/8'}, N = 1000, α = 2, d ≥ 50", f"d^−{guide:g}", _interval(law), _near(-law.exponent, guide))
        )
    return claims


def exponent_claim(row: Finding) -> Claim:
    """One row of the table of exponents beside its theory; that of roots is not the paper's."""
    own = "root" in row.name
    theory = f"{'derived here: ' * own}{row.variable}^−{row.theory.value:.3g}"
    return Claim(f"{row.name}; {row.setting}", theory, _interval(row.law), _near(-row.law.exponent, row.theory.value), own)


def joint_claims(found: Sweep) -> list[Claim]:
    """Width and data together, q = 1 on the ⌊d/12⌋ inputs seen most often."""
    name = found.schemes[0]
    width, data = found.law(name, tokens=10_000, between=(20, 200)), found.data_law(name, 1000, between=(10, 1000))
    return [
        Claim("d and T together, T = 10,000", "d^−1", _interval(width), _near(-width.exponent, 1.0)),
        Claim("d and T together, d = 1000", "T^−½", _interval(data), _near(-data.exponent, 0.5)),
    ]


def naive_claim(found: Sweep) -> Claim:
    """q = 1: data do not help a memory that overflows, width does not help what was never seen."""
    errors = found.errors[0].mean(-1)  # (T, d)
    corner, narrow, ignorant = float(errors[-1, -1]), float(errors[-1, 0]), float(errors[0, -1])
    overflow = scaling.overflow_dimension(NAIVE.inputs, 1 / NAIVE.classes).value
    said = f"{corner:.2f} where both are large, {narrow:.2f} at d = 10, {ignorant:.2f} at T = 10; overflow by Theorem 1 up to d = {overflow:.1f}"
    return Claim(
        "q = 1, N = 100, α = ½: only width and data together recall", "error falls along both axes", said, judged(corner < 0.5 * min(narrow, ignorant))
    )


def threshold_claim(kept: dict[str, list[int]]) -> Claim:
    law = power_law(kept["d"], np.array(kept["P"], dtype=float))
    said = ", ".join(f"{p} at d = {d}" for d, p in zip(kept["d"], kept["P"], strict=True) if d in (30, 100, 316, 1000)) + f"; P ∝ d^{law.exponent:.2f}"
    return Claim("how many to store (α = 2, N = 10,000)", "P ∝ d, up to logarithms", said, judged(abs(law.exponent - 1) < 0.1, abs(law.exponent - 1) < 0.3))


def bound_claim(found: Sweep) -> Claim:
    """Theorem 1 around the errors measured at every scheme and width of the sweep, α = 2."""
    task, held, narrow = ZipfTask(1000, 5, 2.0), [], 0
    for name in found.schemes:
        for dim, error in zip(found.dims, found.mean(name), strict=True):
            weights = scaling.scheme(name).weights(task.probability, task.labels, dim)
            lower, upper = scaling.recall_error_bounds(task.probability, weights, task.labels, dim)
            held.append(lower.value <= error <= upper.value)
            narrow += upper.value < 1
    return Claim(
        "Theorem 1, lower and upper bound (constants recalled), of the errors measured above",
        "lower ≤ error ≤ upper",
        f"hold in {sum(held)} of {len(held)} cases; the upper one is below 1 in {narrow}",
        judged(all(held) and narrow == len(held), all(held) and narrow > 0),
    )


def _interval(law: Any) -> str:
    return f"{-law.exponent:.3f} [{-law.interval[1]:.3f}, {-law.interval[0]:.3f}]"


def _near(found: float, theory: float) -> Any:
    return judged(abs(found - theory) < max(0.05, 0.1 * theory), abs(found - theory) < max(0.1, 0.25 * theory))


def figure(schemes: Sweep, exponents: Exponents, joint: Sweep, naive: Sweep, kept: dict[str, list[int]]) -> Figure:
    """Six panels: schemes, exponents, width and data, overflow, thresholds."""
    drawn = Figure(figsize=(11.5, 6.8), layout="constrained")
    places = drawn.subplots(2, 3).flatten()
    _schemes(places[0], schemes)
    _exponents(places[1], exponents)
    _joint(places[2], places[3], joint)
    image = places[4].pcolormesh(naive.dims, naive.tokens, naive.errors[0].mean(-1).numpy(), cmap="viridis", shading="nearest")
    drawn.colorbar(image, ax=places[4], label="recall error")
    places[4].set(title="q = 1, N = 100, α = ½", xlabel="width d", ylabel="tokens T", xscale="log", yscale="log")
    places[5].plot(kept["d"], kept["P"], color=COLOURS[0], marker="o", label="best P")
    for per, dash in ((8, "--"), (1, ":")):
        places[5].plot(kept["d"], np.array(kept["d"]) / per, color="black", linestyle=dash, linewidth=1, label="d/8" if per == 8 else "d")
    places[5].set(title="inputs worth storing, α = 2", xlabel="width d", ylabel="P", xscale="log", yscale="log")
    for place in (places[0], places[2], places[3], places[5]):
        place.legend(fontsize=7.5, frameon=False)
    return drawn


def _schemes(place: Any, found: Sweep) -> None:
    dims = np.array(found.dims)
    for colour, marker, name in zip(COLOURS, MARKERS, found.schemes, strict=False):
        place.plot(dims, found.mean(name), color=colour, marker=marker, markersize=4, linestyle="", label=f"{name}")
        place.plot(dims, np.clip(found.predicted[found.schemes.index(name)], 1e-4, None), color=colour, linewidth=1)
    for factor, power, dash in ((0.35, -0.25, "--"), (3.5, -1.0, ":")):
        place.plot(dims, factor * dims**power, color="black", linestyle=dash, linewidth=1, label=f"{factor:g} d^{'−¼' if power > -1 else '−1'} (paper's guide)")
    place.set(title="N = 1000, α = 2; lines: closed form", xlabel="width d", ylabel="recall error", xscale="log", yscale="log", ylim=(2e-3, 1))


def _exponents(place: Any, found: Exponents) -> None:
    for height, row in enumerate(reversed(found.findings)):
        place.plot([-end for end in row.law.interval], [height, height], color=COLOURS[0])
        place.plot([-row.law.exponent], [height], color=COLOURS[0], marker="o", markersize=4)
        place.plot([row.theory.value], [height], color=COLOURS[1], marker="|", markersize=12, markeredgewidth=2)
    place.set_yticks(range(len(found.findings)), [row.name for row in reversed(found.findings)], fontsize=7)
    place.set(title="exponents; bars: theory", xlabel="s of d^−s; data: T^−s")
    place.grid(alpha=0.25, axis="x")


def _joint(left: Any, right: Any, found: Sweep) -> None:
    errors = found.errors[0].mean(-1)
    for colour, marker, row, amount in zip(COLOURS, MARKERS, errors, found.tokens, strict=False):
        left.plot(found.dims, row, color=colour, marker=marker, markersize=4, label=f"T = {amount:,}")
    for colour, marker, (dim, column) in zip(COLOURS, MARKERS, zip(found.dims, errors.mT, strict=True), strict=False):
        right.plot(found.tokens, column, color=colour, marker=marker, markersize=4, label=f"d = {dim}")
    left.plot(found.dims, 5 / np.array(found.dims), "k--", linewidth=1, label="5 d^−1")
    right.plot(found.tokens, 0.5 / np.sqrt(found.tokens), "k--", linewidth=1, label="½ T^−½")
    for place, name in ((left, "width d"), (right, "tokens T")):
        place.set(title="q = 1 on the ⌊d/12⌋ commonest", xlabel=name, ylabel="recall error", xscale="log", yscale="log", ylim=(3e-3, 0.7))


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
