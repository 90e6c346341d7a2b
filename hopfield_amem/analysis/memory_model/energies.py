"""The energies of the paper in its own units, ``exp(−‖x − ρ‖²)`` at β = 1: twice those of this library at twice the β."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...energies import Layered, presets


def distance_energy(state: Tensor, patterns: Tensor, *, beta: float = 1.0) -> Tensor:
    """``E(x) = −log Σ_i exp(−β‖x − ρ_i‖²)/β`` (Niu et al. 2024, arXiv 2405.08707, §4; there β = 1). (..., q, d), (..., n, d) -> (..., q)

    It is ``2 · presets.distance(2β)``.

    Raises:
        ValueError, TypeError: β ≤ 0, shapes or dtypes that do not fit.
    """
    return 2 * presets.distance(2 * beta)(state, patterns)


def global_energy(state: Tensor, patterns: Tensor, sizes: Sequence[int]) -> Tensor:
    """``E(x) = −log Σ_t exp(−E_t(x))``, patterns split over layers of those sizes (arXiv 2405.08707, §4): ``2 · Layered(distance(2), sizes, 2)``. -> (..., q)

    At β = 1 it is the distance energy of all patterns together, however they are split; it lies between ``min_t E_t − log l`` and ``min_t E_t``.

    Raises:
        ValueError, TypeError: sizes that do not add up to the patterns, shapes or dtypes that do not fit.
    """
    return 2 * Layered(presets.distance(2.0), tuple(sizes), 2.0)(state, patterns)
