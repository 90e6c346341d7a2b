"""Uniform Memory Retrieval (U-Hop, Wu et al. 2024, arXiv 2404.03827) and Provably Optimal Memory Capacity (U-Hop+, Hu et al. 2024, arXiv 2410.23126).

Stage one learns a linear map under which the stored patterns lie far apart, stage two recalls in its space. Digits with half of their pixels missing, or with
noise, are recalled with and without; then the best that separation can do, an optimal spherical code, is set beside what is found.
"""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import torch
from matplotlib.figure import Figure
from parts.paired import paired
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from torch import Tensor
from torch.nn.functional import normalize

from hopfield_amem import presets
from hopfield_amem.analysis import minimal_separation, separating_beta, spherical_code, spherical_code_bounds, take
from hopfield_amem.analysis.capacity import metastable_census
from hopfield_amem.analysis.digits import Digits
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import LearnedKernel, spread

PAPER = Paper("Uniform Memory Retrieval with Larger Capacity (U-Hop), and its spherical codes (U-Hop+)", "2404.03827", "5 minutes on one core")
BETAS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # of which each memory takes its best, beside β = 1
ANGLES = {4: 109.4712, 5: 90.0, 6: 90.0, 7: 77.8695, 8: 74.8585, 9: 70.5288, 12: 63.4349, 16: 52.2444, 24: 43.6908}  # best known in three dimensions (Sloane)
LEARNED = 10  # steps of stage one, beside none and ten times as many
RADIUS = 0.01  # how far one step may move a stored pattern
ERRORS = {"β = 1": lambda record: record["errors"]["1"], "each at its best β": lambda record: min(record["errors"].values())}


def separated(kernel: LearnedKernel, patterns: Tensor, steps: int) -> None:
    """Stage one as published: gradient descent of U-Hop's loss, which is the separation loss at τ = ¼, at the rates 1/√i."""
    optimizer = torch.optim.SGD(kernel.parameters(), lr=1.0)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) ** -0.5)
    for _ in range(steps):
        spread(kernel, patterns, optimizer, steps=1, temperature=0.25)
        falling.step()


def retrieval(config: dict) -> dict:
    """Squared errors of recalled digits, in [0, 1] again, at every β; how far apart the patterns are in the feature space."""
    torch.manual_seed(config["seed"])
    patterns = Digits.load(config["seed"]).images.flatten(1)[: config["stored"]]
    query = patterns * (torch.rand_like(patterns) < 0.5) if config["damage"] == "half" else patterns + config["damage"] * torch.randn_like(patterns)
    kernel = LearnedKernel(patterns.shape[1])
    if config["steps"]:
        separated(kernel, patterns, config["steps"])
    errors = {}
    with torch.no_grad():
        for beta in BETAS:
            kernel.spec = presets.log_sum_exp(beta)
            errors[f"{beta:g}"] = float((kernel.recall(query, patterns).clamp(0, 1) - patterns).square().sum(-1).mean())
        return {"errors": errors, "separation": float(minimal_separation(kernel(patterns)))}


def metastable(config: dict) -> dict:
    """Patterns mixed where 20 steps of 1.5-entmax end, of ten patterns of length 1 in five dimensions; the map keeps their mean square length."""
    torch.manual_seed(config["seed"])
    patterns = normalize(torch.randn(10, 5), dim=-1)
    kernel = LearnedKernel(5)
    if config["steps"]:
        separated(kernel, patterns, config["steps"])
    inside = kernel(patterns).detach()
    inside = inside / inside.square().sum(-1).mean().sqrt()
    return {"mixed": metastable_census(presets.entmax(1.5), inside, inside, descent=FixedPoint(steps=20), mass=0.999).sizes.double().mean().item()}


def coded(config: dict) -> dict:
    """Separations of M points in D dimensions: free points, and patterns of 32 numbers under a linear map; how far one step moves them at the β of theory."""
    torch.manual_seed(config["seed"])
    count, dim = config["count"], config["dim"]
    code = spherical_code(count, dim, starts=config["starts"])
    kernel, patterns = LearnedKernel(32, dim, dtype=torch.float64), normalize(torch.randn(count, 32, dtype=torch.float64), dim=-1)
    random = float(minimal_separation(kernel(patterns).detach()))
    for temperature in (0.1, 0.03, 0.01):
        spread(kernel, patterns, steps=config["steps"], temperature=temperature)
    gap = float(minimal_separation(code))
    energy = presets.log_sum_exp(separating_beta(gap, count, RADIUS))
    moved = (FixedPoint(steps=1)(energy, code, code).state - code).norm(dim=-1).max()
    return {"code": gap, "mapped": float(minimal_separation(kernel(patterns).detach())), "random": random, "moved": float(moved)}


