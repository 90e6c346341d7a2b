"""Whether ``exp(−E/T)`` is a density: how an energy rises along rays that leave the patterns, measured."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..energies import ReadEnergy
from ..energies.truth import decided

RAYS, SLOTS = 4, 64  # rays that are followed, and slots that they leave: from afar all look alike
FAR = (1e2, 1e3, 1e4)  # where, in units of the patterns' lengths and of 1/β
RISING = 1.2  # a slope that grows by so much from decade to decade has no limit, as any power of r or of log r has none


def check_density(energy: ReadEnergy, keys: Tensor, temperature: float, *, metropolis: bool) -> None:
    """Raise where ``exp(−E/T)`` cannot be normalised, or where an unadjusted chain would be lost.

    In d dimensions ``∫ exp(−E/T) dx`` is finite where E rises faster than ``d T log r``. The slope ``dE/d log r`` of random rays is measured over two
    decades: it must exceed d T, or grow. Heavy tails, such as those of ``(1 − s)^(−ν)`` or of an ``Inverse`` distance, have a slope of their own, so that T
    decides. What is not known: directions that no ray took (a custom similarity may fall along one), what lies beyond 10⁴ lengths, and a similarity that
    cannot be evaluated in float64. An F that underflows float64 out there counts as one that falls fast enough.

    Raises:
        ValueError: as above.
    """
    heights = far_off(energy, keys)
    if heights is None:
        return
    if not metropolis and energy.separation.reach < math.inf and decided((heights[-1] == math.inf).any()):
        raise ValueError(
            f"Where no slot is in reach the energy {energy} is infinite and its gradient 0: without Metropolis correction noise takes chains there, and they "
            "never come back. Use metropolis=True, or a separation of infinite reach (presets.distance(), presets.hybrid())."
        )
    before, after = heights.diff(dim=0) / math.log(10)
    needed = keys.shape[-1] * temperature
    rising = (after > RISING * before) & (after > 1e-6 * heights[-1].abs())
    if decided((rising | (after > 1.001 * needed) | after.isnan()).all()) is False:
        raise ValueError(
            f"exp(−E/T) cannot be normalised: far from every pattern the energy {energy} rises by {float(after.nan_to_num(math.inf).min()):.3g} log r, and "
            f"d T log r = {needed:.3g} log r must be exceeded, or chains wander off. Use Log() without an empty slot, a separation that falls faster, such as "
            "Exp(), or a lower temperature."
        )


@torch.no_grad()
def far_off(energy: ReadEnergy, keys: Tensor) -> Tensor | None:
    """E at the distances ``FAR`` along random rays from the middle of some slots, (3, ..., rays); None where it cannot be computed."""
    if torch.compiler.is_compiling() or not keys.shape[-2]:
        return None
    some = keys[..., :SLOTS, :].double()
    middle = some.mean(-2, keepdim=True)
    beta = energy.inverse_temperature(2, some)
    unit = (some - middle).norm(dim=-1, keepdim=True).amax(-2, keepdim=True) + torch.as_tensor(1 / beta, dtype=some.dtype, device=some.device).clamp_min(1.0)
    rays = torch.randn(RAYS, keys.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(keys.device)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    try:
        return torch.stack([energy(middle + far * unit * rays, some) for far in FAR])
    except RuntimeError:  # for example a map whose weights are float32
        return None
