"""Carried states of several splits or shards become one, added in their order."""

import triton
import triton.language as tl

from .forward import finished
from .parts import SOFTMAX, vector


@triton.jit
def merge(
    tops, totals, masses, sums, scales, gains, values, out_masses, output, sizes, KIND: tl.constexpr, WANT: tl.constexpr,
    SHAPE: tl.constexpr,
):  # fmt: skip
    """One block of queries: the finished output, Q and Σ p."""
    parts, members, queries, columns, blocks = sizes
    member = (tl.program_id(0) // blocks).to(tl.int64)
    first = (tl.program_id(0) % blocks) * SHAPE.queries
    QUERIES: tl.constexpr = SHAPE.queries
    COLUMNS: tl.constexpr = SHAPE.columns
    rows = first + tl.arange(0, QUERIES)
    v = tl.arange(0, COLUMNS)
    inside = rows < queries
    both = inside[:, None] & (v < columns)[None, :]
    top = tl.full([QUERIES], -float("inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mass = tl.zeros([QUERIES], tl.float32)
    acc = tl.zeros([QUERIES, COLUMNS], tl.float32)
    for part in range(0, parts):
        cells = (part * members + member) * queries + rows
        more = tl.load(totals + cells, mask=inside, other=0.0)
        heavier = tl.load(masses + cells, mask=inside, other=0.0)
        added = tl.load(sums + cells[:, None] * columns + v[None, :], mask=both, other=0.0)
        if KIND == SOFTMAX:
            its = tl.load(tops + cells, mask=inside, other=-float("inf"))
            higher = tl.maximum(top, its)
            level = tl.where(higher == -float("inf"), 0.0, higher)
            fade = tl.exp2(top - level)
            share = tl.exp2(its - level)
            total = total * fade + more * share
            mass = mass * fade + heavier * share
            acc = acc * fade[:, None] + added * share[:, None]
            top = higher
        else:
            total += more
            mass += heavier
            acc += added
    cells = member * queries + rows
    if WANT.gained:
        gain = vector(gains, member, first, queries, SHAPE.queries)
        total = total * gain * vector(scales, member, first, queries, SHAPE.queries)
        mass = mass * gain
        acc = acc * gain[:, None]
    acc, total, mass = finished(top, total, mass, acc, KIND, WANT.null)
    tl.store(output + cells[:, None] * columns + v[None, :], acc.to(output.dtype.element_ty), mask=both)
    tl.store(values + cells, total, mask=inside)
    tl.store(out_masses + cells, mass, mask=inside)
