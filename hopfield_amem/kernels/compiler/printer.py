"""Expressions as source: assignments for what is used more than once, then the results, in torch or in Triton."""

from __future__ import annotations

import math
from collections.abc import Sequence

import sympy
from sympy.printing.precedence import precedence
from sympy.printing.str import StrPrinter

from .vocabulary import OPERATIONS, Expression


class _Printer(StrPrinter):
    """What both languages share: arithmetic, numbers, and the table of operations."""

    language = ""
    constant = ""  # how a constant takes the shape of a tensor

    def _sqrt(self, base) -> str:
        raise NotImplementedError

    def _rsqrt(self, base) -> str:
        raise NotImplementedError

    def _power(self, base, exponent) -> str:
        raise NotImplementedError

    def _raised(self, base, exponent) -> str:
        raise NotImplementedError

    def _print_Function(self, expr):
        return getattr(OPERATIONS[type(expr).__name__], self.language).format(*(self._argument(a) for a in expr.args))

    def _print_Abs(self, expr):
        return getattr(OPERATIONS["absolute"], self.language).format(self._argument(expr.args[0]))

    def _print_sign(self, expr):
        return getattr(OPERATIONS["sign"], self.language).format(self._argument(expr.args[0]))

    def _argument(self, expr):
        return self.parenthesize(expr, precedence(sympy.S.NegativeOne))

    def _print_Integer(self, expr):
        return f"{int(expr)}.0"

    def _print_Float(self, expr):
        return repr(float(expr))

    _print_Rational = _print_Half = _print_NumberSymbol = _print_Float

    def _print_Infinity(self, expr):
        return 'float("inf")'

    def _print_NegativeInfinity(self, expr):
        return '-float("inf")'

    def _print_Pow(self, expr, rational=False):
        base, exponent = expr.args
        if not exponent.is_number:
            return self._raised(base, exponent)
        if float(exponent) == -0.5:
            return self._rsqrt(base)
        if exponent.is_negative:
            return f"1.0 / {self._factor(base**-exponent)}"
        if float(exponent) == 0.5:
            return self._sqrt(base)
        return self._power(base, exponent)

    def _factor(self, expr):
        text = self._print(expr)
        return text if expr.is_Atom or isinstance(expr, sympy.Function) else f"({text})"


class Torch(_Printer):
    """torch spellings."""

    language = "torch"
    constant = "torch.full_like({}, {})"

    def _print_Function(self, expr):
        name, numbers = type(expr).__name__, [a for a in expr.args if a.is_number]
        wanting = numbers if name in ("maximum", "minimum") else numbers[:1] if name == "where" and len(numbers) == 2 else []
        if not wanting:
            return super()._print_Function(expr)
        tensor = sympy.Symbol(self.constant.format("s", float(wanting[0])))  # torch wants a tensor there, of the scores' dtype
        return super()._print_Function(expr.func(*(tensor if a == wanting[0] and a.is_number else a for a in expr.args)))

    def _print_exp(self, expr):
        return f"torch.exp({self._print(expr.args[0])})"

    def _print_log(self, expr):
        return f"torch.log({self._print(expr.args[0])})"

    def _sqrt(self, base):
        return f"torch.sqrt({self._print(base)})"

    def _rsqrt(self, base):
        return f"torch.rsqrt({self._print(base)})"

    def _power(self, base, exponent):
        return f"{self._factor(base)} ** {int(exponent) if exponent.is_Integer else repr(float(exponent))}"

    def _raised(self, base, exponent):
        return f"{self._factor(base)} ** ({self._print(exponent)})"


class Triton(_Printer):
    """Triton spellings, with the helpers of ``kernels/triton/templates/arithmetic.py``."""

    language = "triton"
    constant = "tl.full({}.shape, {}, tl.float32)"

    def _print_exp(self, expr):
        return f"tl.exp({self._print(expr.args[0])})"

    def _print_log(self, expr):
        return f"tl.log({self._print(expr.args[0])})"

    def _sqrt(self, base):
        return f"tl.sqrt({self._print(base)})"

    def _rsqrt(self, base):
        return f"tl.rsqrt({self._print(base)})"

    def _power(self, base, exponent):
        if exponent.is_Integer and exponent < 2**16:
            return f"power({self._print(base)}, {int(exponent)})"
        return self._raised(base, exponent)

    def _raised(self, base, exponent):
        logarithm = repr(math.log2(float(base))) if base.is_number else f"tl.log2({self._print(base)})"
        return f"tl.exp2({self._argument(exponent)} * {logarithm})"


def printed(printer: _Printer, expressions: Sequence[Expression], like: str) -> tuple[list[str], list[str]]:
    """Assignments, and one term per expression; a constant takes the shape of the tensor named ``like``."""
    expressions = [sympy.sympify(e).replace(_is_fraction, lambda number: sympy.Float(float(number), 17)) for e in expressions]
    shared, results = sympy.cse(list(expressions), symbols=sympy.numbered_symbols("t"), optimizations="basic")
    lines = [f"{symbol} = {printer.doprint(term)}" for symbol, term in shared]
    return lines, [printer.doprint(term) if term.free_symbols else printer.constant.format(like, float(term)) for term in results]  # type: ignore[attr-defined]


def _is_fraction(number: Expression) -> bool:
    """A number that is no integer: it becomes one decimal constant, and no division."""
    return bool(getattr(number, "is_number", False) and number.is_finite and not number.is_integer and number != sympy.Float(float(number), 17))
