"""BiSHop (Xu et al. 2024): tables by Hopfield layers in two directions, with weights that may be sparse, as a scikit-learn pipeline.

Every feature, or patch of features, becomes a token. One layer lets the features of a sample ask each other, one its channels; a learned query reads what is
left. That is the case of the paper, on the tables that come with scikit-learn: it is not its benchmark, and not its whole architecture.
"""

from __future__ import annotations

from statistics import fmean

import numpy as np
import torch
from matplotlib.figure import Figure
from parts.paired import Paired, paired
from reproduction import Claim, Paper, Reproduction, Scale, judged, reproduce
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import validate_data
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.analysis import take
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.layers import HopfieldAttention, HopfieldClassifier, HopfieldPooling

PAPER = Paper("BiSHop: Bi-Directional Cellular Learning for Tabular Data with Generalized Sparse Modern Hopfield Model", "2404.03830", "11 minutes on one core")
TABLES = {"breast cancer": load_breast_cancer, "wine": load_wine, "digits": load_digits}
DIM, HEADS, TOKENS = 16, 2, 16  # width of a token, heads; wider tables are cut into patches, so that there are at most so many tokens


def sparse(alpha: float, width: int) -> ReadEnergy:
    """α-entmax, at α = 1 softmax; β = 1/√width."""
    return presets.log_sum_exp(width**-0.5) if alpha == 1 else presets.entmax(alpha, width**-0.5)


