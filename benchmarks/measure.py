"""How long: paired, alternating samples of two computations in one process, each taken while the machine is otherwise idle."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

Run = Callable[[], object]

BUSY = 0.1  # cores that other processes may use during an accepted sample
TICKS = 0.03  # seconds by which the system's accounting of a sample may be off
BUDGET = 60.0  # seconds after which a case is content with the fewest rounds
FEWEST = 3
PAUSE = 1.0  # seconds to wait before a busy sample is retried


@dataclass(frozen=True)
class Effort:
    """How many rounds to take, how many of them to take again when others were busy, and the seconds that a sample lasts at least.

    Shorter runs are repeated within a sample, so that the system's clock ticks resolve it.
    """

    rounds: int = 7
    retries: int = 7
    shortest: float = 0.3


@dataclass(frozen=True)
class Sample:
    seconds: float
    runs: int
    busy: bool


def timed(runs: dict[str, Run], effort: Effort) -> dict:
    """Alternate the runs, in an order that turns around every round; seconds of each, and which samples were busy.

    A round in which other processes were busy is taken again, until the retries are used up; from then on it is kept and marked.
    """
    rounds = max(min(effort.rounds, int(BUDGET / _warmed(runs, effort))), min(effort.rounds, FEWEST))
    taken: dict[str, list[Sample]] = {name: [] for name in runs}
    retries = effort.retries
    for i in range(rounds):
        order = list(runs) if i % 2 == 0 else list(reversed(runs))
        samples = {name: sample(runs[name], effort) for name in order}
        while retries > 0 and any(s.busy for s in samples.values()):
            retries -= 1
            time.sleep(PAUSE)
            samples = {name: sample(runs[name], effort) for name in order}
        for name, taking in samples.items():
            taken[name].append(taking)
    return {name: _summary(samples) for name, samples in taken.items()}


def sample(run: Run, effort: Effort) -> Sample:
    """Mean seconds of the runs that the shortest sample holds, and whether others used more than ``BUSY`` cores meanwhile."""
    gc.collect()
    gc.disable()
    try:
        elsewhere, start = _others(), time.perf_counter()
        runs, elapsed = 0, 0.0
        while runs == 0 or elapsed < effort.shortest:
            run()
            runs, elapsed = runs + 1, time.perf_counter() - start
        used = _others() - elsewhere
    finally:
        gc.enable()
    return Sample(elapsed / runs, runs, used > BUSY * elapsed + TICKS)


def ratio(ours: dict, peer: dict) -> dict:
    """Our time over theirs: of the fastest samples, and the median over the pairs; idle ones only where there are any."""
    pairs = list(zip(ours["seconds"], peer["seconds"], ours["busy"], peer["busy"], strict=True))
    idle = [pair for pair in pairs if not (pair[2] or pair[3])] or pairs
    return {"fastest": ours["fastest"] / peer["fastest"], "median": statistics.median(a / b for a, b, *_ in idle)}


def agreement(ours: tuple[torch.Tensor, ...], peer: tuple[torch.Tensor, ...]) -> dict:
    """Largest differences of outputs and of gradients, relative to the largest entry where that exceeds 1."""
    gaps = [float((a - b).abs().amax() / b.abs().amax().clamp_min(1.0)) for a, b in zip(ours, peer, strict=True)]
    return {"output": gaps[0], "gradients": max(gaps[1:], default=0.0)}


def _warmed(runs: dict[str, Run], effort: Effort) -> float:
    """Warm up; the seconds that one round will take."""
    expected = 0.0
    for run in runs.values():
        run()
        warm = sample(run, effort)
        expected += warm.seconds * warm.runs
    return expected


def _summary(samples: list[Sample]) -> dict:
    idle = [s.seconds for s in samples if not s.busy] or [s.seconds for s in samples]
    return {"fastest": min(idle), "seconds": [s.seconds for s in samples], "runs": [s.runs for s in samples], "busy": [s.busy for s in samples]}


def _others() -> float:
    """CPU seconds that everything but this process has used, on all cores, time stolen by a hypervisor included."""
    times = psutil.cpu_times()
    spent = sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
    return spent - time.process_time()
