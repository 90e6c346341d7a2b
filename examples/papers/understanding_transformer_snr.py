"""The retrieval SNR of linear, ReLU, polynomial and exponential kernels: formula, exact value and drawn memories, and where the formula ends.

"Understanding Transformer from the Perspective of Associative Memory", arXiv 2505.19488, §2.1.
"""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce

from hopfield_amem import presets
from hopfield_amem.analysis import power_law
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.analysis.snr import (
    AveragedGaussianKeys,
    GaussianKeys,
    SNRPoint,
    SNRSweep,
    inverse_snr,
    measured_inverse_snr,
    printed_inverse_snr,
    required_dim,
    snr_sweep,
)  # fmt: skip
from hopfield_amem.energies import Power, RectifiedPower

PAPER = Paper("Understanding Transformer from the Perspective of Associative Memory: retrieval SNR", "2505.19488", "1 minute on one core")
DIM, COUNT = 64, 2048
KERNELS = {"linear": Power(2), "ReLU": RectifiedPower(2), "cube": Power(4), "exp, τ = √d": lambda dim: presets.log_sum_exp(dim**-0.5)}
FORMULAS = {"linear": "N/d (eq. 7)", "ReLU": "N/(2d)", "cube": "15 N/d³", "exp, τ = √d": "N exp(2 − 2√d)"}
NEAR, ROUGH = math.log(1.1), math.log(2)  # how far a mean may be from its formula: to reproduce it, in part


def kernel(name: str, dim: int):
    """A kernel for keys of so many dimensions."""
    return KERNELS[name](dim) if name.startswith("exp") else KERNELS[name]


def along_count(counts: list[int], trials: int) -> SNRSweep:
    """Every kernel against the number of keys."""
    return snr_sweep({name: lambda n, name=name: (kernel(name, DIM), n, GaussianKeys(DIM)) for name in KERNELS}, counts, axis="N", trials=trials)


def along_dim(dims: list[int], trials: int) -> SNRSweep:
    """Every kernel against the dimension of the keys."""
    return snr_sweep({name: lambda d, name=name: (kernel(name, d), COUNT, GaussianKeys(d)) for name in KERNELS}, dims, axis="d", trials=trials)


def along_temperature(temperatures: list[float], trials: int) -> SNRSweep:
    """The exponential kernel against its temperature, far below √d and above it."""
    return snr_sweep({"exp": lambda tau: (presets.log_sum_exp(1 / tau), COUNT, GaussianKeys(DIM))}, temperatures, axis="τ", trials=trials)


def required(counts: list[int]) -> dict[str, list[int]]:
    """The least d at which SNR⁻¹ ≤ 1."""
    softmax = KERNELS["exp, τ = √d"]
    return {
        "linear": [required_dim(KERNELS["linear"], count).dim for count in counts],
        "ReLU": [required_dim(KERNELS["ReLU"], count).dim for count in counts],
        "cube": [required_dim(KERNELS["cube"], count).dim for count in counts],
        "exp, τ = √d": [required_dim(softmax, count).dim for count in counts],
        "exp, τ = 2, typical": [required_dim(presets.log_sum_exp(0.5), count, statistic="typical").dim for count in counts],
    }


def formula_claims(sweeps: tuple[SNRSweep, SNRSweep]) -> list[Claim]:
    """Measured means beside the printed formulas, at every N and d."""
    claims = []
    for name in KERNELS:
        points = [point for sweep in sweeps for point in sweep.curves[name]]
        logs = [point.measured.log_mean - point.printed.log_mean for point in points]
        worst = max(map(_outside, points))
        ours = f"measured / formula from {math.exp(min(logs)):.2f} to {math.exp(max(logs)):.2f}; formula within {math.expm1(worst):.0%} of every interval"
        claims.append(Claim(f"SNR⁻¹ of {name}, over N and d", FORMULAS[name], ours, judged(worst < NEAR, worst < ROUGH)))
    return claims


def _outside(point: SNRPoint) -> float:
    """By how much the formula misses the interval of the measured mean, as a difference of logarithms; 0 inside."""
    low, high = point.measured.interval
    return max(low - point.printed.log_mean, point.printed.log_mean - high, 0.0)


