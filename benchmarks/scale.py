"""Sharded reads against the cost model of ``hopfield_amem.distributed.cost``: 1 and 2 ranks of gloo, one thread each.

    python benchmarks/scale.py [--quick]

The machine is measured first: products and bandwidth from two reads on one rank, latency and network from two all-reduces. All other sizes, the second
rank and the search for a threshold are then predicted, and measured: in seconds of processor time, so that other processes do not count. A sweep is
predicted, and measured, of runs that wait, so that it shows what keeping and handing out runs costs.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from command import asked
from results import where

from hopfield_amem import presets
from hopfield_amem.analysis.runs import take
from hopfield_amem.distributed import retrieve
from hopfield_amem.distributed.cost import Machine, Read, read_cost, sweep_seconds

WIDTH = 64
MANY, FEW = Read(2**18, 64, WIDTH, WIDTH, 4), Read(2**19, 1, WIDTH, WIDTH, 4)  # what the machine is measured by
POINTS = [
    Read(2**16, 64, WIDTH, WIDTH, 4), Read(2**18, 16, WIDTH, WIDTH, 4), Read(2**18, 256, WIDTH, WIDTH, 4), Read(2**20, 64, WIDTH, WIDTH, 4),
    Read(2**18, 64, WIDTH, WIDTH, 4, steps=3), Read(2**16, 64, WIDTH, WIDTH, 4, scaling="Simplex"), Read(2**18, 16, WIDTH, WIDTH, 4, scaling="Simplex"),
]  # fmt: skip
RUNS, EACH = 24, 0.25  # of a sweep: how many, and the seconds of one


def fastest(work: Callable[[], object], rounds: int, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of some rounds in which all ranks begin together, the slowest rank counting."""
    work()
    taken = []
    for _ in range(rounds):
        dist.barrier()
        start = clock()
        work()
        seconds = torch.tensor(clock() - start)
        dist.all_reduce(seconds, dist.ReduceOp.MAX)
        taken.append(float(seconds))
    return min(taken)


def reading(read: Read, rounds: int) -> float:
    energy = presets.entmax(1.5, 0.1) if read.scaling == "Simplex" else presets.log_sum_exp(0.1)
    query = torch.randn(int(read.queries), read.width, generator=torch.Generator().manual_seed(0))
    slots = int(read.slots) // dist.get_world_size()
    keys, values = torch.randn(slots, read.width), torch.randn(slots, read.values)
    return fastest(lambda: retrieve(energy, query, keys, values, steps=read.steps), rounds, time.process_time)


def reducing(numbers: int, rounds: int) -> float:
    tensor = torch.zeros(numbers)
    return fastest(lambda: dist.all_reduce(tensor), rounds, time.perf_counter)


def rank(number: int, world: int, folder: str, points: list[Read], rounds: int) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store{world}", world)
    dist.init_process_group("gloo", store=store, rank=number, world_size=world, timeout=timedelta(minutes=5))
    found = {"reads": [reading(read, rounds) for read in points], "reduces": [reducing(1, 200), reducing(2**22, 5)]}
    if number == 0:
        Path(folder, f"{world}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


def machine(alone: dict, together: dict) -> Machine:
    """What the calibrating measurements say of a rank."""
    many, few = alone["reads"][:2]
    agreeing = alone["reads"][-1]  # a read of almost nothing: what calling it takes
    short, long = together["reduces"]
    model = Machine(1.0, 1.0, 2**34, 2**22 * 4 / (long - short), short / 2)
    work, move = (read_cost(read, model, 1) for read in (MANY, FEW))
    return Machine(work.operations / (many - agreeing), move.bytes / (few - agreeing), model.memory, model.network, model.latency)


def compared(points: list[Read], alone: dict, together: dict, known: Machine) -> list[dict]:
    rows, overhead = [], alone["reads"][-1]
    for world, found in ((1, alone), (2, together)):
        for read, seconds in zip(points[2:-1], found["reads"][2:-1], strict=True):
            predicted = overhead + read_cost(read, known, world).seconds
            rows.append({"read": vars(read), "ranks": world, "predicted": predicted, "measured": seconds, "ratio": seconds / predicted})
    return rows


def waiting(config: dict) -> dict:
    """A run of a sweep that takes so long on any machine, however busy."""
    time.sleep(config["work"])
    return {"done": True}


def swept(runs: int) -> list[dict]:
    rows = []
    for processes in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            take(waiting, [{"work": 0.01, "number": -1 - k} for k in range(processes)], folder=folder, processes=processes)  # workers start
            start = time.perf_counter()
            take(waiting, [{"work": EACH, "number": number} for number in range(runs)], folder=folder, processes=processes)
            seconds = time.perf_counter() - start
        predicted = sweep_seconds(runs, EACH, processes)
        rows.append({"runs": runs, "processes": processes, "predicted": predicted, "measured": seconds, "ratio": seconds / predicted})
    return rows


def page(result: dict) -> str:
    known = result["machine"]
    lines = ["# Sharded reads and sweeps against the cost model", "", where(result["environment"]), "", f"`{result['command']}`", ""]
    lines += [
        f"One rank (one thread, gloo), measured: {known['operations'] / 1e9:.0f} G operations/s, {known['bandwidth'] / 1e9:.1f} GB/s from memory, "
        f"{known['network'] / 1e9:.2f} GB/s between ranks, {1e6 * known['latency']:.0f} µs per hop; a read of nothing takes {1e3 * result['overhead']:.1f} ms.",
        "", f"Width {WIDTH}, float32, with values. Seconds of processor time of the slowest rank.", "",
        "| slots | queries | steps | scaling | ranks | predicted s | measured s | ratio |", "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in result["reads"]:
        read = row["read"]
        cells = [f"{read['slots']:,}", read["queries"], read["steps"], read["scaling"], row["ranks"], f"{row['predicted']:.3f}", f"{row['measured']:.3f}"]
        lines.append("| " + " | ".join(str(cell) for cell in [*cells, f"{row['ratio']:.2f}"]) + " |")
    lines += ["", f"Median ratio {statistics.median(row['ratio'] for row in result['reads']):.2f}.", ""]
    for row in result["sweeps"]:
        lines.append(
            f"{row['runs']} runs of {EACH} s in {row['processes']} processes: predicted {row['predicted']:.2f} s, measured {row['measured']:.2f} s, "
            f"ratio {row['ratio']:.2f}.  "
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    run = asked(__file__, __doc__)
    few, tiny = POINTS[:2] if run.quick else POINTS, Read(2, 1, WIDTH, WIDTH, 4)
    points, found = [MANY, FEW, *few, tiny], {}
    with tempfile.TemporaryDirectory() as folder:
        for world in (1, 2):
            torch.multiprocessing.spawn(rank, (world, folder, points, 3), nprocs=world)
            found[world] = json.loads(Path(folder, f"{world}.json").read_text(encoding="utf-8"))
    known = machine(found[1], found[2])
    rows = compared(points, found[1], found[2], known)
    result = run.result(machine=vars(known), overhead=found[1]["reads"][-1], measured=found, reads=rows, sweeps=swept(8 if run.quick else RUNS))
    print(run.keep(result, page(result)).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
