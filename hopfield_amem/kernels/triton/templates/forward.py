"""Partial retrieval, the primitive: slots are swept once, their weighted sums carried in and out.

The state of a query is ``top`` (largest score in log₂ units, exponentials only), ``total`` = Σ a F, ``mass`` = Σ a w κ and
``sums`` = Σ a w κ v, with weights w = F′ (F″ for a baseline), presence a and dropout's κ.
"""

import triton
import triton.language as tl

from .parts import (
    BASELINE,
    LEAST,
    LN2,
    RATIO,
    SOFTMAX,
    faded,
    in_reach,
    kept,
    level_of,
    matmul,
    of_rows,
    of_slots,
    paired,
    scored,
    seen,
    tile,
    unmasked,
    vector,
)


@triton.jit
def sweep(
    q, row, rows, carry, operands, sizes, span, options, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr,
    SIGHT: tl.constexpr, WANT: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr, RAW: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add the slots of a span to the carry (top, total, mass, sums)."""
    top, total, mass, sums = carry
    keys, values, gate, factors, terms = operands
    scale, row_term, level, tau, age = row
    queries, slots, width, columns, b, h, memory, member = sizes
    first, last = span
    _reach, _offset, seed, rate, ages = options
    GATED: tl.constexpr = MASKED or SIGHT.presence
    for j in range(first, last, SHAPE.slots):
        k = tile(keys, b, memory, j, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, MASKED)
        v = k
        if WANT.reads and not WANT.tied:
            v = tile(values, b, memory, j, slots, columns, SHAPE.slots, SHAPE.columns, SHAPE.padded, MASKED)
        slot = of_slots(factors, terms, member, j, slots, scale, FOLD, SHAPE.slots)
        pair = paired(q, k, MODE)
        s = pair
        if not RAW:
            _, s = scored(pair, (scale, row_term), slot, LEAF, FOLD)
        amount = 1.0
        if GATED:
            ok, amount = seen(gate, b, h, rows, j, queries, slots, options, SIGHT, MASKED, SHAPE.slots)
        if SIGHT.fades:
            s, amount = faded(s, amount, age, ages, member, j, slots, KIND, SHAPE.slots)
        if KIND == SOFTMAX:
            if GATED:
                s = tl.where(ok, s, -float("inf"))
            higher = tl.maximum(top, tl.max(s, 1))
            base = tl.where(higher == -float("inf"), 0.0, higher)
            if RAW:
                fade = tl.exp2((top - base) * scale)
                weight = tl.exp2(s * scale[:, None] - (base * scale)[:, None])
            else:
                fade = tl.exp2(top - base)
                weight = tl.exp2(s - base[:, None])
            top = higher
            if SIGHT.soft:
                weight = weight * amount
            total = total * fade + tl.sum(weight, 1)
            mass = mass * fade
            sums = sums * fade[:, None]
        else:
            if WANT.shifted:
                s = (s - level[:, None]) - tau[:, None]
            value, slope, curvature = LEAF.jet(s)
            weight = slope
            if KIND == BASELINE:
                weight = curvature
            if SIGHT.soft:
                weight = weight * amount
                value = value * amount
            if GATED:
                weight = tl.where(ok, weight, 0.0)
                value = tl.where(ok, value, 0.0)
            if KIND == BASELINE:
                total += tl.sum(weight, 1)
            elif WANT.total:
                total += tl.sum(value, 1)
        if SIGHT.dropout:
            weight = weight * kept(seed, member, rows, j, rate, SHAPE.slots)
        if WANT.mass:
            mass += tl.sum(weight, 1)
        if WANT.reads:
            sums = matmul(weight, v, sums, MODE)
    return top, total, mass, sums


@triton.jit
def finished(top, total, mass, sums, KIND: tl.constexpr, NULL: tl.constexpr):
    """Output, Q (without row terms and constants) and Σ p from the sums over all slots."""
    value = total
    if KIND == SOFTMAX:
        if NULL:
            level = tl.maximum(top, 0.0)
            fade = tl.exp2(top - level)
            total = total * fade + tl.exp2(-level)
            mass = mass * fade
            sums = sums * fade[:, None]
            top = level
        value = tl.where(total == 0.0, -float("inf"), (top + tl.log2(tl.where(total == 0.0, 1.0, total))) * LN2)
    if KIND == RATIO:
        if NULL:
            total = total + 1.0
        total = tl.where(tl.abs(total) < LEAST, 0.0, total) + (total - total)  # NaN where the sum overflowed
        value = tl.where(total == 0.0, -float("inf"), tl.log(tl.where(total == 0.0, 1.0, total)))
    if (KIND == SOFTMAX) or (KIND == RATIO) or (KIND == BASELINE):
        share = tl.where(total == 0.0, 0.0, 1.0 / tl.where(total == 0.0, 1.0, total)) + (total - total)
        mass = mass * share
        sums = sums * share[:, None]
    return sums, value, mass


@triton.jit
def forward(
    state, keys, values, gate, scales, row_terms, factors, terms, levels, taus, gains, tops, totals, masses, sums, output, sizes, limits,
    KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr, WANT: tl.constexpr, MODE: tl.constexpr,
    SHAPE: tl.constexpr, CARRY: tl.constexpr, FINISH: tl.constexpr,
):  # fmt: skip
    """One block of queries over one split of the slots: the finished output, or the carried state of every split."""
    queries, slots, width, columns, heads, group, splits, blocks = sizes
    member = tl.program_id(0) // blocks
    first = (tl.program_id(0) % blocks) * SHAPE.queries
    split = tl.program_id(1)
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    rows = first + tl.arange(0, SHAPE.queries)
    q = tile(state, b, h, first, queries, width, SHAPE.queries, SHAPE.width, SHAPE.padded, True)
    scale, row_term = of_rows(scales, row_terms, member, first, queries, FOLD, SHAPE.queries)
    level = scale
    tau = scale
    if WANT.shifted:
        level = vector(levels, member, first, queries, SHAPE.queries)
        tau = vector(taus, member, first, queries, SHAPE.queries)
    place = (split * tl.num_programs(0) // blocks).to(tl.int64) + member
    cells = place * queries + rows
    inside = rows < queries
    v = tl.arange(0, SHAPE.columns)
    both = inside[:, None] & (v < columns)[None, :]
    QUERIES: tl.constexpr = SHAPE.queries
    COLUMNS: tl.constexpr = SHAPE.columns
    total = tl.zeros([QUERIES], tl.float32)
    mass = tl.zeros([QUERIES], tl.float32)
    top = tl.full([QUERIES], -float("inf"), tl.float32)
    acc = tl.zeros([QUERIES, COLUMNS], tl.float32)
    if CARRY:
        top = tl.load(tops + cells, mask=inside, other=-float("inf"))
        total = tl.load(totals + cells, mask=inside, other=0.0)
        mass = tl.load(masses + cells, mask=inside, other=0.0)
        acc = tl.load(sums + cells[:, None] * columns + v[None, :], mask=both, other=0.0)

    RAW: tl.constexpr = KIND == SOFTMAX and FOLD.affine and FOLD.scaled and not (FOLD.slot_factor or FOLD.slot_term or FOLD.row_term or SIGHT.fades or CARRY)
    begin, end = in_reach(first, slots, limits, SIGHT, SHAPE)
    share = tl.cdiv(tl.cdiv(tl.maximum(end - begin, 0), SHAPE.slots), splits) * SHAPE.slots
    begin = begin + split * share
    end = tl.minimum(end, begin + share)
    plain = unmasked(begin, end, first, queries, slots, limits, SIGHT, SHAPE)
    operands = (keys, values, gate, factors, terms)
    dims = (queries, slots, width, columns, b, h, h // group, member)
    carry = (top, total, mass, acc)
    age = (scale, scale)
    if SIGHT.fades:
        age = level_of(limits[4], member, first, queries, SHAPE.queries)
    row = (scale, row_term, level, tau, age)
    carry = sweep(q, row, rows, carry, operands, dims, (begin, plain), limits, KIND, LEAF, FOLD, SIGHT, WANT, MODE, SHAPE, RAW, False)
    carry = sweep(q, row, rows, carry, operands, dims, (plain, end), limits, KIND, LEAF, FOLD, SIGHT, WANT, MODE, SHAPE, RAW, True)
    top, total, mass, acc = carry
    if RAW:
        top = top * scale
    if FINISH:
        if WANT.gained:
            gain = vector(gains, member, first, queries, SHAPE.queries)
            total = total * gain * scale
            mass = mass * gain
            acc = acc * gain[:, None]
        acc, total, mass = finished(top, total, mass, acc, KIND, WANT.null)
        if WANT.reads:
            tl.store(output + cells[:, None] * columns + v[None, :], acc.to(output.dtype.element_ty), mask=both)
    else:
        tl.store(tops + cells, top, mask=inside)
        tl.store(sums + cells[:, None] * columns + v[None, :], acc, mask=both)
    tl.store(totals + cells, total, mask=inside)
    if WANT.mass or not FINISH:
        tl.store(masses + cells, mass, mask=inside)