def temperature_claims(sweep: SNRSweep) -> list[Claim]:
    """The formula of the exponential kernel above and below the temperature at which it freezes, and its minimum."""
    points = sweep.curves["exp"]
    high, low = (max(abs(_median(p) - p.printed.log_mean) for p in points if (p.at >= DIM**0.5) == above) for above in (True, False))
    at = {point.at: _median(point) for point in points}
    ours = f"medians fall on: {math.exp(at[4]):.1e}, {math.exp(at[2]):.1e}, {math.exp(at[1]):.1e} at τ = 4, 2, 1 (formula at 2: {_printed(points, 2)})"
    formula = "N exp(2(1 − τ)d/τ²)"
    return [
        Claim("exp at τ ≥ √d", formula, f"medians within a factor of {math.exp(high):.2f}", judged(high < NEAR, high < ROUGH)),
        Claim("exp at τ < √d", formula, f"medians off by up to a factor of 10^{low / math.log(10):.0f}", judged(low < NEAR, low < ROUGH)),
        Claim("best temperature", "derived here: the formula has its minimum at τ = 2", ours, judged(at[1] > at[2]), own=True),
    ]


def _median(point: SNRPoint) -> float:
    return point.measured.log_typical


def _printed(points: tuple[SNRPoint, ...], at: float) -> str:
    return next(f"{point.printed.mean:.1e}" for point in points if point.at == at)


def dimension_claims(counts: list[int], dims: dict[str, list[int]]) -> list[Claim]:
    """How the required dimension grows with the number of keys."""
    linear, cube = power_law(counts, dims["linear"]).exponent, power_law(counts, dims["cube"]).exponent
    ratios = [dim / (0.5 * math.log(count) + 1) ** 2 for count, dim in zip(counts, dims["exp, τ = √d"], strict=True)]
    found = f"{', '.join(map(str, dims['exp, τ = √d']))}: {min(ratios):.2f} to {max(ratios):.2f} of ((ln N + 2)/2)²"
    return [
        Claim("d for SNR = 1, linear", "O(N)", f"exponent {linear:.3f}", judged(abs(linear - 1) < 0.02)),
        Claim("d for SNR = 1, x³", "O(N^(1/3))", f"exponent {cube:.3f}", judged(abs(cube - 1 / 3) < 0.02)),
        Claim("d for SNR = 1, exp, τ = √d, N = " + ", ".join(f"{c:.0e}" for c in counts), "O(log² N)", found, judged(max(ratios) < 1.1 and min(ratios) > 0.9)),
    ]


def length_claim() -> Claim:
    """The formula is for the key length that is typical: Gaussian keys have others, and short ones drown."""
    ratios = []
    for dim in (32, 64, 128):
        energy = presets.log_sum_exp(dim**-0.5)
        ratios.append(inverse_snr(energy, COUNT, AveragedGaussianKeys(dim)).mean / printed_inverse_snr(energy, COUNT, GaussianKeys(dim)).mean)
    ours = "mean over k_i as well: " + ", ".join(f"{ratio:.1f}" for ratio in ratios) + " times the formula at d = 32, 64, 128"
    said = "N exp(2 − 2√d), used outside of its premise: k_i is held fixed"
    return Claim("exp, τ = √d, k_i Gaussian as all keys", said, ours, judged(max(ratios) < 1.1, max(ratios) < 2), own=True)


def head_claim(dim: int, trials: int) -> Claim:
    """A head filled to SNR = 1 by the formula."""
    count = round(math.exp(2 * dim**0.5 - 2))
    found = measured_inverse_snr(presets.log_sum_exp(dim**-0.5), count, GaussianKeys(dim), trials=trials)
    low, high = (math.exp(end) for end in found.interval)
    ours = f"SNR⁻¹ = {found.mean:.3f} [{low:.3f}, {high:.3f}]"
    return Claim(f"keys that one head of {dim} holds at SNR = 1", f"exp(2√d − 2) = {count:,}", ours, judged(0.9 < found.mean < 1.1, 0.5 < found.mean < 2))


