"""What the kernels of linear memories share: pieces of chunks, the decay between rows, and products of all pairs of a chunk under it.

Inside a chunk, row i sees row j ≤ i through e^{x_{j+1} + … + x_i}, with x = log γ ≤ 0. Every such sum is added up from its own terms and
never taken as a difference, so that no exponential exceeds 1 and a forgetting x = −10⁴ leaves the rows after it exact. With a decay
per channel, pairs are products of two falls that meet between them: rows of the second half of a block see rows of its first half
through the middle, for blocks of 2, 4, … rows.
"""

import triton
import triton.language as tl

from .parts import matmul, tile, vector

EVEN = tl.constexpr(0)  # nothing decays
SCALAR = tl.constexpr(1)
CHANNEL = tl.constexpr(2)


@triton.jit
def piece(view, b, h, first, count, start, width, ROWS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Rows first … and columns start … of a (batch, heads, rows, width) tensor, zeros beyond its end."""
    pointer, batch_stride, head_stride, row_stride = view
    return tile((pointer + start, batch_stride, head_stride, row_stride), b, h, first, count, width - start, ROWS, WIDTH, PADDED, True)


@triton.jit
def put(view, b, h, first, count, start, width, value, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Store what ``piece`` would load."""
    pointer, batch_stride, head_stride, row_stride = view
    r = tl.arange(0, ROWS)
    c = start + tl.arange(0, WIDTH)
    address = pointer + b * batch_stride + h * head_stride + tl.cast(first, tl.int64) * row_stride + r[:, None] * row_stride + c[None, :]
    tl.store(address, value.to(pointer.dtype.element_ty), mask=((first + r) < count)[:, None] & (c < width)[None, :])


@triton.jit
def put_vector(pointer, member, first, count, value, ROWS: tl.constexpr):
    """Store what ``vector`` would load."""
    r = first + tl.arange(0, ROWS)
    tl.store(pointer + member * count + r, value, mask=r < count)


@triton.jit
def at_chunk(states, member, chunk, sizes):
    """The matrix of a chunk in (members, chunks, width, columns), as a view."""
    _, width, columns, _, _, chunks = sizes
    return states + (member * chunks + chunk) * width * columns, 0, 0, columns


@triton.jit
def logarithms(view, b, h, member, first, count, ROWS: tl.constexpr, DECAY: tl.constexpr):
    """x of a chunk's rows and x of the rows after them (0 after the last), where it is one number per row."""
    x = tl.zeros([ROWS], tl.float32)
    after = x
    if DECAY == SCALAR:
        pointer, _, _, _ = view
        x = vector(pointer, member, first, count, ROWS)
        after = tl.where(tl.arange(0, ROWS) < ROWS - 1, vector(pointer, member, first + 1, count, ROWS), 0.0)
    return x, after


@triton.jit
def channels(view, b, h, first, count, start, width, unused, MEMORY: tl.constexpr, SHAPE: tl.constexpr):
    """x per channel, for a block of columns: not −∞, which products would turn into NaN."""
    x = unused
    if MEMORY.decay == CHANNEL:
        x = tl.maximum(piece(view, b, h, first, count, start, width, SHAPE.queries, SHAPE.width, SHAPE.padded), -1e4)
    return x


@triton.jit
def later_channels(view, b, h, first, count, start, width, unused, MEMORY: tl.constexpr, SHAPE: tl.constexpr):
    """x per channel of the rows after a chunk's rows, 0 after the last."""
    x = unused
    if MEMORY.decay == CHANNEL:
        last = tl.minimum(count, first + SHAPE.queries)
        x = piece(view, b, h, first + 1, last, start, width, SHAPE.queries, SHAPE.width, SHAPE.padded)
    return x


@triton.jit
def since_start(x):
    """e^{x_0 + … + x_i}: what is left in row i of the state before the chunk."""
    return tl.exp(tl.cumsum(x, 0))


@triton.jit
def until_end(after):
    """e^{x_{i+1} + …}: what is left of row i in the state after the chunk."""
    return tl.exp(tl.cumsum(after, 0, reverse=True))


@triton.jit
def between(x, ROWS: tl.constexpr):
    """e^{x_{j+1} + … + x_i} for every pair j ≤ i of a chunk, 1 elsewhere."""
    r = tl.arange(0, ROWS)
    return tl.exp(tl.cumsum(tl.where(r[:, None] > r[None, :], x[:, None], 0.0), 0))


@triton.jit
def scaled(t, factor):
    """Rows or entries of a tile times a factor, in the tile's dtype."""
    return (t.to(tl.float32) * factor).to(t.dtype)


@triton.jit
def summed(ones, x, MODE: tl.constexpr):
    """A matrix of zeros and ones times x, whose 24 bits are split into three parts of 8: as exact as adding."""
    total = tl.zeros(x.shape, tl.float32)
    for _ in tl.static_range(0, 3):
        part = x.to(tl.bfloat16)
        x = x - part.to(tl.float32)
        if MODE.emulated:
            total = tl.dot(ones.to(tl.float32), part.to(tl.float32), total)
        else:
            total = tl.dot(ones, part, total)
    return total


@triton.jit
def half(x, level, MODE: tl.constexpr, ROWS: tl.constexpr):
    """Of blocks of 2·2^level rows: the decay from the middle to a row of the second half, or from a row of the first half to the middle;
    and which pairs have their row in the second half and their column in the first half of the same block."""
    r = tl.arange(0, ROWS)
    block = r >> level
    second = (block & 1) == 1
    later = r[:, None] < r[None, :]
    on_way = (block[:, None] == block[None, :]) & (later != second[:, None])
    fall = tl.exp(summed(tl.where(on_way, 1.0, 0.0).to(tl.bfloat16), x, MODE))
    return fall, (block[:, None] == block[None, :] + 1) & second[:, None]


@triton.jit
def paired(q, k, x, acc, MEMORY: tl.constexpr, MODE: tl.constexpr, ROWS: tl.constexpr):
    """acc + Σ_c q_ic k_jc of every pair of a chunk, under the decay where it is per channel (there only j ≤ i is right)."""
    if MEMORY.decay == CHANNEL:
        r = tl.arange(0, ROWS)
        for level in range(0, 4 + (ROWS > 16) + (ROWS > 32)):
            fall, across = half(x, level, MODE, ROWS)
            pair = matmul(scaled(q, fall), tl.trans(scaled(k, fall)), tl.zeros([ROWS, ROWS], tl.float32), MODE)
            acc += tl.where(across, pair, 0.0)
        own = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1)
        acc += tl.where(r[:, None] == r[None, :], own[:, None], 0.0)
    else:
        acc = matmul(q, tl.trans(k), acc, MODE)
    return acc


