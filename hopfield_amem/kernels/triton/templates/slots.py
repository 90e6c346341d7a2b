"""The gradients of keys and values: one sweep over the queries, every program its own block of slots. No atomics: the order is fixed."""

import triton
import triton.language as tl

from .parts import LN2, SOFTMAX, faded, kept, level_of, matmul, of_rows, of_slots, paired, pulled, scored, seen, tile, vector
from .rates import aging, per_query, rated


@triton.jit
def to_slots(
    k, v, slot, carry, state, gate, grads, vectors, slopes, sizes, span, options, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr,
    SIGHT: tl.constexpr, GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Add what the queries of one head give to the gradient of a block of slots: (d_k, d_v, Σ ds t, Σ ds, Σ of presence gradients, of levels)."""
    d_k, d_v, twist, turn, share, age = carry
    factor, term, start = slot
    queries, slots, width, columns, b, h, member = sizes
    first, last = span
    _reach, _offset, seed, rate, ages = options
    scales, row_terms, levels, taus, inverses, bases, offsets = vectors
    cols = start + tl.arange(0, SHAPE.slots)
    for i in range(first, last, SHAPE.queries):
        rows = i + tl.arange(0, SHAPE.queries)
        q = tile(state, b, h, i, queries, width, SHAPE.queries, SHAPE.width, SHAPE.padded, True)
        grad = tile(grads, b, h, i, queries, columns, SHAPE.queries, SHAPE.columns, SHAPE.padded, True).to(q.dtype)
        scale, row_term = of_rows(scales, row_terms, member, i, queries, FOLD, SHAPE.queries)
        row = per_query(levels, taus, inverses, bases, offsets, member, i, queries, KIND, GIVE, SHAPE)
        pair = paired(q, k, MODE)
        t, s = scored(pair, (scale, row_term), (factor, term), LEAF, FOLD)
        ok, amount = seen(gate, b, h, rows, start, queries, slots, options, SIGHT, SIGHT.presence, SHAPE.slots)
        if SIGHT.fades:
            s, amount = faded(s, amount, level_of(ages, member, i, queries, SHAPE.queries), ages, member, start, slots, KIND, SHAPE.slots)
        if SIGHT.dropout:
            keep = kept(seed, member, rows, start, rate, SHAPE.slots)
        lean = pair
        if GIVE.curved or GIVE.presence or GIVE.age:
            lean = matmul(grad, tl.trans(v), tl.zeros([q.shape[0], k.shape[0]], tl.float32), MODE)
            if SIGHT.dropout:
                lean = lean * keep
        weight, d_score, d_amount = rated(s, lean, row, ok, amount, KIND, LEAF, True, SIGHT, GIVE)
        if SIGHT.dropout:
            weight = weight * keep
        if GIVE.values:
            d_v = matmul(tl.trans(weight), grad, d_v, MODE)
        if GIVE.age:
            age -= tl.sum(aging(d_score, d_amount, amount, ok, KIND, True), 0)
        if FOLD.affine:
            d_pair = d_score
            if FOLD.slot_factor:
                d_pair = d_pair * factor[None, :]
            if FOLD.scaled:
                d_pair = d_pair * scale[:, None]
            if GIVE.turn:
                turn += tl.sum(d_score.to(k.dtype).to(tl.float32), 0)
            if GIVE.twist:
                twist += tl.sum(d_score * t, 0)
        else:
            by_pair, _, by_key = LEAF.score_back(pair, row_term[:, None], factor[None, :])
            d_pair = d_score * scale[:, None] * by_pair
            twist += tl.sum(d_score * scale[:, None] * by_key, 0)
            turn += tl.sum(d_score, 0)
        d_k = pulled(tl.trans(d_pair), k, q, d_k, MODE)
        if GIVE.presence:
            d_amount = tl.where(ok, d_amount, 0.0)
            if SIGHT.per_query:
                place = (member * queries + rows.to(tl.int64)) * slots
                tl.store(slopes + place[:, None] + cols[None, :], d_amount, mask=(rows < queries)[:, None] & (cols < slots)[None, :])
            else:
                share += tl.sum(d_amount, 0)
    return d_k, d_v, twist, turn, share, age


@triton.jit
def backward_slots(
    state, keys, values, gate, grads, scales, row_terms, factors, terms, levels, taus, inverses, bases, offsets, slot_twists, slot_turns,
    d_keys, d_values, d_terms, d_amounts, d_levels, sizes, limits, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr,
    GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of slots of one memory, over all query heads that share it, in order."""
    queries, slots, width, columns, heads, group, memories, blocks = sizes
    reach, offset, _, _, _ = limits
    memory = tl.program_id(0) // blocks
    start = (tl.program_id(0) % blocks) * SHAPE.slots
    b = (memory // memories).to(tl.int64)
    of = (memory % memories).to(tl.int64)
    SLOTS: tl.constexpr = SHAPE.slots
    WIDTH: tl.constexpr = SHAPE.width
    COLUMNS: tl.constexpr = SHAPE.columns
    cols = start + tl.arange(0, SLOTS)
    inside = cols < slots
    k = tile(keys, b, of, start, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, True)
    if GIVE.tied:
        v = k
    else:
        v = tile(values, b, of, start, slots, columns, SHAPE.slots, SHAPE.columns, SHAPE.padded, True)
    d_k = tl.zeros([SLOTS, WIDTH], tl.float32)
    d_v = tl.zeros([SLOTS, COLUMNS], tl.float32)
    bend = tl.zeros([SLOTS], tl.float32)
    begin = 0
    end = queries
    if SIGHT.causal:
        begin = tl.maximum(0, start - offset) // SHAPE.queries * SHAPE.queries
        if reach < slots + queries:
            end = tl.minimum(queries, start - offset + SHAPE.slots + reach)
    for g in range(0, group):
        h = of * group + g
        member = b * heads + h
        factor, term = of_slots(factors, terms, member, start, slots, bend, FOLD, SHAPE.slots)
        none = tl.zeros([SLOTS], tl.float32)
        vectors = (scales, row_terms, levels, taus, inverses, bases, offsets)
        dims = (queries, slots, width, columns, b, h, member)
        d_k, d_v, twist, turn, share, age = to_slots(
            k, v, (factor, term, start), (d_k, d_v, none, none, none, none), state, gate, grads, vectors, d_amounts, dims, (begin, end), limits,
            KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE,
        )  # fmt: skip
        if KIND == SOFTMAX:
            twist = twist * LN2
        if GIVE.norms:
            bend += vector(slot_twists, member, start, slots, SHAPE.slots) * twist + vector(slot_turns, member, start, slots, SHAPE.slots) * turn
        if GIVE.terms:
            tl.store(d_terms + member * slots + cols, turn, mask=inside)
        if GIVE.presence:
            if not SIGHT.per_query:
                tl.store(d_amounts + member * slots + cols, share, mask=inside)
        if GIVE.age:
            tl.store(d_levels + member * slots + cols, age, mask=inside)
    if KIND == SOFTMAX:
        d_k = d_k * LN2
    if GIVE.norms:
        d_k += bend[:, None] * k.to(tl.float32)
    if GIVE.tied:
        d_k += d_v
    place = memory.to(tl.int64) * slots + cols
    c = tl.arange(0, WIDTH)
    tl.store(d_keys + place[:, None] * width + c[None, :], d_k.to(d_keys.dtype.element_ty), mask=inside[:, None] & (c < width)[None, :])
    if GIVE.values and not GIVE.tied:
        c = tl.arange(0, COLUMNS)
        tl.store(d_values + place[:, None] * columns + c[None, :], d_v.to(d_values.dtype.element_ty), mask=inside[:, None] & (c < columns)[None, :])
