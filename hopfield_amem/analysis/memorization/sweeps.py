"""Sweeps over models, data and seeds: runs of one shape trained together, each with a record of its own."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..runs import Record, take
from ..runs.identity import canonical
from .corpus import MakeData
from .models import MakeModel
from .result import Memorization
from .training import Training
from .work import APART, Runs

STANDARD = Training()


def sweep(
    make_model: MakeModel,
    make_data: MakeData,
    sizes: Sequence[Mapping[str, Any]],
    examples: Sequence[int],
    *,
    seeds: Iterable[int] = (0,),
    training: Training = STANDARD,
    folder: str | os.PathLike[str] | None = None,
    executor: Any = None,
) -> Memorization:
    """Train every model on every amount of data, from every seed, and measure what it has memorised.

    Runs that differ only in data size and seed are trained together (``train_together``), up to 24 at once. Each is claimed, kept and, if it fails, told by
    itself; a sweep cut short does again only the runs that have no record. Where a stack raises, its runs are tried one by one.

    Args:
        make_model: ``(symbols, **size) -> model``, tokens (batch, T) -> logits (batch, T, symbols), for example ``language_model``. Any callable will do.
        make_data: ``(examples, seed) -> Corpus``, for example ``UniformTokens()``.
        sizes: what the model is made of, for example ``[{"width": 8}, {"width": 16, "memory": "entmax"}]``. Defaults of ``make_model`` are recorded, too.
        examples: rows to train on.
        seeds: of the data, the fresh model and the order of rows.
        training: what every run takes.
        folder: where records are kept (``analysis.take``), by the names of ``make_model`` and ``make_data`` and all that is asked. None keeps none. Several
            processes and machines may share it: they divide the runs, and each returns all that it asked for.
        executor: who trains the stacks (``analysis.take``): ``Processes(n)``, ``Dask(client)``, ``slurm(logs)``; None trains them here, one after the other.

    Returns:
        The records, sizes × examples × seeds. Each is flat: what was asked (``data``, ``model``, the size, ``examples``, ``seed``, ``steps``, …) and what
        was found (``parameters``, ``data bits``, ``memorised bits``, ``exact``, ``argmax``, ``extracted``, losses in nats per token, ``radius``,
        ``membership``, ``curve``, ``environment``, ``seconds`` of the stack shared among its runs).

    Raises:
        ValueError: nothing to sweep, the same run asked for twice, names that mean two things, sizes that JSON cannot hold, with a folder lambdas and
            objects whose names do not tell them apart.
        RuntimeError: a run failed; the others are done, and kept.
        OSError: the folder takes no records.
    """
    runs, configs = asked(make_model, make_data, sizes, examples, seeds=seeds, training=training)
    return Memorization(tuple(take(runs, configs, folder=folder, executor=executor, title="memorization")))


def asked(
    make_model: MakeModel, make_data: MakeData, sizes: Sequence[Mapping[str, Any]], examples: Sequence[int], *, seeds: Iterable[int], training: Training
) -> tuple[Runs, list[Record]]:
    """The work of a sweep and its configs, for ``take``. Raises ValueError where there is none, and for names that mean two things."""
    each = itertools.product(sizes, examples, seeds)
    configs = [_config(make_model, make_data, size, training) | {"examples": int(count), "seed": int(seed)} for size, count, seed in each]
    if not configs:
        raise ValueError("A sweep needs at least one size, one number of examples and one seed.")
    named = {name for size in sizes for name in {**_defaults(make_model), **size}}
    return Runs(make_model, make_data, training, tuple(sorted(named))), configs


def _config(make_model: MakeModel, make_data: MakeData, size: Mapping[str, Any], training: Training) -> Record:
    data = {"data": getattr(make_data, "name", None) or getattr(make_data, "__name__", type(make_data).__name__)}
    fields = dataclasses.asdict(make_data) if dataclasses.is_dataclass(make_data) and not isinstance(make_data, type) else {}
    model = {"model": getattr(make_model, "__qualname__", type(make_model).__name__)}
    parts = [data, fields, model, _defaults(make_model) | dict(size), dataclasses.asdict(training), dict.fromkeys(APART)]
    names = [name for part in parts for name in part]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} would mean two things in a record: name the sizes of the model otherwise.")
    return {name: value for part in parts[:-1] for name, value in part.items()}


def _defaults(make_model: MakeModel) -> Record:
    """The keyword arguments that ``make_model`` has defaults for, as far as JSON can hold them."""
    named = inspect.signature(make_model).parameters.values()
    return {p.name: p.default for p in named if p.default is not p.empty and _recordable(p.default)}


def _recordable(value: Any) -> bool:
    try:
        canonical({"value": value})
    except ValueError:
        return False
    return True
