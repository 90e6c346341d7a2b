"""Memories written token by token in bounded memory: which operators write, and which read what was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...energies import ReadEnergy, Ridge
from ...energies.memory import is_linear
from .. import fused
from ..differentiable import differentiable
from ..explanation import WIDEST
from ..gates import EVERYTHING, Gates
from ..retrieve import opened, retrieve
from . import linear, operators  # noqa: F401  they register what ``Engines`` names
from .folding import Folding
from .ridge import rooted
from .tokens import MatrixState, RidgeState, SlotState, State, Tokens, after, scaled

LONG = 2 * linear.CHUNK  # from here on a linear write is faster through a matrix than through all slots


class Engines(NamedTuple):
    """Names of the families of operators: of a state of constant size, and of writing slots."""

    linear: str
    written: str


TILES, KERNELS = Engines("linear", "written"), Engines("triton linear", "triton written")


def chunked(tokens: Tokens, engines: Engines = TILES) -> tuple[Tensor, State]:
    """Extra memory O(t · d + t · block): no matrix of tokens × tokens."""
    folding = Folding(tokens)
    if isinstance(tokens.memory.write, Ridge):
        return _ridge(tokens, folding, engines)
    if tokens.constant:
        output, final, _ = _linear(tokens, folding, engines, tokens.state, tokens.query)
        return folding.answers(output), MatrixState(folding.unfolded(final))
    written = _written(tokens, folding, engines)
    slots = after(tokens.state.written, written) if tokens.cached else written  # type: ignore[union-attr]
    return _recalled(tokens, folding, engines, slots), tokens.grown(slots)


def _linear(tokens: Tokens, folding: Folding, engines: Engines, state: State | None, query: Tensor | None):
    """Output, final matrix and u of a memory whose write is linear in the keys; folded."""
    if query is not None:
        query = folding.queries(tokens.memory.read.inverse_temperature(2, query) * query)
    keys, values = folding.memories(tokens.keys), folding.memories(tokens.values)
    erase, decay, matrix = (
        folding.folded(t) for t in (tokens.erase, tokens.decay, None if state is None else state[0].to(torch.promote_types(values.dtype, torch.float32)))
    )
    rates = [_squeezed(folding, rate) for rate in (tokens.write_rate, tokens.erase_rate)]
    if tokens.memory.slope:
        beta = _beta(tokens.memory.predictor, keys, folding.memories).unsqueeze(-1)
        rates[1] = beta.expand(*beta.shape[:-1], tokens.length) if rates[1] is None else beta * rates[1]
    else:
        rates[1] = None
    return differentiable(engines.linear, (), query, keys, values, *rates, erase, decay, matrix)[:3]


def _written(tokens: Tokens, folding: Folding, engines: Engines) -> Tensor:
    """u of the tokens, (..., t, v)"""
    if not tokens.memory.slope:
        target = scaled(tokens.write_rate, tokens.values).to(tokens.values.dtype)
        return target.expand(*tokens.lead, *target.shape[-2:])
    energy = tokens.memory.predictor
    if is_linear(energy) and tokens.length > LONG:
        return folding.unfolded(_linear(tokens, folding, engines, _matrix(tokens), None)[2])
    if engines is KERNELS and tokens.length == 1 and tokens.cached:
        return _one(tokens)
    erase, keys, values = (folding.memories(t) for t in (tokens.at, tokens.slots, tokens.values))
    cached = folding.folded(tokens.state.written) if tokens.cached else None  # type: ignore[union-attr]
    write_rate, erase_rate = (_squeezed(folding, rate) for rate in (tokens.write_rate, tokens.erase_rate))
    gates = folding.flat(tokens.levels()), folding.flat(tokens.present()), _beta(energy, keys, folding.memories)

    def solved(values: Tensor, cached: Tensor | None) -> Tensor:
        return differentiable(engines.written, (energy.name, energy.divides), erase, keys, values, write_rate, erase_rate, cached, *gates)[0]

    if engines is TILES or values.shape[-1] <= WIDEST:
        return folding.unfolded(solved(values, cached))
    parts = values.split(WIDEST, -1)  # columns are independent
    before = [None] * len(parts) if cached is None else cached.split(WIDEST, -1)
    return folding.unfolded(torch.cat([solved(*part) for part in zip(parts, before, strict=True)], -1))


def _recalled(tokens: Tokens, folding: Folding, engines: Engines, slots: Tensor) -> Tensor:
    """What the queries read, (..., t, v)"""
    energy = tokens.memory.read
    if engines is KERNELS:
        return _kernel_read(tokens, energy, tokens.query, slots, tokens.cached)
    levels, present = tokens.levels(), tokens.present()
    plain = not energy.divides  # a division cancels the normaliser, which far from all slots underflows
    if plain and fused.AVAILABLE and fused.suits(energy) and levels is None and present is None and not tokens.cached:
        return retrieve(energy, tokens.query, tokens.keys, slots, causal=True, backend="chunked")
    query, keys, held = folding.queries(tokens.query), folding.memories(tokens.slots), folding.memories(slots)
    gates = folding.flat(levels), folding.flat(present), _beta(energy, query, folding.queries)
    return folding.answers(differentiable("recalled", (energy.name, energy.divides), query, keys, held, *gates)[0])


def _one(tokens: Tokens) -> Tensor:
    """u of a single token: what the slots predict is a read, which kernels split over the slots."""
    held = torch.nn.functional.pad(tokens.state.written, (0, 0, 0, 1))  # type: ignore[union-attr]
    known = _kernel_read(tokens, tokens.memory.predictor, tokens.at, held, tokens.cached - 1)
    written = scaled(tokens.write_rate, tokens.values) - scaled(tokens.erase_rate, known)
    return written.to(tokens.values.dtype).expand(*tokens.lead, 1, tokens.values.shape[-1])


def _kernel_read(tokens: Tokens, energy: ReadEnergy, query: Tensor, held: Tensor, offset: int) -> Tensor:
    """What queries read from slots by kernels; query i sees the slots up to ``offset + i``."""
    present = tokens.present()
    gates = Gates(None if present is None else present.unsqueeze(-2), reach=EVERYTHING, offset=offset, level=tokens.levels())
    return opened("triton")(energy, tokens.slots, gates).read(query, held)


def _ridge(tokens: Tokens, folding: Folding, engines: Engines) -> tuple[Tensor, RidgeState]:
    """``o = q* G`` with ``q* = (H + λ)⁻¹ q``: a linear memory read by preconditioned queries."""
    energy, decay, values = tokens.memory.read, folding.folded(tokens.decay), folding.memories(tokens.values)
    exact = torch.promote_types(values.dtype, torch.float32)
    query, keys = folding.queries(rooted(energy, tokens.query.to(exact))), folding.memories(rooted(energy, tokens.keys.to(exact)))
    weight = _squeezed(folding, tokens.write_rate)
    before = [folding.folded(t) for t in tokens.state] if isinstance(tokens.state, RidgeState) else [None, None]  # type: ignore[union-attr]
    found, covariance = differentiable("ridge", (tokens.memory.write.penalty,), query, keys, weight, decay, before[0])[:2]  # type: ignore[union-attr]
    given = found.to(values.dtype), keys.to(values.dtype), values, weight, None, None, decay, before[1]
    output, memory, _ = differentiable(engines.linear, (), *given)[:3]
    return folding.answers(output), RidgeState(folding.unfolded(covariance), folding.unfolded(memory))


def _matrix(tokens: Tokens) -> MatrixState | None:
    """The slots of a state as a matrix, ``Σ_j (what is left) k_jᵀ u_j``."""
    if not isinstance(tokens.state, SlotState):
        return None
    keys, written, level, there = tokens.state
    keys = keys if level is None else keys * level.exp().unsqueeze(-1)
    keys = keys if there is None else keys * there.unsqueeze(-1)
    return MatrixState(keys.mT @ written)


def _squeezed(folding: Folding, rate: Tensor | None) -> Tensor | None:
    """(..., t or 1, 1) -> (b, h, t)"""
    return None if rate is None else folding.flat(rate.squeeze(-1))


def _beta(energy: ReadEnergy, like: Tensor, folded: Callable[[Tensor], Tensor]) -> Tensor:
    """The inverse temperature of every head, (b, h) of memories or (b, h · g) of queries."""
    exact = torch.promote_types(like.dtype, torch.float32)
    return folded(torch.as_tensor(energy.beta, dtype=exact, device=like.device)[..., None, None])[..., 0, 0]


def kernels(tokens: Tokens) -> tuple[Tensor, State]:
    """The same by Triton kernels; a ridge regression is solved by torch and read by them."""
    from ..triton import linear, written  # noqa: F401  they register what ``KERNELS`` names

    return chunked(tokens, KERNELS)
