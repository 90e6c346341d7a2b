"""What the fuzz tests draw: every composition of factors, and tensors of every layout, scale and dtype."""

from __future__ import annotations

import itertools
from functools import cache

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from hopfield_amem import ENERGIES, ReadEnergy
from hopfield_amem import energies as e

from .law import answered

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SIMILARITIES = (e.Dot(), e.Euclidean(), e.Cosine(), e.Manhattan(), e.KullbackLeibler(), e.ReverseKullbackLeibler(), e.JensenShannon(), e.Inverse(e.Euclidean()))
SEPARATIONS = (
    e.Exp(), *map(e.Power, (1, 2, 3, 4)), *map(e.RectifiedPower, (1, 2, 3)), e.Epanechnikov(), *map(e.Tsallis, (1.0, 1.3, 1.5, 2.0, 3.0)), e.Gelu(), e.Silu(),
    e.Softplus(), e.LogCosh(), e.RectifiedExp(), e.Rounded(1), e.Blend(e.Exp(), e.Epanechnikov(), 0.1), e.Clipped(), e.ConjugatePower(2.0),
)  # fmt: skip
SCALINGS = (e.Sum(), e.Log(), e.Log(null_slot=True), e.Simplex(), e.Simplex(2), e.Level(), e.TopK(3), e.TopK(2, e.Sum()), e.SequentialSubsets(2, 0.5))
CONFINEMENTS = (None, e.Quadratic(), e.Sphere(2.0), e.Hypercube(), e.Free())
LEADS = (((), ()), ((3,), ()), ((), (2,)), ((2, 3), (3,)), ((2, 1), (2, 3)), ((2, 2, 2), (2, 1, 1)))
NO_LEAD = ((0,), ())


def mostly(usual: tuple, rare: tuple) -> st.SearchStrategy:
    """One of the usual; now and then one of those of which there is little to compare."""
    return st.sampled_from((*usual * 4, *rare))


def cases(number: int) -> settings:
    """So many cases; under a profile of hypothesis that asks for more than its usual 100 in proportion."""
    return settings(max_examples=number * settings.default.max_examples // 100, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def composed() -> list[ReadEnergy]:
    """Every combination of factors that fit each other; the others must say why they do not."""
    found = []
    for factors in itertools.product(SIMILARITIES, SEPARATIONS, SCALINGS, CONFINEMENTS):
        energy = answered(lambda factors=factors: ReadEnergy(*factors))
        found += [energy] if isinstance(energy, ReadEnergy) else []
    return found


@st.composite
def specs(draw, learned: bool = True) -> ReadEnergy:
    """A read energy at a β from 10⁻³ to 10⁸; one in four β is a tensor."""
    energy = draw(st.one_of(st.sampled_from(sorted(ENERGIES)).map(ENERGIES.__getitem__), st.deferred(lambda: st.sampled_from(composed()))))
    beta = 10.0 ** draw(st.floats(-2, 1) | st.floats(-3, 2) | st.floats(-3, 8))
    return energy.at(torch.tensor(beta, dtype=torch.float64) if learned and draw(st.integers(0, 3)) == 0 else beta)


@st.composite
def tensors(draw, *shape: int, dtype: torch.dtype, positive: bool = False, scale: float | None = None) -> Tensor:
    """Normal numbers of some scale, in some layout: contiguous, transposed, a slice of something larger, one row for all, all zero, or far from the origin."""
    layout = draw(mostly(("plain", "plain", "transposed", "slice", "one row", "far"), ("zero",)))
    size = draw(mostly((1.0,), (1e-3, 30.0))) if scale is None else scale
    plain = size * torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**16))), dtype=torch.float64)
    plain = (plain + 10 * size if layout == "far" else plain * (layout != "zero")).to(dtype)
    plain = plain.abs() if positive else plain
    if layout == "transposed":
        return plain.mT.contiguous().mT
    if layout == "slice":
        return torch.nn.functional.pad(plain, (1, 2, 3, 1), value=torch.nan)[..., 3 : 3 + shape[-2], 1 : 1 + shape[-1]]
    return plain[..., :1, :].expand(shape) if layout == "one row" and shape[-2] else plain


@st.composite
def presences(draw, lead: tuple[int, ...], queries: int, slots: int) -> Tensor | None:
    """No mask, or a boolean or fractional one, per slot or per query, in which whole rows may be empty."""
    kind = draw(mostly((None, None, "slot", "query", "heads"), ("none at all",)))
    if kind is None:
        return None
    shape = {"slot": (slots,), "query": (queries, slots), "heads": (*lead, queries, slots), "none at all": (slots,)}[kind]
    draws = torch.rand(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))), dtype=torch.float64)
    there = draws > (1.0 if kind == "none at all" else 0.4)
    if kind == "query" and queries > 1:
        there[0] = False
    return draws * there if draw(st.booleans()) else there
