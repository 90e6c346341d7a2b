"""The compile-time arguments of the templates: what is folded, seen, wanted, and how tiles are cut."""

from __future__ import annotations

from typing import NamedTuple


class Leaf(NamedTuple):
    """Generated functions of an energy (``score`` and ``score_back`` only where S is not affine in the product).

    ``content`` hashes the code of the functions and of what they call; Triton's cache on disk knows constants by their print only.
    """

    jet: object
    score: object
    score_back: object
    content: str


class Fold(NamedTuple):
    """How a score is put together from the pair and the terms of its row and slot."""

    affine: bool
    scaled: bool
    slot_factor: bool
    slot_term: bool
    row_term: bool


class Sight(NamedTuple):
    """What limits which slots are seen."""

    causal: bool
    presence: bool
    per_query: bool
    soft: bool
    dropout: bool


class Want(NamedTuple):
    """What a forward sweep is asked for."""

    tied: bool
    total: bool
    mass: bool
    shifted: bool
    gained: bool
    null: bool


class Give(NamedTuple):
    """What a backward sweep is given and asked for."""

    tied: bool
    shifted: bool
    massed: bool
    offset: bool
    based: bool  # the base is not zero
    curved: bool  # F″ is not zero everywhere
    norms: bool  # a twist or turn bends the gradient along the vector itself
    twist: bool
    turn: bool
    warm: bool  # twists and turns are stored, for β
    terms: bool  # gradient of the slot terms, for a bias
    presence: bool


class Mode(NamedTuple):
    """Arithmetic: how a pair is formed, the precision of products, whether halves are emulated by an interpreter, and whether products take float32."""

    pair: str
    precision: str
    emulated: bool
    wide: bool


class Shape(NamedTuple):
    """A tile: queries × slots, widths padded to powers of two, and whether padding is there."""

    queries: int
    slots: int
    width: int
    columns: int
    padded: bool
