"""What a record of a run must hold for a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..training import Training

Record = Mapping[str, Any]

NEEDED = ("parameters", "data bits", "memorised bits", "examples", "seed")
"""Without these nothing can be said. Losses, curves and sizes are used where they are there."""


def check(record: Record, place: int) -> None:
    """Raises ValueError where something is missing, or is no positive and finite number; ``place`` is the record's number."""
    missing = [name for name in NEEDED if name not in record]
    if missing:
        raise ValueError(f"Record number {place} has no {', '.join(map(repr, missing))}; every record has {', '.join(map(repr, NEEDED))}.")
    for name in ("parameters", "data bits", "memorised bits"):
        number = record[name]
        positive = name != "memorised bits"
        if not isinstance(number, int | float) or not 0 <= number < math.inf or (positive and number == 0):
            raise ValueError(f"{name!r} of record number {place} must be a {'positive, ' if positive else ''}finite number, got {number!r}.")


def dicts(records: Iterable[Record]) -> tuple[dict[str, Any], ...]:
    """Records as they are kept. Raises TypeError for what is no dict."""
    given = list(records)
    wrong = next((place for place, record in enumerate(given, 1) if not isinstance(record, Mapping)), None)
    if wrong is not None:
        raise TypeError(f"A record is a dict of what was asked and found, got {type(given[wrong - 1]).__name__} as number {wrong}.")
    return tuple(dict(record) for record in given)


def training_of(record: Record) -> Training | None:
    """How a run was trained, as far as its learning rates go, of a record that says so as those of ``sweep`` do."""
    return Training(steps=record["steps"], rate=record["rate"]) if record.get("steps") and record.get("rate") else None
