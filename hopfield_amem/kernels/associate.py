"""The door of writing: ``associate``, a memory that is written and read token by token."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ..energies import Delta, ImplicitDelta, Memory, ReadEnergy, UnstableWrite, checks
from ..energies.stability import stiffness
from .association import door
from .association.packed import packed, unpacked
from .association.tokens import State, Tokens
from .explain import explain
from .retrieve import computation, full_precision


def associate(
    memory: Memory | ReadEnergy,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    rate: Tensor | tuple[Tensor, Tensor] | None = None,
    decay: Tensor | None = None,
    erase: Tensor | None = None,
    state: State | None = None,
    presence: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, State]:
    """Write every token into a memory, and read what the memory then holds: the causal half of the read × write table.

    For t = 1 … T, with κ₁ the weights of ``memory.predictor``, κ₂ those of ``memory.read``, and F of slot j multiplied by what is left
    of it, ``γ_{j+1} ⋯ γ_t``:

        u_t = a_t v_t − b_t Σ_{j<t} κ₁(w_t, k_j) u_j          written (Delta; Hebbian: u_t = a_t v_t)
        o_t = Σ_{j≤t} κ₂(q_t, k_j) u_j                        read

    With a = b, w = k and κ₁ = κ₂ the write is one gradient step of rate b on ``memory.write``; otherwise it is the step of no energy.
    ``Ridge`` writes the exact minimiser over all tokens instead, and a loss of your own ``u_t = b_t signal(ŷ_t, v_t)``, token by token.

    Args:
        memory: the spec, or a read energy, which is written Hebbian: ``associate(log_sum_exp(β), q, k, v)`` is causal softmax attention.
        query: q, (..., t, d).
        keys: k, (..., t, d). Leading dimensions broadcast: queries (batch, heads, group, t, d) share keys (batch, heads, 1, t, d).
        values: v, (..., t, v).
        rate: b = a, broadcastable to (..., t), or a pair (a, b): how much is written and how much erased. None: 1. Of ``Ridge``: weights of the pairs.
        decay: γ in (0, 1], (..., t); or (..., t, d) where ``memory.decay`` is "channel". Applied before a token is written. None: nothing fades.
        erase: w, (..., t, d), where the memory erases; None: at the keys.
        state: what an earlier call returned, to go on from there.
        presence: boolean, (..., t): False for padding, which neither writes, nor fades, nor is read.
        cu_seqlens: (sequences + 1,) integers, where sequences packed one after another begin and end. The state then has them as first dimension.
        backend: "reference" (full matrices), "recurrent" (token by token), "chunked" (bounded memory), "triton", or "auto" (see ``explain``).

    Returns:
        The output (..., t, v) in the dtype of the query (of autocast, where that is on), and the state: a matrix of constant size where
        everything is linear (``MatrixState``, ``RidgeState``), otherwise all slots (``SlotState``).

    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit, rates or decays out of range, a backend that cannot serve.

    Warns:
        UnstableWrite: writes at the keys do not contract (see ``Memory.check_stability``); looked at on a CPU only.
    """
    memory = memory if isinstance(memory, Memory) else Memory(memory)
    given = {"query": query, "keys": keys, "values": values, "erase": erase, "decay": decay, "presence": presence}
    rates = rate if isinstance(rate, tuple) else (rate,)
    door.check(memory, given, rates, state)
    if cu_seqlens is not None:
        given, rates = _side_by_side(memory, cu_seqlens, given, rates)
        output, state = associate(memory, **given, rate=rates if len(rates) > 1 else rates[0], state=state, backend=backend)  # type: ignore[arg-type]
        return unpacked(output, cu_seqlens), state
    chosen = explain(memory, query, keys, backend=backend).backend
    dtype, (query, keys, values, erase) = computation(query, keys, values, erase, native=chosen == "triton")
    with full_precision(query):
        tokens = _tokens(memory, (query, keys, values, erase), rates, decay, presence, state)
        _warn(tokens)
        output, state = door.opened(chosen)(tokens)
    output = output.to(dtype)
    checks.contents(memory.read, {"query": query, "keys": keys, "values": values, "erase": erase, "rate": tokens.erase_rate, "decay": decay}, output)
    return output, state


def _side_by_side(memory: Memory, cu_seqlens: Tensor, given: dict[str, Tensor | None], rates: tuple) -> tuple[dict[str, Tensor | None], tuple]:
    """Packed sequences with a dimension of their own, in front."""
    axes = {"presence": -1, "decay": -2 if memory.decay == "channel" else -1}
    tensors = {name: (tensor, axes.get(name, -2)) for name, tensor in given.items()}
    amounts = {
        f"rate {k}": (None if r is None else torch.atleast_1d(torch.as_tensor(r, dtype=torch.float64 if isinstance(r, float) else None)), -1)
        for k, r in enumerate(rates)
    }
    laid, inside = packed(cu_seqlens, given["query"].shape[-2], tensors | amounts)  # type: ignore[union-attr]
    rates = tuple(r if laid[name] is None else laid[name] for name, r in zip(amounts, rates, strict=True))
    laid = {name: tensor for name, tensor in laid.items() if name not in amounts}
    inside = inside.view(inside.shape[0], *[1] * (given["query"].ndim - 2), -1)  # type: ignore[union-attr]
    return laid | {"presence": inside if laid["presence"] is None else inside & laid["presence"]}, rates


def _tokens(memory: Memory, tensors, rates, decay: Tensor | None, presence: Tensor | None, state: State | None) -> Tokens:
    query, keys, values, erase = tensors
    exact = torch.promote_types(keys.dtype, torch.float32)
    amounts = [None if r is None else torch.atleast_1d(torch.as_tensor(r, dtype=exact, device=keys.device)).unsqueeze(-1) for r in rates]
    write_rate, erase_rate = amounts[0], amounts[-1]
    if isinstance(memory.write, ImplicitDelta):
        own = stiffness(memory, keys.to(exact), keys.to(exact)).unsqueeze(-1)
        write_rate = erase_rate = memory.write.step(torch.ones_like(own) if write_rate is None else write_rate, own)
    if decay is not None:
        decay = decay.to(exact).log()
        decay = decay if memory.decay == "channel" else decay.unsqueeze(-1)
    if presence is not None:
        there = presence.unsqueeze(-1)
        write_rate, erase_rate = (there.to(exact) if r is None else torch.where(there, r, 0.0) for r in (write_rate, erase_rate))
        decay = None if decay is None else torch.where(there, decay, 0.0)
    return Tokens(memory, query, keys, values, write_rate, erase_rate, erase, decay, presence, state)


def _warn(tokens: Tokens) -> None:
    """Warn of writes that do not contract, where finding out costs no synchronisation. Erase keys have no condition that is sufficient."""
    memory = tokens.memory
    if type(memory.write) is not Delta or tokens.erase is not None or tokens.keys.device.type != "cpu" or torch.compiler.is_compiling():
        return
    rate = 1.0 if tokens.erase_rate is None else tokens.erase_rate.squeeze(-1)
    if not (found := memory.check_stability(tokens.keys, rate)).stable:
        warnings.warn(str(found), UnstableWrite, stacklevel=3)
