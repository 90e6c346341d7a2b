"""What the kernels of linear memories share: pieces of chunks, the decay between rows, and products of all pairs of a chunk under it.

Inside a chunk, row i sees row j ≤ i through e^{x_{j+1} + … + x_i}, with x = log γ ≤ 0. Every such sum is added up from its own terms and
never taken as a difference, so that no exponential exceeds 1 and a forgetting x = −10⁴ leaves the rows after it exact. With a decay
per channel the pairs are split by halving: rows of the second half of a block see rows of its first half through both parts of the way
to the middle, for blocks of 2, 4, … rows.
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
def channels(view, b, h, first, count, start, width, unused, ROWS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, DECAY: tl.constexpr):
    """The same per channel, for a block of columns."""
    x = unused
    after = unused
    if DECAY == CHANNEL:
        x = piece(view, b, h, first, count, start, width, ROWS, WIDTH, PADDED)
        after = piece(view, b, h, first + 1, tl.minimum(count, first + ROWS), start, width, ROWS, WIDTH, PADDED)
    return x, after


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
def halves(x, after, HALF: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Decay from the middle of a block of 2·HALF rows to a row of its second half, and from a row of its first half to the middle."""
    r = tl.arange(0, ROWS)
    inside = tl.where((r % HALF == HALF - 1)[:, None], 0.0, after)
    down = tl.cumsum(tl.reshape(x, (ROWS // HALF, HALF, WIDTH)), 1)
    up = tl.cumsum(tl.reshape(inside, (ROWS // HALF, HALF, WIDTH)), 1, reverse=True)
    second = (r // HALF % 2 == 1)[:, None]
    down = tl.where(second, tl.exp(tl.reshape(down, (ROWS, WIDTH))), 0.0)
    up = tl.where(second, 0.0, tl.exp(tl.reshape(up, (ROWS, WIDTH))))
    together = (r // (2 * HALF))[:, None] == (r // (2 * HALF))[None, :]
    return down, up, together


@triton.jit
def paired_half(q, k, x, after, acc, MODE: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    down, up, together = halves(x, after, HALF, ROWS, WIDTH)
    pair = matmul(scaled(q, down), tl.trans(scaled(k, up)), tl.zeros([ROWS, ROWS], tl.float32), MODE)
    return acc + tl.where(together, pair, 0.0)


@triton.jit
def paired(q, k, x, after, acc, DECAY: tl.constexpr, MODE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """acc + Σ_c q_ic k_jc of every pair of a chunk, under the decay where it is per channel (there only j ≤ i is right)."""
    if DECAY == CHANNEL:
        for level in tl.static_range(0, 6):
            if (2 << level) <= ROWS:
                acc = paired_half(q, k, x, after, acc, MODE, 1 << level, ROWS, WIDTH)
        r = tl.arange(0, ROWS)
        own = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1)
        acc = acc + tl.where(r[:, None] == r[None, :], own[:, None], 0.0)
    else:
        acc = matmul(q, tl.trans(k), acc, MODE)
    return acc


@triton.jit
def pulled_half(d_pair, q, k, x, after, d_q, d_k, MODE: tl.constexpr, HALF: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    down, up, together = halves(x, after, HALF, ROWS, WIDTH)
    d_pair = tl.where(together, d_pair, 0.0)
    d_q += down * matmul(d_pair, scaled(k, up), tl.zeros([ROWS, WIDTH], tl.float32), MODE)
    d_k += up * matmul(tl.trans(d_pair), scaled(q, down), tl.zeros([ROWS, WIDTH], tl.float32), MODE)
    return d_q, d_k


@triton.jit
def pulled(d_pair, q, k, x, after, d_q, d_k, DECAY: tl.constexpr, MODE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """d_q and d_k, and what the pairs' gradient (0 for j > i) gives to both."""
    if DECAY == CHANNEL:
        for level in tl.static_range(0, 6):
            if (2 << level) <= ROWS:
                d_q, d_k = pulled_half(d_pair, q, k, x, after, d_q, d_k, MODE, 1 << level, ROWS, WIDTH)
        r = tl.arange(0, ROWS)
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
