"""The state of a linear memory from chunk to chunk, and its cotangent the other way. A program is a block of the state's columns."""

import triton
import triton.language as tl

from .linear_parts import CHANNEL, EVEN, SCALAR, at_chunk, logarithms, piece, put, scaled, since_start, until_end
from .parts import matmul, vector


@triton.jit
def remaining(decay, b, h, first, count, width, x, ROWS: tl.constexpr, WIDTH: tl.constexpr, DECAY: tl.constexpr):
    """What is left after a chunk of every row of the state before it, with a new axis."""
    left = tl.full([1, 1], 1.0, tl.float32)
    if DECAY == SCALAR:
        left = left * tl.exp(tl.sum(x, 0))
    elif DECAY == CHANNEL:
        each = piece(decay, b, h, first, count, 0, width, ROWS, WIDTH, True)
        left = tl.exp(tl.sum(each, 0))[:, None]
    return left


@triton.jit
def scan(
    keys, ways, solved, decay, state, states, final, written, sizes, blocks, MEMORY: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr
):  # fmt: skip
    """u = X a v − (X b w e^{…}) S and S ← γ S + kᵀ u, chunk after chunk; the state before every chunk is kept."""
    ROWS: tl.constexpr = SHAPE.queries
    WIDTH: tl.constexpr = SHAPE.width
    COLUMNS: tl.constexpr = SHAPE.columns
    count, width, columns, heads, _, chunks = sizes
    start = (tl.program_id(0) % blocks) * COLUMNS
    member = tl.program_id(0) // blocks
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    s = tl.zeros([WIDTH, COLUMNS], tl.float32)
    if MEMORY.starts:
        s = piece(state, b, h, 0, width, start, columns, WIDTH, COLUMNS, True).to(tl.float32)
    for chunk in range(0, chunks):
        first = chunk * ROWS
        put(at_chunk(states, member, chunk, sizes), 0, 0, 0, width, start, columns, s, WIDTH, COLUMNS)
        x, after = logarithms(decay, b, h, member, first, count, ROWS, MEMORY.decay)
        k = piece(keys, b, h, first, count, 0, width, ROWS, WIDTH, SHAPE.padded)
        u = piece(solved, b, h, first, count, start, columns, ROWS, COLUMNS, SHAPE.padded)
        if MEMORY.erases:
            way = piece(ways, b, h, first, count, 0, width, ROWS, WIDTH, SHAPE.padded)
            u = (u.to(tl.float32) - matmul(way, s.to(k.dtype), tl.zeros([ROWS, COLUMNS], tl.float32), MODE)).to(k.dtype)
            put(written, b, h, first, count, start, columns, u, ROWS, COLUMNS)
        if MEMORY.decay == SCALAR:
            u = scaled(u, until_end(after)[:, None])
        if MEMORY.decay != EVEN:
            s = s * remaining(decay, b, h, first, count, width, x, ROWS, WIDTH, MEMORY.decay)
        s = matmul(tl.trans(k), u, s, MODE)
    put(final, b, h, 0, width, start, columns, s, WIDTH, COLUMNS)


@triton.jit
def scan_back(
    ways, erase, queries, grads, pulls, decay, erase_rates, d_final, d_states, d_state, d_solved, sizes, blocks, MEMORY: tl.constexpr,
    MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """d_r = Xᵀ d_u + (Xᵀ k e^{…}) d_S and d_S ← γ d_S − (b w)ᵀ d_r + qᵀ d_o, from the last chunk to the first.

    What is kept per chunk is the cotangent of the state after it. Keys, erase keys and queries come decayed where decay is per channel.
    """
    ROWS: tl.constexpr = SHAPE.queries
    WIDTH: tl.constexpr = SHAPE.width
    COLUMNS: tl.constexpr = SHAPE.columns
    count, width, columns, heads, group, chunks = sizes
    start = (tl.program_id(0) % blocks) * COLUMNS
    member = tl.program_id(0) // blocks
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    ds = tl.zeros([WIDTH, COLUMNS], tl.float32)
    if MEMORY.ends:
        ds = piece(d_final, b, h, 0, width, start, columns, WIDTH, COLUMNS, True).to(tl.float32)
    for step in range(0, chunks):
        chunk = chunks - 1 - step
        first = chunk * ROWS
        put(at_chunk(d_states, member, chunk, sizes), 0, 0, 0, width, start, columns, ds, WIDTH, COLUMNS)
        x, _ = logarithms(decay, b, h, member, first, count, ROWS, MEMORY.decay)
        way = piece(ways, b, h, first, count, 0, width, ROWS, WIDTH, SHAPE.padded)
        dr = piece(pulls, b, h, first, count, start, columns, ROWS, COLUMNS, SHAPE.padded)
        dr = matmul(way, ds.to(way.dtype), dr.to(tl.float32), MODE).to(way.dtype)
        put(d_solved, b, h, first, count, start, columns, dr, ROWS, COLUMNS)
        if MEMORY.decay != EVEN:
            ds = ds * remaining(decay, b, h, first, count, width, x, ROWS, WIDTH, MEMORY.decay)
        left = tl.full([ROWS], 1.0, tl.float32)
        if MEMORY.decay == SCALAR:
            left = since_start(x)
        if MEMORY.erases:
            rate = vector(erase_rates, member, first, count, ROWS)
            w = piece(erase, b, h, first, count, 0, width, ROWS, WIDTH, SHAPE.padded)
            ds = matmul(tl.trans(w), scaled(dr, -(rate * left)[:, None]), ds, MODE)
        if MEMORY.reads:
            for each in range(0, group):
                q = piece(queries, b, h * group + each, first, count, 0, width, ROWS, WIDTH, SHAPE.padded)
                do = piece(grads, b, h * group + each, first, count, start, columns, ROWS, COLUMNS, SHAPE.padded)
                ds = matmul(tl.trans(q), scaled(do, left[:, None]).to(q.dtype), ds, MODE)
    put(d_state, b, h, 0, width, start, columns, ds, WIDTH, COLUMNS)
