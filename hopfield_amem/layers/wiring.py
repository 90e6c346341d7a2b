"""What lies between tokens and the energy: which inputs are projected, normalised, rotated, shared."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

ROLES = ("query", "keys", "values", "output")
NORMS = ("query", "keys", "values", "space")


@dataclass(frozen=True)
class Wiring:
    """How tokens become queries, keys and values of every head, and how what is read becomes tokens again.

    Args:
        head_dim: width of a head's keys, or widths of its keys and values. None: dim // heads.
        memories: number of key and value heads, a divisor of heads; each serves heads // memories query heads (grouped heads, Ainslie et al. 2023,
            arXiv 2305.13245). None: one for each.
        sources: widths of the tokens that keys and values are made of, and of what comes out. None: dim.
        static: the roles among "query", "keys", "values", "output" that are not projected but taken as they are. Tokens as wide as one head are the
            same in every head.
        connected: the tokens of the values pass through the projection of the keys first, ``V = (Ξ W_K) W_V``.
        bias: whether projections have one.
        norms: layer norms, on the tokens of "query", "keys", "values" before they are projected, and on "space", the queries and keys of every head.
        rotary: base of the rotary positions of queries and keys, for example 1e4. None: no positions.
        dropout: probability in [0, 1) with which a retrieval weight is dropped in training.

    Raises:
        ValueError: unknown roles, numbers out of range, or values that are both static and connected.
    """

    head_dim: int | tuple[int, int] | None = None
    memories: int | None = None
    sources: tuple[int | None, int | None, int | None] = (None, None, None)
    static: tuple[str, ...] = ()
    connected: bool = False
    bias: bool = True
    norms: tuple[str, ...] = ()
    rotary: float | None = None
    dropout: float = 0.0

    def __post_init__(self):
        for name, known in (("static", ROLES), ("norms", NORMS)):
            given = getattr(self, name)
            if isinstance(given, str) or not set(given) <= set(known):
                raise ValueError(f"{name} is a tuple of names among {known}, got {given!r}.")
            object.__setattr__(self, name, tuple(given))
        if self.memories is not None and self.memories < 1:
            raise ValueError(f"memories is the number of key and value heads, at least 1, got {self.memories!r}.")
        if len(self.sources) != 3 or any(width is not None and width < 1 for width in self.sources):
            raise ValueError(f"sources are three widths, of keys', values' and output tokens, each positive or None, got {self.sources!r}.")
        if self.connected and "values" in self.static:
            raise ValueError("Connected values are projected from the projected keys; they cannot be static as well.")
        if self.rotary is not None and not 1 < self.rotary < math.inf:
            raise ValueError(f"The base of rotary positions must be above 1 and finite, got {self.rotary!r}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is the probability in [0, 1) with which a weight is dropped, got {self.dropout!r}.")

    def __str__(self) -> str:
        """Only what differs from the default."""
        changed = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Wiring({', '.join(changed)})"
