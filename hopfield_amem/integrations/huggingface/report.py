"""What was swapped in a model, what was not, and the way back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn

from .anatomy import sizes


class Place(NamedTuple):
    """Where a module stands in a model."""

    fqn: str
    parent: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        return self.parent._modules[self.name]  # type: ignore[return-value]

    @property
    def read_beside(self) -> bool:
        """Whether a neighbour takes what the module gives: the two halves of a block that is split over modules (BERT's ``intermediate`` and ``output``)."""
        given = [size[1] for child in self.module.children() if (size := sizes(child)) is not None]
        beside = (child for neighbour in self.parent.children() if neighbour is not self.module for child in neighbour.children())
        return len(given) == 1 and any(sizes(child) == (given[0], _taken(self.module)) for child in beside)


class Swap(NamedTuple):
    """A stock module, the memory in its place, what that is in a line, and the names of the children that both have."""

    place: Place
    stock: nn.Module
    memory: nn.Module
    title: str
    shared: tuple[str, ...]

    @classmethod
    def of(cls, place: Place, memory: nn.Module, title: str) -> Swap:
        stock = place.module
        return cls(place, stock, memory, title, tuple(name for name, child in stock._modules.items() if memory._modules.get(name) is child))


@dataclass(frozen=True)
class Report:
    """What was swapped and what was not. Prints as a table.

    Attributes:
        replaced: the memories, by name.
        skipped: why a module that was looked at was left as it is, by name.
    """

    replaced: dict[str, nn.Module]
    skipped: dict[str, str]
    swaps: tuple[Swap, ...] = field(repr=False, default=())

    def undo(self) -> None:
        """Put the stock modules back, the very objects. What happened to shared children meanwhile (adapters, training mode) stays.

        Raises:
            ValueError: a memory is no longer where it was put; then nothing is changed.
        """
        gone = [swap.place.fqn for swap in self.swaps if swap.place.module is not swap.memory]
        if gone:
            raise ValueError(f"These modules were undone already, or replaced again: {', '.join(gone)}. Undo what came later first.")
        for swap in self.swaps:
            swap.stock._modules.update({name: swap.memory._modules[name] for name in swap.shared})
            swap.stock.training = swap.memory.training
            swap.place.parent._modules[swap.place.name] = swap.stock

    def __str__(self) -> str:
        now = [(swap.place.fqn, type(swap.stock).__name__, swap.title) for swap in self.swaps]
        return "\n".join(_table("replaced", now) + _table("skipped", [(fqn, "", reason) for fqn, reason in self.skipped.items()]))


def _taken(module: nn.Module) -> int | None:
    return next((size[0] for child in module.children() if (size := sizes(child)) is not None), None)


def _table(title: str, rows: list[tuple[str, str, str]]) -> list[str]:
    """Rows that differ in numbers of layers only share a line."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for fqn, was, now in rows:
        grouped.setdefault((re.sub(r"\b\d+\b", "*", fqn), was, now), []).append(fqn)
    named = [(len(names), names[0] if len(names) == 1 else pattern, was, now) for (pattern, was, now), names in grouped.items()]
    widths = [max((len(row[column]) for row in named), default=0) for column in (1, 2)]
    return [f"{title}: {len(rows)}", *(f"  {count:>4} × {name:<{widths[0]}}  {was:<{widths[1]}}  {now}" for count, name, was, now in named)]
