"""What both triangular solves share: weights of a tile, the inverse of a diagonal block, and waiting for other programs."""

import triton
import triton.language as tl

from .parts import faded, of_slots, paired, scored, seen
from .rates import rated


@triton.jit
def weighed(
    q, k, at, rows, first, operands, sizes, limits, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr,
    GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Weights p of a tile: (queries, slots)."""
    scaling, row = at
    gate, factors, terms = operands
    queries, slots, b, h, member = sizes
    slot = of_slots(factors, terms, member, first, slots, scaling[0], FOLD, SHAPE.slots)
    pair = paired(q, k, MODE)
    _, s = scored(pair, scaling, slot, LEAF, FOLD)
    GATED: tl.constexpr = MASKED or SIGHT.presence
    ok = True
    amount = 1.0
    if GATED:
        ok, amount = seen(gate, b, h, rows, first, queries, slots, limits, SIGHT, MASKED, SHAPE.slots)
    if SIGHT.fades:
        s, amount = faded(s, amount, limits[4], member, rows, first, queries, slots, KIND, SHAPE.slots)
    weight, _, _ = rated(s, pair, row, ok, amount, KIND, LEAF, GATED, SIGHT, GIVE)
    return weight


@triton.jit
def beside(lower, PRECISION: tl.constexpr, SIZE: tl.constexpr):
    """(I + L)⁻¹ − I of a strictly lower triangular L: (SIZE, SIZE)

    Rows are substituted in diagonal blocks of 16, in all of them at once; then blocks join by twos, −X₂₂ L₂₁ X₁₁. Both are stable however large L is.
    """
    BLOCKS: tl.constexpr = SIZE // 16
    r = tl.arange(0, SIZE)
    block = tl.arange(0, BLOCKS)
    small = tl.arange(0, 16)
    own = (r // 16)[:, None, None] == block[None, :, None]
    turned = tl.permute(tl.reshape(tl.sum(tl.where(own, tl.reshape(lower, (SIZE, BLOCKS, 16)), 0.0), 1), (BLOCKS, 16, 16)), (0, 2, 1))
    x = tl.where(small[None, :, None] == small[None, None, :], 1.0, 0.0) + tl.zeros([BLOCKS, 16, 16], tl.float32)
    for i in range(1, 16):
        coefficients = tl.sum(tl.where(small[None, None, :] == i, turned, 0.0), 2)
        row = tl.sum(coefficients[:, :, None] * x, 1)
        x = tl.where(small[None, :, None] == i, x - row[:, None, :], x)
    whole = tl.reshape(tl.where(own, tl.reshape(x, (SIZE, 16))[:, None, :], 0.0), (SIZE, SIZE))
    for level in tl.static_range(0, 3):
        if (16 << level) < SIZE:
            part = r // (16 << level)
            corner = (part[:, None] == part[None, :] + 1) & (part % 2 == 1)[:, None]
            joined = tl.dot(tl.where(corner, lower, 0.0), whole, input_precision=PRECISION)
            whole -= tl.dot(whole, joined, input_precision=PRECISION)
    return tl.where(r[:, None] == r[None, :], 0.0, whole)


@triton.jit
def finished(done):
    """How many tiles of a member are finished; what their programs stored is seen by every load that follows."""
    return tl.atomic_add(done, 0, sem="acquire", scope="gpu")


@triton.jit
def awaited(done, wanted, PATIENCE: tl.constexpr):
    """How many tiles are finished, once that is enough, or after PATIENCE looks."""
    ready = finished(done)
    looks = 0
    while (ready < wanted) & (looks < PATIENCE):
        ready = finished(done)
        looks += 1
    return ready
