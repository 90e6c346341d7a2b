"""What every template shares: loading, pairing, scoring, seeing. All arithmetic in float32; a view is (pointer, batch, head and row stride)."""

import torch
import triton
import triton.language as tl

from ....energies.scalings.scaling import least

SOFTMAX = tl.constexpr(0)
SUM = tl.constexpr(1)
RATIO = tl.constexpr(2)
THRESHOLD = tl.constexpr(3)
BASELINE = tl.constexpr(4)  # weights F″(s − τ), divided by their sum
LN2 = tl.constexpr(0.6931471805599453)
LEAST = tl.constexpr(least(torch.float32))  # the least sum of F that counts


@triton.jit
def matmul(a, b, acc, MODE: tl.constexpr):
    """a b + acc, in the precision of b; or in float32, where weights may leave the range of float16 (MODE.wide).

    Interpreted, numpy has no bfloat16 and would multiply bit patterns: there operands are widened after rounding.
    """
    if not MODE.wide:
        a = a.to(b.dtype)
    if MODE.emulated or MODE.wide:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=MODE.precision)


@triton.jit
def tile(view, b, h, first, count, width, ROWS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, MASKED: tl.constexpr):
    """Rows first … of a (batch, heads, rows, width) tensor, zeros beyond its end. Offsets of rows are 64 bits wide."""
    pointer, batch_stride, head_stride, row_stride = view
    r = tl.arange(0, ROWS)
    c = tl.arange(0, WIDTH)
    start = pointer + b * batch_stride + h * head_stride + tl.cast(first, tl.int64) * row_stride
    address = start + r[:, None] * row_stride + c[None, :]
    if MASKED and PADDED:
        return tl.load(address, mask=((first + r) < count)[:, None] & (c < width)[None, :], other=0.0)
    elif MASKED:
        return tl.load(address, mask=((first + r) < count)[:, None], other=0.0)
    elif PADDED:
        return tl.load(address, mask=(c < width)[None, :], other=0.0)
    else:
        return tl.load(address)


@triton.jit
def vector(pointer, member, first, count, ROWS: tl.constexpr, other=0.0):
    """Entries first … of one row of a contiguous (members, count) tensor, ``other`` beyond its end."""
    r = first + tl.arange(0, ROWS)
    return tl.load(pointer + member * count + r, mask=r < count, other=other)


@triton.jit
def of_rows(scales, row_terms, member, first, queries, FOLD: tl.constexpr, ROWS: tl.constexpr):
    """Scale and term of a block of queries; the scale stands in for a term that is not needed."""
    scale = vector(scales, member, first, queries, ROWS, 1.0)
    row_term = scale
    if FOLD.row_term or not FOLD.affine:
        row_term = vector(row_terms, member, first, queries, ROWS)
    return scale, row_term


@triton.jit
def of_slots(factors, terms, member, first, slots, unused, FOLD: tl.constexpr, COLUMNS: tl.constexpr):
    """Factor and term of a tile of slots; ``unused`` stands in for what is not needed."""
    factor = unused
    term = unused
    if FOLD.slot_factor:
        factor = vector(factors, member, first, slots, COLUMNS)
    if FOLD.slot_term:
        term = vector(terms, member, first, slots, COLUMNS)
    return factor, term


@triton.jit
def in_reach(first, slots, limits, SIGHT: tl.constexpr, SHAPE: tl.constexpr):
    """Begin and end of the slots that a block of queries may see; the begin is that of a tile."""
    reach, offset, _, _, _ = limits
    begin = 0
    end = slots
    if SIGHT.causal:
        end = tl.minimum(slots, first + offset + SHAPE.queries)
        begin = tl.maximum(0, first + offset - reach + 1) // SHAPE.slots * SHAPE.slots
    return begin, end


@triton.jit
def unmasked(begin, end, first, queries, slots, limits, SIGHT: tl.constexpr, SHAPE: tl.constexpr):
    """Where the tiles end that are whole and seen by every query of a block; under a window there is none."""
    reach, offset, _, _, _ = limits
    plain = begin + tl.maximum(end - begin, 0) // SHAPE.slots * SHAPE.slots
    if SIGHT.causal:
        plain = begin + tl.maximum(0, tl.minimum(plain, first + offset + 1) - begin) // SHAPE.slots * SHAPE.slots
        if reach < tl.maximum(slots, queries + offset):
            plain = begin
    return plain


@triton.jit
def paired(q, k, MODE: tl.constexpr):
    """x·ξ of every pair, or −‖x − ξ‖₁."""
    if MODE.pair == "distance":
        return -tl.sum(tl.abs(q.to(tl.float32)[:, None, :] - k.to(tl.float32)[None, :, :]), 2)
    return matmul(q, tl.trans(k), tl.zeros([q.shape[0], k.shape[0]], tl.float32), MODE)


