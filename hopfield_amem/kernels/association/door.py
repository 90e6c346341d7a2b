"""What ``associate`` refuses, and which path serves a memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...energies import Delta, Memory, Ridge, checks
from ...energies.truth import readable
from .recurrent import recurrent
from .reference import reference
from .tokens import MatrixState, RidgeState, SlotState, State, Tokens, constant

Path = Callable[[Tokens], tuple[Tensor, State]]


def opened(backend: str) -> Path:
    """The function behind a backend's name."""
    from .chunked import chunked, kernels

    return {"reference": reference, "recurrent": recurrent, "chunked": chunked, "triton": kernels}[backend]


def check(memory: Memory, given: dict[str, Tensor | None], rates: tuple, state: State | None) -> None:
    """Raise ValueError or TypeError when what was given does not fit. Contents are read only where that is free."""
    query, keys, values, erase = (given[name] for name in ("query", "keys", "values", "erase"))
    checks.inputs(memory.read, query, keys, values, None)  # type: ignore[arg-type]
    tokens = keys.shape[-2]  # type: ignore[union-attr]
    if query.shape[-2] != tokens:  # type: ignore[union-attr]
        raise ValueError(
            f"Every token is written and read: query has {query.shape[-2]} tokens, keys have {tokens}. "  # type: ignore[union-attr]
            "To read a memory without writing use retrieve(memory.read, query, state.keys, state.written)."
        )
    if erase is not None:
        _erase(memory, erase, keys)  # type: ignore[arg-type]
    for amount in rates:
        _amount(memory, amount, tokens)
    if len(rates) not in (1, 2):
        raise ValueError(f"rate is b, or a pair (a, b) of how much is written and how much erased, got {len(rates)} of them.")
    if len(rates) == 2 and type(memory.write) is not Delta:
        raise ValueError(f"Only Delta() tells a rate of writing from one of erasing; this memory writes {memory.write}: give one rate per token.")
    presence = given["presence"]
    if presence is not None and (
        not isinstance(presence, Tensor) or presence.dtype != torch.bool or presence.ndim == 0 or presence.shape[-1] not in (1, tokens)
    ):
        raise ValueError(f"presence is a boolean tensor (..., {tokens}), True where there is a token, got {_described(presence)}.")
    _decay(memory, given["decay"], keys, presence)  # type: ignore[arg-type]
    _state(memory, state, keys, values)  # type: ignore[arg-type]
    _leading(memory, given, rates, state)


def one_number(memory: Memory) -> set[str]:
    """Names of what has one number per token, (..., t); everything else has rows, (..., t, ·)."""
    return {"presence"} if memory.decay == "channel" else {"presence", "decay"}


def _leading(memory: Memory, given: dict[str, Tensor | None], rates: tuple, state: State | None) -> None:
    """Raise ValueError when leading dimensions do not broadcast."""
    numbers = one_number(memory)
    shapes = {name: t.shape[: -1 if name in numbers else -2] for name, t in given.items() if t is not None}
    shapes |= {f"rate {name}": rate.shape[:-1] for name, rate in zip("ab", rates, strict=False) if rate is not None}
    if state is not None:
        shapes |= {f"state.{name}": t.shape[: -1 if name in ("level", "presence") else -2] for name, t in state._asdict().items() if t is not None}
    betas = {"read.beta": memory.read.beta, "prediction.beta": memory.predictor.beta}
    shapes |= {name: beta.shape for name, beta in betas.items() if isinstance(beta, Tensor)}
    try:
        torch.broadcast_shapes(*shapes.values())
    except RuntimeError:
        came = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(f"The leading dimensions must broadcast, got {came}. A rate or decay has those of the keys: (..., tokens).") from None


def _erase(memory: Memory, erase: Tensor, keys: Tensor) -> None:
    if type(memory.write) is not Delta:
        raise ValueError(f"erase keys are for writes that erase, Delta(), got {memory.write}.")
    if not isinstance(erase, Tensor) or erase.ndim < 2 or erase.shape[-2:] != keys.shape[-2:]:
        raise ValueError(f"erase holds one key per token, (..., {keys.shape[-2]}, {keys.shape[-1]}), got {_described(erase)}.")


def _amount(memory: Memory, amount: object, tokens: int) -> None:
    if amount is None:
        return
    if not isinstance(amount, Tensor) or not amount.is_floating_point() or amount.shape[-1] not in (1, tokens):
        raise ValueError(f"rate is a number, a floating-point tensor (..., {tokens}), or a pair of them, got {_described(amount)}.")
    if isinstance(memory.write, Ridge) and not readable((amount >= 0).all(), True):
        raise ValueError("The rate of a ridge regression weighs its pairs: it must not be negative.")


def _decay(memory: Memory, decay: Tensor | None, keys: Tensor, presence: Tensor | None) -> None:
    tokens, width = keys.shape[-2:]
    if decay is None:
        if memory.decay is not None:
            raise ValueError(
                f"This memory forgets ({memory.decay} decay): give decay, γ in [0, 1], for example torch.sigmoid(...). Or use a memory without decay."
            )
        return
    shape = (tokens, width) if memory.decay == "channel" else (tokens,)
    fits = isinstance(decay, Tensor) and decay.is_floating_point() and decay.ndim >= len(shape) and tuple(decay.shape[-len(shape) :]) == shape
    if not fits:
        advice = "" if memory.decay == "channel" else " A decay per channel needs a memory that says so: Memory(..., decay='channel')."
        raise ValueError(f"decay is a floating-point tensor (..., {', '.join(map(str, shape))}), got {_described(decay)}.{advice}")
    inside = (decay >= 0) & (decay <= 1)
    if presence is not None:
        inside = inside | ~(presence.unsqueeze(-1) if memory.decay == "channel" else presence)
    if not readable(inside.all(), True):
        raise ValueError("decay is what is left of the memory after each token, γ in [0, 1]: exp of a log decay, or a sigmoid.")


def _state(memory: Memory, state: State | None, keys: Tensor, values: Tensor) -> None:
    if state is None:
        return
    kind = RidgeState if isinstance(memory.write, Ridge) else MatrixState if constant(memory) else SlotState
    if not isinstance(state, kind):
        raise ValueError(f"This memory carries a {kind.__name__}, got {_described(state)}. Pass on what associate returned for the same memory.")
    width, columns = keys.shape[-1], values.shape[-1]
    slots = state.keys.shape[-2] if isinstance(state, SlotState) else 0
    expected = {
        "covariance": (width, width),
        "memory": (width, columns),
        "keys": (slots, width),
        "written": (slots, columns),
        "level": (slots,),
        "presence": (slots,),
    }
    for name, tensor in state._asdict().items():
        if tensor is not None and tuple(tensor.shape[-len(expected[name]) :]) != expected[name]:
            raise ValueError(f"The state does not fit these keys and values: {name} has shape {tuple(tensor.shape)}, expected (..., {expected[name]}).")


def _described(thing: object) -> str:
    return f"{thing.dtype} {tuple(thing.shape)}" if isinstance(thing, Tensor) else type(thing).__name__
