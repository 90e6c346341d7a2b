"""A folder of runs: what is finished, what failed, and what the disk would not take."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..result import decoded, plain, write
from .claims import alive, claim
from .identity import ID, SCHEMA, Record, identity

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
LEFT_OVER = 3600.0  # seconds after which a half-written file belongs to nobody


@dataclass(frozen=True)
class RunFolder:
    """The files of runs in one folder, by the ids of the runs."""

    path: Path

    def file(self, run: str, kind: str = "json") -> Path:
        """``kind``: json, failed.json, claim or corrupt."""
        return self.path / f"{run}.{kind}"

    def read(self, run: str) -> Record | None:
        """The flat record of a finished run. One that is corrupt is moved aside with a warning, and is None like one that is missing."""
        try:
            return flat(parsed(self.file(run)))
        except FileNotFoundError:
            return None
        except ValueError as wrong:
            self._aside(run, wrong)
            return None

    @contextmanager
    def claim(self, runs: Iterable[str], asker: str = "") -> Iterator[set[str]]:
        """A context in which this process alone is at some of the runs, as far as the others can be seen. Gives which."""
        claims = {self.file(run, "claim"): run for run in runs}
        with claim(claims, asker) as held:
            yield {claims[path] for path in held}

    def free(self, run: str, asker: str = "") -> bool:
        """Whether nobody is at a run, be it finished or not (to the asker nobody whose worker died)."""
        return not alive(self.file(run, "claim"), asker)

    def waits(self, run: str) -> bool:
        """Whether a run is somebody else's to finish: not done, and somebody is at it."""
        return not self.file(run).exists() and not self.free(run)

    def keep(self, run: str, record: Record) -> None:
        """Write the record of a finished run, whole or not at all."""
        write(self.file(run), json.dumps(record, ensure_ascii=False, allow_nan=False))
        self.file(run, "failed.json").unlink(missing_ok=True)

    def fail(self, run: str, record: Record, asker: str = "") -> None:
        """Write why a run failed, and take away the claim of a worker that died over it."""
        write(self.file(run, "failed.json"), json.dumps(plain(record), ensure_ascii=False, indent=1, default=repr))
        if self.free(run, asker):
            self.file(run, "claim").unlink(missing_ok=True)

    def prepare(self) -> None:
        """Make the folder, see whether it takes files, and take away what killed processes left half-written. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        probe = self.path / f".{uuid.uuid4().hex}.probe"
        write(probe, "probe").unlink()
        for part in self.path.glob(".*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > LEFT_OVER:
                    part.unlink()

    def _aside(self, run: str, wrong: ValueError) -> None:
        aside = self.file(run, "corrupt")
        if aside.exists():
            aside = self.file(run, f"corrupt.{uuid.uuid4().hex[:8]}")
        with suppress(FileNotFoundError):  # somebody else has moved it
            os.replace(self.file(run), aside)
        warnings.warn(f"The record {self.file(run)} is corrupt ({wrong}); it is kept as {aside.name}, and the run is done again.", stacklevel=2)


def parsed(path: Path) -> Record:
    """A record's file. Raises ValueError where it is not the whole record of the run that its name says, FileNotFoundError where there is none."""
    found = decoded(path.read_text(encoding="utf-8"))
    about = found.get("provenance") if isinstance(found, dict) else None
    if not isinstance(about, dict) or not {"id", "schema", "work", "config"} <= set(about):
        raise ValueError("not the record of a run")
    if about["schema"] == SCHEMA and not about["id"] == identity(about["work"], about["config"]) == path.stem:
        raise ValueError("the record of another run")
    return found


def flat(record: Record) -> Record:
    """What ``take`` returns of a record's file: all but its provenance."""
    return {name: value for name, value in record.items() if name != "provenance"}


def records(folder: str | os.PathLike[str]) -> list[Record]:
    """The flat records of all finished runs in a folder and in those below it, by id. A warning names corrupt ones, which are left out.

    Raises:
        ValueError: no such folder.
    """
    return [flat(record) for record in finished(folder)]


def finished(folder: str | os.PathLike[str]) -> Iterator[Record]:
    """The same records as they are written."""
    for path in ids(folder, "json").values():
        try:
            yield parsed(path)
        except ValueError as wrong:
            warnings.warn(f"The record {path} is corrupt ({wrong}) and left out. Ask for its run again, and it is done again.", stacklevel=2)


def ids(folder: str | os.PathLike[str], kind: str) -> dict[str, Path]:
    """The runs of which there is a file of a kind, in a folder or in those below it, by id. Raises ValueError without a folder."""
    where = Path(folder)
    if not where.is_dir():
        raise ValueError(f"There is no folder {where}.")
    named = [(path.name.partition(".")[0], path) for path in where.rglob(f"*.{kind}")]
    return dict(sorted((run, path) for run, path in named if ID.fullmatch(run) and path.name == f"{run}.{kind}"))


def told(error: OSError, folder: Path) -> str:
    """What a disk refused, and what to do."""
    number = error.errno or 0
    advice = {
        **dict.fromkeys(FULL, "The disk is full: make room"),
        **dict.fromkeys(CLOSED, "The folder cannot be written to: give write permission, or another folder"),
    }.get(number, "See to the folder")
    return f"Records of runs cannot be kept in {folder}: {error}. {advice}, and ask again: exactly the missing runs are done."
