"""Scaling laws of associative memories, reproduced: exponents beside theory, the joint table, the published grid, and the time against plain loops.

    python benchmarks/scaling.py                             everything, minutes on one core
    python benchmarks/scaling.py --rows "top d/8, α = 2"     some rows of the table of exponents alone, printed
    python benchmarks/scaling.py --list                      the names of the rows
    python benchmarks/scaling.py --quick                     small, to see that it runs
    python benchmarks/scaling.py --keep FOLDER               keep finished points there and go on from them; seconds are then of what was left

Results go to benchmarks/results/scaling.json and .md. "Elsewhere" are numbers of simulations that share no code with these; "published" are the means over ten
seeds in the result files of arXiv 2310.02984.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from results import environment, save, where, write

from hopfield_amem.analysis import scaling
from hopfield_amem.analysis.scaling import Study, ZipfTask

RESULTS = Path(__file__).parent / "results"
ELSEWHERE = {
    "equal, α = 1.5": "−0.00", "equal, α = 2": "−0.03", "frequency, α = 1.5": ".181–.212", "frequency, α = 2": ".245–.269", "root, α = 1.5": ".331–.340",
    "root, α = 2": ".518–.523", "fourth root, α = 1.5": ".698", "fourth root, α = 2": ".991", "top d/8, α = 1.5": ".504", "top d/8, α = 2": ".994",
    "fourth root, top d/8, α = 1.5": ".497", "fourth root, top d/8, α = 2": ".959", "best top, α = 1.5": ".492", "best top, α = 2": ".868",
    "top d, α = 1.5": "≈ 0", "top d, α = 2": "≈ 0",
    "many classes: top d²/64, α = 1.5": "1.00", "many classes: top d²/64, α = 2": "1.78–1.93",
    "many classes: frequency, α = 1.5": ".32 (d = 10–100)", "many classes: frequency, α = 2": ".49–.54 (d = 10–100)",
    "data, α = 1.5": ".3330", "data, α = 2": ".4995",
    "joint: d, T = 10,000": "1.05", "joint: T, d = 1000": ".495",
}  # fmt: skip
JOINT = (
    (0.361, 0.346, 0.172, 0.170, 0.169, 0.170), (0.361, 0.337, 0.115, 0.066, 0.055, 0.056), (0.361, 0.337, 0.110, 0.057, 0.031, 0.017),
    (0.361, 0.337, 0.109, 0.056, 0.030, 0.006),
)  # fmt: skip
DIMS = (10, 50, 100, 200, 1000)
GRID = {
    "matrix, SGD, η = 1, B = 1024": ({}, (0.2030, 0.0944, 0.0730, 0.0750, 0.0478)),
    "matrix, Adam, η = 1, B = 1024": ({"optimizer": "Adam"}, (0.0984, 0.0626, 0.0458, 0.0397, 0.0284)),
    "matrix, SGD, layer norm, η = 1, B = 1024": ({"layer_norm": True}, (0.1435, 0.0932, 0.0678, 0.0566, 0.0432)),
    "matrix, Adam, layer norm, η = 1, B = 1024": ({"optimizer": "Adam", "layer_norm": True}, (0.0815, 0.0406, 0.0255, 0.0239, 0.0143)),
    "matrix, SGD, η = 0.1, B = 64": ({"lr": 0.1, "batch": 64}, (0.1681, 0.0776, 0.0705, 0.0621, 0.0456)),
    "matrix, SGD, η = 1, B = 64": ({"batch": 64}, (0.0638, 0.0430, 0.0307, 0.0280, 0.0183)),
    "matrix, SGD, η = 10, B = 64": ({"lr": 10.0, "batch": 64}, (0.0401, 0.0160, 0.0124, 0.0097, 0.0051)),
    "matrix, SGD, η = 1, B = 16": ({"batch": 16}, (0.0531, 0.0213, 0.0185, 0.0155, 0.0089)),
    "learnable, SGD, η = 1, B = 16": ({"model": "learnable", "batch": 16}, (0.0020, 0.0015, 0.0015, 0.0012, 0.0012)),
    "exponential, SGD, η = 1, B = 16": ({"model": "exponential", "batch": 16}, (0.0199, 0.0028, 0.0023, 0.0020, 0.0017)),
    "matrix, Adam, η = 1, B = 16, T = 1024": ({"optimizer": "Adam", "batch": 16, "samples": 1024}, (0.0589, 0.0351, 0.0260, 0.0201, 0.0169)),
    "matrix, Adam, η = 10, B = 1024, T = 1024": ({"optimizer": "Adam", "lr": 10.0, "samples": 1024}, (0.1806, 0.1092, 0.0951, 0.0781, 0.0544)),
}


def exponents(names: list[str], study: Study) -> list[dict]:
    """Rows of the table of exponents, each with its seconds."""
    rows = []
    for name in names:
        start = time.perf_counter()
        (row,) = scaling.exponents([name], study=study).rows()
        rows.append(row | {"elsewhere": ELSEWHERE.get(name, ""), "seconds": time.perf_counter() - start})
        print(f"{name:34} {row['exponent']:7.3f} [{row['low']:.3f}, {row['high']:.3f}]  theory {row['theory']:.3f}  {rows[-1]['seconds']:.1f} s", flush=True)
    return rows


def joint(study: Study) -> dict:
    """The joint table, and its seconds."""
    start = time.perf_counter()
    found = scaling.joint_table(trials=100 if study.trials is None else study.trials, seed=study.seed, folder=study.folder, processes=study.processes)
    return {"seconds": time.perf_counter() - start, "trials": found.errors.shape[-1], "errors": found.errors.mean(-1)[0].tolist()}


def against_loop(trials: int) -> dict:
    """Seconds of one point, d = N = 1000, q = √p: draws at once, and a loop over trials that draws embeddings whole and writes W."""
    task, dim = ZipfTask(1000, 5, 2.0), 1000
    p, labels = task.probability, task.labels
    start = time.perf_counter()
    ours = scaling.sampled_errors(p, p.sqrt(), labels, dim=dim, trials=trials)
    middle = time.perf_counter()
    errors = []
    for seed in range(trials):
        inputs, outputs = scaling.random_embeddings(1000, 5, dim, generator=torch.Generator().manual_seed(seed))
        memory = scaling.store(inputs, outputs, labels, p.sqrt())
        errors.append(float(scaling.recall_error(memory, inputs, outputs, labels, probability=p)))
    end = time.perf_counter()
    return {"trials": trials, "ours": middle - start, "loop": end - middle, "errors": [float(ours.mean()), sum(errors) / trials]}


def grid(dims: tuple[int, ...], seeds: range) -> list[dict]:
    """Means over seeds beside the published ones."""
    rows = []
    for name, (options, published) in GRID.items():
        start = time.perf_counter()
        means = [sum(scaling.grid_run(dim=dim, seed=seed, **options) for seed in seeds) / len(seeds) for dim in dims]
        rows.append({"run": name, "dims": dims, "means": means, "published": published[: len(dims)], "seconds": time.perf_counter() - start})
        print(f"{name:42} " + "  ".join(f"{mean:.4f} ({theirs:.4f})" for mean, theirs in zip(means, published, strict=False)), flush=True)
    return rows


def page(found: dict) -> str:
    """The results as a page."""
    rows = [
        f"| {row['row']} | {row['setting']} | {row['exponent']:.3f} [{row['low']:.3f}, {row['high']:.3f}] | {row['theory']:.3f} | {row['elsewhere']} "
        f"| {row['seconds']:.1f} |"
        for row in found["exponents"]
    ]
    dims, tokens = scaling.joint_table(trials=1).dims, (10, 100, 1000, 10_000)
    table = [
        f"| {amount:,} | " + " | ".join(f"{ours:.3f} ({other:.3f})" for ours, other in zip(line, others, strict=True)) + " |"
        for amount, line, others in zip(tokens, found["joint"]["errors"], JOINT, strict=True)
    ]
    runs = [
        f"| {row['run']} | " + " | ".join(f"{mean:.4f} ({theirs:.4f})" for mean, theirs in zip(row["means"], row["published"], strict=True)) + " |"
        for row in found["grid"]
    ]
    loop, lines = found["loop"], "|---" * len(dims) + "|---|"
    return "\n".join([
        "# Scaling laws of associative memories", "", where(found["environment"]), "", "`python benchmarks/scaling.py`" + found["note"], "",
        'Exponents s of error ∝ d^−s (rows "data" and "joint: T": T^−s), fitted, with 95 % intervals by bootstrap; "elsewhere": simulations that share',
        "no code with these.",
        "One row: `python benchmarks/scaling.py --rows NAME`.", "",
        "| row | setting | measured | theory | elsewhere | seconds |", "|---|---|---|---|---|---|", *rows, "",
        f"Joint table, N = 1000, M = 5, α = 2, q = 1 on the ⌊d/12⌋ inputs seen most often, {found['joint']['trials']} trials (an independent rerun of 100): "
        f"{found['joint']['seconds']:.2f} s.", "", "| T \\ d | " + " | ".join(map(str, dims)) + " |", lines, *table, "",
        f"One point, N = d = 1000, M = 5, {loop['trials']} trials: {loop['ours']:.3f} s, a loop over trials with whole embeddings {loop['loop']:.2f} s "
        f"({loop['loop'] / loop['ours']:.0f} ×), mean errors {loop['errors'][0]:.4f} and {loop['errors'][1]:.4f}.", "",
        "The published grid, N = 100, M = 5, α = 2, T = 10,240 where not said, means over ten seeds (published):", "",
        "| run | " + " | ".join(f"d = {dim}" for dim in found["grid"][0]["dims"]) + " |", "|---" * (len(found["grid"][0]["dims"]) + 1) + "|", *runs, "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="rows of the table of exponents alone; nothing is written")
    parser.add_argument("--list", action="store_true", help="the names of the rows")
    parser.add_argument("--quick", action="store_true", help="few trials, seeds and widths; nothing is written")
    parser.add_argument("--keep", type=Path, help="folder of finished points")
    parser.add_argument("--note", default="", help="a remark about the machine, for the page")
    asked = parser.parse_args()
    if unknown := [name for name in asked.rows or [] if name not in scaling.ROWS]:
        parser.error(f"there is no row {', '.join(map(repr, unknown))}; --list prints the names")
    torch.set_num_threads(1)
    study = Study(trials=3 if asked.quick else None, folder=asked.keep)
    if asked.list:
        print("\n".join(scaling.ROWS))
        return
    found = {"exponents": exponents(asked.rows or list(ELSEWHERE)[:: 4 if asked.quick else 1], study)}
    if asked.rows:
        return
    found |= {"joint": joint(study), "loop": against_loop(2 if asked.quick else 20)}
    found["grid"] = grid(DIMS[:1] if asked.quick else DIMS, range(42, 44 if asked.quick else 52))
    found |= {"environment": environment(1, asked.quick), "note": f" ({asked.note})" if asked.note else ""}
    text = page(found)
    if asked.quick:
        print(text)
        return
    print(save(RESULTS, "scaling", found), write(RESULTS / "scaling.md", text))


if __name__ == "__main__":
    main()
