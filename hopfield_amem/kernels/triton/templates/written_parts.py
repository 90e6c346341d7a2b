"""What both triangular solves share: weights of a tile, the inverse of a diagonal block, and waiting for other programs."""

import triton
import triton.language as tl

from .parts import faded, matmul, of_slots, paired, scored, seen
from .rates import rated


@triton.jit
def weighed(
    q, k, at, rows, first, operands, sizes, limits, KIND: tl.constexpr, LEAF: tl.constexpr, FOLD: tl.constexpr, SIGHT: tl.constexpr,
    GIVE: tl.constexpr, MODE: tl.constexpr, SHAPE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Weights p of a tile: (queries, slots)."""
    scaling, row, row_level = at
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
        s, amount = faded(s, amount, row_level, limits[4], member, first, slots, KIND, SHAPE.slots)
    weight, _, _ = rated(s, pair, row, ok, amount, KIND, LEAF, GATED, SIGHT, GIVE)
    return weight


@triton.jit
def beside(lower, MODE: tl.constexpr, SIZE: tl.constexpr):
    """(I + L)⁻¹ − I of a strictly lower triangular L: (SIZE, SIZE)

    Rows are substituted in both halves of the diagonal at once, which then join, −X₂₂ L₂₁ X₁₁: stable however large L is.
    """
    HALF: tl.constexpr = SIZE // 2 if SIZE > 16 else 16
    PARTS: tl.constexpr = SIZE // HALF
    part = tl.arange(0, PARTS)
    r = tl.arange(0, HALF)
    split = tl.reshape(lower, (PARTS, HALF, PARTS, HALF))
    own = part[:, None, None, None] == part[None, None, :, None]
    turned = tl.permute(tl.sum(tl.where(own, split, 0.0), 2), (0, 2, 1))
    x = tl.where(r[None, :, None] == r[None, None, :], 1.0, 0.0) + tl.zeros([PARTS, HALF, HALF], tl.float32)
    for i in range(1, HALF):
        coefficients = tl.sum(tl.where(r[None, None, :] == i, turned, 0.0), 2)
        row = tl.sum(coefficients[:, :, None] * x, 1)
        x = tl.where(r[None, :, None] == i, x - row[:, None, :], x)
    whole = tl.where(own, x[:, :, None, :], 0.0)
    if PARTS == 2:
        below = (part[:, None, None, None] == 1) & (part[None, None, :, None] == 0)
        upper = tl.sum(tl.where(part[:, None, None] == 0, x, 0.0), 0)
        under = tl.sum(tl.where(part[:, None, None] == 1, x, 0.0), 0)
        corner = tl.sum(tl.sum(tl.where(below, split, 0.0), 2), 0)
        corner = tl.dot(under, tl.dot(corner, upper, input_precision=MODE.precision), input_precision=MODE.precision)
        whole = tl.where(below, -corner[None, :, None, :], whole)
    s = tl.arange(0, SIZE)
    return tl.where(s[:, None] == s[None, :], 0.0, tl.reshape(whole, (SIZE, SIZE)))


@triton.jit
def completed(inner, right, like, MODE: tl.constexpr):
    """(I + L)⁻¹ r from what stands beside the diagonal, in the precision of ``like`` unless weights need float32."""
    if MODE.wide:
        return matmul(inner, right, right, MODE)
    else:
        return matmul(inner, right.to(like.dtype), right, MODE)


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
