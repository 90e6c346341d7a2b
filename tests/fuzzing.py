"""What the fuzz tests draw, and the law they ask: the definition's numbers in float64 at the rounding of the dtype, or a refusal in words.

How far rounding may move a result depends on the case: at a huge β a softmax is a switch. So the allowance is measured. The definition is computed in
float64 once more from inputs that are moved by a few roundings each; a backend may differ from it by a small multiple of what those differ.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from functools import cache

import torch
from hypothesis import HealthCheck, currently_in_test_context, event, settings
from hypothesis import strategies as st
from torch import Tensor

from hopfield_amem import ENERGIES, ReadEnergy, retrieve
from hopfield_amem import energies as e

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MOVED, ALLOWED, NEARBY = 16, 8, 3  # roundings by which inputs are moved, multiples of what that changes, and how many such inputs
RESULT = "the result"
REFUSALS = (ValueError, TypeError, NotImplementedError)
SIMILARITIES = (e.Dot(), e.Euclidean(), e.Cosine(), e.Manhattan(), e.KullbackLeibler(), e.ReverseKullbackLeibler(), e.JensenShannon(), e.Inverse(e.Euclidean()))
SEPARATIONS = (
    e.Exp(), *map(e.Power, (1, 2, 3, 4)), *map(e.RectifiedPower, (1, 2, 3)), e.Epanechnikov(), *map(e.Tsallis, (1.0, 1.3, 1.5, 2.0, 3.0)), e.Gelu(), e.Silu(),
    e.Softplus(), e.LogCosh(), e.RectifiedExp(), e.Rounded(1), e.Blend(e.Exp(), e.Epanechnikov(), 0.1), e.Clipped(), e.ConjugatePower(2.0),
)  # fmt: skip
SCALINGS = (e.Sum(), e.Log(), e.Log(null_slot=True), e.Simplex(), e.Simplex(2), e.Level(), e.TopK(3), e.TopK(2, e.Sum()), e.SequentialSubsets(2, 0.5))
CONFINEMENTS = (None, e.Quadratic(), e.Sphere(2.0), e.Hypercube(), e.Free())
LEADS = (((), ()), ((3,), ()), ((), (2,)), ((2, 3), (3,)), ((2, 1), (2, 3)), ((2, 2, 2), (2, 1, 1)))
NO_LEAD = ((0,), ())
FAINT = 1e-26  # a sum of slopes that float32 may count as none
SEEN: Counter[str] = Counter()  # what became of the cases of a test


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


def answered(run: Callable) -> object:
    """What a call gives, or the sentence with which it refuses. Everything else, a RuntimeError from torch's depths or an assert, goes through."""
    try:
        return run()
    except REFUSALS as error:
        message = str(error)
        assert len(message) > 40 and message.rstrip().endswith((".", ")", "?")), f"no sentence: {message!r}"
        return message


@st.composite
def specs(draw, learned: bool = True) -> ReadEnergy:
    """A read energy at a β from 10⁻³ to 10⁸; one in four β is a tensor."""
    energy = draw(st.one_of(st.sampled_from(sorted(ENERGIES)).map(ENERGIES.__getitem__), st.deferred(lambda: st.sampled_from(composed()))))
    beta = 10.0 ** draw(st.floats(-2, 1) | st.floats(-3, 2) | st.floats(-3, 8))
    return energy.at(torch.tensor(beta, dtype=torch.float64) if learned and draw(st.integers(0, 3)) == 0 else beta)


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


def coarse(energy: ReadEnergy, given: dict) -> bool:
    """Whether one rounding of a score is more than a slope that saturates can resolve: weights of such k-subsets need not sum to k. Known, and not mended."""
    largest = max((float(t.detach().double().abs().max()) for name, t in given.items() if name in ("query", "keys") and t.numel()), default=0.0)
    score = float(energy.beta) * given["keys"].shape[-1] * largest**2
    return energy.separation.saturation < math.inf and score * torch.finfo(precision(given["keys"].dtype)).eps > 1e-2


def overflows(energy: ReadEnergy, given: dict) -> bool:
    """Whether F′ is infinite and only its sign, or direction, is read: then the gradient, which is 0 or unbounded, may be NaN. Known, and not mended."""
    query, keys, bias = (None if given.get(name) is None else given[name].double() for name in ("query", "keys", "bias"))
    if not isinstance(energy.confinement, (e.Hypercube, e.Sphere)) or not query.numel() or not keys.numel():
        return False
    inside = precision(given["query"].dtype)
    slopes = [energy.separation.curvature(energy.scores(state, keys, bias).to(inside)) for state in (query, keys)]
    return not all(bool(slope.isfinite().all()) for slope in slopes)


