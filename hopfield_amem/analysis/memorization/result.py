"""The records of a sweep, and what they say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..estimate import Estimate
from ..power_laws import PowerLaw
from ..result import Result, decoded, plain, write
from ..runs.folder import finished
from .double_descent import Onset, double_descent, onsets
from .fits import CHANCE, best_data, by_chance, capacity_from_sweep, plateaus, recall_law
from .kinds import parted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLD = 0.04  # σ² of arXiv 2405.08707
NEEDED = ("memorised bits", "data", "parameters", "examples", "seed")  # by which the run of a sweep is known
COLUMNS = (
    "data", "memory", "feed_forward", "layers", "width", "parameters", "examples", "seed", "data bits", "memorised bits", "exact", "argmax", "extracted",
    "training loss", "validation loss", "reference loss", "radius",
)  # fmt: skip


@dataclass(frozen=True)
class Memorization(Result):
    """Runs of a sweep (see ``sweep`` for what a record holds).

    Attributes:
        records: one per run.
        reference: the command that made them.
    """

    records: tuple[dict[str, Any], ...]
    reference: str = ""

    def __post_init__(self):
        if not self.records:
            raise ValueError("There is no run here. A sweep has one at least.")

    @classmethod
    def load(cls, path: str | os.PathLike[str], reference: str = "") -> Memorization:
        """Records from a folder of runs, those in folders below it included, or from a file with one in each line (``keep``).

        A folder may hold other works' runs, too, which are left out. One without any run of a sweep is asked for its files that end in .jsonl. A warning
        names records that are corrupt.

        Raises:
            ValueError: nothing there, or lines that are no records.
        """
        path = Path(path)
        found = [record for record in finished(path) if _of_sweep(record)] if path.is_dir() else _lines(path)
        if not found:
            found = [record for file in sorted(path.rglob("*.jsonl")) for record in _lines(file)] if path.is_dir() else []
            if not found:
                raise ValueError(f"{path} holds no records of a sweep. Give a folder of its runs, or a file with one record in each line.")
        order = lambda record: (str(record["data"]), record["parameters"], record["examples"], record["seed"])
        return cls(tuple(sorted(found, key=order) if path.is_dir() else found), reference)

    def keep(self, path: str | os.PathLike[str]) -> Path:
        """Write the records into one file, one in each line, whole or not at all."""
        return write(Path(path), "".join(json.dumps(plain(record), ensure_ascii=False) + "\n" for record in self.records))

    def only(self, **asked: Any) -> Memorization:
        """The runs with these entries, for example ``only(memory="softmax")``. Raises ValueError where there is none."""
        return Memorization(tuple(record for record in self.records if all(record.get(name) == value for name, value in asked.items())), self.reference)

    def kinds(self) -> dict[str, Memorization]:
        """The runs parted by all that was asked but size, examples and seed (``kinds.parted``), by name: one law is fitted to one kind at a time."""
        return {kind: Memorization(tuple(map(dict, records)), self.reference) for kind, records in parted(self.records).items()}

    def capacity(self) -> Estimate:
        """Bits per parameter (``capacity_from_sweep``).

        Raises:
            ValueError: runs of several kinds; no size was given 1.5 times the bits it memorised; what was memorised of text is chance (``fits.by_chance``).
        """
        found = plateaus(self._alike())
        if not found:
            chance = f" Where a reference model stands for the law and AUROC of membership is below {CHANCE}, memorised bits are no memory of single rows."
            raise ValueError(
                "No model was given 1.5 times the bits that it memorised, so that its capacity is not known: take more examples."
                + (chance if any(map(by_chance, self.records)) else "")
            )
        return capacity_from_sweep(found, reference=self.reference)

    def _alike(self) -> tuple[dict[str, Any], ...]:
        """The records, of one kind."""
        kinds = list(parted(self.records))
        if len(kinds) > 1:
            raise ValueError(f"One law is fitted to runs of one kind, and these are of {len(kinds)}: {'; '.join(kinds)}. Take them one by one from kinds().")
        return self.records

    def double_descent(self) -> Estimate:
        """Bits of data over capacity at which the loss on other data is highest (``fits.double_descent``)."""
        return double_descent(self._alike(), reference=self.reference)

    def onsets(self) -> list[Onset]:
        """The same for every size by itself."""
        return onsets(self._alike())

    def recall_law(self, measure: str = "share") -> PowerLaw:
        """How recall falls beyond capacity (``fits.recall_law``)."""
        return recall_law(self._alike(), measure)

    def best_data(self, threshold: float = THRESHOLD) -> dict[float, float]:
        """D* in tokens by parameters (``fits.best_data``)."""
        return best_data(self._alike(), threshold)

    def balance(self, threshold: float = THRESHOLD) -> Any:
        """``N ∝ D*^k`` (``analysis.memory_model.model_data_balance``). Raises ValueError where no size has a D*."""
        from ..memory_model import model_data_balance

        best = self.best_data(threshold)
        return model_data_balance(list(best), list(best.values()))

    def rows(self) -> list[dict[str, Any]]:
        return [{name: record[name] for name in COLUMNS if record.get(name) is not None} for record in self.records]

    def to_json(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, "reference": self.reference, "findings": plain(self.findings()), "rows": plain(list(self.records))}

    def findings(self) -> dict[str, dict[str, Any]]:
        """Capacity and onset of every kind, where the runs allow them."""
        found: dict[str, dict[str, Any]] = {}
        for kind, part in self.kinds().items():
            found[kind] = {}
            for name, fit in (("bits per parameter", part.capacity), ("double descent", part.double_descent)):
                try:
                    found[kind][name] = fit().row()
                except ValueError as error:
                    found[kind][name] = {"value": None, "assumption": str(error)}
        return found

    def plot(self) -> Figure:
        from ..plots.memorization import memorised

        return memorised(self)

    def __str__(self) -> str:
        lines = [self.table(), ""]
        for kind, found in self.findings().items():
            for name, row in found.items():
                lines.append(f"{kind}: {name} {_said(row)}")
        return "\n".join(lines)


def _said(row: Mapping[str, Any]) -> str:
    """An estimate's row as text, or why there is none."""
    if row["value"] is None:
        return row["assumption"]
    within = "" if row["low"] is None else f" [{row['low']:.3g}, {row['high']:.3g}]"
    return f"{row['value']:.3g}{within} ({row['assumption']})"


def _lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file, one in each line. Raises ValueError for anything else."""
    try:
        found = [decoded(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} holds no records: {error}. Give the folder of a sweep, or a file with one record in each line.") from None
    if not all(map(_of_sweep, found)):
        raise ValueError(f"Some of the {len(found)} lines of {path} are no runs of a sweep, each of which has {', '.join(NEEDED)}.")
    return found


def _of_sweep(record: Any) -> bool:
    return isinstance(record, dict) and record.keys() >= set(NEEDED)