def largest(config: dict) -> dict:
    """The most points that are found so far apart in D dimensions, by halving."""
    fits, fails = 2, 4
    apart = lambda count: float(minimal_separation(spherical_code(count, config["dim"], starts=config["starts"]))) >= config["apart"]
    while apart(fails):
        fits, fails = fails, 2 * fails
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if apart(middle) else (fits, middle)
    return {"points": fits}


def gains(records: list[dict], error, steps: int) -> list[float]:
    """By which share the learned kernel's errors, summed over sizes and amounts of damage, are below the plain memory's: of every seed."""
    sums = lambda seed, steps: sum(error(record) for record in records if record["seed"] == seed and record["steps"] == steps)
    return [1 - sums(seed, steps) / sums(seed, 0) for seed in sorted({record["seed"] for record in records})]


def of_recall(found: dict[str, list[dict]]) -> list[Claim]:
    rows, result = found["retrieval"], []
    for damage, kept in (("half of the pixels missing", lambda row: row["damage"] == "half"), ("noise", lambda row: row["damage"] != "half")):
        for steps, words in itertools.product(sorted({row["steps"] for row in rows} - {0}), ERRORS):
            mean, low, high = paired(gains(list(filter(kept, rows)), ERRORS[words], steps))
            what = f"U-Hop: {steps} steps of separation lower the retrieval error: {damage}, {words}"
            result.append(Claim(what, "lower", f"{-mean:+.0%} [{-high:+.0%}, {-low:+.0%}]", judged(low > 0, mean > 0)))
    plain, learned = ([row["mixed"] for row in found["metastable"] if bool(row["steps"]) == spread] for spread in (False, True))
    mean, low, _ = paired(plain, learned)
    text = f"{fmean(plain):.2f} before, {fmean(learned):.2f} after"
    result.append(Claim("U-Hop: fewer patterns are mixed where recall ends (1.5-entmax, N = 10, D = 5)", "fewer", text, judged(low > 0, mean > 0)))
    return result


def of_codes(found: dict[str, list[dict]]) -> list[Claim]:
    codes, sizes = found["coded"], [row["points"] for row in found["largest"]]
    dims, apart = [row["dim"] for row in found["largest"]], found["largest"][0]["apart"]
    known = {row["count"]: 1 - math.cos(math.radians(ANGLES[row["count"]])) for row in codes if row["dim"] == 3}
    free, mapped = ([row[kind] / known[row["count"]] for row in codes if row["dim"] == 3] for kind in ("code", "mapped"))
    safe = sum(row["moved"] <= RADIUS for row in codes)
    inside = sum(low <= row["code"] <= high for row in codes for low, high in [spherical_code_bounds(row["count"], row["dim"])])
    ratios = [later / earlier for earlier, later in itertools.pairwise(sizes)]
    falling = ratios[-1] < ratios[0]
    said = lambda shares: f"{min(shares):.4f} to {max(shares):.4f} of the best known Δ_min"
    return [
        Claim("U-Hop+: the separation loss leads to optimal spherical codes: free points, D = 3", "optimal", said(free),
              judged(min(free) > 0.99, max(free) > 0.99)),
        Claim("U-Hop+: patterns under a learned linear map, 32 → 3 dimensions", "optimal", said(mapped), judged(min(mapped) > 0.99, max(mapped) > 0.95)),
        Claim("U-Hop+: the best Δ_min lies within its bounds", "always", f"{inside} of {len(codes)} codes", judged(inside == len(codes))),
        Claim(f"U-Hop+: with Δ_min ≥ log(2(M − 1)/R)/β a step moves a memory by R at most (R = {RADIUS})", "always", f"{safe} of {len(codes)} codes",
              judged(safe == len(codes))),
        Claim("U-Hop+: the largest memory grows exponentially with the dimension", "M* ≍ c^D", f"{', '.join(map(str, sizes))} points {apart} apart in "
              f"D = {dims[0]} to {dims[-1]}: × {', '.join(f'{ratio:.2f}' for ratio in ratios)}{', falling: not told from a power' * falling}",
              judged(len(ratios) > 1 and min(ratios) > 1.3 and not falling, min(ratios) > 1)),
    ]  # fmt: skip


