"""Runs of one kind: those that differ in nothing asked but the size of the model, the amount of data and the seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

NAMED = ("data", "memory", "feed_forward")
"""By what a kind is called; other names follow where they part kinds of one name."""

SIZES = ("layers", "width", "examples", "seed", "evaluations")
"""In which runs of one kind differ."""

TRAINED = ("vocabulary", "length", "facts", "alpha", "steps", "batch", "rate", "decay")
"""What data and training are made of: numbers that are never of the model's size."""

MEASURED = frozenset((
    "parameters", "parameters attention", "parameters feed-forward", "data bits", "memorised bits", "net bits", "distinct", "exact", "argmax", "extracted",
    "training loss", "validation loss", "reference loss", "reference model", "symbols", "radius", "pattern dim", "membership", "curve", "together",
    "environment", "seconds", "training seconds", "provenance",
))  # fmt: skip
"""What a run finds; all else in a record without its provenance was asked."""


def parted(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by kind, under the kind's name: data and memories, and what else was asked where kinds of one name differ in it."""
    found: dict[str, list[Record]] = {}
    for name, alike in _by(records, lambda record: ", ".join(str(record[name]) for name in NAMED if record.get(name) is not None)).items():
        names = dict.fromkeys(asked for record in alike for asked in _asked(record) if asked not in (*NAMED, *SIZES))
        parting = [asked for asked in names if len(_values(asked, alike)) > 1 and not _of_size(asked, alike)]
        found |= _by(alike, lambda record, name=name, parting=parting: ", ".join([name, *(_said(asked, record) for asked in parting)]))
    return found


def _asked(record: Record) -> Iterable[str]:
    config = (record.get("provenance") or {}).get("config")
    return config if config is not None else (name for name in record if name not in MEASURED)


def _of_size(name: str, records: Sequence[Record]) -> bool:
    """Whether a number goes along with the size of the model: models of one number of parameters (heads: of one width and depth) have one value of it."""
    if name in TRAINED or not all(isinstance(record.get(name), int | float) and not isinstance(record[name], bool) for record in records):
        return False
    size = (lambda record: (record.get("layers"), record.get("width"))) if name == "heads" else (lambda record: record.get("parameters"))
    return all(len(_values(name, alike)) == 1 for alike in _by(records, size).values())


def _values(name: str, records: Sequence[Record]) -> set[str]:
    return {json.dumps(record.get(name), sort_keys=True, default=str) for record in records}


def _said(name: str, record: Record) -> str:
    return f"no {name}" if record.get(name) is None else f"{name} {record[name]}"


def _by(records: Sequence[Record], key: Any) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups
