"""The kernel κ₁ of DeltaFormer: where writing stops being stable, and how errors gather in what is written.

"Understanding Transformer from the Perspective of Associative Memory", arXiv 2505.19488, §2.2 and appendix D; conference version: DeltaFormer, NeurIPS 2025.
"""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from torch import Tensor
from torch.nn.functional import normalize

from hopfield_amem import ReadEnergy, associate, presets
from hopfield_amem.analysis.plots.base import COLOURS
from hopfield_amem.energies import UnstableWrite

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # kernels of the study: python benchmarks/state_tracking.py errors
from tracking_errors import KERNELS, WIDTH

PAPER = Paper("Understanding Transformer from the Perspective of Associative Memory: kernels of DeltaFormer", "2505.19488", "1 minute on one core")
GAINS = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.1, 2.25, 2.5, 3.0, 4.0]
CASES = "one key", "random keys", "longer keys"
DTYPES = {"float32": torch.float32, "bfloat16 keys": torch.bfloat16, "float16 keys": torch.float16}
LENGTHS = {"unit keys": 1.0, "reflecting keys, ‖k‖² = 2": 2**0.5, "raw keys, ‖k‖² = √d = 8": WIDTH**0.25}


def write(kernel: ReadEnergy, keys: Tensor, values: Tensor, rate: float = 1.0) -> tuple[Tensor, Tensor] | None:
    """U and O of DeltaFormer with this κ₁ and a softmax to read by, at one rate, both (sequences, T, v); None where it overflows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableWrite)  # instability is what is looked for
        try:
            output, state = associate(presets.delta_former(1.0, kernel), keys, keys, values, rate=(1.0, rate))
        except ValueError:  # what is written is not finite, and cannot be read
            return None
    return state.written, output


def drawn(sequences: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit keys in random directions, and values, both (sequences, T, d)."""
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, sequences, length, WIDTH, dtype=torch.float64, generator=generator)
    return normalize(keys, dim=-1), values


