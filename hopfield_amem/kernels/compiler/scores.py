"""Similarities as scores: the part that needs the pair, and what depends on the row or the slot alone."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from ...energies.similarities.manhattan import Manhattan
from ...energies.similarities.similarity import Similarity
from .trace import CannotCompile, expression
from .vocabulary import Expression, tidy

PRODUCT, STATE, KEY = sympy.symbols("product state_square key_square", real=True)


@dataclass(frozen=True)
class Scores:
    """``s = β a g x·ξ + β (r + c)`` with a, r functions of ‖x‖² and g, c of ‖ξ‖²; or ``s = β S`` as it stands where S has no such form."""

    pairing: str  # "product", x·ξ on tensor cores; or "distance", −‖x − ξ‖₁ by elementwise tiles
    whole: Expression
    row_scale: Expression = sympy.S.One
    row_term: Expression = sympy.S.Zero
    slot_scale: Expression = sympy.S.One
    slot_term: Expression = sympy.S.Zero
    affine: bool = True
    capped: bool = False  # S ≤ 0, which rounding must not exceed

    @property
    def needs_norms(self) -> bool:
        return bool(self.whole.free_symbols - {PRODUCT})

    @property
    def plain(self) -> bool:
        """Whether the score is the product times a scale of the row, and nothing else."""
        return self.affine and self.slot_scale == 1 and self.slot_term == 0 and self.row_term == 0


def scores(similarity: Similarity) -> Scores:
    """What a kernel makes of a similarity.

    Raises:
        CannotCompile: a similarity that is not known as a function of x·ξ, ‖x‖² and ‖ξ‖².
    """
    if isinstance(similarity, Manhattan):
        return Scores("distance", PRODUCT)
    try:
        whole = tidy(expression(lambda *t: similarity.invariant(*t), PRODUCT, STATE, KEY, name=f"The similarity {similarity}"))
    except NotImplementedError as error:
        raise CannotCompile(f"{error}, so no kernel can be generated. Write it as Invariant(function of x·ξ, ‖x‖², ‖ξ‖²), or use backend='chunked'.") from None
    factor, rest = sympy.diff(whole, PRODUCT), whole.subs(PRODUCT, 0)
    slot_scale, row_scale = factor.as_independent(STATE, as_Add=False)
    slot_term, row_term = rest.as_independent(STATE, as_Add=True)
    if factor.has(PRODUCT) or row_scale.has(KEY) or row_term.has(KEY):
        return Scores("product", whole, affine=False)
    number, slot_scale = slot_scale.as_coeff_Mul()
    row_scale = number * row_scale
    if row_scale != 1 and slot_scale == 1 and not row_scale.is_positive:  # a scale of the row alone must be positive: maxima are taken before it
        return Scores("product", whole, affine=False)
    return Scores("product", whole, row_scale, row_term, slot_scale, slot_term, capped=similarity.highest == 0)
