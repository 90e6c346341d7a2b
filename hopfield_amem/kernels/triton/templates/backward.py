"""Two deterministic backward kernels, one sweep each: gradients of queries, and of keys and values. No atomics.

With z = s − τ, per query an inverse mass 1/m, a base ⟨dO, u⟩ and an offset δ, and per pair a presence a and dropout's κ:

    p = a F′(z)/m          ds = a F″(z) (κ ⟨dO, v⟩ − base)/m − p δ
"""

import triton
import triton.language as tl

from .parts import LN2, SOFTMAX, kept, matmul, paired, pulled, scored, seen, tile, vector


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
def to_queries(
    q, grad, row, rows, carry, scaling, operands, sizes, span, options, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr,
    SIGHT: tl.constexpr, GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add what a span of slots gives to the queries' gradient (acc), Σ ds t (twist) and Σ ds (turn)."""
    acc, twist, turn = carry
    keys, values, gate, factors, terms = operands
    queries, slots, width, columns, b, h, memory, member = sizes
    first, last = span
    reach, seed, rate = options
    scale, row_term = scaling
    GATED: tl.constexpr = MASKED or SIGHT.presence
    for j in range(first, last, SHAPE.slots):
        k = tile(keys, b, memory, j, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, MASKED)
        v = k
        if GIVE.curved and not GIVE.tied:
            v = tile(values, b, memory, j, slots, columns, SHAPE.slots, SHAPE.columns, SHAPE.padded, MASKED)
        factor = scale
        term = scale
        if FOLD.slot_factor:
            factor = vector(factors, member, j, slots, SHAPE.slots)
        if FOLD.slot_term:
            term = vector(terms, member, j, slots, SHAPE.slots)
        pair = paired(q, k, MODE)
        t, s = scored(pair, (scale, row_term), (factor, term), LEAF, FOLD)
        ok = True
        amount = 1.0
        if GATED:
            ok, amount = seen(gate, b, h, rows, j, queries, slots, reach, SIGHT, MASKED, SHAPE.slots)
        lean = pair
        if GIVE.curved:
            lean = matmul(grad, tl.trans(v), tl.zeros([q.shape[0], k.shape[0]], tl.float32), MODE)
            if SIGHT.dropout:
                lean = lean * kept(seed, member, rows, j, rate, SHAPE.slots)
        _, d_score, _ = rated(s, lean, row, ok, amount, KIND, LEAF, GATED, SIGHT, GIVE)
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
    return acc, twist, turn


@triton.jit
def backward_queries(
    state, keys, values, gate, grads, scales, row_terms, factors, terms, levels, taus, inverses, bases, offsets, row_twists, row_turns,
    d_state, twists, turns, sizes, limits, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr,
    GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Gradient of one block of queries."""
    queries, slots, width, columns, heads, group, _, blocks = sizes
    reach, _, _ = limits
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
    scale = vector(scales, member, first, queries, SHAPE.queries, 1.0)
    row_term = scale
    if FOLD.row_term or not FOLD.affine:
        row_term = vector(row_terms, member, first, queries, SHAPE.queries)
    row = per_query(levels, taus, inverses, bases, offsets, member, first, queries, KIND, GIVE, SHAPE)

    begin = 0
    end = slots
    if SIGHT.causal:
        end = tl.minimum(slots, first + SHAPE.queries)
        begin = tl.maximum(0, first - reach + 1) // SHAPE.slots * SHAPE.slots
    plain = begin + tl.maximum(end - begin, 0) // SHAPE.slots * SHAPE.slots
    if SIGHT.causal:
        plain = begin + tl.maximum(0, tl.minimum(plain, first) - begin) // SHAPE.slots * SHAPE.slots
        if reach < slots:
            plain = begin
    operands = (keys, values, gate, factors, terms)
    dims = (queries, slots, width, columns, b, h, h // group, member)
    carry = (tl.zeros([QUERIES, WIDTH], tl.float32), tl.zeros([QUERIES], tl.float32), tl.zeros([QUERIES], tl.float32))
    scaling = (scale, row_term)
    carry = to_queries(q, grad, row, rows, carry, scaling, operands, dims, (begin, plain), limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, False)
    carry = to_queries(q, grad, row, rows, carry, scaling, operands, dims, (plain, end), limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, True)
    acc, twist, turn = carry
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


@triton.jit
def to_slots(
    k, v, slot, carry, state, gate, grads, vectors, slopes, sizes, span, options, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr,
    SIGHT: tl.constexpr, GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Add what the queries of one head give to the gradient of a block of slots: (d_k, d_v, Σ ds t, Σ ds, Σ of presence gradients)."""
    d_k, d_v, twist, turn, share = carry
    factor, term, start = slot
    queries, slots, width, columns, b, h, member = sizes
    first, last = span
    reach, seed, rate = options
    scales, row_terms, levels, taus, inverses, bases, offsets = vectors
    cols = start + tl.arange(0, SHAPE.slots)
    for i in range(first, last, SHAPE.queries):
        rows = i + tl.arange(0, SHAPE.queries)
        q = tile(state, b, h, i, queries, width, SHAPE.queries, SHAPE.width, SHAPE.padded, True)
        grad = tile(grads, b, h, i, queries, columns, SHAPE.queries, SHAPE.columns, SHAPE.padded, True).to(q.dtype)
        scale = vector(scales, member, i, queries, SHAPE.queries, 1.0)
        row_term = scale
        if FOLD.row_term or not FOLD.affine:
            row_term = vector(row_terms, member, i, queries, SHAPE.queries)
        row = per_query(levels, taus, inverses, bases, offsets, member, i, queries, KIND, GIVE, SHAPE)
        pair = paired(q, k, MODE)
        t, s = scored(pair, (scale, row_term), (factor, term), LEAF, FOLD)
        ok, amount = seen(gate, b, h, rows, start, queries, slots, reach, SIGHT, SIGHT.presence, SHAPE.slots)
        if SIGHT.dropout:
            keep = kept(seed, member, rows, start, rate, SHAPE.slots)
        lean = pair
        if GIVE.curved or GIVE.presence:
            lean = matmul(grad, tl.trans(v), tl.zeros([q.shape[0], k.shape[0]], tl.float32), MODE)
            if SIGHT.dropout:
                lean = lean * keep
        weight, d_score, d_amount = rated(s, lean, row, ok, amount, KIND, LEAF, True, SIGHT, GIVE)
        if SIGHT.dropout:
            weight = weight * keep
        d_v = matmul(tl.trans(weight.to(grad.dtype)), grad, d_v, MODE)
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
    return d_k, d_v, twist, turn, share


@triton.jit
def backward_slots(
    state, keys, values, gate, grads, scales, row_terms, factors, terms, levels, taus, inverses, bases, offsets, slot_twists, slot_turns,
    d_keys, d_values, d_terms, d_amounts, sizes, limits, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr,
    GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of slots of one memory, over all query heads that share it, in order."""
    queries, slots, width, columns, heads, group, memories, blocks = sizes
    reach, _, _ = limits
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
        begin = start // SHAPE.queries * SHAPE.queries
        if reach < slots + queries:
            end = tl.minimum(queries, start + SHAPE.slots + reach)
    for g in range(0, group):
        h = of * group + g
        member = b * heads + h
        factor = bend
        term = bend
        if FOLD.slot_factor:
            factor = vector(factors, member, start, slots, SHAPE.slots)
        if FOLD.slot_term:
            term = vector(terms, member, start, slots, SHAPE.slots)
        none = tl.zeros([SLOTS], tl.float32)
        vectors = (scales, row_terms, levels, taus, inverses, bases, offsets)
        dims = (queries, slots, width, columns, b, h, member)
        d_k, d_v, twist, turn, share = to_slots(
            k, v, (factor, term, start), (d_k, d_v, none, none, none), state, gate, grads, vectors, d_amounts, dims, (begin, end), limits,
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
    if KIND == SOFTMAX:
        d_k = d_k * LN2
    if GIVE.norms:
        d_k += bend[:, None] * k.to(tl.float32)
    if GIVE.tied:
        d_k += d_v
    place = memory.to(tl.int64) * slots + cols
    c = tl.arange(0, WIDTH)
    tl.store(d_keys + place[:, None] * width + c[None, :], d_k.to(d_keys.dtype.element_ty), mask=inside[:, None] & (c < width)[None, :])
    if not GIVE.tied:
        c = tl.arange(0, COLUMNS)
        tl.store(d_values + place[:, None] * columns + c[None, :], d_v.to(d_values.dtype.element_ty), mask=inside[:, None] & (c < columns)[None, :])
