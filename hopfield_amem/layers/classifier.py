"""A classifier that remembers: scikit-learn's estimator interface to a memory of labelled patterns."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.nn.functional import one_hot

from ..descent import Descent, FixedPoint, read
from ..energies import ReadEnergy, checks, presets
from ..kernels import engine, nearest
from .temperature import tempered

SLOTS, SHARE = 3.0, 0.5  # the median training sample retrieves itself and about two others


class HopfieldClassifier(ClassifierMixin, BaseEstimator):
    """Class probabilities ``P(c | x) = Σ_{μ: y_μ = c} p_μ(x*) / Σ_μ p_μ(x*)``: the retrieval weights of the stored samples, summed per class.

    ``fit`` stores the samples; nothing is optimised. With the default ``distance`` energy and no descent this is kernel regression on the labels
    (Nadaraya 1964, Watson 1964), as an energy the log-density ``−E(x) = log Σ exp(−½β‖x − ξ_μ‖²)/β``; sharper energies come close to the nearest
    neighbour. Distances mix features: scale them first where their units differ, for example by ``make_pipeline(StandardScaler(), HopfieldClassifier())``.

    Parameters:
        energy: the read energy, whose weights are never negative. None: ``presets.distance()``.
        beta: a number, "data", or None. "data" is the least β at which the median training sample, asked for itself, retrieves at most three samples
            (see ``hopfield_amem.layers.temperature.suited``). None: the β of the energy given, and "data" without an energy.
        descent: how a sample moves among the stored ones before it is read. None: not at all, ``FixedPoint(steps=1)``.

    Attributes after ``fit``: ``classes_``, ``energy_`` (the energy at its β), ``patterns_`` (n, d) and ``labels_`` (n,), indices into ``classes_``.

    A sample that no stored one reaches (an energy of finite reach) has energy +∞ and is given the class of the nearest, the limit β → ∞.
    Computation is in the dtype of the training samples, float32 or float64, in memory O(samples · (features + classes)).
    """

    def __init__(self, energy: ReadEnergy | None = None, beta: float | str | None = None, descent: Descent | None = None):
        self.energy = energy
        self.beta = beta
        self.descent = descent

    def fit(self, X, y) -> HopfieldClassifier:
        """Store samples (n, d) with their labels (n,), in place of what was stored before.

        Raises:
            ValueError: samples and labels that do not fit each other, a beta or an energy of a wrong kind.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, self.labels_ = np.unique(y, return_inverse=True)
        self.patterns_ = np.array(X)
        return self._tempered()

    def partial_fit(self, X, y, classes=None) -> HopfieldClassifier:
        """Store further samples (n, d) with labels (n,) beside those that are stored.

        Classes may come with their first samples, or before as ``classes``. β from data is determined anew. A call copies all that is stored.

        Raises:
            ValueError: as ``fit``; samples of another width.
        """
        if not hasattr(self, "patterns_"):
            self.fit(X, y)
            return self._widened(classes)
        X, y = validate_data(self, X, y, dtype=self.patterns_.dtype, reset=False)
        check_classification_targets(y)
        self._widened(classes)._widened(y)
        self.patterns_ = np.concatenate([self.patterns_, X])
        self.labels_ = np.concatenate([self.labels_, np.searchsorted(self.classes_, y)])
        return self._tempered()

    def predict(self, X) -> np.ndarray:
        """The class with the largest share of the weights. (n, d) -> (n,)"""
        shares = self.predict_proba(X)
        return self.classes_[shares.argmax(-1)]

    def predict_proba(self, X) -> np.ndarray:
        """Shares of the retrieval weights, each class its own. (n, d) -> (n, classes), rows sum to 1

        Raises:
            ValueError: an energy with negative weights, samples that do not fit.
        """
        query, keys = self._opened(X)
        labels = torch.from_numpy(self.labels_)
        values = one_hot(labels, len(self.classes_)).to(keys.dtype)
        shares = read(self.energy_, query, keys, values, FixedPoint(steps=1) if self.descent is None else self.descent)
        if bool((shares < 0).any()):
            raise ValueError(f"The retrieval weights of {self.energy_} are negative here, so they are no shares. Use an energy whose F rises everywhere.")
        total = shares.sum(-1, keepdim=True)
        unseen = (total == 0).squeeze(-1)
        shares = shares / torch.where(total == 0, 1.0, total)
        if bool(unseen.any()):
            shares[unseen] = values[nearest(self.energy_, query[unseen], keys)[1].squeeze(-1)]
        return shares.numpy()

    def score_samples(self, X) -> np.ndarray:
        """``−E(x)``, for ``distance`` the log-density of the stored samples up to a constant: low for outliers. (n, d) -> (n,)"""
        query, keys = self._opened(X)
        return -engine(self.energy_, query, keys).energy(query).numpy()

    def _tempered(self) -> HopfieldClassifier:
        """Choose the energy and its β for what is stored."""
        if not isinstance(self.energy, ReadEnergy | None) or not isinstance(self.descent, Descent | None):
            raise ValueError(
                f"energy is a ReadEnergy such as presets.entmax(), descent one such as FixedPoint(), or None; got {self.energy!r}, {self.descent!r}."
            )
        beta = "data" if self.energy is None and self.beta is None else self.beta
        patterns = torch.from_numpy(self.patterns_)
        self.energy_ = tempered(presets.distance() if self.energy is None else self.energy, beta, patterns, SLOTS, SHARE)
        checks.inputs(self.energy_, patterns, patterns, None, None)
        return self

    def _widened(self, labels) -> HopfieldClassifier:
        """Let the classes include those of some labels."""
        if labels is not None:
            wider = np.union1d(self.classes_, labels)
            self.labels_ = np.searchsorted(wider, self.classes_)[self.labels_]
            self.classes_ = wider
        return self

    def _opened(self, X) -> tuple[Tensor, Tensor]:
        """Queries and stored patterns as tensors of one dtype."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self.patterns_.dtype, order="C", reset=False)
        return torch.tensor(X), torch.from_numpy(self.patterns_)
