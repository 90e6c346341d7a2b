"""The threshold τ of ``Simplex`` and ``Level``: the root of ``Σ a F′(s − τ) = k`` in every row, found without sorting."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..separations.separation import Separation
from ..separations.tsallis import Tsallis
from ..truth import finished, settled
from .presence import kept, masked

Total = float | Tensor  # k, the sum of the weights: one number, or one per row (..., q)
Sums = Callable[[Tensor], tuple[Tensor, Tensor]]  # Σ a F′(s − τ) and Σ a F″(s − τ) of every row at a τ


def threshold(separation: Separation, score: Tensor, presence: Tensor | None, *, total: Total = 1.0) -> Tensor:
    """τ of every row, (..., q, n) -> (..., q); rows without a slot get 0. No gradient passes through.

    ``Σ a F′(s − τ)`` falls with τ, and Newton from the left converges monotonically where F′ is convex
    (α-entmax with α ≤ 2); bisection takes over where it is not.
    """
    present = amount(score, presence)
    low, high = bracket(separation, score, present, total=total)
    return newton(separation, score, present, low, high, total=total)


def polished(tau: Tensor, rise: Callable, bend: Callable, row: tuple) -> Tensor:
    """The root τ of ``Σ a rise(s − τ) = total`` with its derivatives up to the second: those of two Newton steps, of which none moves τ.

    What rounding leaves of the sum is no part of them: times the slope's own derivative, which has no bound where a slot enters steeply, it would be.
    """
    score, presence, solvable, total = row
    for _ in range(2 if torch.is_grad_enabled() else 0):
        mass, slope = (masked(function, score - tau.unsqueeze(-1), presence).sum(-1) for function in (rise, bend))
        curved = solvable & (slope > 0)
        left = mass - total
        tau = tau + torch.where(curved, (left - left.detach()) / torch.where(curved, slope, 1.0), 0.0)
    return tau


def support(separation: Separation, score: Tensor, presence: Tensor | None, total: float = 1.0) -> tuple[Tensor, Tensor] | None:
    """Indices (..., q, width) of the slots that may carry weight, and which of them are no padding; None if not worth it.

    A separation of finite reach gives weight only to scores above ``τ − reach``: a few dozen of any number of slots in
    a sparse row. A part of the slots already gives a lower bound of τ; after one comparison with it everything works
    on the narrow matrix.
    """
    if separation.reach == math.inf or score.shape[-1] < 256:
        return None
    score = score.detach()
    score = score - _finite(kept(score, presence, -math.inf).amax(-1, keepdim=True))  # so that a reach is not lost in the rounding of large scores
    low = _least(separation, score, presence, total)
    if low is None:
        return None
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


def _least(separation: Separation, score: Tensor, presence: Tensor | None, total: float) -> Tensor | None:
    """A lower bound of τ without solving for it on all slots, (..., q, 1); None where none is known."""
    if isinstance(separation, Tsallis):
        present = amount(score, presence)
        low = _finite(anchor(separation, score, present, total).amax(-1, keepdim=True))
        some = slice(0, 4096)
        part = threshold(separation, score[..., some], None if present is None else present[..., some], total=total)
        held = torch.ones_like(low, dtype=torch.bool) if present is None else (present[..., some] > 0).any(-1, keepdim=True)
        return torch.where(held, torch.maximum(low, part.unsqueeze(-1)), low)
    if separation.saturation == math.inf or total >= score.shape[-1] or (presence is not None and presence.is_floating_point()):
        return None
    return (ranked(kept(score, presence, -math.inf), math.ceil(total)) - separation.saturation).unsqueeze(-1)  # k slots have their full weight there


def ranked(score: Tensor, rank: int) -> Tensor:
    """The score of this rank in every row, 1 for the largest; unsorted, which is several times as fast."""
    return score.topk(rank, -1, sorted=False).values.amin(-1)


def one(total: Total) -> bool:
    """Whether the weights sum to one in every row, which needs no division."""
    return not isinstance(total, Tensor) and total == 1


def places(row: Tensor, counts: Tensor) -> Tensor:
    """Position of every entry within its row, for entries sorted by row with ``counts`` of them in each."""
    return torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]


def amount(score: Tensor, presence: Tensor | None) -> Tensor | None:
    """The presence as numbers of the scores' dtype and shape."""
    return None if presence is None else presence.detach().to(score.dtype).expand(score.shape)


def anchor(separation: Separation, score: Tensor, present: Tensor | None, total: Total = 1.0) -> Tensor:
    """Per slot, a τ at which this slot alone already has all the weight: ``s − F′⁻¹(k/a)``; −∞ for deleted slots.

    Only the q-exponential has this inverse in closed form; its largest value in a row is a lower bound of τ.
    """
    if present is None and one(total):
        return score
    alpha = separation.alpha if isinstance(separation, Tsallis) else 1.0
    log_inverse = torch.zeros_like(score) if present is None else -torch.where(present > 0, present, 1.0).log()
    if not one(total):
        log_inverse = log_inverse + torch.as_tensor(total, dtype=score.dtype, device=score.device).log().unsqueeze(-1)
    shift = log_inverse if alpha == 1 else torch.expm1((alpha - 1) * log_inverse) / (alpha - 1)
    return score - shift if present is None else torch.where(present > 0, score - shift, -math.inf)


