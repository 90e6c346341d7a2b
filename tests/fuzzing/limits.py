"""How far rounding may go in a case, and where it decides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from hopfield_amem import Memory, ReadEnergy, associate, retrieve
from hopfield_amem import energies as e
from hopfield_amem.energies.scalings.scaling import is_exponential

from .law import MOVED, NEARBY, answered, exact, moved, precision, size

FAINT = 1e-26  # a sum of slopes that float32 may count as none


def steepness(energy: ReadEnergy, *states: Tensor) -> float:
    """By how much a score may change for a unit of its state: β, times what a similarity with a pole near 0 has there."""
    lowest = min((float(t.detach().abs().min()) for t in states if t.numel()), default=1.0)
    pole = 1 / (lowest + energy.similarity.floor) if energy.similarity.nonnegative else 1e4 if isinstance(energy.similarity, e.Inverse) else 1.0
    return float(energy.beta) * pole


def vanishes(energy: ReadEnergy, dtype: torch.dtype) -> bool:
    """Whether F may be too small for a number of the computation, and its ratios count: e⁻²⁰⁰ is one in float64 and none in float32."""
    far = torch.full((1,), -200.0, dtype=torch.float64)
    vanishing = bool(energy.separation.slope(far) != 0) and bool(energy.separation.slope(far.float()) == 0)
    return vanishing and precision(dtype) != torch.float64 and not energy.scaling.normalised(energy.separation)


def step(energy: ReadEnergy, options: dict, query: Tensor, **given: Tensor | None) -> Tensor:
    """One step of a read by the definition. Dropout drops the same at every step."""
    torch.manual_seed(0)
    return retrieve(energy, query, **given, **options | {"steps": 1, "backend": "reference"})


def states(energy: ReadEnergy, given: dict, options: dict) -> list[Tensor]:
    """The states that the steps of a read start from, in float64."""
    wide = exact(given) | {"values": None}
    found = [wide.pop("query")]
    while len(found) < options["steps"]:
        found.append(step(energy, options, found[-1], **wide))
    return found


def rounded(energy: ReadEnergy, options: dict, dtype: torch.dtype, last: ReadEnergy | None = None) -> Callable[[int], Callable]:
    """The definition, step by step; the last step may be that of another energy. What every step is given is moved anew, as states round between them, and
    so are scores, which round by their own size even where a state moves them less: the cosine of what is nearly parallel, the divergence of equals.
    """

    def seeded(seed: int) -> Callable:
        def run(query: Tensor, keys: Tensor, values: Tensor | None, bias: Tensor | None, **gates: Tensor | None) -> Tensor:
            for k in range(options["steps"]):
                at = {"query": query, "keys": keys}
                at = moved(at, dtype, 100 * seed + k) if k else at
                gates["bias"] = moved_bias(energy, at, bias, dtype, 100 * seed + k)
                ends = k == options["steps"] - 1
                query = step((last or energy) if ends else energy, options, **at, values=values if ends else None, **gates)
            return query

        return run

    return seeded


def moved_bias(energy: ReadEnergy, at: dict, bias: Tensor | None, dtype: torch.dtype, seed: int) -> Tensor | None:
    """A bias (n,) that moves scores by a few roundings of the terms they are sums of: a divergence is the difference of sums of about one."""
    query, keys = (at[name].detach() for name in ("query", "keys"))
    if not query.numel() or not keys.numel():
        return bias
    terms = float(energy.beta) * (energy.similarity(query, keys).abs().flatten(0, -2).amax(0) + 2 * energy.similarity.nonnegative)
    noise = torch.randn(terms.shape, generator=torch.Generator().manual_seed(seed), dtype=terms.dtype)
    return (0.0 if bias is None else bias) + MOVED * torch.finfo(dtype).eps * terms * noise


def scored(energy: ReadEnergy, given: dict, options: dict) -> list[Tensor]:
    """The scores (..., q, n) of every step of a read, in float64; none where there are none, or where the definition refuses."""
    keys, bias = (None if given.get(name) is None else given[name].double() for name in ("keys", "bias"))
    found = answered(lambda: [energy.scores(state, keys, bias) for state in states(energy, given, options)])
    return [] if isinstance(found, str) or not found[0].numel() else found


def relative(energy: ReadEnergy, scores: list[Tensor]) -> tuple[float, float]:
    """How many roundings results and gradients may be off whose weights are computed from a score and a level of its size, each with its own rounding, so
    that what all scores have in common does not cancel: τ of a ``Simplex``, and in gradients the logarithm of a sum of eˢ.
    """
    common = sum(float(score.abs().max()) for score in scores)
    exponential = is_exponential(energy.separation)
    return (common if isinstance(energy.scaling, e.Simplex) and not exponential else 0.0), (
        common if isinstance(energy.scaling, e.Simplex) or exponential else 0.0
    )


def overflows(energy: ReadEnergy, given: dict, scores: list[Tensor]) -> bool:
    """Whether a slope of the weights, times what it is multiplied by, leaves the range: then a gradient, of which such terms may cancel or of which only a
    direction is read, may be NaN. Known, and not mended.
    """
    if energy.scaling.normalised(energy.separation):
        return False
    inside = precision(given["query"].dtype)
    steep = [max(float(f(score.to(inside)).abs().max()) for f in (energy.separation.slope, energy.separation.curvature)) for score in scores]
    return not math.prod(max(1.0, each) for each in steep) * size(given) < torch.finfo(inside).max


def far(energy: ReadEnergy, query: Tensor, keys: Tensor) -> bool:
    """Whether F vanishes at scores that occur, so that float32 may count as nothing what float64 reads."""
    if not vanishes(energy, query.dtype) or not query.numel() or not keys.numel():
        return False
    return min(float(energy.scores(state.double(), keys.double()).min()) for state in (query, keys)) < -60


def heard(energy: ReadEnergy, given: dict, options: dict) -> Tensor | None:
    """The queries (..., q) whose weights, of which dropout leaves some, sum at every step to more than nothing, and, where a result is divided by that sum,
    to one that rounding changes by less than half. In float64. None: all.
    """
    dtype, normalised = given["query"].dtype, energy.scaling.normalised(energy.separation)
    faint = vanishes(energy, dtype) or (options["dropout"] and precision(dtype) != torch.float64)
    divided = energy.confinement.averages and not normalised
    if not faint and not divided:
        return None
    wide = exact(given) | {"values": torch.ones(*given["keys"].shape[:-1], 1, dtype=torch.float64)}
    mass, once, found = massed(energy), options | {"steps": 1}, []
    for state in states(energy, given, options):
        total = step(mass, once, **wide | {"query": state})
        near = [rounded(energy, once, precision(dtype), mass)(k)(**moved(wide | {"query": state}, precision(dtype), k)) for k in range(NEARBY * divided)]
        sure = torch.stack([2 * (other - total).abs() < total.abs() for other in near]).all(0) if near else torch.ones_like(total, dtype=torch.bool)
        found.append((sure & (total.abs() > FAINT * faint)).squeeze(-1))
    return torch.stack(torch.broadcast_tensors(*found)).all(0)


def massed(energy: ReadEnergy) -> ReadEnergy:
    """What reads from values of one the sum of the weights of the slots that an energy reads: of F′, or of what is computed relative to the largest score."""
    scaling = replace(energy.scaling, within=e.Sum()) if isinstance(energy.scaling, e.TopK) else e.Sum()
    scaling = energy.scaling if is_exponential(energy.separation) or energy.scaling.normalised(energy.separation) else scaling
    return ReadEnergy(energy.similarity.__call__, energy.separation, scaling, e.Quadratic(), energy.beta)


def remembered(memory: Memory, given: dict) -> Tensor | None:
    """The queries (..., t) of a sequence whose slots have not all faded to what float32 may count as nothing, in float64. None: all."""
    if memory.decay is None or precision(given["query"].dtype) == torch.float64 or memory.read.scaling.normalised(memory.read.separation):
        return None
    wide = exact(given) | {"rate": None, "values": torch.ones(*given["keys"].shape[:-1], 1, dtype=torch.float64)}
    found = answered(lambda: associate(Memory(massed(memory.read), decay=memory.decay), **wide, backend="reference")[0])
    return None if isinstance(found, str) else found.squeeze(-1).abs() > FAINT


def ordinary(energy: ReadEnergy, query: Tensor, keys: Tensor) -> bool:
    """Whether scores, F, its slopes and their sums are numbers that every dtype knows."""
    score = energy.scores(query.double(), keys.double())
    terms, slopes = energy.separation(score), energy.separation.slope(score)
    largest = max((float(t.abs().max()) for t in (score, terms, slopes) if t.numel()), default=0.0)
    return largest < 1e3 and bool((terms.sum(-1).abs() > 0.5).all())
