"""τ of every query in one kernel: the root of ``Σ a F′(s − τ) = 1`` by safeguarded Newton passes over the slots."""

import triton
import triton.language as tl

from .arithmetic import expm1
from .parts import THRESHOLD, faded, in_reach, level_of, of_rows, of_slots, paired, scored, seen, tile


@triton.jit
def statistics(
    q, row, rows, at, operands, sizes, span, limits, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr, MODE: tl.constexpr,
    SHAPE: tl.constexpr, FIRST: tl.constexpr,
):  # fmt: skip
    """Largest score (first pass), or Σ a F′ and Σ a F″ at level + τ."""
    keys, gate, factors, terms = operands
    scale, row_term = row
    level, tau = at
    queries, slots, width, b, h, memory, member, start = sizes
    first, last = span
    QUERIES: tl.constexpr = SHAPE.queries
    top = tl.full([QUERIES], -float("inf"), tl.float32)
    mass = tl.zeros([QUERIES], tl.float32)
    bend = tl.zeros([QUERIES], tl.float32)
    for j in range(first, last, SHAPE.slots):
        k = tile(keys, b, memory, j, slots, width, SHAPE.slots, SHAPE.width, SHAPE.padded, True)
        slot = of_slots(factors, terms, member, j, slots, scale, FOLD, SHAPE.slots)
        _, s = scored(paired(q, k, MODE), (scale, row_term), slot, LEAF, FOLD)
        ok, amount = seen(gate, b, h, rows, j, queries, slots, limits, SIGHT, True, SHAPE.slots)
        if SIGHT.fades:
            s, amount = faded(s, amount, level_of(limits[4], member, start, queries, SHAPE.queries), limits[4], member, j, slots, THRESHOLD, SHAPE.slots)
        if FIRST:
            top = tl.maximum(top, tl.max(tl.where(ok, s, -float("inf")), 1))
        else:
            _, slope, curvature = LEAF.jet((s - level[:, None]) - tau[:, None])
            mass += tl.sum(tl.where(ok, slope * amount, 0.0), 1)
            bend += tl.sum(tl.where(ok, curvature * amount, 0.0), 1)
    return top, mass, bend


@triton.jit
def threshold(
    state, keys, gate, scales, row_terms, factors, terms, levels, taus, sizes, limits, power, PASSES: tl.constexpr, LEAF: tl.constexpr,
    FOLD: tl.constexpr, SIGHT: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Largest score of every query and the distance of τ from it; −∞ and 0 for a query that sees nothing.

    Newton solves ``(Σ a F′)^power = 1`` from the largest score; a step outside the bracket is replaced by bisection, or by
    doubling while the bracket is open. A pass after every row of the block has settled runs over no slot.
    """
    queries, slots, width, heads, group, blocks = sizes
    member = tl.program_id(0) // blocks
    start = (tl.program_id(0) % blocks) * SHAPE.queries
    b = (member // heads).to(tl.int64)
    h = (member % heads).to(tl.int64)
    member = member.to(tl.int64)
    QUERIES: tl.constexpr = SHAPE.queries
    rows = start + tl.arange(0, QUERIES)
    q = tile(state, b, h, start, queries, width, SHAPE.queries, SHAPE.width, SHAPE.padded, True)
    row = of_rows(scales, row_terms, member, start, queries, FOLD, SHAPE.queries)
    first, last = in_reach(start, slots, limits, SIGHT, SHAPE)
    operands = (keys, gate, factors, terms)
    dims = (queries, slots, width, b, h, h // group, member, start)
    tau = tl.zeros([QUERIES], tl.float32)
    top, _, _ = statistics(q, row, rows, (tau, tau), operands, dims, (first, last), limits, LEAF, FOLD, SIGHT, MODE, SHAPE, True)
    alive = (top > -float("inf")) & (rows < queries)
    level = tl.where(alive, top, 0.0)
    low = tl.full([QUERIES], -float("inf"), tl.float32)
    high = tl.full([QUERIES], float("inf"), tl.float32)
    width_of_step = tl.full([QUERIES], 1.0, tl.float32)
    moving = alive
    for _ in range(PASSES):
        until = tl.where(tl.max(moving.to(tl.int32), 0) > 0, last, first)
        _, mass, bend = statistics(q, row, rows, (level, tau), operands, dims, (first, until), limits, LEAF, FOLD, SIGHT, MODE, SHAPE, False)
        low = tl.where(moving & (mass >= 1.0), tau, low)
        high = tl.where(moving & (mass <= 1.0), tau, high)
        excess = tl.where(mass > 0.0, -mass * expm1(-power * tl.log(tl.where(mass > 0.0, mass, 1.0))) / power, -1.0)
        step = excess / tl.where(bend > 0.0, bend, 1.0)
        guess = tau + step
        closed = (low > -float("inf")) & (high < float("inf"))
        middle = tl.where(closed, 0.5 * (low + high), tau + tl.where(mass > 1.0, width_of_step, -width_of_step))
        width_of_step = width_of_step * 2.0
        inside = (bend > 0.0) & (guess > low) & (guess < high)
        fine = 1.2e-7 * tl.maximum(tl.abs(tau), 1.0)
        settled = (tl.abs(mass - 1.0) <= 2.4e-7) | (closed & (high - low <= fine)) | ((bend > 0.0) & (tl.abs(step) <= 0.5 * fine))
        tau = tl.where(moving & (settled == 0), tl.where(inside, guess, middle), tau)
        moving = moving & (settled == 0)
    tl.store(levels + member * queries + rows, top, mask=rows < queries)
    tl.store(taus + member * queries + rows, tau, mask=rows < queries)