def far(energy: ReadEnergy, query: Tensor, keys: Tensor) -> bool:
    """Whether F vanishes at scores that occur, so that float32 may count as nothing what float64 reads."""
    if not vanishes(energy, query.dtype) or not query.numel() or not keys.numel():
        return False
    return min(float(energy.scores(state.double(), keys.double()).min()) for state in (query, keys)) < -60


def heard(energy: ReadEnergy, given: dict, causal: bool | int, steps: int) -> Tensor | None:
    """The queries (..., q) whose slopes sum to more than nothing at every step, in float64. None: all."""
    if not vanishes(energy, given["query"].dtype):
        return None
    wide = {name: t for name, t in exact(given).items() if name != "values"} | {"causal": causal, "backend": "reference"}
    wide["values"] = torch.ones(*wide["keys"].shape[:-1], 1, dtype=torch.float64)
    slopes, found = ReadEnergy(energy.similarity, energy.separation, e.Sum(), e.Quadratic(), energy.beta), []
    for step in range(steps):
        state = wide["query"] if step == 0 else retrieve(energy, **wide | {"values": None}, steps=step)
        found.append(retrieve(slopes, **wide | {"query": state}).squeeze(-1).abs())
    return torch.stack(torch.broadcast_tensors(*found)).amin(0) > FAINT


def ordinary(energy: ReadEnergy, query: Tensor, keys: Tensor) -> bool:
    """Whether scores, F, its slopes and their sums are numbers that every dtype knows."""
    score = energy.scores(query.double(), keys.double())
    terms, slopes = energy.separation(score), energy.separation.slope(score)
    largest = max((float(t.abs().max()) for t in (score, terms, slopes) if t.numel()), default=0.0)
    return largest < 1e3 and bool((terms.sum(-1).abs() > 0.5).all())


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


