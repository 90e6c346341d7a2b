"""What stochastic gradients store: a weight grows where its association is still uncertain (arXiv 2310.02984, equation 16)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import doors

FINE = 1e-3  # steps below which a sum over visits is an integral, to 10⁻⁷
NEWTON = 60  # iterations; a handful is enough but where many visits follow a start at which hardly anything is stored


def saturated_weight(visits: int, rate: float, classes: float) -> float:
    """``f^(n)(0)`` with ``f(z) = z + γ/(1 + e^z/M)``: what n steps of rate γ store of one association.

    At first nγM/(M + 1), then like ``log(M n γ)``: steps that are large against 1 store once and alike, small ones by frequency.

    Steps are taken one by one while they are above 10⁻³, some thousands at the most; the rest is an integral, right to 10⁻⁷.

    Raises:
        TypeError, ValueError: a negative number of visits, a rate or classes that are not positive.
    """
    doors.count(visits, "visits", 0)
    doors.positive(rate, "rate")
    doors.positive(classes, "classes")
    return float(_iterated(torch.tensor([visits], dtype=torch.float64), torch.tensor([rate], dtype=torch.float64), classes))


def sgd_storage_weights(probability: Tensor, tokens: int, *, rate: float, batch: int = 1, classes: int = 5) -> Tensor:
    """The storage weights q(x) that SGD on T tokens approximately reaches from W = 0, ``q ← q + (γ c/B)/(1 + e^q/(M − 1))``. -> (N,) float64

    An input of which c copies are in a batch of B is moved once. It is in ``min(T p(x), T/B)`` batches, rounded, and its copies are shared
    among them: so B = 1 is the equation as printed, ``f^(T p)(0)``, and B = T is one step, q ∝ p. Other scores are taken as 0, as of embeddings that do
    not overlap; M − 1 is what the softmax of such scores gives, where the equation is printed with M. Some thousand
    passes, however many the visits, see ``saturated_weight``.

    Args:
        probability: p, (N,).
        tokens: T.
        rate: γ.
        batch: B, at most T.
        classes: M, at least 2.

    Raises:
        TypeError, ValueError: no distribution, numbers below one, a batch larger than the data.
    """
    doors.distribution(probability)
    doors.positive(rate, "rate")
    for value, name, least in ((tokens, "tokens", 1), (batch, "batch", 1), (classes, "classes", 2)):
        doors.count(value, name, least)
    if batch > tokens:
        raise ValueError(f"A batch of {batch} is more than the {tokens} tokens there are.")
    seen = tokens * probability.double()
    visits = seen.clamp_max(tokens // batch).round()
    step = rate / batch * seen / visits.clamp_min(1)
    return _iterated(visits, step, classes - 1)


def _iterated(visits: Tensor, step: Tensor, classes: float) -> Tensor:
    """z after ``visits`` times ``z ← z + step/(1 + e^z/classes)``, from 0: one by one while it moves by more than ``FINE``, then all at once."""
    weight, done = torch.zeros_like(step), torch.zeros_like(visits)
    offset = math.log(classes)
    while True:
        move = step * torch.sigmoid(offset - weight)
        coarse = (done < visits) & (move > FINE)
        if not coarse.any():
            return weight + _smooth(move, torch.sigmoid(weight - offset), visits - done)
        weight = torch.where(coarse, weight + move, weight)
        done = done + coarse


def _smooth(move: Tensor, full: Tensor, visits: Tensor) -> Tensor:
    """How far z goes in so many visits of which the first moves it by a small ``move`` h, where ``e^z/classes`` has the share r = ``full`` of the denominator.

    ``Σ`` over visits is ``∫ dz/h(z) + ½ log h`` but for terms of order h, so that Δ solves ``(1 − r) Δ + r (e^Δ − 1) − ½ h log(1 − r + r e^Δ) = n h``.
    Newton's iteration, from above, where the left side is convex.
    """
    target = visits * move
    free = 1 - full
    found = torch.minimum(target / free.clamp_min(1e-300), torch.log1p(target / full.clamp_min(1e-300)))
    for _ in range(NEWTON):
        grown = full * found.exp()
        left = free * found + full * torch.expm1(found) - move / 2 * (free + grown).log()
        found = (found - (left - target) / (free + grown - move / 2 * grown / (free + grown))).clamp_min(0)
    return found
