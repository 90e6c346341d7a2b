"""How much: growth of the peak resident memory during the passes of a case, each in a fresh process. Linux only."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from cases import Case, workload

WARM_SLOTS = 512  # of the warm-up, which loads every library that the pass uses
PATIENCE = 900  # seconds
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc returns freed blocks at once: figures repeat, and fragments of the heap do not count
FLOOR = 2**18  # bytes below which a difference of resident sizes is noise


def peak(case: Case, threads: int) -> dict | None:
    """Bytes of a pass over its inputs: ``extra`` (results, that is gradients or the output of a forward pass, included) and ``beyond`` (without them).

    None where it did not finish.
    """
    command = [sys.executable, __file__, json.dumps(asdict(case)), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=os.environ | ALLOCATOR)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"no memory figure for {case}: {error}\n{error.stderr or ''}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def peak_here(case: Case) -> dict:
    """The same in this process, which should be fresh."""
    workload(replace(case, slots=min(case.slots, WARM_SLOTS)))()
    work = workload(case)
    extra = growth(work)
    return {"extra": extra, "results": work.result_bytes, "beyond": extra - work.result_bytes, "inputs": work.input_bytes}


def growth(work: Callable[[], object]) -> int:
    """Bytes by which the peak resident memory exceeds, during the work and with its result alive, what is resident when it begins."""
    gc.collect()
    _give_back_free_memory()
    before = _restart_peak()
    result = work()
    extra = _status("VmHWM") - before
    del result
    return extra


def ratio(ours: dict, peer: dict, figure: str) -> float:
    return max(ours[figure], FLOOR) / max(peer[figure], FLOOR)


def _give_back_free_memory() -> None:
    """So that the pass cannot hide in what the warm-up freed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _restart_peak() -> int:
    """Let the kernel's record of the peak start again, from the resident size that is returned."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _main(case: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    print(json.dumps(peak_here(Case(**json.loads(case)))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
