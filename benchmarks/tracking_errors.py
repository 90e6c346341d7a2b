"""How far what is written drifts from exact: the error of U along a sequence, for every κ₁, dtype and length of the keys."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot
from torch import Tensor
from torch.nn.functional import normalize

from hopfield_amem import ReadEnergy, associate, presets
from hopfield_amem.energies import Dot, Euclidean, Exp, Quadratic, Relu, Rounded, Sum, UnstableWrite

LENGTH, WIDTH, SEQUENCES, PARTS = 512, 64, 8, 16
SHARP = WIDTH**0.5
KERNELS = {
    "linear": presets.linear_attention(),
    "ReLU": ReadEnergy(Dot(), Relu(), Sum()),
    "round, 2 decimals": ReadEnergy(Dot(), Rounded(2), Sum()),
    "round, integers": ReadEnergy(Dot(), Rounded(0), Sum()),
    "softmax": presets.log_sum_exp(SHARP),
    "exp(√d (cos − 1))": ReadEnergy(Euclidean(), Exp(), Sum(), Quadratic(), SHARP),
}
NORMS = {"1": 1.0, "√2": 2**0.5, "raw, about ⁴√d": None}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def keys_of(norm: float | None, generator: torch.Generator) -> Tensor:
    """Gaussian keys (sequences, T, d) of a length, or raw as in k·k/√d."""
    keys = torch.randn(SEQUENCES, LENGTH, WIDTH, dtype=torch.float64, generator=generator)
    return WIDTH**-0.25 * keys if norm is None else norm * normalize(keys, dim=-1)


def written(kernel: ReadEnergy, keys: Tensor, values: Tensor) -> Tensor:
    """U at rate 1, (sequences, T, v); NaN where it overflows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableWrite)  # instability is what is looked for
        try:
            return associate(presets.delta_former(1.0, kernel), keys, keys, values)[1].written  # type: ignore[union-attr]
        except ValueError:  # what is written is not finite, and cannot be read
            return torch.full_like(values, torch.nan)


def study(seed: int = 0) -> list[dict]:
    """One row per kernel, norm and dtype: ``‖U − U*‖/‖U*‖`` in every sixteenth of the sequence, and how large U* becomes.

    Keys and values are given in the dtype; what is solved is float32 in either case, so that bfloat16 shows what rounded keys cost.
    """
    rows = []
    for kernel, energy in KERNELS.items():
        for norm, length in NORMS.items():
            generator = torch.Generator().manual_seed(seed)
            keys = keys_of(length, generator)
            values = torch.randn(SEQUENCES, LENGTH, WIDTH, dtype=torch.float64, generator=generator)
            exact = written(energy, keys, values)
            for name, dtype in DTYPES.items():
                found = written(energy, keys.to(dtype), values.to(dtype)).double()
                gap, size = (t.unflatten(1, (PARTS, -1)).square().sum((0, 2, 3)).sqrt() for t in (found - exact, exact))
                rows.append({"kernel": kernel, "norm": norm, "dtype": name, "error": _finite(gap / size), "largest": _finite(exact.abs().amax().reshape(1))[0]})
    return rows


def _finite(numbers: Tensor) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in numbers.tolist()]


def table(rows: list[dict]) -> str:
    """As markdown: the error in the first and the last sixteenth."""
    lines = ["| κ₁ | ‖k‖ | dtype | error of U, first / last sixteenth | largest entry of U |", "|---|---|---|---|---|"]
    for row in rows:
        first, last = (_written(row["error"][part]) for part in (0, -1))
        lines.append(f"| {row['kernel']} | {row['norm']} | {row['dtype']} | {first} / {last} | {_written(row['largest'])} |")
    return "\n".join(lines)


def figure(rows: list[dict], path: Path) -> None:
    """The error along the sequence, a panel per length of the keys."""
    drawn, panels = pyplot.subplots(1, len(NORMS), figsize=(13, 4.2), layout="constrained", sharey=True)
    for axes, norm in zip(panels, NORMS, strict=True):
        for row in rows:
            if row["norm"] == norm:
                places = [LENGTH // PARTS * (part + 1) for part in range(PARTS)]
                known = [math.nan if error is None else error for error in row["error"]]
                color, line = f"C{list(KERNELS).index(row['kernel'])}", "-" if row["dtype"] == "float32" else ":"
                axes.plot(places, known, line, color=color, label=f"{row['kernel']}, {row['dtype']}")
        axes.set(title=f"‖k‖ = {norm}", xlabel="token", yscale="log", ylim=(1e-9, 10))
        axes.grid(True, alpha=0.25)
    panels[0].set_ylabel("relative error of U")
    panels[-1].legend(fontsize=6)
    drawn.savefig(path, dpi=150)
    pyplot.close(drawn)


def _written(number: float | None) -> str:
    return "overflow" if number is None else f"{number:.1e}"
