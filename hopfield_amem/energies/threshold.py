"""The threshold τ of ``Simplex``: the root of ``Σ a F′(s − τ) = 1`` in every row, found without sorting."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .separation import Separation, Tsallis
from .truth import settled


def threshold(separation: Separation, score: Tensor, presence: Tensor | None) -> Tensor:
    """τ of every row, (..., q, n) -> (..., q); rows without a slot get 0. No gradient passes through.

    ``Σ a F′(s − τ)`` falls with τ, and Newton from the left converges monotonically where F′ is convex
    (α-entmax with α ≤ 2); bisection takes over where it is not.
    """
    present = amount(score, presence)
    low, high = bracket(separation, score, present)
    return newton(separation, score, present, low, high)


def support(separation: Separation, score: Tensor, presence: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Indices (..., q, width) of the slots that may carry weight, and which of them are no padding; None if not worth it.

    A separation of finite reach gives weight only to scores above ``τ − reach``: a few dozen of any number of slots in
    a sparse row. A part of the slots already gives a lower bound of τ; after one comparison with it everything works
    on the narrow matrix.
    """
    if not isinstance(separation, Tsallis) or separation.alpha == 1 or score.shape[-1] < 256:
        return None
    score = score.detach()
    present = amount(score, presence)
    kept = score if present is None else torch.where(present > 0, score, -math.inf)
    score = score - _finite(kept.amax(-1, keepdim=True))  # so that a reach is not lost in the rounding of large scores
    low = _finite(anchor(separation, score, present).amax(-1, keepdim=True))
    some = slice(0, 4096)
    part = threshold(separation, score[..., some], None if present is None else present[..., some])
    held = torch.ones_like(low, dtype=torch.bool) if present is None else (present[..., some] > 0).any(-1, keepdim=True)
    low = torch.where(held, torch.maximum(low, part.unsqueeze(-1)), low)
    keep = score > low - separation.reach
    if presence is not None:
        keep = keep & (presence > 0)
    counts = keep.sum(-1)
    if not settled((counts * 4 < score.shape[-1]) & low.squeeze(-1).isfinite()):
        return None
    counts = counts.flatten()
    row, column = keep.reshape(len(counts), score.shape[-1]).nonzero(as_tuple=True)
    index = row.new_zeros(len(counts), int(counts.max()) if len(counts) else 0)
    index[row, places(row, counts)] = column
    held = torch.arange(index.shape[-1], device=row.device) < counts.unsqueeze(-1)
    shape = (*score.shape[:-1], index.shape[-1])
    return index.reshape(shape), held.reshape(shape)


def places(row: Tensor, counts: Tensor) -> Tensor:
    """Position of every entry within its row, for entries sorted by row with ``counts`` of them in each."""
    return torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]


def amount(score: Tensor, presence: Tensor | None) -> Tensor | None:
    """The presence as numbers of the scores' dtype and shape."""
    return None if presence is None else presence.detach().to(score.dtype).expand(score.shape)


def anchor(separation: Separation, score: Tensor, present: Tensor | None) -> Tensor:
    """Per slot, a τ at which this slot alone already has weight one: ``s − F′⁻¹(1/a)``; −∞ for deleted slots.

    Only the q-exponential has this inverse in closed form; its largest value in a row is a lower bound of τ.
    """
    if present is None:
        return score
    alpha = separation.alpha if isinstance(separation, Tsallis) else 1.0
    log_inverse = -torch.where(present > 0, present, 1.0).log()
    shift = log_inverse if alpha == 1 else torch.expm1((alpha - 1) * log_inverse) / (alpha - 1)
    return torch.where(present > 0, score - shift, -math.inf)


def bracket(separation: Separation, score: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of τ. Closed for the q-exponential, by doubling for any other separation."""
    if score.shape[-1] == 0:
        return score.sum(-1), score.sum(-1)
    top = score if present is None else torch.where(present > 0, score, -math.inf)
    top = _finite(top.amax(-1))
    if isinstance(separation, Tsallis):
        return _finite(anchor(separation, score, present).amax(-1)), top + separation.reach
    return _doubled(separation, score, present, top, -1.0), _doubled(separation, score, present, top, 1.0)


def newton(separation: Separation, score: Tensor, present: Tensor | None, low: Tensor, high: Tensor) -> Tensor:
    """Root of ``Σ a F′(s − τ) = 1`` between the bounds, to rounding, by Newton's method safeguarded by bisection.

    For the q-exponential Newton solves ``(Σ a F′)^(α−1) = 1`` instead: that power is a norm of an affine function of τ,
    nearly linear, so that rows with thousands of slots in their support take a few steps, too.
    """
    eps = torch.finfo(score.dtype).eps
    power = min(1.0, separation.alpha - 1) if isinstance(separation, Tsallis) and separation.alpha > 1 else 1.0
    tau = low
    for _ in range(40 if torch.compiler.is_compiling() else 100):
        mass = _mass(separation.slope, score, present, tau)
        bend = _mass(separation.curvature, score, present, tau)
        low, high = torch.where(mass >= 1, tau, low), torch.where(mass <= 1, tau, high)
        excess = mass - 1 if power == 1 else -mass * torch.expm1(-power * mass.log()) / power
        step = excess / torch.where(bend > 0, bend, 1.0)
        guess = tau + torch.where(bend > 0, step, math.inf)
        guess = torch.where((guess > low) & (guess < high), guess, low + 0.5 * (high - low))
        scale = eps * tau.abs().clamp_min(1.0)
        done = ((mass - 1).abs() <= 2 * eps) | (high - low <= scale) | ((bend > 0) & (step.abs() <= 0.5 * scale))
        tau = torch.where(done, tau, guess)
        if settled(done):
            break
    return tau


def _mass(function, score: Tensor, present: Tensor | None, tau: Tensor) -> Tensor:
    term = function(score - tau.unsqueeze(-1))
    return term.sum(-1) if present is None else torch.where(present > 0, present * term, 0.0).sum(-1)


def _doubled(separation: Separation, score: Tensor, present: Tensor | None, start: Tensor, direction: float) -> Tensor:
    """Step away from ``start``, twice as far each time, until the mass passes one (or the slots end)."""
    empty = torch.zeros_like(start, dtype=torch.bool) if present is None else (present <= 0).all(-1)
    bound, width = start + direction, torch.full_like(start, direction)
    for _ in range(60):
        excess = direction * (_mass(separation.slope, score, present, bound) - 1)
        passed = empty | (excess <= 0)
        if settled(passed):
            break
        width = torch.where(passed, width, 2 * width)
        bound = torch.where(passed, bound, start + width)
    return bound


def _finite(bound: Tensor) -> Tensor:
    return torch.where(bound == -math.inf, 0.0, bound)