def precision(dtype: torch.dtype) -> torch.dtype:
    """The dtype inside: half precisions compute in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def moved(given: dict, dtype: torch.dtype, seed: int) -> dict:
    """The same inputs, in float64, each number moved by about so many roundings of a dtype; numbers of signed states and keys by those of the largest of
    them, as a squared distance rounds. Masks stay.
    """
    generator, size = torch.Generator().manual_seed(seed), MOVED * torch.finfo(dtype).eps
    states = [given[name] for name in ("query", "keys") if name in given and given[name].numel()]
    signed = bool(states) and any(bool((t < 0).any()) for t in states)
    largest = max((float(t.double().abs().max()) for t in states), default=0.0) if signed else 0.0

    def move(name: str, t: Tensor | None) -> Tensor | None:
        if t is None or name == "presence":
            return t
        return t + size * torch.randn(t.shape, generator=generator, dtype=t.dtype) * (t.abs() + largest * (name in ("query", "keys")))

    return {name: move(name, t) for name, t in exact(given).items()}


def exact(given: dict, dtype: torch.dtype | None = None) -> dict:
    """The same inputs in float64, or in another dtype; a presence is exact as it is."""
    wide = torch.float64 if dtype is None else dtype
    return {name: t.to(wide) if t is not None and t.is_floating_point() and (name != "presence" or dtype is None) else t for name, t in given.items()}


def size(given: dict) -> float:
    """How large a product of one number each of what was given may be, times the numbers in the largest, over which a gradient may sum."""
    held = [t for name, t in given.items() if t is not None and t.is_floating_point() and t.numel() and name != "presence"]
    return max(t.numel() for t in held) * math.prod(max(1.0, float(t.detach().double().abs().max())) for t in held) if held else 0.0


def measured(run: Callable, given: dict, shown: Tensor | None = None) -> list[Tensor] | str:
    """Outputs of ``run``, then the gradients of all that is differentiable and was given; or the sentence with which it refuses."""
    torch.manual_seed(0)  # of dropout
    leaves = {name: t.detach().requires_grad_() if t is not None and t.is_floating_point() else t for name, t in given.items()}
    found = answered(lambda: run(**leaves))
    if isinstance(found, str):
        return found
    found = [found if shown is None else torch.where(shown.unsqueeze(-1), found, 0.0)]
    wanted = [t for t in leaves.values() if t is not None and t.is_floating_point()]
    total = sum((t.double() * (0.5 + torch.arange(t.numel()).view(t.shape) % 8 / 8)).sum() for t in found if t.is_floating_point())  # exact in any dtype
    grads = torch.autograd.grad(total, wanted, allow_unused=True) if getattr(total, "requires_grad", False) else [None] * len(wanted)
    return [t.detach() for t in found] + [torch.zeros_like(t) if g is None else g for g, t in zip(grads, wanted, strict=True)]


def hold(
    mine: Callable,
    definition: Callable,
    given: dict,
    steep: float = 1.0,
    *,
    inside: torch.dtype | None = None,
    shown: Tensor | None = None,
    gradients: bool = True,
) -> None:
    """The law: ``mine`` gives what the ``definition`` gives in float64, at the rounding of what was given; nothing is NaN; or it refuses in words
    what the definition refuses as well, in the dtype that was given.

    Gradients are differences, p (g − Σ p g), of terms as large as the slope of the scores times the product of what goes in; roundings of those are
    allowed besides, and in results those of weights of about one.

    Args:
        mine, definition: functions of what is ``given`` by name.
        steep: the slope of the scores.
        inside: the dtype of intermediate results. None: that of the computation, float32 for half precisions.
        shown: rows (..., t) of the output that mean something.
        gradients: whether they are looked at, too.
    """
    dtype = next(t.dtype for t in given.values() if t is not None)
    inside = precision(dtype) if inside is None else inside
    came = measured(mine, given, shown)
    truth = measured(definition, exact(given), shown)
    if isinstance(came, str):
        same = measured(definition, exact(given, dtype), shown)
        assert isinstance(same, str), f"refused, where the definition answers: {came!r}"
        return noted("refused", came)
    if isinstance(truth, str):
        return noted("no truth", truth)
    came, truth = (found if gradients else found[:1] for found in (came, truth))
    assert not any(bool(t.isnan().any()) for t in came), "NaN from finite inputs"
    near = [measured(definition, moved(given, inside, k), shown) for k in range(NEARBY)]
    if any(isinstance(each, str) for each in near):
        return noted("no truth nearby", "")
    noted("compared" if bool((truth[0] != 0).any()) else "nothing to compare", "")
    terms = ALLOWED * torch.finfo(inside).eps * max(1.0, steep) * size(given)
    floor = ALLOWED * torch.finfo(inside).eps * max((float(t.double().abs().max()) for t in given.values() if t is not None and t.numel()), default=0.0)
    for place, (got, right, *others) in enumerate(zip(came, truth, *(each[: len(came)] for each in near), strict=True)):
        assert got.dtype == dtype or not got.is_floating_point() or place, (got.dtype, dtype)
        compared(got.double(), right, others, torch.finfo(got.dtype), f"gradient {place}" if place else RESULT, terms if place else floor)


def noted(what: str, why: str) -> None:
    """What became of a case, for the statistics and for ``SEEN``."""
    SEEN[what] += 1
    if currently_in_test_context():
        event(f"{what}: {why[:40]}" if why else what)


def compared(got: Tensor, right: Tensor, others: list[Tensor], rounding: torch.finfo, name: str, besides: float) -> None:
    """Raise AssertionError where a result is farther from the truth than its allowance; out of the range of its dtype everything counts as infinite."""
    assert got.shape == right.shape, f"{name}: {tuple(got.shape)}, expected {tuple(right.shape)}"
    if not got.numel():
        return
    spread = torch.stack([(other - right).abs() for other in others]).amax(0).amax(-1, keepdim=True) if right.ndim else (others[0] - right).abs()
    row = right.abs().amax(-1, keepdim=True) if right.ndim else right.abs()
    allowed = ALLOWED * spread + 4 * rounding.eps * row + 4 * rounding.smallest_normal + besides
    huge = (right.abs() + allowed > 0.5 * rounding.max) | (got.isinf() & (name != RESULT) & (rounding.max < 1e5))  # float16 runs out of range on the way
    wrong = ~((got - right).abs() <= allowed) & ~huge
    assert not wrong.any(), (
        f"{name}: {int(wrong.sum())} of {wrong.numel()} wrong, first {got[wrong][0]} for {right[wrong][0]}, allowed {allowed.expand(got.shape)[wrong][0]}"
    )
