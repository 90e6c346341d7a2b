"""An energy as a kernel sees it: its class, what folds out of the inner loop, and the source of its leaf functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

import sympy

from ...energies.registry import Factors
from ...energies.scalings.scaling import has_null_slot
from ...energies.scalings.simplex import Simplex
from ...energies.separations.tsallis import Tsallis
from . import printer, store
from .scores import KEY, PRODUCT, STATE, Scores
from .vocabulary import Expression, F, tidy

SCORE = sympy.Symbol("s", real=True)
_PAIR = [PRODUCT, STATE, KEY]
SOFTMAX, SUM, RATIO, THRESHOLD = "softmax", "sum", "ratio", "threshold"
_CHEAP = (F.relu, F.step, F.where, F.greater, F.greater_equal, F.less, F.less_equal, F.equal, F.absolute, F.sign, F.maximum, F.minimum)
CLASSES = {
    SOFTMAX: "exponential: weights e^(s − Q), one pass with a running maximum",
    SUM: "plain sum: weights F′(s), one pass, nothing to normalise",
    RATIO: "ratio of sums: weights F′(s) / Σ F(s), one pass, divided at the end",
    THRESHOLD: "threshold: weights F′(s − τ); τ is found by safeguarded Newton passes, then one pass",
}


@dataclass(frozen=True)
class Compiled:
    """An energy's analysis and its generated leaf functions. ``print`` shows the class, the folds and the source."""

    factors: Factors
    kind: str
    scores: Scores
    jet: tuple[Expression, Expression, Expression] = field(repr=False)  # F, F′, F″
    degree: float | None  # F(λs) = λⁿ F(s) for λ > 0

    @property
    def null(self) -> bool:
        return has_null_slot(self.factors.scaling)

    @property
    def drops_row_term(self) -> bool:
        """Whether the scores have a row term that cancels in the weights (no empty slot stands beside it)."""
        return self.kind == SOFTMAX and not self.null and self.scores.affine and self.scores.row_term != 0

    @property
    def constant(self) -> float:
        """What Q exceeds ``log Σ eˢ`` by, for exponentials."""
        return float(self.kind == SOFTMAX and isinstance(self.factors.scaling, Simplex))

    @property
    def reach(self) -> float:
        """F′(s) = 0 for every s ≤ −reach."""
        return self.factors.separation.reach

    @property
    def power(self) -> float:
        """Newton solves ``(Σ F′)^power = 1``: a power that makes the sum nearly linear in τ."""
        separation = self.factors.separation
        return min(1.0, separation.alpha - 1) if isinstance(separation, Tsallis) and separation.alpha > 1 else 1.0

    @property
    def curved(self) -> bool:
        """Whether F″ is anything but zero everywhere."""
        return self.kind == SOFTMAX or self.jet[2] != 0

    @property
    def light(self) -> bool:
        """Whether weights take a single exponential, or F′ and F″ a few sums, products and comparisons and no other functions."""
        bends = self.jet[1:]
        functions = {f for e in bends for f in e.atoms(sympy.Function)}
        whole = all(p.exp.is_integer and p.exp > 0 for e in bends for p in e.atoms(sympy.Pow))
        return self.kind == SOFTMAX or (whole and sum(int(e.count_ops()) for e in bends) <= 8 and all(isinstance(f, _CHEAP) for f in functions))

    @property
    def folds(self) -> tuple[str, ...]:
        """What leaves the inner loop, in words."""
        scores, folds = self.scores, []
        if self.kind == SOFTMAX:
            folds.append(
                "the scale β and log₂e join the exponent's multiply-add" + ("; the running maximum is taken on the raw product" if scores.plain else "")
            )
            if self.drops_row_term:
                folds.append(f"the row term {_written(scores.row_term)} cancels in the weights: dropped, and added back to Q")
        elif self.degree is not None and scores.plain:
            folds.append(f"F is homogeneous of degree {self.degree:g}: the scale β leaves the loop and multiplies the sums once")
        if scores.slot_term != 0:
            folds.append(f"the slot term {_written(scores.slot_term)} is computed once per slot, a bias vector")
        if scores.slot_scale != 1:
            folds.append(f"the slot factor {_written(scores.slot_scale)} is computed once per slot")
        if scores.row_scale != 1:
            folds.append(f"the row factor {_written(scores.row_scale)} joins the scale β")
        return tuple(folds)

    @cached_property
    def triton_source(self) -> str:
        """The leaf functions that the templates take: ``jet`` (F, F′, F″ of a tile of scores), and S with its partial
        derivatives where it is not affine in the product."""
        dialect = printer.Triton()
        parts = [function("jet", ["s"], self.jet, dialect, "s")]
        if self.kind == SOFTMAX:
            parts = [function("jet", ["s"], (sympy.exp(SCORE),) * 3, dialect, "s")]
        if not self.scores.affine:
            slopes = [tidy(sympy.diff(self.scores.whole, variable)) for variable in _PAIR]
            parts.append(function("score", _PAIR, [self.scores.whole], dialect, "product"))
            parts.append(function("score_back", _PAIR, slopes, dialect, "product"))
        head = [
            "import triton",
            "import triton.language as tl",
            "",
            "from hopfield_amem.kernels.triton.templates.arithmetic import expm1, gelu, log1p, power, sign, silu, softplus, tanh",
        ]
        return headed(" · ".join(map(str, self.factors)), [*head, "", "", *("@triton.jit\n" + part for part in parts)])

    @cached_property
    def torch_source(self) -> str:
        """What the norms contribute to scores and gradients, in torch."""
        dialect, s = printer.Torch(), self.scores
        terms = {
            "row_scale": (s.row_scale, STATE),
            "row_term": (s.row_term, STATE),
            "slot_scale": (s.slot_scale, KEY),
            "slot_term": (s.slot_term, KEY),
            "row_twist": (tidy(2 * sympy.diff(s.row_scale, STATE) / s.row_scale), STATE),
            "row_turn": (2 * tidy(sympy.diff(s.row_term, STATE)), STATE),
            "slot_twist": (tidy(2 * sympy.diff(s.slot_scale, KEY) / s.slot_scale), KEY),
            "slot_turn": (2 * tidy(sympy.diff(s.slot_term, KEY)), KEY),
        }
        parts = [function(name, ["s"], [e.subs(square, SCORE)], dialect, "s") for name, (e, square) in terms.items()]
        return headed(" · ".join(map(str, self.factors)), ["import torch", "", "", *parts])

    @cached_property
    def torch_leaves(self) -> ModuleType:
        return store.module(self.torch_source)

    @cached_property
    def triton_leaves(self) -> ModuleType:
        return store.module(self.triton_source)

    def __str__(self) -> str:
        lines = [f"class    {CLASSES[self.kind]}"]
        lines += [f"fold     {fold}" for fold in self.folds]
        if self.reach < float("inf"):
            lines.append(f"support  F′(s) = 0 for s ≤ {-self.reach:g}")
        lines.append(f"pairs    {'x·ξ by matrix products' if self.scores.pairing == 'product' else '−‖x − ξ‖₁ by elementwise tiles'}")
        return "\n".join([*lines, "", self.triton_source])


def _written(expression: Expression) -> str:
    """An expression of norms as a paper prints it."""
    short = expression.xreplace({number: sympy.Float(float(number), 3) for number in expression.atoms(sympy.Float)})
    return str(short).replace("state_square", "‖x‖²").replace("key_square", "‖ξ‖²").replace("*", "·").replace("-", "−")


def headed(title: str, lines: list[str]) -> str:
    """A generated module: what it is, and its lines."""
    return "\n".join([f'"""{title}. Generated by hopfield_amem from the energy; changes here are lost."""', "", *lines])


def function(name: str, arguments: list, expressions: Any, dialect: printer.Torch | printer.Triton, like: str) -> str:
    """A generated function of these expressions."""
    lines, results = printer.printed(dialect, expressions, like)
    body = "".join(f"    {line}\n" for line in [*lines, f"return {', '.join(results)}"])
    return f"def {name}({', '.join(map(str, arguments))}):\n{body}\n"