@triton.jit
def pulled(d_pair, q, k, x, d_q, d_k, MEMORY: tl.constexpr, MODE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """d_q and d_k, and what the pairs' gradient (0 for j > i) gives to both."""
    if MEMORY.decay == CHANNEL:
        r = tl.arange(0, ROWS)
        for level in range(0, 4 + (ROWS > 16) + (ROWS > 32)):
            fall, across = half(x, level, MODE, ROWS)
            d_half = tl.where(across, d_pair, 0.0)
            d_q += fall * matmul(d_half, scaled(k, fall), tl.zeros([ROWS, WIDTH], tl.float32), MODE)
            d_k += fall * matmul(tl.trans(d_half), scaled(q, fall), tl.zeros([ROWS, WIDTH], tl.float32), MODE)
        own = tl.sum(tl.where(r[:, None] == r[None, :], d_pair, 0.0), 1)[:, None]
        d_q += own * k.to(tl.float32)
        d_k += own * q.to(tl.float32)
    else:
        d_q = matmul(d_pair, k, d_q, MODE)
        d_k = matmul(tl.trans(d_pair), q, d_k, MODE)
    return d_q, d_k


@triton.jit
def seen(pair, x, DECAY: tl.constexpr, ROWS: tl.constexpr, STRICT: tl.constexpr):
    """Pairs j ≤ i (j < i if STRICT) under a decay of one number per row, 0 for the others."""
    r = tl.arange(0, ROWS)
    if DECAY == SCALAR:
        pair = pair * between(x, ROWS)
    if STRICT:
        return tl.where(r[:, None] > r[None, :], pair, 0.0)
    else:
        return tl.where(r[:, None] >= r[None, :], pair, 0.0)
