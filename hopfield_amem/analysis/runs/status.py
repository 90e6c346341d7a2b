"""How a folder of runs stands."""

from __future__ import annotations

import json
import os
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..result import Result, decoded
from .claims import alive, owner
from .folder import ids, parsed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 160  # of a reason
STATES = ("done", "failed", "claimed", "abandoned", "corrupt")


@dataclass(frozen=True)
class Status(Result):
    """Runs by state.

    Attributes:
        done: (work, seconds) of every finished run.
        others: id → (state, work, what is known), state one of "failed" (the first line of the reason), "claimed" (who is at it), "abandoned" (whose claim is
            dead: the next who asks does the run) and "corrupt" (a record that is not whole).
    """

    done: tuple[tuple[str, float], ...]
    others: dict[str, tuple[str, str, str]]

    @property
    def counts(self) -> dict[str, int]:
        """Runs per state."""
        found = Counter(state for state, _, _ in self.others.values())
        return {state: len(self.done) if state == "done" else found[state] for state in STATES}

    def rows(self) -> list[dict[str, Any]]:
        """Finished runs in one row per work, every other run in a row of its own."""
        works = dict.fromkeys(work for work, _ in self.done)
        spent = {work: [seconds for name, seconds in self.done if name == work] for work in works}
        done = [{"state": "done", "runs": len(spent[work]), "seconds": round(sum(spent[work]), 3), "work": work, "run": None, "what": None} for work in works]
        return [*done, *({"state": s, "runs": 1, "seconds": None, "work": work, "run": run, "what": what} for run, (s, work, what) in self.others.items())]

    def plot(self) -> Figure:
        """Runs per state, as bars."""
        from ..plots.runs import draw_status

        return draw_status(self)

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count or state in ("done", "failed"))
        return f"{counted}\n{self.table()}".rstrip()


def status(folder: str | os.PathLike[str]) -> Status:
    """Look at the runs in a folder and in those below it, without changing anything. Raises ValueError where there is none."""
    done, others = {}, {}
    for run, path in ids(folder, "json").items():
        try:
            record = parsed(path)
            done[run] = (record["provenance"]["work"], float(record["seconds"]))
        except ValueError as wrong:
            others[run] = ("corrupt", "", f"{path.name}: {wrong}")
        except FileNotFoundError:  # moved aside meanwhile
            continue
    claims = {run: ("claimed" if alive(path) else "abandoned", "", _holder(path)) for run, path in ids(folder, "claim").items()}
    others |= {run: said for run, said in claims.items() if said[0] == "claimed"}
    for run, path in ids(folder, "failed.json").items():
        others.setdefault(run, ("failed", *_failure(path)))
    others = claims | others
    for run, path in ids(folder, "corrupt").items():
        others.setdefault(run, ("corrupt", "", f"moved aside to {path.name}"))
    return Status(tuple(done.values()), {run: other for run, other in sorted(others.items()) if run not in done})


def _holder(path: Path) -> str:
    held = owner(path)
    return f"{held.get('host', 'unknown')}, process {held.get('pid', 'unknown')}"


def _failure(path: Path) -> tuple[str, str]:
    """-> the work, the first line of why it failed and its config"""
    try:
        said = decoded(path.read_text(encoding="utf-8"))
        first = textwrap.shorten((str(said["reason"]).splitlines() or [""])[0], WIDTH, placeholder=" …")
        about = said["provenance"]
        return str(about["work"]), f"{first} · {json.dumps(about['config'], ensure_ascii=False)}"
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return "", f"{path.name} cannot be read"
