"""Whether the factors of an energy fit each other, and hold the state that descends them."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..confinement import Confinement, Free, Hypercube, Quadratic, Sphere
from ..scalings.scaling import Scaling, Sum
from ..separations.separation import Separation
from ..similarities.manhattan import Manhattan
from ..similarities.similarity import Cosine, Dot
from ..truth import readable

if TYPE_CHECKING:
    from ..read import ReadEnergy


def factors(energy: ReadEnergy) -> None:
    """Raise when the factors of an energy do not fit each other."""
    similarity, scaling, confinement = energy.similarity, energy.scaling, energy.confinement
    if not isinstance(scaling, Scaling):
        raise ValueError(f"The scaling must be a Scaling, such as Sum(), Log(), Simplex() or TopK(k), got {scaling!r}.")
    if not isinstance(confinement, Confinement):
        raise ValueError(f"The confinement must be Quadratic(), Sphere(), Hypercube(), Free() or Probability(), got {confinement!r}.")
    inverse_temperature(energy.beta)
    if similarity.degree > 1 and not isinstance(confinement, (Sphere, Hypercube)):
        raise ValueError(
            f"{similarity} grows like ‖x‖ to the power {similarity.degree}, which {type(confinement).__name__}() does not hold: the energy is unbounded below. "
            "Confine the state with Hypercube() or Sphere()."
        )
    if isinstance(energy.similarity, Dot) and isinstance(confinement, Free):
        raise ValueError("Dot with Free is unbounded below: −x·ξ falls without end along ξ. Confine the state with Quadratic(), Sphere() or Hypercube().")
    if isinstance(energy.similarity, Cosine) and not isinstance(confinement, Sphere):
        raise ValueError(f"Cosine only sees the direction of a state, so its state lives on a sphere: use Sphere(radius), not {type(confinement).__name__}().")
    if isinstance(energy.similarity, Manhattan) and not isinstance(confinement, Free):
        raise ValueError(f"Manhattan confines its state by itself; use Free(), not {type(confinement).__name__}().")
    try:
        hash((energy.similarity, energy.separation, scaling, confinement))
    except TypeError as error:
        raise ValueError(f"The factors of an energy must be hashable ({error}): write your own as @dataclass(frozen=True).") from None
    if not torch.compiler.is_compiling():
        _fits(scaling, energy.separation, energy.similarity.highest)


def inverse_temperature(beta: float | Tensor) -> None:
    """Raise when β is no positive number or floating-point tensor."""
    if not isinstance(beta, (int, float, Tensor)) or isinstance(beta, bool):
        raise ValueError(f"The inverse temperature beta must be a positive number or a tensor, got {beta!r}.")
    if not isinstance(beta, Tensor) and not 0 < beta <= sys.float_info.max:
        raise ValueError(f"The inverse temperature beta must be positive and finite, got {beta!s:.40}. β → 0 averages all, β → ∞ is the nearest neighbour.")
    if isinstance(beta, Tensor) and not beta.is_floating_point():
        raise ValueError(f"The inverse temperature beta must be a floating-point tensor, got {beta.dtype}.")


@lru_cache(maxsize=256)
def _fits(scaling: Scaling, separation: Separation, highest: float) -> None:
    scaling.check(separation, highest)  # probes F, so once per pair
    probe = torch.linspace(-30.0, min(30.0, highest), 601, dtype=torch.float64)
    undefined = separation(probe).isnan()
    if bool(undefined.any()):
        raise ValueError(
            f"The separation {separation} is undefined at s = {float(probe[undefined][-1]):.3g}, a score that this similarity takes. Write it for every score, "
            "for example lambda s: s.relu().log1p() rather than torch.log, and ConjugatePower(3) for weights that grow as a square root."
        )
    slope = separation.slope(torch.linspace(-30.0, 0.0, 601, dtype=torch.float64))
    if highest == 0 and bool((slope < 0).any()):
        raise ValueError(
            f"A distance needs an increasing F (its weights F′ average the patterns, so they must not be negative), but {separation} falls somewhere below 0. "
            "Use Exp(), Epanechnikov() or Tsallis(α), or a Dot similarity."
        )


def step(energy: ReadEnergy) -> None:
    """Raise when an energy has no closed-form step."""
    if not energy.similarity.steps:
        raise ValueError(
            f"The similarity {energy.similarity} has no closed-form step. "
            "Descend with GradientDescent or Flow, or read values: retrieve(energy, query, keys, values)."
        )


def bounded(energy: ReadEnergy, keys: Tensor, presence: Tensor | None = None) -> None:
    """Raise when descending the energy would run off to infinity: ``Dot · F · Sum`` against ``½‖x‖²`` with F too steep.

    F growing faster than s² always wins. F ~ ½c s² wins when ``β c λ_max(ΞᵀΞ) > 1``, which the patterns decide.
    """
    if not at_risk(energy) or torch.compiler.is_compiling():
        return
    order, coefficient = growth(energy)
    way_out = "Confine the state with Sphere() or Hypercube(), use Log() scaling, or take a single step."
    if order > 2:
        raise ValueError(f"This energy is unbounded below: {energy.separation} outgrows ½‖x‖². {way_out}")
    stiffest = coefficient * _stiffness(energy, keys, presence) if order == 2 else 0.0
    if stiffest > 1:
        raise ValueError(
            f"This energy is unbounded below on these patterns: {energy.separation} grows like ½·{coefficient:g}·s², and "
            f"β·{coefficient:g}·λ_max(ΞᵀΞ) = {stiffest:.3g} exceeds 1. {way_out} A smaller β also does."
        )


def at_risk(energy: ReadEnergy) -> bool:
    """Whether F and the patterns decide if there is a lowest energy, and ``bounded`` must look at them."""
    scaling = getattr(energy.scaling, "within", energy.scaling)  # the largest k of a sum grow like the sum
    return isinstance(energy.similarity, Dot) and isinstance(scaling, Sum) and isinstance(energy.confinement, Quadratic)


def _stiffness(energy: ReadEnergy, keys: Tensor, presence: Tensor | None) -> float:
    """The largest ``β λ_max(ΞᵀΞ)`` of all memories, over the slots that are there; 0 where it cannot be read."""
    keys = keys.detach().double()
    if presence is not None and (presence.ndim == 1 or presence.shape[-2] == 1):
        keys = keys * (presence if presence.ndim == 1 else presence.squeeze(-2)).detach().double().sqrt().unsqueeze(-1)
    if not keys.numel() or not readable(keys.isfinite().all(), False):
        return 0.0
    return float((energy.inverse_temperature(0, keys) * torch.linalg.eigvalsh(keys.mT @ keys).amax(-1)).max())


def growth(energy: ReadEnergy) -> tuple[float, float]:
    """``(order, c)`` with ``F(s) ~ ½ c |s|^order`` at the steeper end, measured in float64; order inf for exponentials."""
    worst = (0.0, 0.0)
    for sign in (1.0, -1.0):
        near, far = energy.separation(sign * torch.tensor([[1e3], [1e4]], dtype=torch.float64)).flatten().tolist()
        if far == math.inf:
            return math.inf, math.inf
        if far > 1e4 * 1.01 and near > 0:  # slower than linear growth never outgrows the quadratic confinement
            order = round(math.log10(far / near), 2)
            worst = max(worst, (order, 2 * far / 1e4**order))
    return worst
