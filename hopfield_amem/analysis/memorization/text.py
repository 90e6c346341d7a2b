"""Real text as bytes: CPython's own documentation, any file, or the glosses of Debian's dictionary."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .corpus import Corpus, positive, started

SYMBOLS = 257  # bytes and the start
SHARES = 8  # of eight paragraphs four are trained on, three are the reference, one is held out
DICTIONARY = Path("/usr/share/dictd")


@dataclass(frozen=True)
class Text:
    """Windows of ``length`` bytes of a text. Its information is not known: a reference model, trained on other paragraphs, says what one could expect.

    Paragraphs are parted by empty lines, each counts once, and of every eight four are trained on, three are the reference's and one is held out; a
    window that repeats one of another part is left out.

    Args:
        path: a text file, or a folder of ``.txt``, ``.md``, ``.rst`` and ``.py`` files. None: ``pydoc_data.topics``, the documentation that comes with CPython
            (465 KB).
        length: bytes of a window.

    Raises:
        ValueError: when called, a path that is not there or has too little text for so many examples.
    """

    path: str | os.PathLike[str] | None = None
    length: int = 64
    name = "text"

    def __post_init__(self):
        positive(length=self.length)
        if self.path is not None:
            object.__setattr__(self, "path", os.fspath(self.path))  # a record keeps texts

    def __call__(self, examples: int, seed: int) -> Corpus:
        paragraphs = _documentation() if self.path is None else _read(Path(self.path))
        return _split(paragraphs, lambda part: _windows(part, self.length), examples, seed)


@dataclass(frozen=True)
class Glosses:
    """Entries word → gloss of WordNet as Debian packs it (``dict-wn``), cut to ``length`` bytes; shorter ones are left out. Split as ``Text`` is.

    Args:
        folder: where ``wn.index`` and ``wn.dict.dz`` are.
        length: bytes of an entry that count.

    Raises:
        ValueError: when called, no dictionary there.
    """

    folder: str | os.PathLike[str] = str(DICTIONARY)
    length: int = 64
    name = "glosses"

    def __post_init__(self):
        positive(length=self.length)
        object.__setattr__(self, "folder", os.fspath(self.folder))

    def __call__(self, examples: int, seed: int) -> Corpus:
        entries = [entry[: self.length] for entry in _glosses(Path(self.folder)) if len(entry) >= self.length]
        return _split(list(dict.fromkeys(entries)), lambda part: _rows(part, self.length), examples, seed)


def _split(paragraphs: list[bytes], cut: Callable[[list[bytes]], Tensor], examples: int, seed: int) -> Corpus:
    positive(examples=examples)
    order = torch.randperm(len(paragraphs), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = {name: [paragraphs[i] for place, i in enumerate(order) if place % SHARES in which] for name, which in _PARTS.items()}
    rows = {name: cut(part) for name, part in parts.items()}
    rows["reference"] = _without(rows["reference"], rows["validation"])
    rows["training"] = _without(rows["training"], torch.cat([rows["validation"], rows["reference"]]))
    if examples > len(rows["training"]) or not len(rows["validation"]) or not len(rows["reference"]):
        there, long = rows["training"].shape
        raise ValueError(f"The text has {there} windows of {long} bytes to train on, {examples} were asked for. Give more text, or shorter windows.")
    mixed = rows["training"][torch.randperm(len(rows["training"]), generator=torch.Generator().manual_seed(seed))]
    start = SYMBOLS - 1
    return Corpus(started(mixed[:examples], start), started(rows["validation"], start), SYMBOLS, reference=started(rows["reference"], start))


_PARTS = {"validation": (0,), "reference": (1, 2, 3), "training": (4, 5, 6, 7)}


def _windows(paragraphs: list[bytes], length: int) -> Tensor:
    """Windows of the paragraphs one after the other, each once, in their order."""
    text = b"\n\n".join(paragraphs)
    return _rows(list(dict.fromkeys(text[i : i + length] for i in range(0, len(text) - length + 1, length))), length)


def _rows(parts: list[bytes], length: int) -> Tensor:
    """Texts of one length as rows of bytes."""
    return torch.tensor([list(part) for part in parts], dtype=torch.long).reshape(-1, length)


def _without(rows: Tensor, others: Tensor) -> Tensor:
    taken = {bytes(row) for row in others.tolist()}
    kept = [place for place, row in enumerate(rows.tolist()) if bytes(row) not in taken]
    return rows[kept]


def _documentation() -> list[bytes]:
    from pydoc_data.topics import topics

    return _paragraphs("\n\n".join(topics[name] for name in sorted(topics)).encode())


def _paragraphs(text: bytes) -> list[bytes]:
    return [part for part in dict.fromkeys(part.strip(b"\n") for part in text.split(b"\n\n")) if part]


def _read(path: Path) -> list[bytes]:
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.suffix in (".txt", ".md", ".rst", ".py") and file.is_file()]
    else:
        files = [path]
    try:
        found = _paragraphs(b"\n\n".join(file.read_bytes() for file in files))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}. Give a text file or a folder of them.") from None
    if not found:
        raise ValueError(f"There is no text in {os.fspath(path)}: give a text file, or a folder with .txt, .md, .rst or .py files.")
    return found


def _glosses(folder: Path) -> list[bytes]:
    """Entries of a dictd dictionary: lines ``word, offset, length`` of its index, numbers in base 64, and a text that gzip reads."""
    index, packed = folder / "wn.index", folder / "wn.dict.dz"
    if not (index.exists() and packed.exists()):
        raise ValueError(f"Debian's dictionary of words and glosses is not in {folder}: install the package dict-wn (31 MB), or take Text() instead.")
    text = gzip.decompress(packed.read_bytes())
    places = (line.split(b"\t") for line in index.read_bytes().splitlines())
    entries = (text[_number(start) : _number(start) + _number(size)] for word, start, size, *_ in places if not word.startswith(b"00-"))
    return list(dict.fromkeys(b" ".join(entry.split()) for entry in entries))


def _number(digits: bytes) -> int:
    """A number in the base 64 of dictd, most significant digit first."""
    value = 0
    for digit in digits:
        value = 64 * value + b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(digit)
    return value
