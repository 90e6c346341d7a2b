"""Beyond Scaling Laws: the propositions on its energies, the partition of a ball, the bound on the loss, parameters against data; as printed and as they are.

Niu, Bai, Deng & Han 2024 (arXiv 2405.08707), sections 3 to 5; what it measures on trained models is in beyond_scaling_laws_trained.py.

python examples/papers/beyond_scaling_laws.py           seconds
python examples/papers/beyond_scaling_laws.py --full    docs/papers/beyond_scaling_laws.md
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from scipy.integrate import quad
from scipy.special import gamma, gammainc

from hopfield_amem import presets
from hopfield_amem.analysis import memory_model as model
from hopfield_amem.analysis import power_law
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.analysis.plots.memory_model import draw_balance
from hopfield_amem.descent import LayerPass
from hopfield_amem.energies import Layered
from hopfield_amem.energies.layered import nearest_neighbour

PAPER = Paper("Beyond scaling laws: the propositions", "2405.08707", "5 seconds on one core")
PARAMETERS, DATA, STEP = [39.95e6, 60.26e6, 80.20e6], [214.18e6, 261.78e6, 309.37e6], 23.8e6  # its Table 3, and the grid that D* was searched on
MODELS = [model.Architecture(8, width, 1024) for width in (954, 1280, 1440)]
DIMS = (4, 16, 64, 256, 1024, 4096)


def work(scale: Scale) -> Reproduction:
    """Every step of the argument."""
    gaps = propositions(scale.pick(500, 5000))
    units = model.unit_partition(DIMS)
    balance = model.model_data_balance(PARAMETERS, DATA, step=STEP)
    passes = {radius: layer_pass(radius, scale.pick(50, 400)) for radius in (0.1, 0.5, 2.0)}
    claims = (*proposition_claims(gaps), pass_claim(passes), *partition_claims(units), *loss_claims(), *balance_claims(balance))
    numbers = {"units": units.to_json(), "balance": balance.to_json(), "layer pass": {str(radius): found for radius, found in passes.items()}}
    return Reproduction(claims, figure(gaps, units, balance), numbers)


def propositions(points: int) -> list[dict[str, Any]]:
    """g, E and 2E_MCHN of random points among random patterns, counts 1 … 100 at three spreads; differences with the constants of the bounds."""
    found = []
    for count in (1, 2, 17, 100):
        for spread in (0.2, 1.0, 4.0):
            torch.manual_seed(count)
            patterns, x = spread * torch.randn(count, 5).double(), 2 * spread * torch.randn(points, 5).double()
            sizes = patterns.square().sum(-1)
            near, distance = 2 * nearest_neighbour(x, patterns), model.distance_energy(x, patterns)
            mchn = 2 * presets.log_sum_exp(2.0)(x, patterns) + math.log(count) + sizes.max()  # 2E_MCHN at β = 2, with its constants
            constants = {"R": float(sizes.max() - sizes.min()), "log d": math.log(count)}
            found.append({"g − E": near - distance, "E − 2E + log d": distance - mchn + math.log(count), "g − 2E": near - mchn} | constants)
    return found


def layer_pass(radius: float, patterns: int) -> float:
    """The share of damaged states whose global energy a pass through four layers lowers, balls of this radius in units of the damage."""
    torch.manual_seed(0)
    stored = torch.randn(patterns, 16).double()
    noise = 0.3 * torch.randn(patterns, 16).double()
    quarter = patterns // 4
    layers = Layered(presets.distance(2.0), (quarter, quarter, quarter, patterns - 3 * quarter), beta=2.0)
    energies = LayerPass(radius=radius * float(noise.norm(dim=-1).mean()), record=True)(layers, stored + noise, stored).energies
    return float((energies[-1] < energies[0]).double().mean())


def proposition_claims(gaps: list[dict[str, Any]]) -> tuple[Claim, ...]:
    points = sum(len(gap["g − E"]) for gap in gaps)

    def outside(name: str, low: Any, high: Any) -> int:
        return sum(int(((gap[name] < low(gap) - 1e-9) | (gap[name] > high(gap) + 1e-9)).sum()) for gap in gaps)

    bounds = (
        ("Proposition 1", "g − log d ≤ E ≤ g", outside("g − E", lambda gap: 0.0, lambda gap: gap["log d"])),
        ("Proposition 2", "−R ≤ E − 2E_MCHN + log d ≤ R", outside("E − 2E + log d", lambda gap: -gap["R"], lambda gap: gap["R"])),
        ("Proposition 3, as printed", "−R ≤ g − 2E_MCHN ≤ R + log d", outside("g − 2E", lambda gap: -gap["R"], lambda gap: gap["R"] + gap["log d"])),
    )
    corrected = outside("g − 2E", lambda gap: -gap["R"] - gap["log d"], lambda gap: gap["R"])
    said = f"of {points:,} points violate it"
    ours = Claim("Proposition 3, corrected", "derived here: −R − log d ≤ g − 2E_MCHN ≤ R", f"{corrected:,} {said}", judged(corrected == 0), own=True)
    return *(Claim(what, paper, f"{wrong:,} {said}", judged(wrong == 0)) for what, paper, wrong in bounds), ours


def pass_claim(passes: dict[float, float]) -> Claim:
    said = "of states it does for " + ", ".join(f"{share:.0%} at {radius:g}" for radius, share in passes.items()) + " times their damage"
    verdict = judged(min(passes.values()) == 1, max(passes.values()) > 0.9)
    return Claim("a pass through the layers lowers the global energy, by the radius of its balls", "every pass, in its model", said, verdict)


def partition_claims(units: model.UnitPartition) -> tuple[Claim, ...]:
    n, r = 3, 2.0
    value, _ = quad(lambda s: 2 * math.pi ** (n / 2) / gamma(n / 2) * s ** (n - 1) * math.exp(-(s**2)), 0, r)
    printed = 2 * math.pi ** (n / 2) * gammainc(n, r) * gamma(n) / gamma(n / 2)
    ball = model.ball_partition(1024, model.pattern_radius_reference(1024))
    volume = math.exp(ball.log_volume) * math.sqrt(math.pi * 1024)
    growth = np.gradient(units.log_exact, DIMS)[-2]
    return (
        Claim("∫ exp(−‖x‖²) over a ball, n = 3, r = 2", f"2π^(n/2) γ(n, r)/Γ(n/2) = {printed:.3f}", f"{value:.3f}", judged(abs(printed / value - 1) < 0.01)),
        Claim(
            "its lower bound at n = 1024",
            "e^(−r) V_n ≤ Z",
            f"log Z = {ball.log_value:.1f}, printed bound {ball.log_volume - ball.radius:.1f}, with e^(−r²) {ball.log_lower:.1f}",
            judged(ball.log_volume - ball.radius <= ball.log_value),
        ),
        Claim("balls of radius √(n/2πe) have a volume of order one", "V_n = O(1)", f"V_n √(πn) = {volume:.4f} at n = 1024", judged(abs(volume - 1) < 0.01)),
        Claim(
            "Z = 1 at O(√n) patterns, so that N = O(D²)",
            "d = √(πn)",
            f"log d grows by {growth:.4f} n, 1/(2πe) = {1 / (2 * math.pi * math.e):.4f}: exponentially",
            judged(growth < 1e-3),
        ),
    )


def loss_claims() -> tuple[Claim, ...]:
    least = min(model.loss_bound(z).printed.value for z in np.linspace(-5, 5, 1001))
    bound = model.loss_bound(math.log(10) + model.ball_partition(3, 0.1).log_value)
    return (
        Claim("log Z + 1/Z is least at Z = 1", "1", f"{least:.4f}", judged(abs(least - 1) < 1e-4)),
        Claim(
            "the loss is at least 1",
            "L ≈ log Z + 1/Z ≥ 1",
            f"with one energy throughout L = log Z: {bound.consistent.value:.1f} for ten patterns in balls of 0.1, n = 3",
            judged(bound.consistent.value >= 1),
        ),
    )


def balance_claims(balance: model.Balance) -> tuple[Claim, ...]:
    ratios, linear = balance.ratios, model.model_data_balance(PARAMETERS, DATA, exponent=1.0).ratios
    spread = max(ratios) / min(ratios) - 1
    low, high = balance.rounding or (math.nan, math.nan)
    fitted = balance.fit.exponent if balance.fit else math.nan
    held = {k: [model.Architecture(8, 512, 1024).widened(factor, k) for factor in (1.0, 2.0, 4.0, 8.0)] for k in model.HELD}
    slopes = {k: power_law([shape.data for shape in shapes], [shape.parameters for shape in shapes]).exponent for k, shapes in held.items()}
    short = [reported / shape.data for reported, shape in zip(DATA, MODELS, strict=True)]
    return (
        Claim("Table 3: N/D*² is constant", "8.71, 8.79, 8.38 · 10⁻¹⁰", f"{spread:.0%} apart; N/D* {max(linear) / min(linear) - 1:.0%}", judged(spread < 0.1)),
        Claim(
            "N ∝ D^k, fitted to Table 3",
            "k = 2",
            f"{fitted:.2f}; {low:.2f} to {high:.2f} by rounding of D* alone, three models",
            judged(low <= 2 <= high and high - low < 0.5, low <= 2 <= high),
        ),
        Claim(
            "k = 2 follows from Z = 1 (its upper bound)",
            "N = O(D²)",
            f"k = {slopes[2]:.0f} with T_max and A l d_emb fixed, {slopes[4]:.0f} with T_max and l, {slopes[1]:.0f} with d_emb/T_max and l",
            judged({round(slope) for slope in slopes.values()} == {2}, 2 in {round(slope) for slope in slopes.values()}),
        ),
        Claim(
            "D* of its three models by that law",
            "214, 262, 309 M tokens found",
            ", ".join(f"{shape.data / 1e6:.2f} M" for shape in MODELS) + f": {min(short):.0f} to {max(short):.0f} times less",
            judged(max(short) < 2),
        ),
    )


def figure(gaps: list[dict[str, Any]], units: model.UnitPartition, balance: model.Balance) -> Figure:
    """Proposition 3 between its bounds, patterns needed for Z = 1, the loss, Table 3."""
    drawn = Figure(figsize=(11, 7.4), layout="constrained")
    first, second, third, fourth = drawn.subplots(2, 2).flatten()
    several = [gap for gap in gaps if gap["log d"] > 0]
    for place, gap in enumerate(several):
        above = (gap["g − 2E"] + gap["R"]) / gap["log d"]
        first.plot([place, place], [float(above.min()), min(float(above.max()), 1.0)], color=COLOURS[0], linewidth=5, solid_capstyle="butt")
    for level, colour, name in ((0, COLOURS[1], "the bound as printed"), (-1, COLOURS[2], "corrected")):
        first.axhline(level, color=colour, linestyle="--", label=name)
    first.set(ylim=(-1.2, 1), xlabel="patterns, spread", ylabel="(g − 2E_MCHN + R)/log d", title="Proposition 3: points below its lower bound")
    first.set_xticks(
        range(len(several)), [f"{round(math.exp(gap['log d']))}, {spread}" for gap, spread in zip(several, 3 * (0.2, 1, 4), strict=True)], fontsize=8
    )
    columns = {"exact": units.log_exact, "lower bound": units.log_lower, "lower bound as printed": units.log_printed, "upper bound, √(πn)": units.log_upper}
    for colour, marker, (name, logs) in zip(COLOURS, MARKERS, columns.items(), strict=False):
        second.plot(DIMS, np.array(logs) / math.log(10), color=colour, marker=marker, label=name)
    second.set(xscale="log", yscale="log", xlabel="dimension of a pattern n", ylabel="log₁₀ of the patterns d at which Z = 1", title="how many patterns")
    logs = np.linspace(-2, 3, 200)
    bounds = [model.loss_bound(z) for z in logs]
    third.plot(logs, [bound.printed.value for bound in bounds], color=COLOURS[1], linestyle="--", label="log Z + 1/Z, as printed")
    third.plot(logs, [bound.consistent.value for bound in bounds], color=COLOURS[0], label="log Z, consistent")
    third.set(xlabel="log Z", ylabel="loss", title="the bound on the loss")
    draw_balance(fourth, balance)
    fourth.set(xlabel="data D, tokens", ylabel="parameters N", title="Table 3")
    for place in (first, second, third, fourth):
        place.legend(fontsize=8, frameon=False, loc="lower right" if place is first else "best")
        place.grid(alpha=0.25)
    return drawn


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
