"""Records of a sweep as model sizes and data sizes: means over seeds, measured capacity, and the bounds beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...estimate import Estimate
from ...memory_model import Balance, model_data_balance
from ..fits import by_chance
from ..result import Memorization
from .bounds import alphabet, attainable, bounds_of, short
from .records import Record, check, training_of
from .rules import Rules, binding, full, still_falling


@dataclass(frozen=True)
class DataSize:
    """One model size on one amount of data, over its seeds.

    Attributes:
        data_bits: information in the training data.
        tokens: how many there are, None where the records do not say.
        attainable: bits that any model can have memorised of it at most (``attainable``).
        memorised: bits, mean over seeds.
        low, high: least and most over seeds.
        runs: how many seeds.
        training, validation: losses in nats per token, means; None where no record has them.
        falling: how much of the whole fall of the training loss the last tenth of the training brought, mean (``rules.still_falling``); None without curves.
        uniform: loss of the uniform law, log of the vocabulary; None where that is not known.
        chance: whether what is memorised is no memory of single rows, in most runs (``fits.by_chance``).
        binds: which bound binds: a key of ``rules.BINDINGS``.
        full: whether the model is filled (``rules.full``), by the capacity or by how long it was trained.
    """

    data_bits: float
    tokens: float | None
    attainable: float
    memorised: float
    low: float
    high: float
    runs: int
    training: float | None
    validation: float | None
    falling: float | None
    uniform: float | None
    chance: bool = False
    binds: str = ""
    full: bool = False

    @property
    def share(self) -> float:
        """How much is memorised of what can be."""
        return self.memorised / self.attainable


@dataclass(frozen=True)
class ModelSize:
    """One model size and its data sizes, ascending.

    Attributes:
        parameters: how many it has.
        layers, width: of its blocks, None where the records do not say.
        points: what was found, by data size.
        bounds: bits by name of the bound (``bounds_of``).
    """

    parameters: float
    layers: int | None
    width: int | None
    points: tuple[DataSize, ...]
    bounds: Mapping[str, float]

    @property
    def capacity(self) -> float:
        """Most bits that were memorised, over data sizes (Morris et al. 2025): a capacity where the plateau is visible, else at least that."""
        return max(point.memorised for point in self.points)

    @property
    def filled(self) -> float | None:
        """Tokens whose bits are the capacity; None where the records do not say how many tokens there are."""
        per_bit = [point.tokens / point.data_bits for point in self.points if point.tokens]
        return self.capacity * float(np.mean(per_bit)) if per_bit else None

    @property
    def plateau(self) -> int:
        """At how many data sizes the model is filled. From two on the plateau is visible."""
        return sum(point.full for point in self.points)

    @property
    def bits_per_parameter(self) -> float:
        return self.capacity / self.parameters

    @property
    def name(self) -> str:
        """``20.5k parameters``"""
        return f"{short(self.parameters)} parameters"


@dataclass(frozen=True)
class Study:
    """All model sizes of one kind of run.

    Attributes:
        name: of the kind: its data, its memories.
        sizes: what was found, by model size.
        capacity: bits per parameter; None where no plateau was reached.
        onset: bits of data over capacity at which the loss on other data is highest; None where that is at an end of the data sizes.
        balance: parameters against the best data size, or against the data that fill a model; None where no size has either.
        balanced: which of them, in words.
        missing: why what is None is missing, by its name.
    """

    name: str
    sizes: tuple[ModelSize, ...]
    capacity: Estimate | None
    onset: Estimate | None
    balance: Balance | None
    balanced: str
    missing: Mapping[str, str]

    @property
    def settled(self) -> tuple[ModelSize, ...]:
        """Those whose plateau is visible."""
        return tuple(size for size in self.sizes if size.plateau > 1)


def studies(found: Memorization, rules: Rules) -> tuple[Study, ...]:
    """Runs by kind, model size and data size.

    Raises:
        ValueError: a record without what is needed, numbers that are not positive and finite.
        TypeError: a record that is no dict.
    """
    for place, record in enumerate(found.records, 1):
        check(record, place)
    order = lambda record: (record["parameters"], record["examples"], str(record["seed"]))  # so that a page does not depend on the order of its records
    return tuple(_study(name, replace(part, records=tuple(sorted(part.records, key=order))), rules) for name, part in found.kinds().items())


def _study(name: str, part: Memorization, rules: Rules) -> Study:
    models = _by(part.records, lambda record: (record["parameters"], record.get("layers"), record.get("width")))
    sizes = sorted((_model(group, rules) for group in models), key=lambda size: size.parameters)
    results, missing = {}, {}
    for fit, computed in (("capacity", part.capacity), ("onset", part.double_descent)):
        try:
            results[fit] = computed()
        except (ValueError, KeyError) as error:
            missing[fit] = str(error) if isinstance(error, ValueError) else f"The records do not say {error}."
    found = Study(name, tuple(sizes), results.get("capacity"), results.get("onset"), None, "", missing)
    return _balanced(found, part)


def _balanced(study: Study, part: Memorization) -> Study:
    """With D*, the least data size at which the training loss meets the least validation loss; where no size has one, with the data that fill a model."""
    try:
        return replace(study, balance=part.balance(), balanced="best data size D*")
    except (ValueError, KeyError):
        filled = {size.parameters: tokens for size in study.settled if (tokens := size.filled) is not None}
    if not filled:
        told = "No model–data balance: at no data size did the training loss meet the least validation loss, and no model was filled."
        return replace(study, missing={**study.missing, "balance": told})
    return replace(study, balance=model_data_balance(list(filled), list(filled.values())), balanced="data that fill the model")


def _model(records: list[Record], rules: Rules) -> ModelSize:
    data = _by(records, lambda record: (record["examples"], record.get("length"), record.get("vocabulary")))
    points = sorted(map(_point, data), key=lambda point: point.data_bits)
    judged = tuple(replace(point, binds=binding(point, points, rules), full=full(point, points, rules)) for point in points)
    first = records[0]
    return ModelSize(float(first["parameters"]), first.get("layers"), first.get("width"), judged, bounds_of(first))


def _point(records: list[Record]) -> DataSize:
    memorised = [float(record["memorised bits"]) for record in records]
    first = records[0]
    falls = [fall for record in records if (fall := still_falling(record.get("curve") or (), training_of(record))) is not None]
    return DataSize(
        data_bits=float(np.mean([record["data bits"] for record in records])), tokens=first["examples"] * first["length"] if "length" in first else None,
        attainable=float(np.mean([attainable(record) for record in records])), memorised=float(np.mean(memorised)), low=min(memorised), high=max(memorised),
        runs=len(records), training=_mean(records, "training loss"), validation=_mean(records, "validation loss"),
        falling=float(np.mean(falls)) if falls else None, uniform=math.log(symbols) if (symbols := alphabet(first)) else None,
        chance=2 * sum(map(by_chance, records)) > len(records),
    )  # fmt: skip


def _mean(records: list[Record], name: str) -> float | None:
    values = [float(record[name]) for record in records if record.get(name) is not None]
    return float(np.mean(values)) if values else None


def _by(records: Sequence[Record], key: Callable[[Record], Any]) -> list[list[Record]]:
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.values())
