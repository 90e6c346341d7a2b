"""How well a score tells what lies inside a distribution from what lies outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .result import Result


@dataclass(frozen=True)
class Detection(Result):
    """How well a score separates two samples.

    Attributes:
        auroc: probability that a sample from inside scores higher than one from outside (ties count half).
        false_positive_rate: share of the outliers that pass where ``accept`` of the inliers do: FPR95 for 0.95.
        accept: that share of the inliers.
        kept, passed: the receiver operating characteristic, shares of the inliers and of the outliers above every threshold, (t,) each.
    """

    auroc: float
    false_positive_rate: float
    accept: float
    kept: np.ndarray
    passed: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """The numbers in one row."""
        return [{"AUROC": self.auroc, f"FPR{100 * self.accept:g}": self.false_positive_rate}]

    def plot(self):
        """The receiver operating characteristic, with the false positive rate marked."""
        from .plots.uses import characteristic

        return characteristic(self)

    def __str__(self) -> str:
        return f"AUROC {self.auroc:.4f}, FPR{100 * self.accept:g} {self.false_positive_rate:.1%}"


def detection(inside: ArrayLike, outside: ArrayLike, *, accept: float = 0.95) -> Detection:
    """Measure a score on samples from inside (n,) and outside (m,) of a distribution, higher meaning inside.

    Raises:
        ValueError: an empty sample, a score that is NaN, a share outside (0, 1].
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    scores = [np.asarray(sample, dtype=float).ravel() for sample in (inside, outside)]
    if any(len(s) == 0 or np.isnan(s).any() for s in scores):
        raise ValueError(f"detection needs scores from inside and from outside, none of them NaN; got {len(scores[0])} and {len(scores[1])}.")
    if not 0 < accept <= 1:
        raise ValueError(f"accept is the share of the inliers that pass, in (0, 1], got {accept!r}.")
    label, score = np.repeat([1, 0], [len(s) for s in scores]), np.concatenate(scores)
    rank = np.unique(score, return_inverse=True)[1]  # scores of −∞ are ranked like any other
    passed, kept, _ = roc_curve(label, rank, drop_intermediate=False)
    return Detection(float(roc_auc_score(label, rank)), float(passed[np.argmax(kept >= accept)]), accept, kept, passed)
