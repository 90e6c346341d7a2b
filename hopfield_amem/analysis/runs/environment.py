"""Where a run was done: versions, machine, device, commit."""

from __future__ import annotations

import inspect
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch

from ... import __version__
from .identity import Work


def environment(work: Work) -> dict[str, Any]:
    """Versions, machine, device, threads, time, and the commit of the repository that holds the work (or else the current folder), if there is one."""
    commit = _commit(_folder(work))
    return {
        "hopfield_amem": __version__, "torch": torch.__version__, "numpy": numpy.__version__, "python": platform.python_version(),
        "machine": platform.node(), "device": _device(), "threads": torch.get_num_threads(), "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"commit": commit} if commit else {}),
    }  # fmt: skip


def _device() -> str:
    """The GPU where the process has used one, else the processor. Asking must not start CUDA."""
    return torch.cuda.get_device_name() if torch.cuda.is_initialized() else _processor()


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _folder(work: Any) -> Path:
    """The folder of the work's source."""
    while hasattr(work, "func"):  # functools.partial
        work = work.func
    try:
        folder = Path(inspect.getsourcefile(inspect.unwrap(work)) or "").parent
    except TypeError:  # an object that is called
        return Path.cwd()
    return folder.absolute() if folder.is_dir() else Path.cwd()


@cache
def _commit(folder: Path) -> str | None:
    """The commit, with "-dirty" where tracked files differ from it; None outside of a repository or without git."""
    asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