def growth(kernel: ReadEnergy, keys: Tensor, values: Tensor, rate: float) -> float:
    """``log ‖u‖`` gained per write between the second and the last quarter of the sequence; inf where it overflows."""
    found = write(kernel, keys, values, rate)
    if found is None or not bool(found[0].isfinite().all()):
        return math.inf
    size = found[0].square().mean((0, 2)).unflatten(0, (4, -1)).mean(1)
    return 0.5 * float((size[3] / size[1]).log()) / (keys.shape[1] // 2)


def stability(length: int) -> list[dict]:
    """Growth per write against b κ₁(k, k): of one key at rate b, random keys at rate b, longer random keys. Steady is what does not double in T/2 writes."""
    (keys, values), rows = drawn(4, length), []
    for name, kernel in KERNELS.items():
        for gain in GAINS:
            cases = dict(zip(CASES, ((keys[:, :1].expand_as(keys), gain), (keys, gain), (gain**0.5 * keys, 1.0)), strict=True))
            for which, (given, rate) in cases.items():
                grown, stable = growth(kernel, given, values, rate), presets.delta_former(1.0, kernel).check_stability(given, rate).stable
                steady = grown * (length // 2) < math.log(2)
                rows.append({"kernel": name, "gain": gain, "keys": which, "growth": grown, "steady": steady, "called stable": stable})
    return rows


def errors(length: int, sequences: int) -> list[dict]:
    """``‖U − U*‖/‖U*‖`` and the same of O in every sixteenth of the sequence, for every κ₁, dtype and length of the keys; U* in float64."""
    (keys, values), rows = drawn(sequences, length), []
    for norm, factor in LENGTHS.items():
        for name, kernel in KERNELS.items():
            exact = write(kernel, factor * keys, values)
            for dtype_name, dtype in DTYPES.items():
                found = write(kernel, (factor * keys).to(dtype), values.to(dtype))
                gaps = (None, None) if exact is None or found is None else [_gap(*pair) for pair in zip(found, exact, strict=True)]
                rows.append({"keys": norm, "kernel": name, "dtype": dtype_name, "written": gaps[0], "read": gaps[1]})
    return rows


def _gap(found: Tensor, exact: Tensor) -> list[float]:
    gap, size = (t.unflatten(1, (16, -1)).square().sum((0, 2, 3)).sqrt() for t in (found.double() - exact, exact))
    return (gap / size).tolist()


def squared_inverse(lower: Tensor) -> Tensor:
    """``(I + A)⁻¹ = (I − A)(I + A²)(I + A⁴)…`` of strictly lower A, as printed in equations 98–100."""
    inverse, power = torch.eye(len(lower), dtype=lower.dtype) - lower, lower @ lower
    for _ in range(math.ceil(math.log2(len(lower))) - 1):
        inverse, power = inverse + inverse @ power, power @ power
    return inverse


def inverses(sizes: list[int]) -> list[dict]:
    """The error of that product in float32, beside substitution in float32, both against substitution in float64."""
    generator, rows = torch.Generator().manual_seed(0), []
    for size in sizes:
        keys = normalize(torch.randn(size, WIDTH, dtype=torch.float64, generator=generator), dim=-1)
        alike = normalize(keys + 1.0 / math.sqrt(WIDTH), dim=-1)
        for name, block in (("independent unit keys", keys), ("keys that share a direction", alike), ("one key", keys[:1].expand_as(keys))):
            lower, eye = (block @ block.mT).tril(-1), torch.eye(size, dtype=torch.float64)
            exact = torch.linalg.solve_triangular(eye + lower, eye, upper=False, unitriangular=True)
            single = torch.linalg.solve_triangular((eye + lower).float(), eye.float(), upper=False, unitriangular=True)
            gaps = [float((found.double() - exact).norm() / exact.norm()) for found in (squared_inverse(lower.float()), single)]
            rows.append({"keys": name, "size": size, "as printed": gaps[0], "substitution": gaps[1]})
    return rows


def stability_claims(rows: list[dict]) -> list[Claim]:
    """The gain up to which each kernel does not explode, and whether it keeps what ``check_stability`` promises."""
    claims = []
    for name in KERNELS:
        own = [row for row in rows if row["kernel"] == name]
        ends = {which: _last_steady([row for row in own if row["keys"] == which]) for which in CASES}
        said = f"no condition given; derived here: {'b κ₁(k, k) ≤ 2' if name != 'softmax' else 'b ≤ 1, an average'}"
        ours = "steady up to " + ", ".join(f"{end:g} ({which})" for which, end in ends.items()) + f"; {GAINS[-1]:g} was the most"
        broken = [row for row in own if row["called stable"] and not row["steady"]]
        claims.append(Claim(f"writing is bounded, κ₁ {name}", said, ours, judged(not broken, ends["one key"] >= 1), own=True))
    return claims


def _last_steady(rows: list[dict]) -> float:
    unsteady = [row["gain"] for row in rows if not row["steady"]]
    return max((row["gain"] for row in rows if not unsteady or row["gain"] < unsteady[0]), default=0.0)


def error_claims(rows: list[dict]) -> list[Claim]:
    """How much of its digits each kernel keeps, and whether U loses more than O."""
    claims = []
    for norm in LENGTHS:
        last = {(row["kernel"], row["dtype"]): (row["written"] or [math.inf])[-1] for row in rows if row["keys"] == norm}
        ours = "; ".join(f"{name} {last[name, 'float32']:.0e} / {last[name, 'bfloat16 keys']:.0e}" for name in KERNELS)
        kept = [last[name, "float32"] < 1e-4 for name in KERNELS]
        claims.append(Claim(f"errors of U below 10⁻⁴ in float32, {norm}; / bfloat16 keys", "not said", ours, judged(all(kept), any(kept)), own=True))
    single = [row for row in rows if row["dtype"] == "float32"]
    finite = [row["written"][-1] > row["read"][-1] for row in single if row["written"]]
    worse = 1 - finite.count(False) / len(single)  # those that overflow do so in U, and are counted as worse
    ours = f"in {worse:.0%} of kernels and lengths, float32, overflow counted as such; in {np.mean(finite):.0%} of the {len(finite)} that stay finite"
    return [*claims, Claim("U is less stable than O, because of the inverse", "yes (conference version)", ours, judged(worse > 0.9, worse > 0.5))]


def inverse_claims(rows: list[dict]) -> list[Claim]:
    """Equations 98–100 for every kind of keys, on the two largest blocks: of 64 tokens, as in the paper, and of 128."""
    claims = []
    for keys in dict.fromkeys(row["keys"] for row in rows):
        own = [row for row in rows if row["keys"] == keys][-2:]
        ours = "; ".join(f"{row['size']} tokens: error {row['as printed']:.0e}, by substitution {row['substitution']:.0e}" for row in own)
        right = [row["as printed"] < 1e-4 for row in own]
        claims.append(Claim(f"parallel inverse (eqs. 98–100) in float32, {keys}", "exact (blocks of 64)", ours, judged(all(right), any(right))))
    return claims


def figure(stable: list[dict], rows: list[dict], inverse: list[dict]) -> Figure:
    """Growth against the gain, errors along the sequence, errors of the inverse."""
    figure, gains = Figure(figsize=(11, 8), layout="constrained"), np.linspace(2, GAINS[-1], 200)
    places = figure.subplots(2, 2).flatten()
    places[0].plot(gains, np.log(gains - 1), color="black", linewidth=1, linestyle=":", label="log |1 − b κ₁|")
    for place, keys, label in zip(places, CASES[::2], ("b κ₁(k, k), the same key every time", "‖k‖², random keys, b = 1"), strict=False):
        for name, colour in zip(KERNELS, COLOURS, strict=False):
            own = [row for row in stable if (row["kernel"], row["keys"]) == (name, keys) and math.isfinite(row["growth"])]
            place.plot([row["gain"] for row in own], [max(row["growth"], -0.02) for row in own], "o-", color=colour, markersize=4, label=name)
        place.axvline(2, color="#999999", linewidth=1)
        place.set(xlabel=label, ylabel="growth of log ‖u‖ per write", title="stability; grey: the bound")
    places[0].legend(fontsize=8)
    for name, colour in zip(KERNELS, COLOURS, strict=False):
        for dtype, line in zip(DTYPES, ("-", ":", "--"), strict=True):
            own = next(row for row in rows if (row["kernel"], row["dtype"], row["keys"]) == (name, dtype, list(LENGTHS)[1]))
            if own["written"]:
                places[2].plot(np.arange(1, 17) / 16, own["written"], line, color=colour)
    places[2].set(yscale="log", xlabel="place in the sequence", ylabel="relative error of U", title="‖k‖² = 2, b = 1")
    places[2].legend([Line2D([], [], color="black", linestyle=line) for line in ("-", ":", "--")], list(DTYPES), fontsize=8)
    for name, colour in zip(dict.fromkeys(row["keys"] for row in inverse), COLOURS, strict=False):
        own = [row for row in inverse if row["keys"] == name]
        for way, style in (("as printed", "o-"), ("substitution", "s:")):
            places[3].plot([row["size"] for row in own], [row[way] or math.nan for row in own], style, color=colour, label=f"{name}, {way}")
    places[3].set(yscale="log", xlabel="tokens of a block", ylabel="relative error of (I + A)⁻¹, float32", title="equations 98–100")
    places[3].set_xscale("log", base=2)
    places[3].legend(fontsize=8)
    for place in places:
        place.grid(alpha=0.25)
    return figure


def work(scale: Scale) -> Reproduction:
    """Stability, cumulative error, and the printed inverse."""
    stable, rows, inverse = stability(scale.pick(64, 512)), errors(*scale.pick((64, 2), (1024, 8))), inverses(scale.pick([16, 64], [16, 32, 64, 128]))
    claims = (*stability_claims(stable), *error_claims(rows), *inverse_claims(inverse))
    return Reproduction(claims, figure(stable, rows, inverse), {"stability": stable, "errors": rows, "inverses": inverse})


if __name__ == "__main__":
    torch.set_num_threads(1)
    reproduce(__file__, PAPER, work)
