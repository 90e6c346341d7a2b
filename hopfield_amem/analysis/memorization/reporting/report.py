"""The report on a sweep: one page that needs nothing else, the same as a picture and as numbers, and a verdict in plain words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...result import Result, plain, write
from ..result import Memorization
from .records import dicts
from .rules import BINDINGS, Rules
from .sizes import Study, studies
from .words import plateau, sentence, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class MemorizationReport(Result):
    """What a sweep says of memorization, ready to be read.

    Attributes:
        studies: one for every kind of run.
        rules: thresholds of the verdict.
        reference: the command that made the records, where they say.
    """

    studies: tuple[Study, ...]
    rules: Rules
    reference: str = ""

    def verdict(self) -> dict[str, list[str]]:
        """Sentences by kind of run: what was found, and which bound binds each model size from data size to data size."""
        return {study.name: [*summary(study), *(sentence(size, self.rules) for size in study.sizes)] for study in self.studies}

    def rows(self) -> list[dict[str, Any]]:
        """One row per kind, model size and data size."""
        return [row for study in self.studies for row in points(study)]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": type(self).__name__, "reference": self.reference, "verdict": self.verdict(), "rules": vars(self.rules),
            "studies": [_findings(study) for study in self.studies], "rows": plain(self.rows()),
        }  # fmt: skip

    def plot(self) -> Figure:
        from ...plots.report import whole

        return whole(self)

    def page(self) -> str:
        """The page: HTML with its style, its script and its charts inside."""
        from .page import page

        return page(self)

    def __str__(self) -> str:
        return "\n".join(line for name, told in self.verdict().items() for line in (name, *(f"  {sentence}" for sentence in told)))


def summarise(found: Memorization | Iterable[Mapping[str, Any]], rules: Rules = Rules()) -> MemorizationReport:  # noqa: B008
    """What ``report`` writes, as an object: records by kind, model size and data size, fits, and the verdict.

    Args:
        found: what ``sweep`` returned, or its records.
        rules: thresholds of the verdict.

    Raises:
        TypeError: no records, or a record that is no dict.
        ValueError: an empty sweep, a record without what is needed, numbers that are not positive and finite.
    """
    if isinstance(found, str | bytes | Mapping) or not isinstance(found, Memorization | Iterable):
        raise TypeError(f"report takes a Memorization, or records: an iterable of dicts, one for every run; got {type(found).__name__}.")
    swept = found if isinstance(found, Memorization) else Memorization(dicts(found))
    return MemorizationReport(studies(swept, rules), rules, swept.reference)


def report(
    found: Memorization | Iterable[Mapping[str, Any]], folder: str | os.PathLike[str], *, name: str = "report", rules: Rules = Rules()  # noqa: B008
) -> Path:  # fmt: skip
    """Write ``name.html``, one page that works without a network, and the same as ``name.png`` and ``name.json``.

    It shows memorised bits against data bits for each model size with the lines of its capacity, losses over model size and data size, parameters against
    the best data size, and says in plain words which bound binds at which scale.

    Args:
        found: what ``sweep`` returned, or its records.
        folder: where the three files are written, each whole or not at all.
        name: of the files.
        rules: thresholds of the verdict.

    Returns:
        The path of the page.

    Raises:
        TypeError, ValueError: as for ``summarise``.
        OSError: a folder that cannot be written.
    """
    made = summarise(found, rules)
    page = write(Path(folder) / f"{name}.html", made.page())
    made.save(folder, name)
    return page


def points(study: Study) -> list[dict[str, Any]]:
    """A row for every model size and data size of a study."""
    return [
        {
            "kind": study.name, "parameters": size.parameters, "data bits": point.data_bits, "memorised bits": point.memorised, "low": point.low,
            "high": point.high, "share of the data": point.memorised / point.data_bits, "share of what can be memorised": point.share,
            "bits per parameter": point.memorised / size.parameters,
            "binds": BINDINGS[point.binds], "training loss": point.training, "validation loss": point.validation, "runs": point.runs,
        }
        for size in study.sizes
        for point in size.points
    ]  # fmt: skip


def model_sizes(study: Study) -> list[dict[str, Any]]:
    """A row for every model size of a study: the most it memorised, and the bounds beside it."""
    return [
        {
            "parameters": size.parameters, "layers": size.layers, "width": size.width, "most memorised bits": size.capacity,
            "bits per parameter": size.bits_per_parameter, "plateau": plateau(size), **size.bounds,
        }
        for size in study.sizes
    ]  # fmt: skip


def _findings(study: Study) -> dict[str, Any]:
    fits = {name: None if found is None else found.row() for name, found in (("capacity", study.capacity), ("double descent", study.onset))}
    balance = None if study.balance is None else study.balance.to_json()
    return plain(
        {"kind": study.name, **fits, "balance": balance, "balanced": study.balanced, "missing": dict(study.missing), "model sizes": model_sizes(study)}
    )