def averaged(rows: list[dict], along: str, value, **kept) -> tuple[list, list]:
    """Means over the seeds, of rows with these fields."""
    rows = [row for row in rows if all(row[name] == wanted for name, wanted in kept.items())]
    sizes = sorted({row[along] for row in rows})
    return sizes, [fmean(value(row) for row in rows if row[along] == size) for size in sizes]


def drawn(found: dict[str, list[dict]]) -> Figure:
    """Errors against stored digits, missing pixels and noise; separations in three dimensions; the largest codes."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes, rows = figure.subplots(2, 2).flatten(), found["retrieval"]
    for place, damage in zip(axes, ("half", 0.3), strict=False):
        for index, steps in enumerate(sorted({row["steps"] for row in rows})):
            for line, (beta, error) in zip(("--", "-"), ERRORS.items(), strict=True):
                points = averaged(rows, "stored", error, damage=damage, steps=steps)
                place.plot(*points, MARKERS[index] + line, color=COLOURS[index], label=f"{f'learned, {steps} steps' if steps else 'plain'}, {beta}")
        place.set(xscale="log", xlabel="digits stored", ylabel="squared error of recall")
        place.set_title("half of the pixels missing" if damage == "half" else f"noise of deviation {damage}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    known = {count: 1 - math.cos(math.radians(angle)) for count, angle in ANGLES.items()}
    axes[2].plot(list(known), list(known.values()), color=COLOURS[7], label="best known")
    axes[2].plot(list(known), [spherical_code_bounds(count, 3) for count in known], ":", color=COLOURS[6], label=["bounds", None])
    for index, (kind, words) in enumerate((("code", "free points"), ("mapped", "patterns, learned map"), ("random", "patterns, random map"))):
        points = averaged(found["coded"], "count", lambda row, kind=kind: row[kind], dim=3)
        axes[2].plot(*points, MARKERS[index], color=COLOURS[index], fillstyle="none", ms=9 - 2 * index, label=words)
    axes[2].set(xlabel="points M in three dimensions", ylabel="smallest separation Δ_min", ylim=(0, 2))
    axes[2].legend(frameon=False, fontsize=8)
    axes[3].semilogy(*averaged(found["largest"], "dim", lambda row: row["points"]), MARKERS[0], color=COLOURS[0])
    axes[3].set(xlabel="dimension D", xticks=[row["dim"] for row in found["largest"]], ylabel=f"most points {found['largest'][0]['apart']} apart")
    return figure


def work(scale: Scale) -> Reproduction:
    seeds = range(scale.pick(2, 5))
    asked = {
        "retrieval": [
            {"stored": stored, "damage": damage, "steps": steps, "seed": seed} for stored in scale.pick((10, 50), (10, 30, 100, 200, 500))
            for damage in scale.pick(("half", 0.3), ("half", 0.1, 0.3, 0.5)) for steps in scale.pick((0, LEARNED), (0, LEARNED, 100)) for seed in seeds
        ],
        "metastable": [{"steps": steps, "seed": seed} for steps in (0, LEARNED) for seed in range(scale.pick(5, 50))],
        "coded": [
            {"count": count, "dim": dim, "starts": scale.pick(1, 8), "steps": scale.pick(100, 600), "seed": 0}
            for dim, counts in scale.pick({3: (6,)}, {3: tuple(ANGLES), 5: (10, 20, 40), 8: (20, 40, 80)}).items() for count in counts
        ],
        "largest": [{"dim": dim, "starts": scale.pick(1, 4), "apart": scale.pick(1.4, 0.4)} for dim in scale.pick((2, 3), (2, 3, 4, 5))],
    }  # fmt: skip
    doing = {"retrieval": retrieval, "metastable": metastable, "coded": coded, "largest": largest}
    found = {name: take(doing[name], configs, folder=scale.runs) for name, configs in asked.items()}
    return Reproduction((*of_recall(found), *of_codes(found)), drawn(found), found)


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
