"""What a run leaves: one JSON file per table, with the machine and the versions that its numbers belong to."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

import hopfield_amem

MEBIBYTE = 2**20


def environment(threads: int, quick: bool) -> dict:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "memory GiB": round(psutil.virtual_memory().total / 2**30, 1), "system": platform.platform()},
        "versions": {"python": platform.python_version(), "hopfield_amem": hopfield_amem.__version__}
        | {name: _version(name) for name in ("torch", "transformers", "entmax", "difflayers")},
        "threads": threads,
        "quick": quick,
        "dtype": "float32",
    }


def where(environment: dict) -> str:
    """Machine, versions and day in one line."""
    versions = ", ".join(f"{name} {environment['versions'][name]}" for name in ("python", "hopfield_amem", "torch"))
    device = environment.get("device", environment["machine"]["cpu"])
    return f"{device}, {environment['machine']['cores']} cores; {versions}; {environment['date'][:10]}."


def save(folder: Path, name: str, result: dict) -> Path:
    return write(folder / f"{name}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def load(folder: Path, names: Iterator[str]) -> dict[str, dict]:
    """The results that are there, in the order of their names."""
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}


def write(path: Path, text: str) -> Path:
    """Write a text file in one step: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