def figure(sweeps: tuple[SNRSweep, SNRSweep], cold: SNRSweep, counts: list[int], dims: dict[str, list[int]]) -> Figure:
    """SNR⁻¹ against N, d and τ, and the required dimension."""
    drawn = Figure(figsize=(10, 7.6), layout="constrained")
    places = drawn.subplots(2, 2).flatten()
    for place, sweep, title in zip(places, sweeps, (f"d = {DIM}", f"N = {COUNT:,}"), strict=False):
        for (name, points), colour, marker in zip(sweep.curves.items(), COLOURS, MARKERS, strict=False):
            curve(place, points, "printed", color=colour, linestyle="-", label=name)
            curve(place, points, "measured", color=colour, marker=marker, linestyle="")
        place.set(xscale="log", yscale="log", xlabel=sweep.axis, ylabel="SNR⁻¹", title=f"{title}: formula (lines), measured (points)")
        place.legend(fontsize=8)
    points = cold.curves["exp"]
    curve(places[2], points, "printed", color=COLOURS[1], linestyle=":", linewidth=2, label="formula")
    curve(places[2], points, "computed", color=COLOURS[0], label="typical, computed", typical=True, linestyle="-.")
    curve(places[2], points, "measured", color="black", marker="o", linestyle="", label="measured mean")
    curve(places[2], points, "measured", color="black", marker="D", linestyle="", fillstyle="none", label="measured median", typical=True)
    places[2].axvline(DIM**0.5, color="#999999", linewidth=1)
    places[2].set(
        xscale="log", yscale="log", ylim=(1e-36, 1e3), xlabel="temperature τ", ylabel="SNR⁻¹", title=f"exp(x/τ), d = {DIM}, N = {COUNT:,}; grey: τ = √d"
    )
    places[2].legend(fontsize=8)
    for (name, needed), colour, marker in zip(dims.items(), COLOURS, MARKERS, strict=False):
        places[3].plot(counts, needed, color=colour, marker=marker, label=name)
    law = Line2D(counts, [(0.5 * math.log(count) + 1) ** 2 for count in counts], color="black", linestyle=":", label="((ln N + 2)/2)²")
    places[3].add_line(law)
    places[3].set(xscale="log", yscale="log", xlabel="N", ylabel="d", title="dimension needed for SNR = 1")
    places[3].legend(fontsize=8)
    for place in places:
        place.grid(alpha=0.25)
        place.xaxis.set_minor_formatter(NullFormatter())  # labels of less than a decade run into each other
    return drawn


def curve(place, points: tuple[SNRPoint, ...], part: str, *, typical: bool = False, **style) -> None:
    """One of the curves of a sweep: printed, computed or measured, its mean or what is typical."""
    found = [getattr(point, part) for point in points]
    place.plot([point.at for point in points], [f.typical if typical else f.mean for f in found], markersize=5, **style)


def work(scale: Scale) -> Reproduction:
    """Sweeps over N, d and τ, and the dimensions that are needed."""
    trials = scale.pick(10, 100)
    counts, dims = scale.pick([64, 1024], [16, 64, 256, 1024, 4096]), scale.pick([16, 64], [16, 32, 64, 128, 256])
    sweeps = along_count(counts, trials), along_dim(dims, trials)
    cold = along_temperature(scale.pick([1, 2, 4, 8], [1, 1.4, 2, 3, 4, 6, 8, 12, 16, 32]), trials)
    many = scale.pick([10**3, 10**4, 10**5], [10**3, 10**4, 10**5, 10**6])
    needed = required(many)
    claims = [*formula_claims(sweeps), *temperature_claims(cold), length_claim(), *dimension_claims(many, needed), head_claim(*scale.pick((16, 5), (64, 6)))]
    numbers = {"N": sweeps[0].rows(), "d": sweeps[1].rows(), "τ": cold.rows(), "required": {"N": many, **needed}}
    return Reproduction(tuple(claims), figure(sweeps, cold, many, needed), numbers)


if __name__ == "__main__":
    torch.set_num_threads(1)
    reproduce(__file__, PAPER, work)
