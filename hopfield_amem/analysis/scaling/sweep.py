"""Recall errors over widths, amounts of data and schemes, with the laws fitted to them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import seeds
from ..power_laws import PowerLaw, power_law
from ..result import Result, plain
from ..runs import take
from . import doors
from .prediction import predicted_recall_error
from .sampling import sampled_errors
from .schemes import SCHEMES, BestThresholdScheme, Scheme, ThresholdScheme, described, from_description, scheme
from .zipf import ZipfTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREDICTED = 10**5  # inputs × classes up to which the closed form is evaluated beside a sweep, a second at the most
BLOCK = 2**23  # counts at once
JOINT = {"dims": (10, 20, 50, 100, 200, 1000), "tokens": (10, 100, 1000, 10_000)}


@dataclass(frozen=True)
class Sweep(Result):
    """Recall errors of several schemes, at each width and amount of data.

    Attributes:
        task: the data.
        schemes: names, in order.
        dims: widths d.
        tokens: amounts of data T; None is all of it, q from the true p.
        errors: (schemes, tokens, dims, trials).
        predicted: the closed form where T is None, (schemes, dims); NaN where it was not evaluated.
    """

    task: ZipfTask
    schemes: tuple[str, ...]
    dims: tuple[int, ...]
    tokens: tuple[int | None, ...]
    errors: Tensor
    predicted: Tensor

    def mean(self, name: str, tokens: int | None = None) -> Tensor:
        """Mean error of a scheme at each width, (dims,)."""
        return self.drawn(name, tokens).mean(-1)

    def drawn(self, name: str, tokens: int | None = None) -> Tensor:
        """Errors of a scheme at each width and trial, (dims, trials). Raises ValueError where there is no such scheme or amount."""
        if name not in self.schemes or tokens not in self.tokens:
            raise ValueError(f"The sweep has the schemes {self.schemes} and the amounts of data {self.tokens}, not {name!r} at {tokens!r}.")
        return self.errors[self.schemes.index(name), self.tokens.index(tokens)]

    @cached_property
    def laws(self) -> dict[tuple[str, int | None], PowerLaw]:
        """``law`` over all widths by (scheme, amount of data), fitted once: where there are three widths and no mean error is 0."""
        return {
            (name, amount): self.law(name, tokens=amount)
            for name in self.schemes for amount in self.tokens
            if len(self.dims) >= 3 and bool((self.mean(name, amount) > 0).all())
        }  # fmt: skip

    def law(self, name: str, *, tokens: int | None = None, between: tuple[float, float] = (0, math.inf)) -> PowerLaw:
        """``𝓔 = c · d^exponent`` over the widths between two bounds; the interval resamples trials. Raises ValueError below three widths."""
        chosen = [i for i, dim in enumerate(self.dims) if between[0] <= dim <= between[1]]
        return power_law([self.dims[i] for i in chosen], self.drawn(name, tokens)[chosen].mT)

    def data_law(self, name: str, dim: int, *, between: tuple[float, float] = (0, math.inf)) -> PowerLaw:
        """``𝓔 = c · T^exponent`` at one width, over the amounts of data between two bounds. Raises ValueError below three amounts."""
        if dim not in self.dims:
            raise ValueError(f"The sweep has the widths {self.dims}, not {dim!r}.")
        amounts = [amount for amount in self.tokens if amount is not None and between[0] <= amount <= between[1]]
        found = [self.drawn(name, amount)[self.dims.index(dim)] for amount in amounts]
        return power_law(amounts, torch.stack(found).mT if found else torch.zeros(0))

    def to_json(self) -> dict[str, Any]:
        laws = [
            {"scheme": name, "T": amount, "factor": law.factor, "exponent": law.exponent, "interval": list(law.interval)}
            for (name, amount), law in self.laws.items()
        ]
        return super().to_json() | {"laws": plain(laws)}

    def rows(self) -> list[dict[str, Any]]:
        trials = self.errors.shape[-1]
        return [
            {
                "scheme": name, "T": amount, "d": dim, "error": float(self.errors[i, j, k].mean()),
                "standard error": float(self.errors[i, j, k].std()) / trials**0.5 if trials > 1 else None,
                "predicted": None if amount is not None or self.predicted[i, k].isnan() else float(self.predicted[i, k]),
                "trials": trials, "N": self.task.inputs, "M": self.task.classes, "alpha": self.task.alpha,
            }
            for i, name in enumerate(self.schemes) for j, amount in enumerate(self.tokens) for k, dim in enumerate(self.dims)
        ]  # fmt: skip

    def plot(self) -> Figure:
        from ..plots.scaling import recall_errors

        return recall_errors(self)


def sweep(
    task: ZipfTask, schemes: Sequence[str] | Mapping[str, Scheme], dims: Sequence[int], tokens: Sequence[int | None] = (None,), *,
    trials: int = 100, seed: int = 0, folder: str | os.PathLike[str] | None = None, processes: int = 1,
) -> Sweep:  # fmt: skip
    """Recall errors of outer-product memories on Zipf data: every scheme at every width d and amount of data T, over fresh draws of embeddings and data.

    Args:
        task: N, M, α.
        schemes: names in ``SCHEMES``, each once, or schemes by names of your own, which may name one scheme twice.
        dims: widths d.
        tokens: amounts of data T, of which q takes the empirical frequencies; None is infinite data.
        trials: draws at each point.
        seed: at least 0.
        folder: where finished points are kept, see ``analysis.take``; a sweep cut short goes on there.
        processes: how many work at once.

    Raises:
        TypeError, ValueError: an unknown scheme, numbers below one, the same one twice, nothing asked.
    """
    if isinstance(schemes, str):
        raise TypeError(f"schemes must be a list of names, got the text {schemes!r}. Give [{schemes!r}].")
    named = dict(schemes) if isinstance(schemes, Mapping) else {name: scheme(name) for name in schemes}
    if not named:
        raise ValueError(f"There is no scheme to sweep. Known are {', '.join(map(repr, SCHEMES))}.")
    doors.counts(dims, "dims")
    _amounts(tokens, named)
    doors.count(trials, "trials")
    seeds.check(seed)
    kinds = {name: described(chosen) for name, chosen in named.items()}
    once = [kind for place, kind in enumerate(kinds.values()) if kind not in list(kinds.values())[:place]]  # two names of one scheme are measured once
    asked = [
        {"task": asdict(task), "scheme": kind, "dim": dim, "tokens": amount, "trials": trials, "seed": seed}
        for kind in once for amount in tokens for dim in dims
    ]  # fmt: skip
    taken, each = take(measured, asked, folder=folder, processes=processes, title="recall errors"), len(tokens) * len(dims)
    found = [record for kind in kinds.values() for record in taken[each * once.index(kind) : each * (once.index(kind) + 1)]]
    shape = (len(named), len(tokens), len(dims))
    errors = torch.tensor([record["errors"] for record in found], dtype=torch.float64).view(*shape, trials)
    predicted = torch.tensor([math.nan if record["predicted"] is None else record["predicted"] for record in found], dtype=torch.float64).view(*shape)
    whole = list(tokens).index(None) if None in tokens else 0
    return Sweep(task, tuple(named), tuple(dims), tuple(tokens), errors, predicted[:, whole])


def _amounts(tokens: Sequence[int | None], named: Mapping[str, Scheme]) -> None:
    """Raise where amounts of data are none, below one, or the same, or where a scheme cannot take counts."""
    finite = [amount for amount in tokens if amount is not None]
    if finite or not len(tokens):
        doors.counts(finite, "tokens")
    if len(tokens) - len(finite) > 1:
        raise ValueError("tokens holds None, which is all data, more than once.")
    if finite and any(isinstance(chosen, BestThresholdScheme) for chosen in named.values()):
        raise ValueError("The best threshold is searched for the true p: sweep it with tokens=(None,) alone, and ThresholdScheme with finite data.")


def measured(config: dict[str, Any]) -> dict[str, Any]:
    """One point of a sweep, from and to what JSON holds."""
    task, chosen, trials = ZipfTask(**config["task"]), from_description(config["scheme"]), config["trials"]
    seed = seeds.mixed(config["seed"], task.inputs, config["dim"], config["tokens"] or 0)
    if config["tokens"] is None:
        return _on_all_data(task, chosen, (config["dim"], trials, seed))
    size = max(1, BLOCK // task.inputs)  # trials whose counts are held at once
    errors: list[float] = []
    for first in range(0, trials, size):
        block, own = min(size, trials - first), seeds.mixed(seed, first)
        weights = chosen.weights(task.frequencies(config["tokens"], block, seed=own), task.labels, config["dim"])
        errors += sampled_errors(task.probability, weights, task.labels, dim=config["dim"], trials=block, seed=own).tolist()
    return {"errors": errors, "predicted": None}


def _on_all_data(task: ZipfTask, chosen: Scheme, draws: tuple[int, int, int]) -> dict[str, Any]:
    """A point with the true p, for (width, trials, seed)."""
    dim, trials, seed = draws
    probability, labels = task.probability, task.labels
    weights = chosen.weights(probability, labels, dim)
    affordable = task.inputs * task.classes <= PREDICTED
    predicted = predicted_recall_error(probability, weights, labels, dim).value if affordable else None
    return {"errors": sampled_errors(probability, weights, labels, dim=dim, trials=trials, seed=seed).tolist(), "predicted": predicted}


def joint_table(*, trials: int = 100, seed: int = 0, folder: str | os.PathLike[str] | None = None, processes: int = 1) -> Sweep:
    """The authors' joint table of widths and amounts of data (arXiv 2310.02984, figure of the scaling in d and T): N = 1000, M = 5, α = 2, q = 1 on the
    ``P = ⌊d/12⌋`` inputs seen most often.

    At d = 10 nothing is stored, and an empty memory decodes to the first class.
    """
    schemes = {"top d/12": ThresholdScheme(per=12.0)}
    return sweep(ZipfTask(1000, 5, 2.0), schemes, JOINT["dims"], JOINT["tokens"], trials=trials, seed=seed, folder=folder, processes=processes)
