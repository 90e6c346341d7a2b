"""What a chunk of a linear memory does to the state before it: the rows' mutual erasing, solved.

With the decayed Gram matrix A_ij = b_i Σ_c w_ic k_jc e^{x_{j+1,c} + … + x_ic} (j < i) and X = (I + A)⁻¹, the written rows are
u = X a v − X b (w e^{x_0 + …}) S. Backward the same chunk needs Xᵀ of the cotangent of u, and Xᵀ of the keys as they arrive at its end.
"""

import triton
import triton.language as tl

from .linear_parts import CHANNEL, SCALAR, channels, later_channels, logarithms, paired, piece, put, scaled, seen, since_start, until_end
from .parts import matmul, vector


@triton.jit
def spread(x, ROWS: tl.constexpr, BLOCKS: tl.constexpr):
    """(1 or BLOCKS, e, e) -> (ROWS, ROWS): every block of rows carries its matrix in every block of columns."""
    EDGE: tl.constexpr = ROWS // BLOCKS
    return tl.reshape(tl.broadcast_to(x[:, :, None, :], (BLOCKS, EDGE, BLOCKS, EDGE)), (ROWS, ROWS))


@triton.jit
def inverted(a, ROWS: tl.constexpr, BLOCKS: tl.constexpr, MEMORY: tl.constexpr):
    """(I + A)⁻¹ of a strictly lower triangular A: one or two diagonal blocks row by row, both at once, then −X₂₂ A₂₁ X₁₁ below them.

    Stable where repeated squaring is not: nothing larger than the inverse itself is ever formed.
    """
    EDGE: tl.constexpr = ROWS // BLOCKS
    r = tl.arange(0, ROWS)
    e = tl.arange(0, EDGE)
    block = tl.arange(0, BLOCKS)[:, None, None]
    same = (r // EDGE)[:, None] == (r // EDGE)[None, :]
    own = tl.sum(tl.reshape(tl.where(same, a, 0.0), (BLOCKS, EDGE, BLOCKS, EDGE)), 2)
    x = tl.where((e[:, None] == e[None, :])[None, :, :], 1.0, tl.zeros([BLOCKS, EDGE, EDGE], tl.float32))
    for i in range(1, EDGE):
        here = (e == i)[None, :, None]
        row = tl.sum(tl.where(here, own, 0.0), 1)
        x = tl.where(here, x - tl.sum(row[:, :, None] * x, 1)[:, None, :], x)
    whole = tl.where(same, spread(x, ROWS, BLOCKS), 0.0)
    if BLOCKS == 2:
        other = tl.sum(tl.reshape(tl.where(same, 0.0, a), (BLOCKS, EDGE, BLOCKS, EDGE)), 2)  # A is 0 above
        way = tl.dot(tl.sum(tl.where(block == 1, x, 0.0), 0), tl.sum(other, 0), input_precision=MEMORY.solving)
        low = tl.dot(way, tl.sum(tl.where(block == 0, x, 0.0), 0), input_precision=MEMORY.solving)
        whole = tl.where((r >= EDGE)[:, None] & (r < EDGE)[None, :], -spread(low[None, :, :], ROWS, BLOCKS), whole)
    return whole


@triton.jit
def erased(keys, erase, decay, rate, x, b, h, first, sizes, MEMORY: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr):
    """X of a chunk."""
    ROWS: tl.constexpr = SHAPE.queries
    count, width, _, _, _, _ = sizes
    gram = tl.zeros([ROWS, ROWS], tl.float32)
    for start in range(0, width, SHAPE.width):
        k = piece(keys, b, h, first, count, start, width, ROWS, SHAPE.width, SHAPE.padded)
        w = piece(erase, b, h, first, count, start, width, ROWS, SHAPE.width, SHAPE.padded)
        each = channels(decay, b, h, first, count, start, width, x, MEMORY, SHAPE)
        gram = paired(w, k, each, gram, MEMORY, MODE, ROWS)
    return inverted(seen(gram, x, MEMORY.decay, ROWS, True) * rate[:, None], ROWS, 2 if ROWS > 32 else 1, MEMORY)


@triton.jit
def met(decay, b, h, first, count, start, width, MEMORY: tl.constexpr, SHAPE: tl.constexpr, AHEAD: tl.constexpr):
    """The decay per channel since the chunk began, or AHEAD: until it ends."""
    if AHEAD:
        return until_end(later_channels(decay, b, h, first, count, start, width, None, MEMORY, SHAPE))
    else:
        return since_start(channels(decay, b, h, first, count, start, width, None, MEMORY, SHAPE))


@triton.jit
def solve(
    keys, erase, decay, write_rates, erase_rates, given, of_given, of_keys, sizes, MEMORY: tl.constexpr, MODE: tl.constexpr,
    SHAPE: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    """X a v and X b w e^{…}, or BACK: Xᵀ of the cotangent of u and of the keys as they arrive at the chunk's end. A program is a chunk."""
    ROWS: tl.constexpr = SHAPE.queries
    WIDTH: tl.constexpr = SHAPE.width
    COLUMNS: tl.constexpr = SHAPE.columns
    count, width, columns, heads, _, chunks = sizes
    member = tl.program_id(0) // chunks
    first = (tl.program_id(0) % chunks) * ROWS
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    x, later = logarithms(decay, b, h, member, first, count, ROWS, MEMORY.decay)
    of_rows = tl.full([ROWS], 1.0, tl.float32)  # what multiplies a row of ``given``, and a row of keys or erase keys
    of_ways = of_rows
    if MEMORY.rated and not BACK:
        of_rows = vector(write_rates, member, first, count, ROWS)
    if MEMORY.decay == SCALAR:
        of_ways = until_end(later) if BACK else since_start(x)
    inverse = tl.zeros([ROWS, ROWS], tl.float32)
    if MEMORY.erases:
        rate = vector(erase_rates, member, first, count, ROWS)
        inverse = erased(keys, erase, decay, rate, x, b, h, first, sizes, MEMORY, MODE, SHAPE)
        if BACK:
            inverse = tl.trans(inverse)
        else:
            of_ways = of_ways * rate
    for start in range(0, columns, SHAPE.columns):
        v = piece(given, b, h, first, count, start, columns, ROWS, SHAPE.columns, SHAPE.padded)
        if MEMORY.erases:
            y = matmul(inverse * of_rows[None, :], v, tl.zeros([ROWS, COLUMNS], tl.float32), MODE)
        else:
            y = v.to(tl.float32) * of_rows[:, None]
        put(of_given, b, h, first, count, start, columns, y, ROWS, SHAPE.columns)
    if MEMORY.erases or BACK:
        for start in range(0, width, SHAPE.width):
            t = piece(keys if BACK else erase, b, h, first, count, start, width, ROWS, SHAPE.width, SHAPE.padded)
            if MEMORY.decay == CHANNEL:
                t = scaled(t, met(decay, b, h, first, count, start, width, MEMORY, SHAPE, BACK))
            if MEMORY.erases:
                y = matmul(inverse * of_ways[None, :], t, tl.zeros([ROWS, WIDTH], tl.float32), MODE)
            else:
                y = t.to(tl.float32) * of_ways[:, None]
            put(of_keys, b, h, first, count, start, width, y, ROWS, SHAPE.width)


@triton.jit
def decayed(rows, decay, out, sizes, MEMORY: tl.constexpr, SHAPE: tl.constexpr, AHEAD: tl.constexpr):
    """Rows as the state before the chunk meets them, or AHEAD: as the state after it does. A program is a block of columns of a chunk."""
    ROWS: tl.constexpr = SHAPE.queries
    count, width, _, heads, group, chunks = sizes
    blocks = tl.cdiv(width, SHAPE.width)
    start = (tl.program_id(0) % blocks) * SHAPE.width
    first = (tl.program_id(0) // blocks % chunks) * ROWS
    member = tl.program_id(0) // blocks // chunks
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    t = piece(rows, b, h, first, count, start, width, ROWS, SHAPE.width, SHAPE.padded)
    put(out, b, h, first, count, start, width, scaled(t, met(decay, b, h // group, first, count, start, width, MEMORY, SHAPE, AHEAD)), ROWS, SHAPE.width)
