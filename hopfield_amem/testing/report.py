"""What a check says: which laws hold, and how one is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor


class LawBroken(AssertionError):
    """An energy breaks one of the laws; the message names the law and the size of the violation."""


class DoesNotApply(Exception):
    """A law says nothing about this energy; the message says why."""


@dataclass(frozen=True)
class LawReport:
    """Which laws were checked on an energy, and which do not apply to it and why. Prints as a list."""

    energy: object
    held: tuple[str, ...]
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [str(self.energy)] + [f"  holds           {law}" for law in self.held]
        return "\n".join(lines + [f"  does not apply  {law}: {why}" for law, why in self.skipped.items()])


Case = TypeVar("Case")


def checked(energy: object, laws: Iterable[Callable[[Case], None]], case: Case) -> LawReport:
    """Every law on one case."""
    held, skipped = [], {}
    for law in laws:
        name = law.__name__.strip("_").replace("_", " ")
        try:
            law(case)
            held.append(name)
        except DoesNotApply as reason:
            skipped[name] = str(reason)
    return LawReport(energy, tuple(held), skipped)


def close(law: str, mine: Tensor, truth: Tensor, floor: float = 1.0, tolerance: float = 1e-9) -> None:
    """Equality to a tolerance times the larger of the truth's own size and ``floor``."""
    mine, truth = mine.detach(), truth.detach()
    same = mine == truth  # infinities of the same sign included
    gap = torch.where(same, 0.0, (mine - truth).abs())
    scale = max(float(torch.where(truth.isfinite(), truth.abs(), 0.0).amax()) if truth.numel() else 0.0, floor)
    if not bool((gap <= tolerance * scale).all()):
        raise LawBroken(f"{law}: off by {float(gap.amax()):.3g} (scale {scale:.3g}).")
