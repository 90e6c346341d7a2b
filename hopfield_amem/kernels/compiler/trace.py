"""Plain torch functions as expressions: the function is run once on a tracer, and every operation it calls is looked up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache

import sympy
import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from .vocabulary import Expression, F


class CannotCompile(ValueError):
    """A function that cannot become a kernel: which operation is in the way, and the way out."""


def expression(function: Callable[..., Tensor], *symbols: sympy.Symbol, name: str = "F") -> Expression:
    """The expression that an elementwise torch function computes from scalars.

    Raises:
        CannotCompile: an operation without a spelling, one that is not elementwise, a tensor held by the function, or control
            flow that depends on the scores.
    """
    probe = [torch.linspace(0.1, 0.9, 12, dtype=torch.float64).reshape(3, 4) + 0.01 * k for k in range(len(symbols))]
    try:
        pure = torch.func.functionalize(lambda *tensors: function(*tensors))  # in-place operations become ordinary ones
        graph = make_fx(pure, decomposition_table=_decompositions())(*probe)
    except RuntimeError as error:
        if "tracing tensor" not in str(error):
            raise
        raise CannotCompile(f"{name} decides by the value of a score (an if, .item() or float()), which a kernel cannot. Write it with torch.where.") from None
    return _interpreted(graph, symbols, name)


def _interpreted(graph: GraphModule, symbols: Iterable[sympy.Symbol], name: str) -> Expression:
    known: dict[Node, object] = {}
    remaining = iter(symbols)
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = next(remaining)
        elif node.op == "get_attr":
            known[node] = _held(graph, node, name)
        elif node.op == "call_function":
            known[node] = _applied(node, known, name)
        else:
            (result,) = node.args if not isinstance(node.args[0], tuple) else node.args[0]
            return sympy.sympify(known[result])
    raise CannotCompile(f"{name} returns nothing")


def _held(graph: GraphModule, node: Node, name: str) -> object:
    """A tensor inside a function: fine when it is a constant made by the function itself."""
    tensor = getattr(graph, str(node.target))
    fresh = all(user.target in (torch.ops.aten.lift_fresh_copy.default, torch.ops.aten.lift_fresh.default) for user in node.users)
    if fresh and tensor.numel() == 1 and not tensor.requires_grad:
        return _number(tensor.item())
    kind = "a learned parameter" if tensor.requires_grad else "a tensor"
    raise CannotCompile(
        f"{name} holds {kind} of shape {tuple(tensor.shape)} from outside. A kernel would freeze its value and give it no gradient. "
        "Use backend='reference', make it a Python number, or move it into beta, the query or the keys."
    )


def _applied(node: Node, known: dict[Node, object], name: str) -> object:
    packet = str(node.target).removeprefix("aten.").rsplit(".", 1)[0]
    build = _BUILDERS.get(packet)
    if build is None or not str(node.target).startswith("aten."):
        raise CannotCompile(
            f"{name} calls {node.target}, which has no spelling in a kernel: it is not elementwise, or not in the vocabulary. "
            f"Known are: {', '.join(sorted(_BUILDERS))}. Write it with these, or use backend='reference'."
        )
    args = [known[a] if isinstance(a, Node) else _number(a) for a in node.args]
    return build(*args, **{k: _number(v) for k, v in node.kwargs.items() if k in ("alpha", "min", "max", "approximate", "rounding_mode")})


def _number(value: object) -> object:
    """Python numbers as exact sympy ones where a half or an integer is meant."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if math.isinf(value):
        return sympy.oo if value > 0 else -sympy.oo
    if math.isnan(value):
        raise CannotCompile("A NaN constant has no spelling in a kernel.")
    return sympy.Rational(int(2 * value), 2) if float(2 * value).is_integer() and abs(value) < 2**31 else sympy.Float(value, 17)


def _clamp(x, low=None, high=None, min=None, max=None):
    low, high = (low if min is None else min), (high if max is None else max)
    x = x if low is None else F.where(F.less(x, low), low, x)
    return x if high is None else F.where(F.greater(x, high), high, x)


def _gelu(x, approximate="none"):
    if approximate != "none":
        return x / 2 * (1 + F.tanh(sympy.sqrt(2 / sympy.pi) * (x + sympy.Float(0.044715, 17) * x**3)))
    return F.gelu(x)


