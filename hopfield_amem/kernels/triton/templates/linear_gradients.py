"""Gradients of a chunk of a linear memory, from the state before it, the cotangent of the state after it, its rows u and d_r = Xᵀ d_u.

With every sum under decay,

    d_q = d_o Sᵀ + Σ_j ⟨d_o, u_j⟩ k_j      d_w = −b (d_r Sᵀ + Σ_j ⟨d_r, u_j⟩ k_j)      d_k = u d_Sᵀ + Σ_i ⟨d_o_i, u⟩ q_i − Σ_i b_i ⟨d_r_i, u⟩ w_i

Decay meets q and w on the way in and k on the way out, so that d_x is summed from q d_q + w d_w − k d_k over the later rows of the chunk.
"""

import triton
import triton.language as tl

from .linear_parts import (
    CHANNEL,
    EVEN,
    SCALAR,
    at_chunk,
    channels,
    later_channels,
    logarithms,
    piece,
    pulled,
    put,
    put_vector,
    scaled,
    seen,
    since_start,
    until_end,
)
from .parts import matmul, vector


@triton.jit
def inward(rows, other, state, b, h, first, start, sizes, SHAPE: tl.constexpr, MODE: tl.constexpr):
    """⟨row_i, u_j⟩ of every pair, and row_i Sᵀ: of the cotangents of outputs or of erased rows."""
    ROWS: tl.constexpr = SHAPE.queries
    WIDTH: tl.constexpr = SHAPE.width
    count, width, columns, _, _, _ = sizes
    pair = tl.zeros([ROWS, ROWS], tl.float32)
    acc = tl.zeros([ROWS, WIDTH], tl.float32)
    written, memory = other
    for block in range(0, columns, SHAPE.columns):
        r = piece(rows, b, h, first, count, block, columns, ROWS, SHAPE.columns, SHAPE.padded)
        u = piece(written, b, memory, first, count, block, columns, ROWS, SHAPE.columns, SHAPE.padded)
        s = piece(state, 0, 0, start, width, block, columns, SHAPE.width, SHAPE.columns, SHAPE.padded)
        pair = matmul(r, tl.trans(u), pair, MODE)
        acc = matmul(r, tl.trans(s), acc, MODE)
    return pair, acc


@triton.jit
def outward(written, state, d_state, b, h, first, start, sizes, SHAPE: tl.constexpr, MODE: tl.constexpr, DECAY: tl.constexpr):
    """u d_Sᵀ, and Σ_v S d_S of every channel."""
    ROWS: tl.constexpr = SHAPE.queries
    WIDTH: tl.constexpr = SHAPE.width
    count, width, columns, _, _, _ = sizes
    acc = tl.zeros([ROWS, WIDTH], tl.float32)
    kept = tl.zeros([WIDTH], tl.float32)
    for block in range(0, columns, SHAPE.columns):
        u = piece(written, b, h, first, count, block, columns, ROWS, SHAPE.columns, SHAPE.padded)
        ds = piece(d_state, 0, 0, start, width, block, columns, SHAPE.width, SHAPE.columns, SHAPE.padded)
        acc = matmul(u, tl.trans(ds), acc, MODE)
        if DECAY != EVEN:
            s = piece(state, 0, 0, start, width, block, columns, SHAPE.width, SHAPE.columns, SHAPE.padded)
            kept += tl.sum(s.to(tl.float32) * ds.to(tl.float32), 1)
    return acc, kept


@triton.jit
def arriving(t, x, each, DECAY: tl.constexpr):
    """Rows under the decay since the chunk began."""
    if DECAY == SCALAR:
        t = t * since_start(x)[:, None]
    elif DECAY == CHANNEL:
        t = t * since_start(each)
    return t


