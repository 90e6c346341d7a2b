"""The scaling whose value is itself a level: ``Q = τ``, where the F of all slots sum to one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..separations.separation import Separation
from .presence import has_slot, kept, largest, masked
from .scaling import Scaling
from .threshold import polished, threshold


@dataclass(frozen=True)
class Level(Scaling):
    """``Q = τ`` with ``Σ F(s − τ) = 1``, weights ``F′(s − τ)/Σ F′(s − τ)``: log-sum-exp for ``Exp``, normmax for ``ConjugatePower(α)``.

    For ``F(s) = max(s, 0)^(α/(α−1))`` this is ``Q = max_p p·s − ‖p‖_α`` over the probability simplex, whose weights are normmax (Blondel et al. 2020,
    arXiv 1901.02324; Santos et al. 2024, arXiv 2411.08590). F is non-negative, increasing and convex; then Q is convex.
    """

    weights_formula = "F′(s_μ − τ) / Σ_ν F′(s_ν − τ)"

    def value(self, separation, score, presence=None):
        top, score, tau = self._solved(separation, score, presence)
        return torch.where(has_slot(score, presence), top + tau, -math.inf)

    def weights(self, separation, score, presence=None):
        _, score, tau = self._solved(separation, score, presence)
        slope = masked(separation.slope, score - tau.unsqueeze(-1), presence)
        total = slope.sum(-1, keepdim=True)
        return slope / torch.where(total == 0, 1.0, total)

    def _solved(self, separation, score, presence):
        """The row's largest score, the scores relative to it, and their τ."""
        top = largest(score, presence)
        score = kept(score, presence, 0.0) - top.unsqueeze(-1)
        with torch.no_grad():
            tau = threshold(_Antiderivative(separation), score, presence)
        return top, score, polished(tau, separation, separation.slope, (score, presence, has_slot(score, presence), 1.0))

    def normalised(self, separation):
        return True

    def inherits(self, separation, scale_free):
        return True

    def margin(self, separation):
        return separation.reach + 1.0 if float(separation(torch.ones((), dtype=torch.float64))) == 1.0 else math.inf

    @torch.no_grad()
    def check(self, separation, highest):
        probe = torch.linspace(-30, 30, 601, dtype=torch.float64)
        value, slope = separation(probe), separation.slope(probe)
        if (
            bool((value < 0).any())
            or bool((slope < 0).any())
            or bool((slope.diff() < -1e-9 * slope.abs().max()).any())
            or float(value[0]) > 1e-3
            or float(value[-1]) < 1
        ):
            raise ValueError(
                f"Level needs a convex F that rises from 0 at −∞ through 1 (so that Σ F(s − τ) = 1 has a solution); {separation} is not one. "
                "Use ConjugatePower(α) (normmax), RectifiedPower(n) or Exp() (log-sum-exp)."
            )

    def formula(self, term, score):
        return f"[τ: Σ_μ {term(f'{score} − τ')} = 1]"


class _Antiderivative(Separation):
    """What has F for its slope: ``threshold`` finds the root of a sum of slopes."""

    def __init__(self, separation: Separation):
        self.slope, self.curvature = separation.__call__, separation.slope