def _divided(x, y, rounding_mode=None):
    if rounding_mode is not None:
        raise CannotCompile("A division that rounds has no slope. Use a plain division.")
    return x / y


def _number_of(condition):
    """A condition used as a number."""
    truths = ("greater", "greater_equal", "less", "less_equal", "equal", "unequal", "both", "either", "negated")
    if isinstance(condition, F.greater) and condition.args[1].is_number:
        return F.step(condition.args[0] - condition.args[1])
    return F.where(condition, 1, 0) if type(condition).__name__ in truths else condition


_BUILDERS: dict[str, Callable] = {
    "add": lambda x, y, alpha=1: _number_of(x) + alpha * _number_of(y),
    "sub": lambda x, y, alpha=1: _number_of(x) - alpha * _number_of(y),
    "rsub": lambda x, y, alpha=1: y - alpha * x,
    "mul": lambda x, y: _number_of(x) * _number_of(y),
    "div": lambda x, y, rounding_mode=None: _divided(_number_of(x), _number_of(y), rounding_mode),
    "neg": lambda x: -x,
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x**2,
    "pow": lambda x, y: x**y,
    "sqrt": sympy.sqrt,
    "rsqrt": lambda x: 1 / sympy.sqrt(x),
    "exp": sympy.exp,
    "exp2": lambda x: sympy.exp(x * sympy.log(2)),
    "log": sympy.log,
    "log2": lambda x: sympy.log(x) / sympy.log(2),
    "log1p": F.log1p,
    "expm1": F.expm1,
    "sinh": lambda x: (sympy.exp(x) - sympy.exp(-x)) / 2,
    "cosh": lambda x: (sympy.exp(x) + sympy.exp(-x)) / 2,
    "sin": F.sine,
    "cos": F.cosine,
    "tanh": F.tanh,
    "sigmoid": F.sigmoid,
    "silu": F.silu,
    "softplus": lambda x, beta=1, threshold=20: F.softplus(beta * x) / beta,
    "gelu": _gelu,
    "elu": lambda x, alpha=1, scale=1, input_scale=1: scale * F.where(F.greater(x, 0), x, alpha * F.expm1(input_scale * x)),
    "leaky_relu": lambda x, slope=0.01: F.where(F.greater(x, 0), x, slope * x),
    "erf": F.erf,
    "erfc": F.erfc,
    "special_ndtr": lambda x: (1 + F.erf(x * sympy.sqrt(2) / 2)) / 2,
    "relu": lambda x: F.step(x.args[0]) if isinstance(x, F.sign) else F.relu(x),
    "abs": F.absolute,
    "sign": lambda x: F.step(x.args[0]) if isinstance(x, F.relu) else F.sign(x),
    "sgn": lambda x: F.step(x.args[0]) if isinstance(x, F.relu) else F.sign(x),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda x, high: _clamp(x, None, high),
    "hardtanh": lambda x, low=-1, high=1: _clamp(x, low, high),
    "maximum": F.maximum,
    "minimum": F.minimum,
    "where": F.where,
    "gt": F.greater,
    "ge": F.greater_equal,
    "lt": F.less,
    "le": F.less_equal,
    "eq": F.equal,
    "ne": F.unequal,
    "logical_and": F.both,
    "logical_or": F.either,
    "logical_not": F.negated,
    "bitwise_and": F.both,
    "bitwise_or": F.either,
    "bitwise_not": F.negated,
    "full": lambda size, value: value,
    "full_like": lambda x, value: value,
    "isnan": lambda x: F.unequal(x, x),
    "ones_like": lambda x: sympy.Integer(1),
    "zeros_like": lambda x: sympy.Integer(0),
    "scalar_tensor": lambda value: value,
    "_to_copy": _number_of,
    "clone": lambda x: x,
    "alias": lambda x: x,
    "lift_fresh": lambda x: x,
    "lift_fresh_copy": lambda x: x,
}
"""How each torch operation is written in the vocabulary. What is missing here is decomposed by torch first, and refused if that does not help."""


@lru_cache(maxsize=1)
def _decompositions() -> dict:
    from torch._decomp import core_aten_decompositions

    core = core_aten_decompositions()
    return {op: rule for op, rule in core.items() if str(op).removeprefix("aten.").rsplit(".", 1)[0] not in _BUILDERS}
