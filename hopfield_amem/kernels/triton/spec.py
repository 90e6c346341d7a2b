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

    affine: bool  # scale · factor · pair + terms; else LEAF.score
    scaled: bool  # a row's scale is multiplied in the loop
    slot_factor: bool
    slot_term: bool
    row_term: bool
    capped: bool  # rounding must not take it above 0


class Sight(NamedTuple):
    """What limits which slots are seen."""

    causal: bool
    presence: bool
    per_query: bool  # presence differs among queries
    soft: bool  # what is there of a slot is a number, not a condition
    dropout: bool
    fades: bool  # slots decay


class Want(NamedTuple):
    """What a forward sweep is asked for."""

    tied: bool  # the keys are read
    total: bool  # Σ a F
    mass: bool  # Σ p
    shifted: bool  # scores are taken relative to level + τ
    gained: bool  # the scale of a homogeneous F multiplies the sums at the end
    null: bool  # an empty slot with F = 1
    reads: bool = True  # values are read; otherwise their sums are not


class Give(NamedTuple):
    """What a backward sweep is given and asked for."""

    tied: bool  # the keys were read
    shifted: bool  # scores are taken relative to level + τ
    massed: bool  # weights are multiplied by 1/m
    offset: bool  # δ is not zero
    based: bool  # the base ⟨dO, u⟩ is not zero
    curved: bool  # F″ is not zero everywhere
    norms: bool  # twist and turn bend the gradient along the vector itself
    twist: bool  # Σ ds t, with t the scaled part of the score
    turn: bool  # Σ ds
    warm: bool  # twists and turns are stored, for β
    terms: bool  # gradient of the slot terms, for a bias
    presence: bool  # gradient of a soft presence
    age: bool  # gradient of the levels
    values: bool = True  # gradient of the values


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


class Memory(NamedTuple):
    """What a linear memory does and what its pass is given."""

    decay: int  # 0: none, 1: one number per row, 2: one per channel, as in ``templates.linear_parts``
    erases: bool  # rows erase before they write
    tied: bool  # erase keys are the keys
    rated: bool  # rows are written at a rate
    starts: bool  # from a state that is not zero
    reads: bool  # queries read
    shown: bool  # the rows written have a cotangent
    ends: bool  # the final state has one
    solving: str  # precision of the products in the chunks' inverses and of sums in exponents
