"""Functions that generated leaves call and Triton does not have, accurate where their plain spelling cancels."""

import triton
import triton.language as tl


@triton.jit
def power(x, n: tl.constexpr):
    y = tl.full(x.shape, 1.0, tl.float32)
    square = x
    for bit in tl.static_range(0, 16):
        if (n >> bit) % 2 == 1:
            y = y * square
        if (n >> bit) > 1:
            square = square * square
    return y


@triton.jit
def log1p(x):
    u = 1.0 + x
    safe = tl.where(u == 1.0, 2.0, u)
    return tl.where(u == 1.0, x, tl.log(safe) * (x / (safe - 1.0)))


@triton.jit
def expm1(x):
    u = tl.exp(x)
    near = (u > 0.5) & (u < 2.0) & (u != 1.0)
    safe = tl.where(near, u, 2.0)
    return tl.where(u == 1.0, x, tl.where(near, (safe - 1.0) * (x / tl.log(safe)), u - 1.0))


@triton.jit
def softplus(x):
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL) + log1p(tl.exp(-tl.abs(x)))


@triton.jit
def tanh(x):
    fall = tl.exp(-2.0 * tl.abs(x))
    size = (1.0 - fall) / (1.0 + fall)
    small = x * (1.0 - x * x * (1.0 / 3.0 - x * x * (2.0 / 15.0)))
    return tl.where(tl.abs(x) < 0.1, small, tl.where(x < 0.0, -size, size))


@triton.jit
def sign(x):
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, 0.0 * x))


@triton.jit
def silu(x):
    return x * tl.sigmoid(x)


@triton.jit
def gelu(x):
    return 0.5 * x * (1.0 + tl.erf(0.7071067811865476 * x))
