"""What a run is, as a short text: the name of its file."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Work = Callable[[Record], Record]

SCHEMA = 1  # of a record's file; another one makes other ids, so that records of two schemas never stand for each other
ID = re.compile(r"[0-9a-f]{20}")


def canonical(config: Mapping[str, Any]) -> Record:
    """A config as JSON gives it back: lists for tuples, texts for names. Raises ValueError for what JSON cannot hold, NaN and infinities among it."""
    try:
        return json.loads(json.dumps(dict(config), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"A config is what JSON can hold (finite numbers, texts, lists, dicts), got {config!r}: {error}.") from None


def provenance(run: str, name: str, config: Mapping[str, Any]) -> Record:
    """What a record says of its run: id, schema, name of the work, config."""
    return {"id": run, "schema": SCHEMA, "work": name, "config": canonical(config)}


def identity(name: str, config: Mapping[str, Any]) -> str:
    """The id of a run: 80 bits of SHA-256 over the schema, the name of its work and its canonical config."""
    text = json.dumps([SCHEMA, name, canonical(config)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def work_name(work: Callable[..., Any]) -> str:
    """``module.function``, with what ``functools.partial`` binds; of an object its ``run_name``, or the fields of a dataclass.

    What closures and the objects of bound methods hold is not told apart: it belongs into the config. Raises ValueError for bound things without a lasting
    text and for other objects: two of them would pass for the same.
    """
    if isinstance(work, partial):
        bound = [*map(repr, work.args), *(f"{name}={value!r}" for name, value in sorted(work.keywords.items()))]
        return f"{work_name(work.func)}({_stable(', '.join(bound))})"
    if hasattr(work, "__qualname__"):
        return f"{_module(work)}.{work.__qualname__}"
    if hasattr(work, "run_name"):
        return f"{_module(work)}.{work.run_name}"
    if is_dataclass(work):
        return f"{_module(work)}.{_stable(repr(work))}"
    raise ValueError(
        f"Runs are kept by the name of their work, and two objects of {type(work).__name__} have the same. "
        "Give a function, a dataclass that says all, or an attribute run_name."
    )


def _module(named: Any) -> str:
    """The module's name, the same for a script that runs and for one that is imported."""
    name = getattr(named, "__module__", None) or type(named).__module__
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name if spec else Path(getattr(main, "__file__", name)).stem


def _stable(text: str) -> str:
    if " at 0x" in text:
        raise ValueError(f"What is bound to the work decides what its runs are, and has no lasting text: {text}. Put it into the config, as numbers and texts.")
    return text
