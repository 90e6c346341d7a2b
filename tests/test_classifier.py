"""The classifier keeps scikit-learn's contract, and its default is as good as the neighbours'."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hopfield_amem import presets
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import HopfieldClassifier

X, Y = make_blobs(90, 4, centers=3, random_state=0)


@parametrize_with_checks([HopfieldClassifier(), HopfieldClassifier(presets.epanechnikov(), "data", FixedPoint(steps=3))])
@pytest.mark.filterwarnings("ignore:Estimator's parameters changed after set_params raised")  # scikit-learn tells of its own check
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def test_digits_without_tuning():
    """70 % of the digits stored, 30 % asked for, five splits: no worse than the nearest neighbours of scikit-learn's default."""
    data, labels = load_digits(return_X_y=True)
    scores = {"memory": [], "neighbours": []}
    for seed in range(5):
        stored, asked, stored_labels, asked_labels = train_test_split(data, labels, test_size=0.3, random_state=seed)
        for name, model in (("memory", HopfieldClassifier()), ("neighbours", KNeighborsClassifier())):
            scores[name].append(model.fit(stored, stored_labels).score(asked, asked_labels))
    memory, neighbours = (np.mean(scores[name]) for name in ("memory", "neighbours"))
    print(f"digits, five 70/30 splits: HopfieldClassifier() {memory:.4f}, KNeighborsClassifier() {neighbours:.4f}")
    assert memory >= 0.97 and memory > neighbours - 0.005


@pytest.mark.parametrize("energy", [presets.distance(0.3), presets.log_sum_exp(0.3), presets.sparsemax(0.1), presets.dense(3)], ids=str)
@pytest.mark.parametrize("descent", [None, FixedPoint(steps=3, tolerance=0)])
def test_probabilities_are_retrieval_weights_summed_per_class(energy, descent):
    model = HopfieldClassifier(energy, descent=descent).fit(X[:60], Y[:60])
    state, keys = torch.tensor(X[60:]), torch.tensor(X[:60])
    for _ in range(0 if descent is None else 2):
        state = energy.settle(state, keys)
    weights = energy.weights(state, keys).numpy()
    shares = np.stack([weights[:, Y[:60] == label].sum(-1) for label in range(3)], -1) / weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X[60:]), shares, rtol=1e-10, atol=1e-12)
    assert model.energy_ == energy and np.array_equal(model.predict(X[60:]), shares.argmax(-1))


def test_scores_are_minus_the_energy_and_low_for_outliers():
    model = HopfieldClassifier().fit(X, Y)
    inside, outside = model.score_samples(X), model.score_samples(X + 100)
    np.testing.assert_allclose(inside, -model.energy_(torch.tensor(X), torch.tensor(X)).numpy(), rtol=1e-10)
    assert outside.max() < inside.min()
    density = HopfieldClassifier(presets.epanechnikov(1.0)).fit(X, Y)
    assert np.isneginf(density.score_samples(X + 100)).all()
    np.testing.assert_array_equal(density.predict(X + 100), KNeighborsClassifier(1).fit(X, Y).predict(X + 100))  # nothing in reach: the nearest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_in_and_out_in_the_dtype_of_the_training_samples(dtype):
    labels = np.array(["a", "b", "c"])[Y]
    model = HopfieldClassifier().fit(np.asfortranarray(X.astype(dtype)), labels)
    assert model.predict_proba(X[::-1]).dtype == dtype and model.score_samples(X).dtype == dtype and model.patterns_.dtype == dtype
    assert model.predict(X[:1]).tolist() == [labels[0]]


def test_further_samples_are_added():
    whole = HopfieldClassifier().fit(X, Y)
    order = np.argsort(Y, kind="stable")  # one class after the other: labels that come late are new classes
    parts = HopfieldClassifier()
    for part in np.array_split(order, 5):
        parts.partial_fit(X[part], Y[part])
    assert np.array_equal(parts.classes_, whole.classes_)
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), rtol=0.05, atol=0.05)  # β is sought to 1 %
    late = HopfieldClassifier().partial_fit(X[Y == 1], Y[Y == 1], classes=[0, 1, 2])
    assert late.predict_proba(X).shape == (90, 3) and np.array_equal(late.predict(X), np.ones(90))
    late.partial_fit(X[Y != 1], Y[Y != 1])
    assert late.score(X, Y) == whole.score(X, Y)
    assert len(late.fit(X[:5], Y[:5]).patterns_) == 5  # fit begins anew
    with pytest.raises(ValueError, match="features"):
        late.partial_fit(X[:, :2], Y)


def test_pipelines_and_grids_over_energies_and_temperatures():
    grid = GridSearchCV(
        make_pipeline(StandardScaler(), HopfieldClassifier()),
        {
            "hopfieldclassifier__energy": [presets.distance(), presets.epanechnikov()],
            "hopfieldclassifier__beta": ["data", 1e-6, 2.0],
            "hopfieldclassifier__descent": [None, FixedPoint(2)],
        },
        cv=3,
    ).fit(X, Y)
    assert grid.best_score_ > 0.85 and grid.best_params_["hopfieldclassifier__beta"] != 1e-6
    twin = clone(HopfieldClassifier(presets.entmax(beta=2.0), 0.5, FixedPoint(3)))
    assert twin.get_params() == {"energy": presets.entmax(beta=2.0), "beta": 0.5, "descent": FixedPoint(3)}
    assert twin.set_params(beta=None).fit(X, Y).energy_.beta == 2.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: HopfieldClassifier("softmax").fit(X, Y), "energy is a ReadEnergy"),
        (lambda: HopfieldClassifier(descent="fast").fit(X, Y), "descent one such as"),
        (lambda: HopfieldClassifier(beta="scale").fit(X, Y), "'data'"),
        (lambda: HopfieldClassifier(beta=0.0).fit(X, Y), "positive"),
        (lambda: HopfieldClassifier(presets.linear_attention()).fit(X, Y).predict(-X), "negative"),
        (lambda: HopfieldClassifier().fit(X, X[:, 0]), "continuous"),
    ],
)
def test_errors_say_what_to_do(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
    with pytest.raises(NotFittedError):
        HopfieldClassifier().score_samples(X)
