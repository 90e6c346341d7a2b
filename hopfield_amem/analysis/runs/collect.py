"""All finished runs in one table of a file."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..result import write
from .folder import finished, flat
from .identity import Record


def collect(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Write the finished runs of a folder as one table, whole or not at all, and return its path.

    One row per run, by id: ``run``, ``work``, then config, findings, ``seconds`` and ``environment``. Dicts inside them become columns with dots
    (``environment.torch``), at any depth. Lists stay lists in JSON Lines; elsewhere they are JSON text, as is a column whose entries are of several kinds.

    Args:
        folder: of runs; those in folders below it are its runs, too.
        path: ending in .parquet (needs pyarrow: ``pip install "hopfield_amem[analysis]"``), .csv or .jsonl.

    Raises:
        ValueError: no such folder, no finished run in it, another ending.
        ImportError: parquet without pyarrow.
    """
    target = Path(path)
    made = _FORMATS.get(target.suffix)
    if made is None:
        raise ValueError(f"Runs are collected into a file that ends in {', '.join(_FORMATS)}; got {target.name!r}.")
    rows = [dotted({"run": about["id"], "work": about["work"]} | flat(record)) for record in finished(folder) if (about := record["provenance"])]
    if not rows:
        raise ValueError(f"There is no finished run in {Path(folder)}.")
    return write(target, made(rows))


def dotted(record: Record, before: str = "") -> Record:
    """Dicts inside a record as columns with dots. An empty dict is no column."""
    found: Record = {}
    for name, value in record.items():
        found |= dotted(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _columns(rows: list[Record]) -> dict[str, list[Any]]:
    """Columns of one kind each, in the order they first come."""
    return {name: _alike([row.get(name) for row in rows]) for name in dict.fromkeys(name for row in rows for name in row)}


def _alike(entries: list[Any]) -> list[Any]:
    """Entries of one kind as they are, whole numbers and others together as numbers; of several kinds, lists and what 64 bits do not hold as JSON text."""
    kinds = {type(entry) for entry in entries if entry is not None}
    wide = any(isinstance(entry, int) and not -(2**63) <= entry < 2**63 for entry in entries)
    if kinds == {int, float} and not wide:
        return [None if entry is None else float(entry) for entry in entries]
    if len(kinds) <= 1 and list not in kinds and not wide:
        return entries
    return [entry if entry is None or isinstance(entry, str) else json.dumps(entry, ensure_ascii=False) for entry in entries]


def _parquet(rows: list[Record]) -> bytes:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError('A .parquet file needs pyarrow: pip install "hopfield_amem[analysis]". Without it, collect into .csv or .jsonl.') from None
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(_columns(rows)), buffer)
    return buffer.getvalue()


def _csv(rows: list[Record]) -> str:
    columns = _columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _json_lines(rows: list[Record]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


_FORMATS: dict[str, Callable[[list[Record]], str | bytes]] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines}