class TwoWays(nn.Module):
    """Logits of a sample, (n, features) -> (n, classes): patches embedded, features mixed, channels mixed, pooled."""

    def __init__(self, features: int, classes: int, alpha: float, both: bool):
        super().__init__()
        self.patch = -(-features // TOKENS)
        tokens = -(-features // self.patch)
        self.embedding = nn.Parameter(torch.randn(tokens, self.patch, DIM))
        self.shift = nn.Parameter(torch.randn(tokens, DIM))
        self.features = HopfieldAttention(DIM, HEADS, sparse(alpha, DIM // HEADS))
        self.channels = HopfieldAttention(tokens, 1, sparse(alpha, tokens)) if both else None
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(3))
        self.pooling = HopfieldPooling(DIM, HEADS, sparse(alpha, DIM // HEADS), queries=1)
        self.output = nn.Linear(DIM, classes)

    def forward(self, samples: Tensor) -> Tensor:
        patches = pad(samples, (0, -samples.shape[1] % self.patch)).unflatten(1, (-1, self.patch))
        x = torch.einsum("ntp,tpd->ntd", patches, self.embedding) + self.shift
        x = x + self.features(self.norms[0](x))
        if self.channels is not None:
            x = x + self.channels(self.norms[1](x).mT).mT
        return self.output(self.pooling(self.norms[2](x)).squeeze(1))


class TwoWayHopfieldClassifier(ClassifierMixin, BaseEstimator):
    """``TwoWays`` as an estimator: trained by Adam on the cross-entropy. ``alpha`` is the sparsity of all weights, ``both`` whether channels are mixed, too."""

    def __init__(self, alpha: float = 1.5, both: bool = True, steps: int = 300, seed: int = 0):
        self.alpha = alpha
        self.both = both
        self.steps = steps
        self.seed = seed

    def fit(self, X, y):
        X, y = validate_data(self, X, y, dtype=np.float32)
        self.classes_, labels = np.unique(y, return_inverse=True)
        torch.manual_seed(self.seed)
        samples, answers = torch.from_numpy(X.copy()), torch.from_numpy(labels)
        self.model_ = TwoWays(X.shape[1], len(self.classes_), self.alpha, self.both)
        optimizer = torch.optim.AdamW(self.model_.parameters(), lr=1e-2, weight_decay=1e-2)
        for _ in range(self.steps):
            rows = torch.randint(len(samples), (64,))
            optimizer.zero_grad()
            cross_entropy(self.model_(samples[rows]), answers[rows]).backward()
            optimizer.step()
        return self

    @torch.no_grad()
    def predict_proba(self, X):
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return self.model_(torch.from_numpy(X.copy())).double().softmax(-1).numpy()

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(-1)]


def estimators(steps: int) -> dict[str, BaseEstimator]:
    """What is compared, each behind a scaler."""
    return {
        "two ways, softmax": TwoWayHopfieldClassifier(1.0, steps=steps),
        "two ways, 1.5-entmax": TwoWayHopfieldClassifier(1.5, steps=steps),
        "two ways, sparsemax": TwoWayHopfieldClassifier(2.0, steps=steps),
        "features only, 1.5-entmax": TwoWayHopfieldClassifier(1.5, both=False, steps=steps),
        "stored samples": HopfieldClassifier(),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
        "logistic regression": LogisticRegression(max_iter=1000),
    }


def validated(config: dict) -> dict:
    """AUC (one class against the rest) and accuracy of every fold."""
    samples, labels = TABLES[config["table"]](return_X_y=True)
    folds = StratifiedKFold(config["folds"], shuffle=True, random_state=0)
    estimator = make_pipeline(StandardScaler(), estimators(config["steps"])[config["model"]])
    scores = cross_validate(estimator, samples, labels, cv=folds, scoring=("roc_auc_ovr", "accuracy"), error_score="raise")
    return {"auc": scores["test_roc_auc_ovr"].tolist(), "accuracy": scores["test_accuracy"].tolist(), "fit seconds": scores["fit_time"].tolist()}


def folds(records: list[dict], model: str, measure: str = "auc") -> list[float]:
    """A measure of a model in every fold of every table."""
    return [value for record in records if record["model"] == model for value in record[measure]]


def compared(records: list[dict], one: str, other: str) -> Paired:
    """The difference of the AUC in percent, one minus other, over all folds."""
    return paired(*([100 * share for share in folds(records, model)] for model in (one, other)))


def claims(records: list[dict]) -> tuple[Claim, ...]:
    entmax, sparsest = "two ways, 1.5-entmax", "two ways, sparsemax"
    asked = (
        ("better than gradient boosting", "ahead on its tables", entmax, "gradient boosting"),
        ("better than logistic regression", "ahead on its tables", entmax, "logistic regression"),
        ("both directions better than one", "better", entmax, "features only, 1.5-entmax"),
        ("sparse weights better than softmax (α = 1.5)", "better; α is learned there", entmax, "two ways, softmax"),
        ("sparse weights better than softmax (α = 2)", "better; α is learned there", sparsest, "two ways, softmax"),
    )
    result = []
    for what, paper, one, other in asked:
        mean, low, high = compared(records, one, other)
        result.append(Claim(f"{what}: AUC in %", paper, f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] ({other})", judged(low > 0, mean > 0)))
    scores = ", ".join(f"{table} {100 * fmean(record['auc']):.2f}" for record in records if record["model"] == entmax for table in [record["table"]])
    result.append(Claim("AUC in % on its own tables", "Adult 92.97, Jannis 90.63, mean of the OpenML tables 81.21", f"other tables: {scores}", "not tested"))
    return tuple(result)


def drawn(records: list[dict]) -> Figure:
    """The AUC that is missing to 1, of every fold, table by table."""
    tables = list(dict.fromkeys(record["table"] for record in records))
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for place, table in zip(figure.subplots(1, len(tables), sharey=True, squeeze=False)[0], tables, strict=True):
        rows = [record for record in records if record["table"] == table]
        for index, record in enumerate(rows):
            place.plot(record["auc"], [index] * len(record["auc"]), MARKERS[index], color=COLOURS[index], alpha=0.5)
            place.plot([fmean(record["auc"])], [index], "|", color=COLOURS[7], markersize=16)
        place.set(title=table, xlabel="AUC of every fold, and their mean", yticks=range(len(rows)), yticklabels=[record["model"] for record in rows])
        place.locator_params(axis="x", nbins=4)
    return figure


def work(scale: Scale) -> Reproduction:
    size = {"folds": scale.pick(2, 4), "steps": scale.pick(10, 300)}
    tables = scale.pick(("wine",), tuple(TABLES))
    records = take(validated, [size | {"table": table, "model": model} for table in tables for model in estimators(1)], folder=scale.runs)
    keep = ("table", "model", "auc", "accuracy", "fit seconds")
    return Reproduction(claims(records), drawn(records), {"size": size, "models": [{name: record[name] for name in keep} for record in records]})


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
