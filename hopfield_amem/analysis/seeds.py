"""Seeds: one at the door, and as many as are needed from it."""

from __future__ import annotations

import numpy as np
import torch


def check(seed: object) -> None:
    """Raise TypeError where a seed is not a whole number, ValueError where it is negative."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"A seed is a whole number of at least 0, got {seed!r}.")
    if seed < 0:
        raise ValueError(f"A seed is a whole number of at least 0, got {seed}.")


def mixed(seed: int, *parts: int) -> int:
    """A seed of its own for each (seed, parts), by numpy's ``SeedSequence``: neighbouring seeds share nothing."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seeded(seed: int, use: str) -> torch.Generator:
    """A generator of its own for every seed and use, so that no two draws of one study, nor the user's own at the same seed, are the same numbers."""
    return torch.Generator().manual_seed(mixed(seed, *use.encode()))
