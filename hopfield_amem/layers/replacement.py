"""What was swapped in a model, what was not, and the way back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn


class Place(NamedTuple):
    """Where a module stands in a model."""

    fqn: str
    parent: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        return self.parent._modules[self.name]  # type: ignore[return-value]


def places(model: nn.Module) -> Iterator[Place]:
    """Every place below a model, from the outside in."""
    for prefix, parent in model.named_modules(remove_duplicate=False):
        for name, child in parent._modules.items():
            if child is not None:
                yield Place(f"{prefix}.{name}" if prefix else name, parent, name)


class Swap(NamedTuple):
    """A stock module, the memory for its place, what that is in a line, and the names of the children that both have."""

    place: Place
    stock: nn.Module
    memory: nn.Module
    title: str
    shared: tuple[str, ...]

    @classmethod
    def of(cls, place: Place, memory: nn.Module, title: str) -> Swap:
        stock = place.module
        return cls(place, stock, memory, title.replace("\n", "; "), tuple(name for name, child in stock._modules.items() if memory._modules.get(name) is child))

    def put(self) -> None:
        """Put the memory in its place."""
        self.place.parent._modules[self.place.name] = self.memory


@dataclass(frozen=True)
class Replacement:
    """What was swapped and what was not. Prints as a table.

    Attributes:
        replaced: the memories, by name.
        skipped: why a module that was looked at was left as it is, by name.
    """

    replaced: dict[str, nn.Module]
    skipped: dict[str, str]
    swaps: tuple[Swap, ...] = field(repr=False, default=())
    settings: tuple[tuple[Any, str, Any], ...] = field(repr=False, default=())  # owner, name and former value of what else was set

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
        for owner, name, former in self.settings:
            setattr(owner, name, former)

    def __str__(self) -> str:
        now = [(swap.place.fqn, type(swap.stock).__name__, swap.title) for swap in self.swaps]
        return "\n".join(_table("replaced", now) + _table("skipped", [(fqn, "", reason) for fqn, reason in self.skipped.items()]))


def _table(title: str, rows: list[tuple[str, str, str]]) -> list[str]:
    """Rows that differ in numbers of layers only share a line."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for fqn, was, now in rows:
        grouped.setdefault((re.sub(r"\b\d+\b", "*", fqn), was, now), []).append(fqn)
    named = [(len(names), names[0] if len(names) == 1 else pattern, was, now) for (pattern, was, now), names in grouped.items()]
    widths = [max((len(str(row[column])) for row in named), default=0) for column in (1, 2)]
    return [f"{title}: {len(rows)}", *(f"  {count:>4} × {name:<{widths[0]}}  {was:<{widths[1]}}  {now}" for count, name, was, now in named)]
