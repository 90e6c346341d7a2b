"""What a linear memory's queries read from the state before their chunk and from the rows of it, and what they pull back to those rows."""

import triton
import triton.language as tl

from .linear_parts import CHANNEL, SCALAR, at_chunk, channels, logarithms, paired, piece, put, scaled, seen, since_start
from .parts import matmul


@triton.jit
def outputs(
    queries, keys, decay, states, written, output, sizes, blocks, MEMORY: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr
):  # fmt: skip
    """o = (q e^{…}) S + Σ_{j ≤ i} (q_i·k_j under decay) u_j. A program is a block of columns of a chunk of a query head."""
    ROWS: tl.constexpr = SHAPE.queries
    COLUMNS: tl.constexpr = SHAPE.columns
    count, width, columns, heads, group, chunks = sizes
    start = (tl.program_id(0) % blocks) * COLUMNS
    chunk = tl.program_id(0) // blocks % chunks
    reader = tl.program_id(0) // blocks // chunks
    first = chunk * ROWS
    b = (reader // (heads * group)).to(tl.int64)
    own = (reader % (heads * group)).to(tl.int64)
    h = own // group
    member = b * heads + h
    x, _ = logarithms(decay, b, h, member, first, count, ROWS, MEMORY.decay)
    pair = tl.zeros([ROWS, ROWS], tl.float32)
    acc = tl.zeros([ROWS, COLUMNS], tl.float32)
    for block in range(0, width, SHAPE.width):
        q = piece(queries, b, own, first, count, block, width, ROWS, SHAPE.width, SHAPE.padded)
        k = piece(keys, b, h, first, count, block, width, ROWS, SHAPE.width, SHAPE.padded)
        s = piece(at_chunk(states, member, chunk, sizes), 0, 0, block, width, start, columns, SHAPE.width, COLUMNS, SHAPE.padded)
        each = channels(decay, b, h, first, count, block, width, x, MEMORY, SHAPE)
        pair = paired(q, k, each, pair, MEMORY, MODE, ROWS)
        if MEMORY.decay == CHANNEL:
            q = scaled(q, since_start(each))
        acc = matmul(q, s, acc, MODE)
    if MEMORY.decay == SCALAR:
        acc = acc * since_start(x)[:, None]
    u = piece(written, b, h, first, count, start, columns, ROWS, COLUMNS, SHAPE.padded)
    acc = matmul(seen(pair, x, MEMORY.decay, ROWS, False), u, acc, MODE)
    put(output, b, own, first, count, start, columns, acc, ROWS, COLUMNS)


@triton.jit
def outputs_back(
    queries, keys, decay, grads, d_written, out, sizes, blocks, MEMORY: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr
):  # fmt: skip
    """The cotangent that the outputs of a chunk give to its rows u, added to that of u itself. A program is a block of its columns."""
    ROWS: tl.constexpr = SHAPE.queries
    COLUMNS: tl.constexpr = SHAPE.columns
    count, width, columns, heads, group, chunks = sizes
    start = (tl.program_id(0) % blocks) * COLUMNS
    first = (tl.program_id(0) // blocks % chunks) * ROWS
    member = tl.program_id(0) // blocks // chunks
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    x, _ = logarithms(decay, b, h, member, first, count, ROWS, MEMORY.decay)
    acc = tl.zeros([ROWS, COLUMNS], tl.float32)
    if MEMORY.shown:
        acc = piece(d_written, b, h, first, count, start, columns, ROWS, COLUMNS, SHAPE.padded).to(tl.float32)
    for each in range(0, group):
        own = h * group + each
        pair = tl.zeros([ROWS, ROWS], tl.float32)
        for block in range(0, width, SHAPE.width):
            q = piece(queries, b, own, first, count, block, width, ROWS, SHAPE.width, SHAPE.padded)
            k = piece(keys, b, h, first, count, block, width, ROWS, SHAPE.width, SHAPE.padded)
            here = channels(decay, b, h, first, count, block, width, x, MEMORY, SHAPE)
            pair = paired(q, k, here, pair, MEMORY, MODE, ROWS)
        do = piece(grads, b, own, first, count, start, columns, ROWS, COLUMNS, SHAPE.padded)
        acc = matmul(tl.trans(seen(pair, x, MEMORY.decay, ROWS, False)), do, acc, MODE)
    put(out, b, h, first, count, start, columns, acc, ROWS, COLUMNS)
