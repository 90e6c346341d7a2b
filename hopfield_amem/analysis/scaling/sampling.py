"""Recall errors of outer-product memories over random embeddings, many draws at once, in the memory of N · min(d, M) numbers.

Scores depend on an embedding e_x only through its components along the M class sums ``G_y = Σ_{f(x)=y} q(x) e_x``. These can be drawn first, since
``G_y ~ N(0, I Q_y/d)`` with ``Q_y = Σ_{f(x)=y} q(x)²``; and given them the embeddings are again normal,

    e_x = ẽ_x + q(x) (G_f − Σ_{f(x')=f} q(x') ẽ_x')/Q_f,     ẽ_x ~ N(0, I/d)

(conditioning by residuals, Matheron's rule), which is needed along k = min(d, M) directions only. So a draw costs N · k instead of N · d numbers and
has exactly the law of one with all d components: 200 times less at d = 1000, M = 5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import doors
from .memory import class_sums, decoded

BLOCK = 2**23  # numbers drawn at once


@torch.no_grad()
def sampled_errors(probability: Tensor, weights: Tensor, labels: Tensor, *, dim: int, trials: int, seed: int = 0) -> Tensor:
    """``𝓔`` of ``W = Σ q(x) u_f(x) e_xᵀ`` for independent draws of ``e ~ N(0, I/d)`` and of u on the unit sphere. -> (trials,) float64

    Args:
        probability: p, (N,).
        weights: q, (N,), or (trials, N) where each draw has its own, such as those from counts.
        labels: f, (N,), whole numbers from 0.
        dim: d.
        trials: number of draws.
        seed: of the draws, at least 0. The same seed and arguments give the same numbers.

    Raises:
        TypeError, ValueError: no distribution, weights or classes that do not fit, numbers below one.
    """
    doors.distribution(probability)
    doors.storage(weights, labels)
    doors.count(dim, "dim")
    doors.count(trials, "trials")
    doors.count(seed, "seed", 0)
    if weights.shape not in ((len(probability),), (trials, len(probability))):
        raise ValueError(f"weights must be (N,) or (trials, N) for N = {len(probability)} inputs and {trials} trials, got {tuple(weights.shape)}.")
    generator = torch.Generator().manual_seed(seed)
    classes = int(labels.max()) + 1
    size = max(1, BLOCK // (len(probability) * min(dim, classes) + classes * dim))
    drawn = [_drawn(block, labels, (classes, dim), generator) != labels for block in weights.double().expand(trials, -1).split(size)]
    return torch.cat([wrong.double() @ probability.double() for wrong in drawn])


def _drawn(weights: Tensor, labels: Tensor, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """What memories with storage weights (t, N) decode. -> (t, N)"""
    trials, width = len(weights), shape[1]
    outputs = torch.nn.functional.normalize(torch.randn(trials, *shape, generator=generator), dim=-1)
    strength = class_sums(weights.square().unsqueeze(-1), labels, shape[0]).sqrt()  # √Q_y, (t, M, 1)
    relative = weights.unsqueeze(-1) / torch.where(strength > 0, strength, 1.0).index_select(-2, labels)  # of squares that sum to one over a class
    directions = torch.randn(trials, *shape, generator=generator) / width**0.5  # G_y/√Q_y
    along = torch.linalg.qr(directions.mT).R  # (t, k, M): in an orthonormal basis of their span
    components = torch.randn(*weights.shape, along.shape[-2], generator=generator) / width**0.5
    embedded = _conditioned(components, relative.to(components.dtype), labels, along.mT)
    return decoded(embedded, (along * strength.mT.to(along.dtype) @ outputs) @ outputs.mT)


def _conditioned(components: Tensor, relative: Tensor, labels: Tensor, sums: Tensor) -> Tensor:
    """Embeddings of which each class has the weighted sum that was drawn for it: e in the module's formula. (t, N, k), (t, M, k) -> (t, N, k)"""
    missing = sums - class_sums(relative * components, labels, sums.shape[-2])
    return components + relative * missing.index_select(-2, labels)
