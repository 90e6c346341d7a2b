"""What a swap changed in a model, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass
class Report:
    """What was replaced in a model, what was not and why, and how to take it back.

    Args:
        replaced: paths of the modules that were replaced.
        skipped: paths of those that were left as they are, with the reason.
    """

    replaced: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    former: list[tuple[Any, str, Any]] = field(default_factory=list, repr=False)  # owner, name and what was there, in order

    def assign(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, and remember what was there."""
        self.former.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back. A module that comes back takes over whether the model is training."""
        while self.former:
            owner, name, value = self.former.pop()
            if isinstance(value, nn.Module):
                value.train(getattr(owner, name).training)
            setattr(owner, name, value)

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} replaced: {', '.join(self.replaced)}" if self.replaced else "nothing replaced"]
        return "\n".join(lines + [f"skipped {path}: {reason}" for path, reason in self.skipped.items()])
