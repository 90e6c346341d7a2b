"""The triangular solve ``u_t = a_t v_t − b_t Σ_{j < c + t} p_tj u_j`` in one launch.

Programs take tiles of rows in the order of a ticket, so that whatever a program waits for is finished or running. A tile sums over what is finished,
then over every tile as it is announced; its own triangle is inverted before. The order of all sums is fixed.
"""

import triton
import triton.language as tl

from .parts import level_of, matmul, of_rows, tile, vector
from .rates import per_query
from .written_parts import awaited, beside, completed, finished, weighed


@triton.jit
def written_forward(
    erase, keys, values, cached, gate, scales, row_terms, factors, terms, levels, inverses, write_rates, erase_rates, u, counters, sizes, limits,
    KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr, GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
    CACHED: tl.constexpr, PATIENCE: tl.constexpr,
):  # fmt: skip
    """One tile of rows of u. ``counters`` (members + 1) start at zero: how many tiles of each member are finished, and the ticket."""
    queries, slots, width, columns, heads, members = sizes
    ticket = tl.atomic_add(counters + members, 1)
    place = ticket // members
    member = ticket % members
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    done = counters + member
    member = member.to(tl.int64)
    first = place * SHAPE.queries
    cache = slots - queries
    ROWS: tl.constexpr = SHAPE.queries
    COLUMNS: tl.constexpr = SHAPE.columns
    rows = first + tl.arange(0, ROWS)
    q = tile(erase, b, h, first, queries, width, SHAPE.queries, SHAPE.width, SHAPE.padded, True)
    scaling = of_rows(scales, row_terms, member, first, queries, FOLD, SHAPE.queries)
    row_level = (scaling[0], scaling[0])
    if SIGHT.fades:
        row_level = level_of(limits[4], member, first, queries, SHAPE.queries)
    at = (scaling, per_query(levels, levels, inverses, levels, levels, member, first, queries, KIND, GIVE, SHAPE), row_level)
    rate = vector(erase_rates, member, first, queries, SHAPE.queries)[:, None]
    operands = (gate, factors, terms)
    dims = (queries, slots, b, h, member)

    k = tile(keys, b, h, cache + first, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, True)
    weight = weighed(q, k, at, rows, cache + first, operands, dims, limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, True)
    inner = beside(weight * rate, MODE, SHAPE.queries)
    if not MODE.wide:
        inner = inner.to(q.dtype)

    acc = tl.zeros([ROWS, COLUMNS], tl.float32)
    if CACHED:
        for j in range(0, cache, SHAPE.slots):
            k = tile(keys, b, h, j, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, True)
            old = tile(cached, b, h, j, cache, columns, SHAPE.slots, SHAPE.columns, SHAPE.padded, True)
            weight = weighed(q, k, at, rows, j, operands, dims, limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, True)
            acc = matmul(weight, old, acc, MODE)
    ready = tl.minimum(finished(done), place)
    for i in range(0, ready):
        j = cache + i * SHAPE.slots
        k = tile(keys, b, h, j, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, False)
        new = tile(u, b, h, i * SHAPE.slots, queries, columns, SHAPE.slots, SHAPE.columns, SHAPE.padded, False)
        weight = weighed(q, k, at, rows, j, operands, dims, limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, False)
        acc = matmul(weight, new, acc, MODE)
    lost = 0
    for i in tl.range(ready, place, num_stages=1):  # no load of u may move before its wait
        j = cache + i * SHAPE.slots
        k = tile(keys, b, h, j, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, False)
        weight = weighed(q, k, at, rows, j, operands, dims, limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, False)
        lost += (awaited(done, i + 1, PATIENCE) <= i).to(tl.int32)
        new = tile(u, b, h, i * SHAPE.slots, queries, columns, SHAPE.slots, SHAPE.columns, SHAPE.padded, False)
        acc = matmul(weight, new, acc, MODE)

    given = tile(values, b, h, first, queries, columns, SHAPE.queries, SHAPE.columns, SHAPE.padded, True).to(tl.float32)
    right = given * vector(write_rates, member, first, queries, SHAPE.queries)[:, None] - rate * acc
    right = tl.where((rows < queries)[:, None], right, 0.0)
    right = completed(inner, right, q, MODE)
    right = tl.where(lost > 0, float("nan"), right)  # what never arrived must not pass for a result
    pointer, batch_stride, head_stride, row_stride = u
    c = tl.arange(0, COLUMNS)
    cells = pointer + b * batch_stride + h * head_stride + rows.to(tl.int64)[:, None] * row_stride + c[None, :]
    tl.store(cells, right.to(pointer.dtype.element_ty), mask=(rows < queries)[:, None] & (c < columns)[None, :])
    tl.debug_barrier()
    tl.atomic_max(done, place + 1, sem="release", scope="gpu")
