"""The law that the fuzz tests ask: the definition's numbers in float64 at the rounding of the dtype, or a refusal in words, and never NaN.

How far rounding may move a result depends on the case: at a huge β a softmax is a switch. So the allowance is measured. The definition is computed in
float64 once more from inputs that are moved by a few roundings each; a backend may differ from it by a small multiple of what those differ.

A gradient that leaves the range of float16 between two modules is infinite, and NaN after the next product, as in every model of torch: that is what a
``GradScaler`` looks for. Whether it did is measured, too, operation by operation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import torch
from hypothesis import currently_in_test_context, event
from torch import Tensor

from .range import Range

MOVED, ALLOWED, NEARBY, MANY = 16, 8, 3, 30  # roundings by which inputs are moved, multiples of what that changes, how many such inputs, and at most
REFUSALS = (ValueError, TypeError, NotImplementedError)
SEEN: Counter[str] = Counter()  # what became of the cases of a test


def answered(run: Callable) -> object:
    """What a call gives, or the sentence with which it refuses. Everything else, a RuntimeError from torch's depths or an assert, goes through."""
    try:
        return run()
    except REFUSALS as error:
        message = str(error)
        assert len(message) > 40 and message.rstrip().endswith((".", ")", "?")), f"no sentence: {message!r}"
        return message


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
    largest = max((float(t.detach().double().abs().max()) for t in states), default=0.0) if signed else 0.0

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
    nearby: Callable[[int], Callable] | None = None,
    relative: tuple[float, float] = (0.0, 0.0),
) -> None:
    """The law: ``mine`` gives what the ``definition`` gives in float64, at the rounding of what was given; no result is NaN, and no gradient that stays in
    the range of its dtype; or it refuses in words what the definition refuses as well, in the dtype that was given.

    Gradients are differences, p (g − Σ p g), of terms as large as the slope of the scores times the product of what goes in; roundings of those are
    allowed besides, and in results those of weights of about one.

    Args:
        mine, definition: functions of what is ``given`` by name.
        steep: the slope of the scores.
        inside: the dtype of intermediate results. None: that of the computation, float32 for half precisions.
        shown: rows (..., t) of the output that mean something.
        gradients: whether they are looked at, too.
        nearby: the definition of which more than the inputs is moved, from a seed. None: nothing more.
        relative: how many roundings of its size the result, and a gradient, may be off besides.
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
    largest = max((float(t.abs().max()) for t in truth if t.numel()), default=0.0)
    near_the_end = not largest * size(given) < torch.finfo(inside).max  # terms of a gradient leave the range, and may cancel
    beyond = not all(bool(t.isfinite().all()) for t in came) and (near_the_end or ran_out(mine, given))
    assert not any(bool(t.isnan().any()) for t in (came[:1] if beyond else came)), "NaN from finite inputs"
    terms = ALLOWED * torch.finfo(inside).eps * max(1.0, steep) * size(given)
    roundings = [ALLOWED * torch.finfo(inside).eps * each for each in relative]
    floor = ALLOWED * torch.finfo(inside).eps * max((float(t.double().abs().max()) for t in given.values() if t is not None and t.numel()), default=0.0)

    def agree(cases: int) -> str:
        near = [measured(nearby(k) if nearby else definition, moved(given, inside, k), shown) for k in range(cases)]
        if any(isinstance(each, str) for each in near):
            return "no truth nearby"
        something = False
        for place, (got, right, *others) in enumerate(zip(came, truth, *(each[: len(came)] for each in near), strict=True)):
            assert got.dtype == dtype or not got.is_floating_point() or place, (got.dtype, dtype)
            allowed = allowance(got, right, others, (-2, -1)[not place :]) + (terms if place else floor)
            allowed = allowed + roundings[min(place, 1)] * right.abs().max() if right.numel() else allowed
            something |= place == 0 and bool(((right != 0) & allowed.isfinite()).any())
            compared(f"gradient {place}" if place else "the result", got, right, allowed, excused=~got.isfinite() & bool(place and beyond))
        return "compared" if something else "nothing to compare"

    try:
        noted(agree(NEARBY), "")
    except AssertionError:  # perhaps by an edge, where a slope is infinite, that few of the inputs nearby lie beyond
        noted(agree(MANY), "")


def noted(what: str, why: str) -> None:
    """What became of a case, for the statistics and for ``SEEN``."""
    SEEN[what] += 1
    if currently_in_test_context():
        event(f"{what}: {why[:40]}" if why else what)


def allowance(got: Tensor, right: Tensor, others: list[Tensor], dims: tuple[int, ...]) -> Tensor:
    """How far from the truth a result may be that inputs moved by a few roundings take to the others; where they change it by half its size, it is
    what rounding makes it. Sizes are those of a row, in gradients of all rows: of equal slots one takes another's place.
    """
    spread, row, rounding = torch.stack([(other - right).abs() for other in others]).amax(0), right.abs(), torch.finfo(got.dtype)
    if right.ndim and right.numel():
        spread, row = (t.amax(dims[-right.ndim :], keepdim=True) for t in (spread, row))
    allowed = ALLOWED * spread + 4 * rounding.eps * row + 4 * rounding.smallest_normal
    return torch.where(2 * spread <= row, allowed, math.inf).expand(right.shape)


def compared(name: str, got: Tensor, right: Tensor, allowed: Tensor, *, excused: Tensor) -> None:
    """Raise AssertionError where a result is farther from the truth than its allowance; near the end of its range everything counts as infinite."""
    assert got.shape == right.shape, f"{name}: {tuple(got.shape)}, expected {tuple(right.shape)}"
    huge = right.abs() + allowed > 0.5 * torch.finfo(got.dtype).max
    wrong = ~((got.double() - right).abs() <= allowed) & ~huge & ~excused
    assert not wrong.any(), f"{name}: {int(wrong.sum())} of {wrong.numel()} wrong, first {got[wrong][0]} for {right[wrong][0]}, allowed {allowed[wrong][0]}"


def ran_out(run: Callable, given: dict) -> bool:
    """Whether an operation of a run, forward or backward, leaves the range of the half precision that was given: infinite, where float64 has a number."""
    dtype = next(t.dtype for t in given.values() if t is not None)
    if precision(dtype) == dtype:
        return False
    with Range(dtype) as watched:
        measured(run, given)
    return watched.left
