"""The work of a sweep: what one run trains and measures, and which runs are trained as one stack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from ..runs import Record
from ..runs.identity import work_name
from .corpus import Corpus, MakeData
from .laws import membership_f1_at
from .measures import findings
from .models import MakeModel, parameters
from .stacked import train_together
from .training import Trained, Training

STACK = 24  # runs of one stack, at most
APART = ("examples", "seed")  # in which runs of one stack may differ


@dataclass(frozen=True)
class Runs:
    """The work of a sweep, ``config -> findings``: one run by itself, or several of one shape as a stack (``analysis.runs.Together``).

    Attributes:
        make_model, make_data, training: as ``sweep`` was given them.
        size: names in a config that are arguments of ``make_model``.
    """

    make_model: MakeModel
    make_data: MakeData
    training: Training
    size: tuple[str, ...]
    _large: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)  # parameters by shape, counted once

    @property
    def run_name(self) -> str:
        """By what records are kept, beside their configs: the names of what makes models and data.

        Raises:
            ValueError: made by lambdas, or by objects of a class that does not tell them apart.
        """
        names = [work_name(made) for made in (self.make_model, self.make_data)]
        nameless = next((name for name in names if "<lambda>" in name), None)
        if nameless is not None:
            raise ValueError(f"Runs are kept by the names of their model and data, and all lambdas of a place have the same, {nameless}: give a function.")
        return f"Runs({', '.join(names)})"

    def __call__(self, config: Record) -> Record:
        (found,) = self.together([config])
        if isinstance(found, Exception):
            raise found
        return found

    def stacks(self, configs: Sequence[Record]) -> list[list[int]]:
        """Runs that differ only in data size and seed, up to 24; the largest models first, so that processes end at about the same time."""
        groups: dict[str, list[int]] = {}
        for place, config in enumerate(configs):
            shape = {name: value for name, value in config.items() if name not in APART}
            groups.setdefault(json.dumps(shape, sort_keys=True), []).append(place)
        if len(groups) > 1:  # one has no order
            self._large.update({shape: self._parameters(configs[group[0]]) for shape, group in groups.items() if shape not in self._large})
        ordered = sorted(groups, key=lambda shape: -self._large.get(shape, 0))
        return [group[first : first + STACK] for group in map(groups.__getitem__, ordered) for first in range(0, len(group), STACK)]

    def together(self, configs: Sequence[Record]) -> list[Record | Exception]:
        """Train the runs of one shape, those of the reference models they need among them, and measure each."""
        corpora = [self.make_data(config["examples"], config["seed"]) for config in configs]
        expected = {config["seed"]: i for i, config in enumerate(configs) if corpora[i].reference is not None}
        given = [*corpora, *(_referred(corpora[i]) for i in expected.values())]
        asked = [*configs, *(configs[i] for i in expected.values())]
        models = [self._model(config, corpus.symbols).to(device()) for config, corpus in zip(asked, given, strict=True)]
        trained = train_together(models, given, self.training, seeds=[config["seed"] for config in asked])
        references = dict(zip(expected, (run.model.eval() for run in trained[len(configs) :]), strict=True))
        return [_measured(run, corpus, references.get(config["seed"])) for config, corpus, run in zip(configs, corpora, trained[: len(configs)], strict=True)]

    def _model(self, config: Record, symbols: int) -> nn.Module:
        """The fresh model of a run."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config["seed"])
            return self.make_model(symbols, **{name: config[name] for name in self.size if name in config})

    def _parameters(self, config: Record) -> int:
        """How large the model of a run is; 0 where it cannot be made, which is told where the run is done."""
        try:
            model = self._model(config, self.make_data(config["examples"], config["seed"]).symbols)
        except Exception:
            return 0
        return sum(parameter.numel() for parameter in model.parameters())


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _measured(run: Trained, corpus: Corpus, reference: nn.Module | None) -> Record | Exception:
    """What is found of a trained model; why that cannot be said of a model that diverged, or whose reference did, or that cannot be measured."""
    model = run.model.eval()
    for name, trained in (("training", model), ("training of the reference model", reference)):
        if trained is not None and not all(bool(parameter.isfinite().all()) for parameter in trained.parameters()):
            return ArithmeticError(f"the {name} diverged: its parameters are no longer finite numbers. Lower Training.rate.")
    try:
        found: Record = {**parameters(model), **findings(model, corpus, reference)}
    except Exception as error:
        return error
    if corpus.presented is not None:  # rows that count whole and come once: the published F1 stands beside the measured one
        found["membership"] |= {"predicted F1": membership_f1_at(corpus.presented / found["parameters"])}
    return found | {"curve": run.curve, "together": run.together}


def _referred(corpus: Corpus) -> Corpus:
    """What the reference model is trained on."""
    return corpus if corpus.reference is None else replace(corpus, training=corpus.reference)
