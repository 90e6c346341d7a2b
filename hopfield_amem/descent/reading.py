"""Reading at the end of a descent, as attention does after one step."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..energies import ReadEnergy
from ..kernels import gated, retrieve
from .fixed_point import FixedPoint
from .loop import Descent


def read(
    energy: ReadEnergy,
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    descent: Descent = FixedPoint(steps=1),
    *,
    presence: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool | int = False,
    dropout: float = 0.0,
) -> Tensor:
    """``Σ_μ p_μ(x*) v_μ`` at the state x* that a descent from the query reaches among the keys; without values x* itself.

    The last of a ``FixedPoint``'s steps is the one that reads: ``FixedPoint(steps=1)`` is attention, ``FixedPoint(steps=k, tolerance=0)`` is
    ``retrieve(steps=k)``. Every other descent runs to its end, and then values are read. Arguments, shapes and errors as in ``retrieve``.
    ``dropout`` acts on the reading, and on every step where ``retrieve`` takes them all.
    """
    gates: dict = {"presence": presence, "bias": bias, "causal": causal}
    if isinstance(descent, FixedPoint) and (descent.steps == 1 or (descent.tolerance == 0 and descent.gradient == "recompute")):
        return retrieve(energy, query, keys, values, **gates, dropout=dropout, steps=descent.steps)
    if values is None:
        return descent.state(energy, query, keys, gated(presence, bias, causal, 0.0, query.device))
    return retrieve(energy, approach(energy, query, keys, descent, **gates), keys, values, **gates, dropout=dropout)


def approach(
    energy: ReadEnergy, query: Tensor, keys: Tensor, descent: Descent, *, presence: Tensor | None = None, bias: Tensor | None = None, causal: bool | int = False
) -> Tensor:
    """The state x* at which values are read: where a descent ends, for a ``FixedPoint`` one step before its end. (..., q, d)"""
    if isinstance(descent, FixedPoint):
        if descent.steps == 1:
            return query
        descent = replace(descent, steps=descent.steps - 1)
    return descent.state(energy, query, keys, gated(presence, bias, causal, 0.0, query.device))
