"""What is a linear map, whoever wrote it."""

from __future__ import annotations

from torch import nn

Sizes = tuple[int, int]


def sizes(child: nn.Module) -> Sizes | None:
    """Width of what a linear child takes and gives: of ``nn.Linear``, of GPT-2's ``Conv1D``, and of what wraps them. None: it is not linear."""
    for names in (("in_features", "out_features"), ("nx", "nf")):
        found = [getattr(child, name, None) for name in names]
        if all(isinstance(size, int) for size in found):
            return found[0], found[1]  # type: ignore[return-value]
    return None
