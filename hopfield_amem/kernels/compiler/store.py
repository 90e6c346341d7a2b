"""Generated source as importable modules: one small readable file per content, safe under many processes."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType


def folder() -> Path:
    """Where generated files live: ``HOPFIELD_AMEM_CACHE``, or hopfield_amem in the user's cache folder."""
    chosen = os.environ.get("HOPFIELD_AMEM_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hopfield_amem"


def module(source: str) -> ModuleType:
    """The module of this source. Its file is named by its content and written whole or not at all.

    Raises:
        OSError: neither the cache folder nor the system's temporary folder can be written.
    """
    name = "hopfield_amem_leaf_" + hashlib.sha256(source.encode()).hexdigest()[:16]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, _written(name, source))
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return sys.modules.setdefault(name, made)  # published when it is complete: other threads may be waiting for it


def _written(name: str, source: str) -> Path:
    try:
        return _ensured(folder(), name, source)
    except OSError as error:
        if chosen := os.environ.get("HOPFIELD_AMEM_CACHE"):
            raise OSError(
                f"Generated kernels cannot be written to HOPFIELD_AMEM_CACHE={chosen} ({error}). Point it to a folder that can be written."
            ) from error
        return _ensured(Path(tempfile.mkdtemp(prefix="hopfield_amem_")), name, source)  # no home to write to


def _ensured(where: Path, name: str, source: str) -> Path:
    """The file with exactly this source; another process may be writing the same one."""
    path = where / f"{name}.py"
    if path.is_file() and path.read_text(encoding="utf-8") == source:
        return path
    where.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=where, prefix=name, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(source)
    os.replace(temporary, path)
    return path
