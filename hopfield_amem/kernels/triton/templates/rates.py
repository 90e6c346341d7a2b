"""What both backward kernels compute per query and per pair.

With z = s − τ, per query an inverse mass 1/m, a base ⟨dO, u⟩ and an offset δ, and per pair a presence a and dropout's κ:

    p = a F′(z)/m          ds = a F″(z) (κ ⟨dO, v⟩ − base)/m − p δ
"""

import triton
import triton.language as tl

from .parts import SOFTMAX, vector


@triton.jit
def rated(
    s, lean, row, ok, amount, KIND: tl.constexpr, LEAF: tl.constexpr, GATED: tl.constexpr, SIGHT: tl.constexpr, GIVE: tl.constexpr
):  # fmt: skip
    """Weight p, score gradient ds and presence gradient of a tile, from the scores and ⟨dO, v⟩. Row vectors come with a new axis."""
    level, tau, inverse, base, offset = row
    if GIVE.based:
        lean = lean - base
    if KIND == SOFTMAX:
        weight = tl.exp2(s - level)
        d_amount = weight * lean
        if SIGHT.soft:
            weight = weight * amount
        if GATED:
            weight = tl.where(ok, weight, 0.0)
        d_score = weight * lean
    else:
        if GIVE.shifted:
            s = (s - level) - tau
        value, slope, curvature = LEAF.jet(s)
        if GIVE.massed:
            slope = slope * inverse
            curvature = curvature * inverse
        d_amount = slope * lean
        if GIVE.offset:
            if GIVE.massed:
                d_amount = d_amount - value * inverse * offset
            else:
                d_amount = d_amount - value * offset
        weight = slope
        d_score = curvature * lean if GIVE.curved else curvature
        if SIGHT.soft:
            weight = weight * amount
            d_score = d_score * amount
        if GATED:
            weight = tl.where(ok, weight, 0.0)
            d_score = tl.where(ok, d_score, 0.0)
        if GIVE.offset:
            d_score = d_score - weight * offset
    return weight, d_score, d_amount


@triton.jit
def aging(d_score, d_amount, amount, ok, KIND: tl.constexpr, GATED: tl.constexpr):
    """Gradient of a pair's G_i − G_j."""
    if KIND == SOFTMAX:
        return d_score
    elif GATED:
        return tl.where(ok, d_amount * amount, 0.0)
    else:
        return d_amount * amount


@triton.jit
def per_query(levels, taus, inverses, bases, offsets, member, first, queries, KIND: tl.constexpr, GIVE: tl.constexpr, SHAPE: tl.constexpr):
    """Level, τ, 1/m, base and δ of a block of queries, with a new axis; base stands in where one is not needed."""
    QUERIES: tl.constexpr = SHAPE.queries
    base = tl.zeros([QUERIES, 1], tl.float32)
    if GIVE.based:
        base = vector(bases, member, first, queries, SHAPE.queries)[:, None]
    level = base
    tau = base
    inverse = base
    offset = base
    if KIND == SOFTMAX:
        level = vector(levels, member, first, queries, SHAPE.queries)[:, None]
    if GIVE.shifted:
        level = vector(levels, member, first, queries, SHAPE.queries)[:, None]
        tau = vector(taus, member, first, queries, SHAPE.queries)[:, None]
    if GIVE.massed:
        inverse = vector(inverses, member, first, queries, SHAPE.queries)[:, None]
    if GIVE.offset:
        offset = vector(offsets, member, first, queries, SHAPE.queries)[:, None]
    return level, tau, inverse, base, offset
