"""The work of a sweep: what one run trains and measures, and how runs of one shape share a stack while each keeps a record of its own."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..runs import Record, record_files, take
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
    run_name = "Runs"  # configs say all that decides what is found

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
        references = dict(zip(expected, models[len(configs) :], strict=True))
        shared = (time.perf_counter() - began) / len(configs)
        return [
            _measured(run.model.eval(), corpus, references.get(config["seed"]))
            | {"curve": run.curve, "together": run.together, "environment": environment(), "training seconds": round(shared, 3)}
            for config, corpus, run in zip(configs, corpora, trained, strict=False)
        ]  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """Runs of one stack: those without a record are trained together, and each leaves its own."""

    runs: Runs
    folder: str | None

    def __call__(self, unit: Record) -> Record:
        asked = unit["runs"]
        there = finished(self.folder, asked[0])
        missing = [config for config in asked if key(config, config) not in there]
        found = self.runs.together(missing) if missing else []
        taken = replace(self.runs, found={key(config, config): record for config, record in zip(missing, found, strict=True)})
        new = iter(take(taken, missing, folder=self.folder)) if missing else iter(())
        return {"records": [there[key(config, config)] if key(config, config) in there else next(new) for config in asked]}


def finished(folder: str | None, like: Mapping[str, Any]) -> dict[str, Record]:
    """The records in a folder, and in those below it, that were asked for by the same names as a config, by what was asked."""
    found = {}
    for path in record_files(Path(folder)) if folder is not None else ():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # a run whose record cannot be read is done again
        if isinstance(record, dict) and set(like) < set(record):
            found[key(record, like)] = record
    return found


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def environment() -> dict[str, Any]:
    """The machine and the versions of a run."""
    from ... import __version__

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "python": platform.python_version(), "torch": str(torch.__version__),
        "hopfield_amem": __version__, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip


def _measured(model: nn.Module, corpus: Corpus, reference: nn.Module | None) -> Record:
    """What is found of a trained model, with the published F1 of membership beside the measured one; a model that diverged has a failure instead."""
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        return {"failure": "the training diverged: its parameters are no longer finite numbers. Lower Training.rate."}
    record: Record = {**parameters(model), **findings(model, corpus, reference)}
    expected = membership_f1_at(record["data bits"] / record["parameters"])
    return record | {"membership": record["membership"] | {"predicted F1": expected}}


def _referred(corpus: Corpus) -> Corpus:
    """What the reference model is trained on."""
    return corpus if corpus.reference is None else replace(corpus, training=corpus.reference)


def key(record: Mapping[str, Any], names: Mapping[str, Any]) -> str:
    """What was asked, as text."""
    return json.dumps({name: record[name] for name in names}, sort_keys=True)