@triton.jit
def gradients(
    queries, keys, erase, decay, erase_rates, states, d_states, written, grads, d_solved, d_queries, d_keys, d_erase, d_decay, d_rates,
    sizes, blocks, members, MEMORY: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Gradients of queries, keys, erase keys, decay and erase rates: a program is a block of columns of a chunk; vectors are sums over its columns."""
    ROWS: tl.constexpr = SHAPE.queries
    WIDTH: tl.constexpr = SHAPE.width
    count, width, _, heads, group, chunks = sizes
    part = tl.program_id(0) % blocks
    start = part * WIDTH
    chunk = tl.program_id(0) // blocks % chunks
    first = chunk * ROWS
    member = tl.program_id(0) // blocks // chunks
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    row = part * members + member
    state = at_chunk(states, member, chunk, sizes)
    x, later = logarithms(decay, b, h, member, first, count, ROWS, MEMORY.decay)
    each = channels(decay, b, h, first, count, start, width, x, MEMORY, SHAPE)
    k = piece(keys, b, h, first, count, start, width, ROWS, WIDTH, SHAPE.padded)

    dk, kept = outward(written, state, at_chunk(d_states, member, chunk, sizes), b, h, first, start, sizes, SHAPE, MODE, MEMORY.decay)
    moved = tl.zeros([ROWS, WIDTH], tl.float32)  # q d_q + w d_w
    if MEMORY.decay == SCALAR:
        dk = dk * until_end(later)[:, None]
        kept = kept * tl.exp(tl.sum(x, 0))
    elif MEMORY.decay == CHANNEL:
        dk = dk * until_end(later_channels(decay, b, h, first, count, start, width, x, MEMORY, SHAPE))
        kept = kept * tl.exp(tl.sum(each, 0))
    if MEMORY.decay != EVEN:
        kept += tl.sum(k.to(tl.float32) * dk, 0)
    if MEMORY.erases:
        rate = vector(erase_rates, member, first, count, ROWS)[:, None]
        w = piece(erase, b, h, first, count, start, width, ROWS, WIDTH, SHAPE.padded)
        pair, dw = inward(d_solved, (written, h), state, b, h, first, start, sizes, SHAPE, MODE)
        pair = seen(pair, x, MEMORY.decay, ROWS, True)
        dw, dk = pulled(pair, scaled(w, -rate), k, each, arriving(dw, x, each, MEMORY.decay), dk, MEMORY, MODE, ROWS, WIDTH)
        put_vector(d_rates, row, first, count, -tl.sum(w.to(tl.float32) * dw, 1), ROWS)
        dw = -rate * dw
        moved += w.to(tl.float32) * dw
        if MEMORY.tied:
            moved += w.to(tl.float32) * dw  # taken off again with the keys' gradient below
            dk += dw
        else:
            put(d_erase, b, h, first, count, start, width, dw, ROWS, WIDTH)
    if MEMORY.reads:
        for reader in range(h * group, h * group + group):
            q = piece(queries, b, reader, first, count, start, width, ROWS, WIDTH, SHAPE.padded)
            pair, dq = inward(grads, (written, h), state, b, reader, first, start, sizes, SHAPE, MODE)
            pair = seen(pair, x, MEMORY.decay, ROWS, False)
            dq, dk = pulled(pair, q, k, each, arriving(dq, x, each, MEMORY.decay), dk, MEMORY, MODE, ROWS, WIDTH)
            put(d_queries, b, reader, first, count, start, width, dq, ROWS, WIDTH)
            moved += q.to(tl.float32) * dq
    moved -= k.to(tl.float32) * dk
    if MEMORY.decay == SCALAR:
        put_vector(d_decay, row, first, count, tl.cumsum(tl.sum(moved, 1), 0, reverse=True) + tl.sum(kept, 0), ROWS)
    elif MEMORY.decay == CHANNEL:
        put(d_decay, b, h, first, count, start, width, tl.cumsum(moved, 0, reverse=True) + kept[None, :], ROWS, WIDTH)
    put(d_keys, b, h, first, count, start, width, dk, ROWS, WIDTH)


@triton.jit
def rated(values, rates, d_solved, d_values, d_rates, sizes, SHAPE: tl.constexpr):
    """Gradients of values a d_r and of write rates ⟨v, d_r⟩. A program is a chunk."""
    ROWS: tl.constexpr = SHAPE.queries
    count, _, columns, heads, _, chunks = sizes
    member = tl.program_id(0) // chunks
    first = (tl.program_id(0) % chunks) * ROWS
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    rate = vector(rates, member, first, count, ROWS)[:, None]
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, columns, SHAPE.columns):
        v = piece(values, b, h, first, count, start, columns, ROWS, SHAPE.columns, SHAPE.padded).to(tl.float32)
        dr = piece(d_solved, b, h, first, count, start, columns, ROWS, SHAPE.columns, SHAPE.padded).to(tl.float32)
        put(d_values, b, h, first, count, start, columns, rate * dr, ROWS, SHAPE.columns)
        total += tl.sum(v * dr, 1)
    put_vector(d_rates, member, first, count, total, ROWS)
