"""A detector of outliers that remembers: scikit-learn's estimator interface to the free energies of Hopfield Boosting."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from ..energies import ReadEnergy, presets
from ..energies.border import comparable, difference, resting, shares
from ..kernels import Gates, engine
from ..kernels.rows import fitting
from .temperature import tempered

SLOTS, SHARE = 3.0, 0.5  # the median training sample retrieves itself and about two others
SCORES = 2**22  # so many scores are held at once where every training sample has a memory of its own


class HopfieldDetector(BaseEstimator):
    """Scores how far inside a distribution a sample lies: ``−A(x)``, and ``B(x) − A(x)`` where examples of outliers are known.

    A is the free energy of a memory of the training samples (``free_energy``), B that of a memory of outliers: the scores of Hopfield Boosting (Hofmann
    et al. 2024, arXiv 2405.08766). ``fit`` stores; nothing is optimised. Features decide what is near: scale them, or take those of a trained network.

    Parameters:
        energy: a read energy whose weights sum to one. None: ``presets.distance()``.
        beta: a number, "data", or None. "data" is the least β at which the median training sample, asked for itself, retrieves at most three samples.
            None: the β of the energy given, and "data" without an energy.
        accept: share of the training samples, each judged by the others, that ``predict`` is to accept.

    Attributes after ``fit``: ``energy_`` (the energy at its β), ``patterns_`` (n, d), ``outliers_`` (m, d) or None, ``offset_``, the score that the accepted
    share of the training samples exceeds.

    It has the methods of scikit-learn's novelty detectors, not their base class: a training sample is judged without itself in ``fit`` alone, so ``predict``
    of training samples rarely calls one an outlier.
    """

    def __init__(self, energy: ReadEnergy | None = None, beta: float | str | None = None, accept: float = 0.95):
        self.energy = energy
        self.beta = beta
        self.accept = accept

    def fit(self, X, y=None, outliers=None) -> HopfieldDetector:
        """Store samples from inside (n, d), and examples of outliers (m, d) where there are any.

        Raises:
            ValueError: fewer than two samples, outliers of another width, an energy whose weights do not sum to one, a share outside (0, 1].
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        if not 0 < self.accept <= 1:
            raise ValueError(f"accept is the share of the training samples that pass, in (0, 1], got {self.accept!r}.")
        energy = presets.distance() if self.energy is None else self.energy
        comparable(energy)
        self.patterns_ = np.array(X)
        self.outliers_ = None if outliers is None else np.array(validate_data(self, outliers, dtype=self.patterns_.dtype, reset=False))
        beta = "data" if self.energy is None and self.beta is None else self.beta
        self.energy_ = tempered(energy, beta, torch.from_numpy(self.patterns_), SLOTS, SHARE)
        self.offset_ = float(np.quantile(self._scores(torch.from_numpy(self.patterns_), without_itself=True), 1 - self.accept, method="lower"))
        return self

    def score_samples(self, X) -> np.ndarray:
        """How far inside, higher is further. (n, d) -> (n,)"""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self.patterns_.dtype, order="C", reset=False)
        return self._scores(torch.tensor(X))

    def decision_function(self, X) -> np.ndarray:
        """The score above that which is just accepted, ``score_samples − offset_``. (n, d) -> (n,)"""
        return self.score_samples(X) - self.offset_

    def predict(self, X) -> np.ndarray:
        """1 for samples that are accepted, −1 for outliers. (n, d) -> (n,)"""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def _scores(self, samples: Tensor, without_itself: bool = False) -> np.ndarray:
        """The scores; ``without_itself`` deletes sample i from the memory for sample i."""
        rows = fitting(len(self.patterns_), SCORES)
        scores = [self._part(samples[i : i + rows], i if without_itself else None) for i in range(0, len(samples), rows)]
        return torch.cat(scores).numpy()

    def _part(self, part: Tensor, first: int | None) -> Tensor:
        others = None
        if first is not None:
            others = torch.arange(len(self.patterns_)) != (first + torch.arange(len(part))).unsqueeze(-1)
        inside = self._free_energy(part, self.patterns_, others)
        if self.outliers_ is None:
            return -inside
        return -difference(inside, self._free_energy(part, self.outliers_, None))

    def _free_energy(self, part: Tensor, memory: np.ndarray, presence: Tensor | None) -> Tensor:
        """``free_energy`` in bounded memory."""
        keys = torch.from_numpy(memory)
        level = resting(self.energy_, keys) / self.energy_.inverse_temperature(1, part)
        return engine(self.energy_, part, keys, Gates(shares(presence, keys))).energy(part) + level
