"""Which bound binds: the rules, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..fits import CHANCE

if TYPE_CHECKING:
    from ..training import Training
    from .sizes import DataSize

BINDINGS = {
    "data": "data-limited",
    "capacity": "capacity-limited",
    "structure": "generalising",
    "training": "undertrained",
}
"""What each bound is called. Not only a colour: each has a word and a sign of its own wherever it is shown."""

SIGNS = {"data": "●", "capacity": "■", "structure": "◆", "training": "▲"}


@dataclass(frozen=True)
class Rules:
    """Thresholds of the verdict. They are conventions, printed on every report.

    Args:
        share: from this share of the data memorised on a run is data-limited.
        plateau: from this share of the most that its model size memorised of any data on, a run that is not data-limited is capacity-limited, provided that
            some other data were memorised whole (else too short a training looks like a small capacity), and that single rows are known.
        falling: a run whose training loss fell by more than this share of its whole fall in the last tenth of its training is undertrained; training is
            counted by the learning rates of its steps (``still_falling``).
        gap: a run that is not data-limited, whose validation loss exceeds its training loss by at most this share of it and stands this share below that of
            the uniform law, is generalising: it learned what is common instead.

    Raises:
        ValueError: a threshold outside of (0, 1).
    """

    share: float = 0.9
    plateau: float = 0.8
    falling: float = 0.05
    gap: float = 0.1

    def __post_init__(self):
        for name, value in vars(self).items():
            if not 0 < value < 1:
                raise ValueError(f"The threshold {name} lies in (0, 1), got {value!r}.")

    def sentences(self) -> list[str]:
        """Every rule in words, in the order in which they are asked."""
        return [
            f"Data-limited: at least {self.share:.0%} of what can be memorised of the data is; more data would be memorised, too.",
            f"Undertrained: the training loss was still falling, by more than {self.falling:.0%} of its whole fall in the last tenth of the training, which is "
            "counted by the learning rates of its steps: every loss is flat where its rate has gone to nothing. More data may change little all the same; "
            "that is a plateau of this training, which a longer one would raise.",
            f"Generalising: a validation loss within {self.gap:.0%} of the training loss and at least {self.gap:.0%} below the uniform law; what is common is "
            "learned instead.",
            f"Capacity-limited: at least {self.plateau:.0%} of the most that this model size memorised of any amount of data, while a smaller amount was "
            "memorised whole, so that training is known to suffice; more data changes little. Not where a reference model stands for the law of the data and "
            f"members are told from others with AUROC below {CHANCE}: what is counted there is no memory of single rows.",
            "Undertrained, too: for no such reason; the same model held more of other data, or no amount of data was memorised whole.",
        ]


def binding(point: DataSize, size: Sequence[DataSize], rules: Rules) -> str:
    """Which bound binds at a data size: a key of ``BINDINGS``.

    Args:
        point: what was found there.
        size: all data sizes of the same model size.
        rules: the thresholds.
    """
    if point.share >= rules.share:
        return "data"
    if point.falling is not None and point.falling > rules.falling:
        return "training"
    if _generalises(point, rules):
        return "structure"
    return "capacity" if full(point, size, rules) else "training"


def full(point: DataSize, size: Sequence[DataSize], rules: Rules) -> bool:
    """Whether a model is filled, so that more data change little: it holds nearly the most that its size held of any, and some data it memorised whole."""
    if point.share >= rules.share or _generalises(point, rules) or point.chance:
        return False
    return suffices(size, rules) and point.memorised >= rules.plateau * max(other.memorised for other in size)


def suffices(size: Sequence[DataSize], rules: Rules) -> bool:
    """Whether a model size memorised some data whole, so that its training is known to suffice."""
    return any(point.share >= rules.share for point in size)


def _generalises(point: DataSize, rules: Rules) -> bool:
    if point.training is None or point.validation is None or point.uniform is None:
        return False
    return point.validation - point.training <= rules.gap * point.validation and point.validation <= (1 - rules.gap) * point.uniform


def still_falling(curve: Sequence[Sequence[float]], training: Training | None = None) -> float | None:
    """How much of the whole fall of the training loss its last tenth brought, 0 or more; None where it never fell, or for under three points.

    The last tenth of the training, not of its steps: of a rate that ends at nothing every curve ends flat, whatever is left to learn. Of a loss that decays as
    exp(−λ · progress) from there on, it is e^(−0.9 λ) − e^(−λ) of the fall.

    Args:
        curve: rows of (step, training loss, …), steps ascending.
        training: by whose rates progress is counted (``Training.progress``). None: all steps count alike.
    """
    if len(curve) < 3:
        return None
    steps, losses = (np.array([row[column] for row in curve], dtype=float) for column in (0, 1))
    fall = losses[0] - losses[-1]
    if not np.isfinite(losses).all() or not fall > 1e-3 * abs(losses[0]):
        return None
    done = (steps - steps[0]) / (steps[-1] - steps[0]) if training is None else training.progress(steps.tolist()).numpy()
    before = np.interp(0.9, done, losses)
    return max(0.0, float((before - losses[-1]) / fall))
