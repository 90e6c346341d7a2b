"""What an analysis returns: a table, a picture, and numbers for a file."""

from __future__ import annotations

import json
import math
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Result:
    """Base of what analyses find. A subclass holds the findings and says how they read as ``rows`` and how they are drawn (``plot``)."""

    def rows(self) -> list[dict[str, Any]]:
        """The findings as rows of a table, of numbers and texts."""
        raise NotImplementedError

    def plot(self) -> Figure:
        """The findings as a figure (matplotlib)."""
        raise NotImplementedError

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``. Raises ImportError without pandas (``pip install "hopfield_amem[analysis]"``)."""
        return pandas().DataFrame(self.rows())

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON holds them; NaN and infinities become None."""
        return {"kind": type(self).__name__, "rows": plain(self.rows())}

    def table(self) -> str:
        """The rows as aligned text, columns without any entry left out."""
        rows = self.rows()
        columns = [name for name in dict.fromkeys(name for row in rows for name in row) if any(row.get(name) not in (None, "") for row in rows)]
        lines = [columns, *([_text(row.get(name)) for name in columns] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)

    def save(self, folder: str | os.PathLike[str], name: str, *, figure: bool = True) -> list[Path]:
        """Write ``name.json`` and, with ``figure``, ``name.png`` into a folder, each whole or not at all. Returns their paths."""
        from .plots import save

        path = Path(folder) / f"{name}.json"
        written = [write(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False))]
        return [*written, save(self.plot(), path.with_suffix(".png"))] if figure else written

    def __str__(self) -> str:
        return self.table() or "nothing was found"


def write(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all, texts as UTF-8, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")  # machines that share a folder may have the same process ids
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def decoded(text: str) -> Any:
    """What a JSON text says. Raises ValueError for text that is none, or nested deeper than any record."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plain(value: Any) -> Any:
    """Findings as JSON has them: tensors and arrays as lists, numbers that are not finite as None."""
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def pandas() -> Any:
    """The library, or ImportError that says how to get it."""
    try:
        import pandas as library  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError('to_pandas() needs pandas: pip install "hopfield_amem[analysis]". Without it, rows() gives the same as dicts.') from None
    return library


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
