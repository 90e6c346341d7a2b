"""The transposed solve ``g_t = du_t − Σ_{i > t} p_it b_i g_i`` in one launch: as the forward solve, from the last tile of rows to the first."""

import triton
import triton.language as tl

from .parts import level_of, matmul, of_rows, tile, vector
from .rates import per_query
from .written_parts import awaited, beside, completed, finished, weighed


@triton.jit
def drawn(
    k, first, here, tensors, vectors, operands, sizes, limits, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr,
    SIGHT: tl.constexpr, GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Weights times erase rates of the rows from ``first`` on, transposed: (slots, queries)."""
    erase, width = tensors
    scales, row_terms, levels, inverses, erase_rates = vectors
    queries, _, b, h, member = sizes
    rows = first + tl.arange(0, SHAPE.queries)
    q = tile(erase, b, h, first, queries, width, SHAPE.queries, SHAPE.width, SHAPE.padded, True)
    scaling = of_rows(scales, row_terms, member, first, queries, FOLD, SHAPE.queries)
    row_level = (scaling[0], scaling[0])
    if SIGHT.fades:
        row_level = level_of(limits[4], member, first, queries, SHAPE.queries)
    at = (scaling, per_query(levels, levels, inverses, levels, levels, member, first, queries, KIND, GIVE, SHAPE), row_level)
    weight = weighed(q, k, at, rows, here, operands, sizes, limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE, True)
    return weight * vector(erase_rates, member, first, queries, SHAPE.queries)[:, None]


@triton.jit
def written_backward(
    erase, keys, grads, gate, scales, row_terms, factors, terms, levels, inverses, erase_rates, g, counters, sizes, limits, KIND: tl.constexpr,
    LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr, GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr, PATIENCE: tl.constexpr,
):  # fmt: skip
    """One tile of rows of g. ``counters`` as in the forward solve."""
    queries, slots, width, columns, heads, members = sizes
    ticket = tl.atomic_add(counters + members, 1)
    after = ticket // members
    member = ticket % members
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    done = counters + member
    member = member.to(tl.int64)
    last = tl.cdiv(queries, SHAPE.queries) - 1
    first = (last - after) * SHAPE.queries
    here = slots - queries + first
    ROWS: tl.constexpr = SHAPE.queries
    COLUMNS: tl.constexpr = SHAPE.columns
    rows = first + tl.arange(0, ROWS)
    k = tile(keys, b, h, here, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, True)
    tensors = (erase, width)
    vectors = (scales, row_terms, levels, inverses, erase_rates)
    operands = (gate, factors, terms)
    dims = (queries, slots, b, h, member)
    acc = tl.zeros([ROWS, COLUMNS], tl.float32)
    weight = drawn(k, first, here, tensors, vectors, operands, dims, limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE)
    inner = tl.trans(beside(weight, MODE, SHAPE.queries))
    if not MODE.wide:
        inner = inner.to(k.dtype)

    ready = tl.minimum(finished(done), after)
    for i in range(0, ready):
        j = (last - i) * SHAPE.queries
        weight = drawn(k, j, here, tensors, vectors, operands, dims, limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE)
        solved = tile(g, b, h, j, queries, columns, SHAPE.queries, SHAPE.columns, SHAPE.padded, True)
        acc = matmul(tl.trans(weight), solved, acc, MODE)
    lost = 0
    for i in tl.range(ready, after, num_stages=1):  # no load of g may move before its wait
        j = (last - i) * SHAPE.queries
        weight = drawn(k, j, here, tensors, vectors, operands, dims, limits, KIND, LEAF, FOLD, SIGHT, GIVE, MODE, SHAPE)
        lost += (awaited(done, i + 1, PATIENCE) <= i).to(tl.int32)
        solved = tile(g, b, h, j, queries, columns, SHAPE.queries, SHAPE.columns, SHAPE.padded, True)
        acc = matmul(tl.trans(weight), solved, acc, MODE)

    right = tile(grads, b, h, first, queries, columns, SHAPE.queries, SHAPE.columns, SHAPE.padded, True).to(tl.float32) - acc
    right = tl.where((rows < queries)[:, None], right, 0.0)
    right = completed(inner, right, k, MODE)
    right = tl.where(lost > 0, float("nan"), right)
    pointer, batch_stride, head_stride, row_stride = g
    c = tl.arange(0, COLUMNS)
    cells = pointer + b * batch_stride + h * head_stride + rows.to(tl.int64)[:, None] * row_stride + c[None, :]
    tl.store(cells, right.to(pointer.dtype.element_ty), mask=(rows < queries)[:, None] & (c < columns)[None, :])
    tl.debug_barrier()
    tl.atomic_max(done, after + 1, sem="release", scope="gpu")