def bracket(separation: Separation, score: Tensor, present: Tensor | None, *, total: Total = 1.0) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of τ. Closed for the q-exponential, by doubling for any other separation."""
    if score.shape[-1] == 0:
        return score.sum(-1), score.sum(-1)
    top = _finite(kept(score, present, -math.inf).amax(-1))
    if isinstance(separation, Tsallis):
        return _finite(anchor(separation, score, present, total).amax(-1)), top + separation.reach
    empty = torch.zeros_like(top, dtype=torch.bool) if present is None else (present <= 0).all(-1)
    sums = _sums(separation, score, present)
    return doubled(sums, empty, top, direction=-1.0, total=total), doubled(sums, empty, top, direction=1.0, total=total)


def newton(separation: Separation, score: Tensor, present: Tensor | None, low: Tensor, high: Tensor, *, total: Total = 1.0) -> Tensor:
    """Root of ``Σ a F′(s − τ) = k`` between the bounds, for scores that lie in one place."""
    return root(separation, _sums(separation, score, present), low, high, total=total)


def root(separation: Separation, sums: Sums, low: Tensor, high: Tensor, *, total: Total = 1.0) -> Tensor:
    """Root of ``Σ a F′(s − τ) = k`` between the bounds, to rounding, by Newton's method safeguarded by bisection. ``sums`` says what the slots
    sum to at a τ, ``Σ a F′`` and ``Σ a F″``, wherever they lie.

    For the q-exponential Newton solves ``(Σ a F′/k)^(α−1) = 1`` instead: that power is a norm of an affine function of τ,
    nearly linear, so that rows with thousands of slots in their support take a few steps, too. A slope that saturates is not
    convex: there a step that is no half of the one before gives way to bisection as well.
    """
    eps = torch.finfo(low.dtype).eps
    power = min(1.0, separation.alpha - 1) if isinstance(separation, Tsallis) and separation.alpha > 1 else 1.0
    saturates = separation.saturation < math.inf
    tau = high if saturates and separation.reach < math.inf else low
    before = torch.full_like(low, math.inf) if saturates else low
    for _ in range(40 if torch.compiler.is_compiling() else 100):
        mass, bend = sums(tau)
        mass, bend = (mass, bend) if one(total) else (mass / total, bend / total)
        low, high = torch.where(mass >= 1, tau, low), torch.where(mass <= 1, tau, high)
        excess = mass - 1 if power == 1 else -mass * torch.expm1(-power * mass.log()) / power
        step = excess / torch.where(bend > 0, bend, 1.0)
        guess = tau + torch.where(bend > 0, step, math.inf)
        inside = (guess > low) & (guess < high)
        if saturates:
            inside = inside & (2 * (guess - tau).abs() <= before)
            before = torch.where(inside, (guess - tau).abs(), 0.5 * (high - low))
        guess = torch.where(inside, guess, low + 0.5 * (high - low))
        scale = eps * tau.abs().clamp_min(1.0)
        done = ((mass - 1).abs() <= 2 * eps) | (high - low <= scale) | ((bend > 0) & (step.abs() <= 0.5 * scale))
        tau = torch.where(done, tau, guess)
        if finished(done):
            break
    return tau


def doubled(sums: Sums, empty: Tensor, start: Tensor, *, direction: float, total: Total = 1.0) -> Tensor:
    """Step away from ``start``, twice as far each time, until ``Σ a F′`` passes k (or the slots end); rows without a slot stay."""
    bound, width = start + direction, torch.full_like(start, direction)
    for _ in range(60):
        excess = direction * (sums(bound)[0] - total)
        passed = empty | (excess <= 0)
        if finished(passed):
            break
        width = torch.where(passed, width, 2 * width)
        bound = torch.where(passed, bound, start + width)
    return bound


def _sums(separation: Separation, score: Tensor, present: Tensor | None) -> Sums:
    """``Σ a F′(s − τ)`` and ``Σ a F″(s − τ)`` as functions of τ."""

    def mass(function: Callable[[Tensor], Tensor], tau: Tensor) -> Tensor:
        term = function(score - tau.unsqueeze(-1))
        return term.sum(-1) if present is None else torch.where(present > 0, present * term, 0.0).sum(-1)

    return lambda tau: (mass(separation.slope, tau), mass(separation.curvature, tau))


def _finite(bound: Tensor) -> Tensor:
    return torch.where(bound == -math.inf, 0.0, bound)