@triton.jit
def pulled(d_pair, near, far, acc, MODE: tl.constexpr):
    """acc + Σ_far d_pair ∂pair/∂near. d_pair: (near, far)"""
    if MODE.pair == "distance":
        apart = near.to(tl.float32)[:, None, :] - far.to(tl.float32)[None, :, :]
        toward = tl.where(apart > 0.0, -1.0, tl.where(apart < 0.0, 1.0, 0.0))
        return acc + tl.sum(d_pair[:, :, None] * toward, 1)
    return matmul(d_pair, far, acc, MODE)


@triton.jit
def scored(pair, rows, slots, LEAF: tl.constexpr, FOLD: tl.constexpr):
    """The scaled part t and the score s of every pair, from the row's (scale, term) and the slot's (factor, term)."""
    scale, row_term = rows
    factor, slot_term = slots
    if FOLD.affine:
        t = pair
        if FOLD.scaled:
            t = t * scale[:, None]
        if FOLD.slot_factor:
            t = t * factor[None, :]
    else:
        t = LEAF.score(pair, row_term[:, None], factor[None, :]) * scale[:, None]
    s = t
    if FOLD.slot_term:
        s = s + slot_term[None, :]
    if FOLD.row_term:
        s = s + row_term[:, None]
    if FOLD.capped:
        s = tl.where(s > 0, 0.0, s)  # a minimum would hide NaN
    return t, s


@triton.jit
def seen(gate, b, h, rows, first, queries, slots, limits, SIGHT: tl.constexpr, MASKED: tl.constexpr, COLUMNS: tl.constexpr):
    """Which slots of a tile each query sees, and how much of each is there (1 unless presence is soft); MASKED: some may lie beyond the end."""
    reach, offset, _, _, _ = limits
    cols = first + tl.arange(0, COLUMNS)
    ok = (rows < queries)[:, None]
    if MASKED:
        ok = ok & (cols < slots)[None, :]
    amount = tl.full([1, 1], 1.0, tl.float32)
    if SIGHT.causal:
        ago = (rows + offset)[:, None] - cols[None, :]
        ok = ok & (ago >= 0) & (ago < reach)
    if SIGHT.presence:
        pointer, batch_stride, head_stride, row_stride, slot_stride = gate
        start = pointer + b * batch_stride + h * head_stride
        if SIGHT.per_query:
            address = start + rows.to(tl.int64)[:, None] * row_stride + cols.to(tl.int64)[None, :] * slot_stride
            there = tl.load(address, mask=ok, other=0).to(tl.float32)
        else:
            there = tl.load(start + cols.to(tl.int64) * slot_stride, mask=cols < slots, other=0).to(tl.float32)[None, :]
        ok = ok & (there != 0.0)
        if SIGHT.soft:
            amount = there
    return ok, amount


@triton.jit
def level_of(levels, member, first, queries, ROWS: tl.constexpr):
    """Levels of a block of queries, each the sum of two floats."""
    high, low, _, _ = levels
    return vector(high, member, first, queries, ROWS), vector(low, member, first, queries, ROWS)


@triton.jit
def faded(s, amount, row_level, levels, member, first, slots, KIND: tl.constexpr, COLUMNS: tl.constexpr):
    """Scores and amounts after the decay of every slot, exp(G_i − G_j): an exponential's score falls, any other F is multiplied.

    Levels, in the units of the scores, are taken relative to the tile's first slot, whose differences are exact however far all have fallen.
    """
    high, low = row_level
    _, _, slot_high, slot_low = levels
    base_high = tl.load(slot_high + member * slots + first)
    base_low = tl.load(slot_low + member * slots + first)
    own = (vector(slot_high, member, first, slots, COLUMNS, base_high) - base_high) + (vector(slot_low, member, first, slots, COLUMNS) - base_low)
    fall = ((high - base_high) + (low - base_low))[:, None] - own[None, :]
    if KIND == SOFTMAX:
        s = s + fall
    else:
        amount = amount * tl.exp(tl.minimum(fall, 0.0))
    return s, amount


@triton.jit
def kept(seed, member, rows, first, rate, COLUMNS: tl.constexpr):
    """1/(1 − rate) for the weights that dropout keeps and 0 for the others: Philox 4×32 of (slot, query, member)."""
    cols = (first + tl.arange(0, COLUMNS)).to(tl.uint32)[None, :]
    c = rows.to(tl.uint32)[:, None]
    zero = cols * 0 + c * 0
    random, _, _, _ = tl.philox(tl.load(seed), zero + cols, zero + c, zero + member.to(tl.uint32), zero)
    return tl.where(tl.uint_to_uniform_float(random) >= rate, 1.0 / (1.0 - rate), 0.0)
