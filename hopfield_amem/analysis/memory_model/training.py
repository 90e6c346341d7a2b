"""The best data size from training curves: the least at which the training loss meets the least validation loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLD, WINDOW = 0.04, 1000  # σ² and iterations of arXiv 2405.08707, §6.3


@dataclass(frozen=True)
class DataSelection(Result):
    """``MSE(L_train, L_min-val)`` of every data size, ascending, and the least size where it is below the threshold.

    Attributes:
        sizes: D.
        errors: mean square of the training loss less the least validation loss.
        threshold: σ².
        chosen: D*, None where no size is enough.
    """

    sizes: tuple[float, ...]
    errors: tuple[float, ...]
    threshold: float
    chosen: float | None

    def rows(self) -> list[dict[str, Any]]:
        return [{"D": size, "MSE": error, "chosen": "D*" if size == self.chosen else ""} for size, error in zip(self.sizes, self.errors, strict=True)]

    def plot(self) -> Figure:
        from ..plots.memory_model import selection

        return selection(self)


def select_data_size(
    train: Mapping[float, Sequence[float]], validation: Mapping[float, Mapping[int, float]], *, threshold: float = THRESHOLD, window: int = WINDOW
) -> DataSelection:
    """``D* = min{D : MSE(L_train, L_min-val) < σ²}`` (Niu et al. 2024, arXiv 2405.08707, §6.3): beyond it the model no longer memorises everything.

    The mean is over the training losses of the ``window`` iterations before the validation loss is least. The paper chose σ² = 0.04 by eye.

    Args:
        train: data size -> training loss of every iteration, from 0.
        validation: data size -> iteration -> validation loss.

    Raises:
        ValueError: no data size, sizes that differ between the two, no evaluation, NaN, iterations that are no whole numbers, a least validation loss before
            there are ``window`` losses.
    """
    if not train or set(train) != set(validation):
        raise ValueError(f"Training and validation losses are of the same data sizes, one at least; got {sorted(train)} and {sorted(validation)}.")
    if not _whole(window) or window < 1:
        raise ValueError(f"window counts iterations, a whole number of at least 1; got {window!r}.")
    sizes = sorted(train)
    return first_below(sizes, [_error(size, train[size], validation[size], window) for size in sizes], threshold)


def first_below(sizes: Sequence[float], errors: Sequence[float], threshold: float = THRESHOLD) -> DataSelection:
    """The same from errors that are known: the least size whose error is strictly below the threshold.

    Raises:
        ValueError: no size, sizes that do not ascend, as many errors not given, errors that are negative or NaN, a threshold ≤ 0.
    """
    sizes, errors = [float(size) for size in sizes], [float(error) for error in errors]
    if not sizes or len(sizes) != len(errors) or list(sizes) != sorted(set(sizes)) or not all(error >= 0 for error in errors) or not threshold > 0:
        raise ValueError(f"Ascending data sizes, one error ≥ 0 for each, and a threshold > 0; got {sizes!r}, {errors!r}, {threshold!r}.")
    chosen = next((size for size, error in zip(sizes, errors, strict=True) if error < threshold), None)
    return DataSelection(tuple(sizes), tuple(errors), threshold, chosen)


def _whole(number: object) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def _error(size: float, train: Sequence[float], validation: Mapping[int, float], window: int) -> float:
    if not all(map(_whole, validation)):
        raise ValueError(f"Iterations of the validation losses at data size {size:g} are whole numbers, got {list(validation)[:4]!r} ….")
    losses = np.asarray(train, dtype=float)
    evaluated = np.asarray(list(validation.values()), dtype=float)
    if losses.ndim != 1 or not len(evaluated) or not np.isfinite(losses).all() or not np.isfinite(evaluated).all():
        raise ValueError(f"The losses at data size {size:g} must be finite numbers, at least one evaluation among them. A run that diverged has no minimum.")
    least = min(validation, key=lambda iteration: validation[iteration])
    if not window <= least <= len(losses):
        raise ValueError(
            f"At data size {size:g} the validation loss is least at iteration {least}, with {len(losses)} training losses and a window of {window}."
        )
    return float(np.mean((losses[least - window : least] - validation[least]) ** 2))
