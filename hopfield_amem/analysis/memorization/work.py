"""The work of a sweep: what one run trains and measures, and how runs of one shape share a stack while each keeps a record of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..runs import Record, record_files, take
from ..runs.folder import flat, parsed
from ..runs.identity import identity, work_name
from .corpus import Corpus, MakeData
from .laws import membership_f1_at
from .measures import findings
from .models import MakeModel, parameters
from .stacked import train_together
from .training import Training


@dataclass(frozen=True)
class Runs:
    """The work of a sweep: ``config -> findings``, one run by itself, or several of one shape ``together``."""

    make_model: MakeModel
    make_data: MakeData
    training: Training
    size: tuple[str, ...]
    found: Mapping[str, Record] = field(default_factory=dict)
    run_name: str = "Runs"  # by what records are kept, beside their configs

    def __call__(self, config: Record) -> Record:
        record = self.found.get(key(config, config)) or self.together([config])[0]
        if "failure" in record:
            raise ArithmeticError(record["failure"])
        return record

    def model(self, config: Record, symbols: int) -> nn.Module:
        """The fresh model of a run."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config["seed"])
            return self.make_model(symbols, **{name: config[name] for name in self.size if name in config})

    def together(self, configs: Sequence[Record]) -> list[Record]:
        """Train the runs of one shape, those of the reference models they need among them, and measure each."""
        began = time.perf_counter()
        corpora = [self.make_data(config["examples"], config["seed"]) for config in configs]
        expected = {config["seed"]: i for i, config in enumerate(configs) if corpora[i].reference is not None}
        given = [*corpora, *(_referred(corpora[i]) for i in expected.values())]
        asked = [*configs, *(configs[i] for i in expected.values())]
        models = [self.model(config, corpus.symbols).to(device()) for config, corpus in zip(asked, given, strict=True)]
        trained = train_together(models, given, self.training, seeds=[config["seed"] for config in asked])
        references = dict(zip(expected, (run.model.eval() for run in trained[len(configs) :]), strict=True))
        found = [
            _measured(run.model.eval(), corpus, references.get(config["seed"])) | {"curve": run.curve, "together": run.together}
            for config, corpus, run in zip(configs, corpora, trained, strict=False)
        ]
        seconds = round((time.perf_counter() - began) / len(configs), 3)
        return [record | {"seconds": seconds} for record in found]


def name_of(*made: Any) -> str:
    """By what the runs of a model and data are kept. It is told where the sweep begins: workers would call a script's functions otherwise.

    Raises:
        ValueError: made by lambdas, or by objects of a class that does not tell them apart.
    """
    names = [work_name(part) for part in made]
    nameless = next((name for name in names if "<lambda>" in name), None)
    if nameless is not None:
        raise ValueError(f"Runs are kept by the names of their model and data, and all lambdas of a place have the same, {nameless}: give a function.")
    return f"Runs({', '.join(names)})"


@dataclass(frozen=True)
class Unit:
    """Runs of one stack: those without a record are trained together, and each leaves its own."""

    runs: Runs
    folder: str | None

    def __call__(self, unit: Record) -> Record:
        asked = unit["runs"]
        there = {} if self.folder is None else finished(Path(self.folder), self.runs, asked)
        missing = [config for config in asked if key(config, config) not in there]
        found = self.runs.together(missing) if missing else []
        taken = replace(self.runs, found={key(config, config): record for config, record in zip(missing, found, strict=True)})
        new = iter(take(taken, missing, folder=self.folder)) if missing else iter(())
        return {"records": [there[key(config, config)] if key(config, config) in there else next(new) for config in asked]}


def finished(folder: Path, runs: Runs, configs: Sequence[Record]) -> dict[str, Record]:
    """The records of these runs, and of no others, that are in a folder or in those below it, by what was asked."""
    name = work_name(runs)
    asked = {identity(name, config): key(config, config) for config in configs}
    found = {}
    for path in record_files(folder):
        if path.stem in asked:
            try:
                found[asked[path.stem]] = flat(parsed(path))
            except (OSError, ValueError):
                continue  # a run whose record cannot be read is done again
    return found


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _measured(model: nn.Module, corpus: Corpus, reference: nn.Module | None) -> Record:
    """What is found of a trained model, with the published F1 of membership beside the measured one where
    rows count whole and once; a model that diverged, or whose reference did, has a failure instead."""
    for name, trained in (("training", model), ("training of the reference model", reference)):
        if trained is not None and not all(bool(parameter.isfinite().all()) for parameter in trained.parameters()):
            return {"failure": f"the {name} diverged: its parameters are no longer finite numbers. Lower Training.rate."}
    record: Record = {**parameters(model), **findings(model, corpus, reference)}
    if corpus.presented is not None:
        record["membership"] |= {"predicted F1": membership_f1_at(corpus.presented / record["parameters"])}
    return record


def _referred(corpus: Corpus) -> Corpus:
    """What the reference model is trained on."""
    return corpus if corpus.reference is None else replace(corpus, training=corpus.reference)


def key(record: Mapping[str, Any], names: Mapping[str, Any]) -> str:
    """What was asked, as text."""
    return json.dumps({name: record[name] for name in names}, sort_keys=True)
