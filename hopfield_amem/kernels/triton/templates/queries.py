"""The gradient of queries: one sweep over the slots, every program its own block of queries."""

import triton
import triton.language as tl

from .parts import LN2, SOFTMAX, faded, in_reach, kept, level_of, matmul, of_rows, of_slots, paired, pulled, scored, seen, tile, unmasked, vector
from .rates import aging, per_query, rated


@triton.jit
def to_queries(
    q, grad, row, rows, carry, scaling, operands, sizes, span, options, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr,
    SIGHT: tl.constexpr, GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add what a span of slots gives to the queries' gradient (acc), Σ ds t (twist), Σ ds (turn) and the gradient of the rows' levels (age)."""
    acc, twist, turn, age = carry
    keys, values, gate, factors, terms = operands
    queries, slots, width, columns, b, h, memory, member = sizes
    first, last = span
    _reach, _offset, seed, rate, ages = options
    scale, row_term, row_level = scaling
    GATED: tl.constexpr = MASKED or SIGHT.presence
    for j in range(first, last, SHAPE.slots):
        k = tile(keys, b, memory, j, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, MASKED)
        v = k
        if (GIVE.curved or GIVE.age) and not GIVE.tied:
            v = tile(values, b, memory, j, slots, columns, SHAPE.slots, SHAPE.columns, SHAPE.padded, MASKED)
        factor, term = of_slots(factors, terms, member, j, slots, scale, FOLD, SHAPE.slots)
        pair = paired(q, k, MODE)
        t, s = scored(pair, (scale, row_term), (factor, term), LEAF, FOLD)
        ok = True
        amount = 1.0
        if GATED:
            ok, amount = seen(gate, b, h, rows, j, queries, slots, options, SIGHT, MASKED, SHAPE.slots)
        if SIGHT.fades:
            s, amount = faded(s, amount, row_level, ages, member, j, slots, KIND, SHAPE.slots)
        lean = pair
        if GIVE.curved or GIVE.age:
            lean = matmul(grad, tl.trans(v), tl.zeros([q.shape[0], k.shape[0]], tl.float32), MODE)
            if SIGHT.dropout:
                lean = lean * kept(seed, member, rows, j, rate, SHAPE.slots)
        _, d_score, d_amount = rated(s, lean, row, ok, amount, KIND, LEAF, GATED, SIGHT, GIVE)
        if GIVE.age:
            age += tl.sum(aging(d_score, d_amount, amount, ok, KIND, GATED), 1)
        if FOLD.affine:
            d_pair = d_score
            if FOLD.slot_factor:
                d_pair = d_score * factor[None, :]
            if GIVE.turn:
                turn += tl.sum(d_pair.to(k.dtype).to(tl.float32), 1)  # rounded as in the product below, so that both cancel
        else:
            by_pair, by_state, _ = LEAF.score_back(pair, row_term[:, None], factor[None, :])
            d_pair = d_score * by_pair
            turn += tl.sum(d_score * by_state, 1)
        if GIVE.twist:
            twist += tl.sum(d_score * t, 1)
        acc = pulled(d_pair, q, k, acc, MODE)
    return acc, twist, turn, age


@triton.jit
def backward_queries(
    state, keys, values, gate, grads, scales, row_terms, factors, terms, levels, taus, inverses, bases, offsets, row_twists, row_turns,
    d_state, twists, turns, d_levels, sizes, limits, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr,
    GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of queries."""
    queries, slots, width, columns, heads, group, _, blocks = sizes
    member = tl.program_id(0) // blocks
    first = (tl.program_id(0) % blocks) * SHAPE.queries
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    QUERIES: tl.constexpr = SHAPE.queries
    WIDTH: tl.constexpr = SHAPE.width
    rows = first + tl.arange(0, QUERIES)
    q = tile(state, b, h, first, queries, width, SHAPE.queries, SHAPE.width, SHAPE.padded, True)
    grad = tile(grads, b, h, first, queries, columns, SHAPE.queries, SHAPE.columns, SHAPE.padded, True).to(q.dtype)
    scale, row_term = of_rows(scales, row_terms, member, first, queries, FOLD, SHAPE.queries)
    row = per_query(levels, taus, inverses, bases, offsets, member, first, queries, KIND, GIVE, SHAPE)

    begin, end = in_reach(first, slots, limits, SIGHT, SHAPE)
    plain = unmasked(begin, end, first, queries, slots, limits, SIGHT, SHAPE)
    operands = (keys, values, gate, factors, terms)
    dims = (queries, slots, width, columns, b, h, h // group, member)
    none = tl.zeros([QUERIES], tl.float32)
    carry = (tl.zeros([QUERIES, WIDTH], tl.float32), none, none, none)
    row_level = (scale, scale)
    if SIGHT.fades:
        row_level = level_of(limits[4], member, first, queries, SHAPE.queries)
    scaling = (scale, row_term, row_level)
    carry = to_queries(q, grad, row, rows, carry, scaling, operands, dims, (begin, plain), limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, False)
    carry = to_queries(q, grad, row, rows, carry, scaling, operands, dims, (plain, end), limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, True)
    acc, twist, turn, age = carry
    if KIND == SOFTMAX:
        twist = twist * LN2
    if FOLD.scaled:
        unit = scale
        if KIND == SOFTMAX:
            unit = scale * LN2
        acc = acc * unit[:, None]
    if GIVE.norms:
        bend = vector(row_twists, member, first, queries, SHAPE.queries) * twist + vector(row_turns, member, first, queries, SHAPE.queries) * turn
        acc += bend[:, None] * q.to(tl.float32)
    inside = rows < queries
    c = tl.arange(0, WIDTH)
    cells = member * queries + rows
    tl.store(d_state + cells[:, None] * width + c[None, :], acc.to(d_state.dtype.element_ty), mask=inside[:, None] & (c < width)[None, :])
    if GIVE.warm:
        tl.store(twists + cells, twist, mask=inside)
        tl.store(turns + cells, turn, mask=inside)
    if GIVE.age:
        tl.store(d_levels + cells, age, mask=inside)
