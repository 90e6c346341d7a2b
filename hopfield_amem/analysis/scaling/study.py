"""How the rows of the table of exponents are measured."""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import doors


@dataclass(frozen=True)
class Study:
    """How a row is measured: on how many trials (None: as many as the row says), kept where, by how many processes. See ``sweep``.

    Raises:
        TypeError, ValueError: trials below one, a negative seed.
    """

    trials: int | None = None
    seed: int = 0
    folder: str | os.PathLike[str] | None = None
    processes: int = 1

    def __post_init__(self):
        if self.trials is not None:
            doors.count(self.trials, "trials")
        doors.count(self.seed, "seed", 0)
