"""Running the cases in a process of their own: one that raises, crashes or hangs is a reason in its place, and the others go on."""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

import results
import torch
from gpu_cases import Case, cases
from gpu_peers import OURS

PATIENCE = 240.0  # seconds for one case, the compilation and tuning of every contender included
GRACE = 45.0  # seconds by which the last case may outlast the time of the run
MODULES = ("triton", "adasplash")


def serve(connection: Connection, names: list[str], quick: bool) -> None:
    """Measure cases one after the other and send each result, with whether the GPU still answers; stop when it does not."""
    from gpu_measure import measured, reason

    torch.set_float32_matmul_precision("high")  # the peers that compute in float32 may use tf32 products
    every = {case.name: case for case in cases()}
    for name in names:
        try:
            row = measured(every[name], rounds=2 if quick else 3)
        except Exception as problem:
            row = failed(every[name], reason(problem))
        alive = _answers()
        connection.send((row, alive))
        if not alive:
            return


def rows(wanted: list[Case], quick: bool, deadline: float, patience: float = PATIENCE, target: Callable = serve) -> Iterator[tuple[str, dict]]:
    """Name and result of every case, in order, until the deadline (of ``time.monotonic``). What has not been measured by then is left out."""
    pending = list(wanted)
    while pending and time.monotonic() < deadline:
        process, connection = _started(target, [case.name for case in pending], quick)
        try:
            while pending and time.monotonic() < deadline:
                begun, late = time.monotonic(), deadline + GRACE - time.monotonic()
                found = _received(connection, process, min(patience, late))
                if found is None and time.monotonic() - begun < patience:
                    return  # the time of the run is up, not that of the case
                case = pending.pop(0)
                row, alive = found or (failed(case, f"took longer than {patience:.0f} s"), False)
                yield case.name, row if isinstance(row, dict) else failed(case, row)
                if not alive:
                    break
        finally:
            process.kill()
            process.join()
            connection.close()


def failed(case: Case, reason: str) -> dict:
    """The result of a case whose process did not survive it."""
    return {"case": asdict(case), "flops": case.flops, "bytes": case.bytes, "contenders": {OURS: {"failed": reason}}}


def environment(quick: bool) -> dict:
    """The machine, the versions and the code that numbers belong to."""
    found = results.environment(torch.get_num_threads(), quick)
    card = torch.cuda.get_device_properties(0)
    gpu = {"name": card.name, "memory GiB": round(card.total_memory / 2**30, 1), "processors": card.multi_processor_count, "driver": _driver()}
    versions = {key: found["versions"][key] for key in ("python", "hopfield_amem")} | {"torch": torch.__version__, "cuda": str(torch.version.cuda)}
    versions |= {"cudnn": str(torch.backends.cudnn.version())} | {name: _version(name) for name in MODULES}
    return {"date": found["date"], "gpu": gpu, "versions": versions, "quick": quick, "dtype": "bfloat16", "code": fingerprint()}


def kept(stored: dict | None, now: dict, wanted: list[Case], chosen: list[Case]) -> dict[str, dict]:
    """The rows of an earlier run that still hold: same machine, versions and code.

    A complete run is measured anew; when only some cases are ``chosen``, those are.
    """
    if stored is None or any(stored["environment"].get(key) != now[key] for key in now if key != "date"):
        return {}
    there = {case.name: stored["rows"][case.name] for case in wanted if case.name in stored["rows"]}
    if len(chosen) < len(wanted) or len(there) == len(wanted):
        there = {name: row for name, row in there.items() if name not in {case.name for case in chosen}}
    return there


def fingerprint() -> str:
    """Of the library's and the benchmark's source: results of different code are never mixed."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in [*sorted((here.parent / "hopfield_amem").rglob("*.py")), *(here / f"gpu_{part}.py" for part in ("cases", "peers", "measure"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _started(target: Callable, names: list[str], quick: bool):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(there, names, quick))
    process.start()
    there.close()  # so that the end of the process is the end of the connection
    return process, here


def _received(connection: Connection, process, seconds: float) -> tuple[dict | str, bool] | None:
    """The next result, or a reason, and whether the process lives on; None when nothing came in time."""
    try:
        return connection.recv() if connection.poll(max(0.0, seconds)) else None
    except (EOFError, OSError):
        process.join(5)
        return f"its process ended with code {process.exitcode}", False


def _answers() -> bool:
    """Whether the GPU still works in this process: an illegal access leaves nothing that does."""
    try:
        torch.cuda.synchronize()
    except Exception:
        return False
    return True


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    asked = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True, check=False, timeout=30)
    return (asked.stdout.strip().splitlines() or ["unknown"])[0]


def _version(module: str) -> str:
    try:
        return str(getattr(importlib.import_module(module), "__version__", "unknown"))
    except ImportError:
        return "not installed"
