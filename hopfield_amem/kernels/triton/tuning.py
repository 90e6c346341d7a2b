"""Which of the table's configurations is fastest here: measured once per GPU, kernel and size, among those that compile without spills.

``HOPFIELD_AMEM_AUTOTUNE=0`` takes the table's first entry instead. Nothing is measured while a CUDA graph is captured.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
import triton
from triton.runtime.errors import OutOfResources

from ..compiler import store
from .configs import Config, Tile, candidates, config
from .machine import EMULATED
from .operands import Operands

Launch = Callable[[Config], None]


def launched(role: str, read: Operands, launch: Launch) -> None:
    """Run a kernel of this read with the fastest configuration that this GPU can hold; ``launch`` overwrites all of its outputs."""
    among = candidates(role, read)
    for tile in _fastest_first(role, read, launch, among):
        try:
            return launch(config(tile, read))
        except OutOfResources:
            if tile is among[-1]:
                raise


def _fastest_first(role: str, read: Operands, launch: Launch, among: tuple[Tile, ...]) -> tuple[Tile, ...]:
    if len(among) == 1 or not _measurable(read):
        return among
    key, best = _key(role, read), _remembered()
    found = next((tile for tile in among if _written(tile) == best.get(key)), None)
    if found is None:
        found = min(among, key=lambda tile: _milliseconds(launch, config(tile, read)))
        best[key] = _written(found)
        _remember(best)
    return (found, *among)


def _written(tile: Tile) -> str:
    """A tile as the file names it: queries x slots, warps, stages."""
    return f"{tile.queries}x{tile.slots} {tile.warps} {tile.stages}"


def _measurable(read: Operands) -> bool:
    wanted = os.environ.get("HOPFIELD_AMEM_AUTOTUNE", "1") != "0"
    return wanted and not EMULATED and read.state.is_cuda and not torch.cuda.is_current_stream_capturing()


def _milliseconds(launch: Launch, candidate: Config) -> float:
    """Median time of a launch; infinite for a configuration that this GPU cannot hold, or has no memory left to measure."""
    try:
        return float(triton.testing.do_bench(lambda: launch(candidate), warmup=10, rep=40, return_mode="median"))  # type: ignore[arg-type]
    except (OutOfResources, torch.OutOfMemoryError):
        return math.inf


def _key(role: str, read: Operands) -> str:
    """What decides speed: GPU, Triton, kernel, energy, dtype, widths, gates, and sizes up to a factor of two."""
    sizes = [max(1, n).bit_length() for n in (read.members, read.queries, read.slots)]
    parts = (
        torch.cuda.get_device_name(read.state.device), triton.__version__, role, read.compiled.triton_leaves.__name__, read.compiled.kind,
        str(read.keys.dtype), read.width, read.columns, read.values is None, *read.fold, *read.sight, read.mode.precision, *sizes,
    )  # fmt: skip
    return " ".join(map(str, parts))


def _file() -> Path:
    return store.folder() / "tiles.json"


@lru_cache(maxsize=1)
def _remembered() -> dict[str, str]:
    try:
        return {str(key): str(tile) for key, tile in json.loads(_file().read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _remember(best: dict[str, str]) -> None:
    """Add to the file what was measured here; another process may have added to it. Where nothing can be written, this process remembers."""
    try:
        known = json.loads(_file().read_text(encoding="utf-8")) if _file().is_file() else {}
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=_file().parent, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known | best, file, indent=1, sort_keys=True)
        os.replace(temporary, _file())
    except OSError:
        return
