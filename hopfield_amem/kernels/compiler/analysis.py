"""What a kernel can make of an energy: its expressions traced, checked against its own numbers, and put into a class."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from types import ModuleType
from typing import Any

import sympy
import torch

from ...energies.registry import Factors, named
from ...energies.scalings.scaling import Log, has_null_slot, is_exponential
from ...energies.scalings.simplex import Simplex
from ...energies.separations.separation import Separation
from ...energies.similarities.similarity import Similarity
from . import printer, store
from .generated import RATIO, SCORE, SOFTMAX, SUM, THRESHOLD, Compiled, function, headed
from .scores import Scores, scores
from .trace import CannotCompile, expression
from .vocabulary import Expression, tidy

_ONE_AT_A_TIME = Lock()


@lru_cache(maxsize=512)
def leaves(separation: Separation) -> ModuleType | None:
    """F, F′ and F″ of a separation as torch functions ``value``, ``slope``, ``curvature``, from the same expressions as its kernels.

    None for a separation that cannot be compiled.
    """
    try:
        return _apart(_checked, separation)[1]
    except CannotCompile:
        return None


def _apart(function: Callable, *arguments: Any) -> Any:
    """Run in another thread, one at a time: torch's modes (fake tensors, transforms, autocast) must not see the probes; its tracer is alone."""
    with _ONE_AT_A_TIME, ThreadPoolExecutor(1) as apart:
        return apart.submit(function, *arguments).result()


@lru_cache(maxsize=512)
def compiled(name: str) -> Compiled:
    """The compiled form of the factors registered under a name (``ReadEnergy.name``).

    Raises:
        CannotCompile: a factor that cannot become a kernel, and why.
    """
    return _apart(_compiled, named(name))


def _compiled(factors: Factors) -> Compiled:
    scaling, separation = factors.scaling, factors.separation
    if not scaling.streams(separation):
        raise CannotCompile(f"{scaling} weighs all slots of a row together with F = {separation}; no kernel does that. Use backend='chunked'.")
    jet, _ = _checked(separation)
    pairs = _scored(factors.similarity)
    exponential = is_exponential(separation) or jet[0] == jet[1] == sympy.exp(SCORE)
    if exponential and isinstance(scaling, (Log, Simplex)):
        kind = SOFTMAX
    else:
        kind = THRESHOLD if isinstance(scaling, Simplex) else RATIO if isinstance(scaling, Log) else SUM
    return Compiled(factors, kind, pairs, jet, None if kind == THRESHOLD or has_null_slot(scaling) else _degree(separation))


def _checked(separation: Separation) -> tuple[tuple[Expression, Expression, Expression], ModuleType]:
    """F, F′ and F″ as expressions and as a torch module, compared with the separation's own numbers.

    Raises:
        CannotCompile: what cannot be traced or printed, or comes out different.
    """
    try:
        jet = _jet(separation)
        parts = [function(name, ["s"], [e], printer.Torch(), "s") for name, e in zip(("value", "slope", "curvature"), jet, strict=True)]
        made = store.module(headed(str(separation), ["import torch", "", "", *parts]))
        pairs = [(made.value, separation), (made.slope, separation.slope), (made.curvature, separation.curvature)]
        same = all(_agree(part, truth) for part, truth in pairs)
    except (CannotCompile, OSError):
        raise
    except Exception as error:  # of sympy or torch, on a function nobody thought of
        raise CannotCompile(
            f"The separation {separation} has no form that can be printed ({error}). Use backend='reference', or write it otherwise."
        ) from error
    if not same:
        raise CannotCompile(f"The separation {separation} comes out different when printed; use backend='reference', and please report it.")
    return jet, made


def _scored(similarity: Similarity) -> Scores:
    try:
        return scores(similarity)
    except CannotCompile:
        raise
    except Exception as error:  # of sympy or torch, on a function nobody thought of
        raise CannotCompile(f"The similarity {similarity} has no form that can be printed ({error}). Use backend='chunked', or write it otherwise.") from error


def _agree(part: Callable, truth: Callable) -> bool:
    probe = torch.tensor([[-6.3, -2.1, -0.7, -0.05], [0.03, 0.6, 1.9, 5.2]], dtype=torch.float64)
    mine, expected = part(probe), truth(probe)
    known = expected.isfinite()
    return bool(torch.allclose(mine[known], expected[known], rtol=1e-9, atol=1e-12))


def _jet(separation: Separation) -> tuple[Expression, Expression, Expression]:
    """F, F′ and F″. A closed form that the separation gives itself is taken; otherwise sympy differentiates."""
    name = f"The separation {separation}"
    value = tidy(expression(lambda s: separation(s), SCORE, name=name))
    if not is_exponential(separation) and value.free_symbols - {SCORE}:
        raise CannotCompile(f"{name} depends on more than the score.")
    slope = _derived(separation, "slope", value, name)
    return value, slope, _derived(separation, "curvature", slope, name)


def _derived(separation: Separation, part: str, before: Expression, name: str) -> Expression:
    if getattr(type(separation), part) is getattr(Separation, part):
        return tidy(sympy.diff(before, SCORE))
    given: Any = getattr(separation, part)
    return tidy(expression(lambda s: given(s), SCORE, name=f"{name}, {part}"))


def _degree(separation: Separation) -> float | None:
    """n with ``F(λs) = λⁿ F(s)`` for every λ > 0, from values in float64; None if there is none."""
    probe = torch.tensor([[-3.7, -1.3, -0.4, 0.3, 0.9, 1.7, 3.1]], dtype=torch.float64)
    base = separation(probe)
    felt = base.abs() > 0
    if not bool(felt.any()) or not bool(base.isfinite().all()):
        return None
    degree = round(float((separation(2 * probe)[felt] / base[felt]).abs().log2().mean()), 6)
    scales = (1e-6, 1e-3, 0.7, 1.9, 1e3, 1e6)  # a bend anywhere in this range tells
    same = all(torch.allclose(separation(scale * probe), scale**degree * base, rtol=1e-9, atol=0) for scale in scales)
    return degree if same and degree >= 1 else None
