"""Memories with a matrix for a state, chunk after chunk: ``S ← Diag(γ) S,  u = a v − b w S,  S ← S + kᵀ u,  o = q S``.

All chunks of a segment are prepared at once (``chunks.py``); only u and S walk from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..differentiable import FAMILIES, Family
from . import definitions
from .chunks import BLOCK, Pieces, Prepared, inverse, prepared, pulled

CHUNK = 64
SEGMENT = 2**11  # tokens of all heads that are prepared together: a few such tensors fit a core's cache


class Sequence(NamedTuple):
    """The tensors of the contract: query (b, hq, t, d), keys (b, h, t, d), values (b, h, t, v), rates a and b (b, h, t), erase (b, h, t, d),
    log decay (b, h, t, 1 or d), state (b, h, d, v). No erase rate: nothing is erased."""

    query: Tensor | None
    keys: Tensor
    values: Tensor
    write_rate: Tensor | None
    erase_rate: Tensor | None
    erase: Tensor | None
    decay: Tensor | None
    state: Tensor | None

    @property
    def heads(self) -> int:
        return self.keys.shape[0] * self.keys.shape[1]

    @property
    def chunk(self) -> int:
        return min(CHUNK, max(1, -(-self.keys.shape[2] // BLOCK)) * BLOCK)

    def segments(self) -> list[slice]:
        """Ranges of tokens that are prepared together."""
        step = max(1, SEGMENT // max(1, self.heads * self.chunk)) * self.chunk
        return [slice(i, i + step) for i in range(0, self.keys.shape[2] if self.heads else 0, step)]

    def cut(self, part: slice) -> Pieces:
        """A range of tokens in whole chunks, with zeros behind the end."""
        tensors = [t if t is None or k not in (3, 4) else t.unsqueeze(-1) for k, t in enumerate(self[:-1])]
        return Pieces(*(None if t is None else self.chunked(t[:, :, part], k == 0) for k, t in enumerate(tensors)))  # type: ignore[arg-type]

    def chunked(self, tensor: Tensor, queries: bool) -> Tensor:
        """(b, h, t, ·) -> (n, m, c, ·); queries (n, m, g, c, ·)"""
        missing = -tensor.shape[2] % self.chunk
        tensor = torch.nn.functional.pad(tensor, (0, 0, 0, missing)) if missing else tensor
        count = tensor.shape[2] // self.chunk
        tensor = tensor.unflatten(2, (count, self.chunk)).movedim(2, 0).contiguous().flatten(1, 2)
        return tensor.unflatten(1, (self.heads, tensor.shape[1] // self.heads if self.heads else 1)) if queries else tensor

    def joined(self, rows: Tensor, heads: int) -> Tensor:
        """(n, m, c, ·) or (n, m, g, c, ·) -> (b, heads, t, ·)"""
        batch, length = self.keys.shape[0], self.keys.shape[2]
        if not rows.numel():
            return rows.new_zeros(batch, heads, length, rows.shape[-1])
        rows = rows.reshape(rows.shape[0], batch, heads, *rows.shape[-2:]).movedim(0, 2)
        return rows.flatten(2, 3)[:, :, :length].contiguous()

    def initial(self) -> Tensor:
        """S before the first token, (m, d, v)"""
        if self.state is not None:
            return self.state.reshape(self.heads, *self.state.shape[2:])
        return self.keys.new_zeros(self.heads, self.keys.shape[3], self.values.shape[3])


def forward(given: Sequence) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Output (b, hq, t, v), final S (b, h, d, v), u (b, h, t, v), and for the way back S before every chunk (m, n, d, v) and the inverses (m, n, c, c)."""
    state, found = given.initial(), []
    for part in given.segments():
        pieces = given.cut(part)
        solved = None if pieces.erase_rate is None else inverse(pieces)
        ready = prepared(pieces, solved)
        state, u, before = _walk(ready, state)
        read = u[:0]
        if ready.query is not None and ready.within is not None:
            read = torch.matmul(ready.query, before.unsqueeze(2)).add_(ready.within @ u.unsqueeze(2))
        found.append((read, u, before, u[:0] if solved is None else solved))
    lead, width = given.keys.shape[:2], given.values.shape[3]
    nothing = (given.values.new_zeros(0, *shape) for shape in ((0, 0, 0, width), (given.heads, given.chunk, width), (given.heads, *state.shape[1:]), (0, 0, 0)))
    read, u, before, solved = (torch.cat(parts) for parts in zip(*found, strict=True)) if found else nothing
    output = given.values.new_empty(0) if given.query is None else given.joined(read, given.query.shape[1])
    final = state.reshape(*lead, *state.shape[1:]).clone()
    return output, final, given.joined(u, lead[1]), before.movedim(0, 1), solved.movedim(0, 1) if solved.numel() else solved.new_empty(0, 0, 0, 0)


def _walk(ready: Prepared, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From chunk to chunk: the final state, u (n, m, c, v), and the state before every chunk (n, m, d, v)."""
    written, before = [], []
    for target, erased, keys, left in _chunks(ready.target, ready.erased, ready.keys, ready.left):
        before.append(state)
        u = target if erased is None else torch.baddbmm(target, erased, state, alpha=-1)
        state = torch.baddbmm(state if left is None else left * state, keys.mT, u)
        written.append(u)
    return state, torch.stack(written), torch.stack(before)


def backward(given: Sequence, kept: tuple[Tensor, Tensor, Tensor], cotangents: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Gradients of everything given, in the order of ``Sequence``, from those of output, final state and u; ``kept``: u, states and inverses."""
    (written, states, inverses), (d_output, d_final, d_written) = kept, cotangents
    states, inverses = states.movedim(1, 0), inverses.movedim(1, 0)
    grads: list[Tensor | None] = [None if t is None else torch.empty_like(t, memory_format=torch.contiguous_format) for t in given]
    if given.erase is not None and given.erase_rate is None:
        grads[5] = torch.zeros_like(given.erase)
    d_state = torch.zeros_like(given.initial()) if d_final is None else d_final.reshape(given.heads, *d_final.shape[2:])
    for part in reversed(given.segments()):
        pieces = given.cut(part)
        chunks = slice(part.start // given.chunk, part.start // given.chunk + pieces.keys.shape[0])
        solved = None if pieces.erase_rate is None else inverses[chunks]
        ready = prepared(pieces, solved)
        d_outer, d_u = (None if g is None else given.chunked(g[:, :, part], queries) for g, queries in ((d_output, True), (d_written, False)))
        d_ready, d_state = _walk_back(ready, given.chunked(written[:, :, part], False), states[chunks], d_outer, d_u, d_state)
        for whole, piece in zip(grads, pulled(pieces, solved, ready, d_ready), strict=False):
            if whole is not None and piece is not None:
                rows = whole[:, :, part]
                grad = piece.reshape(piece.shape[0], *whole.shape[:2], *piece.shape[-2:]).movedim(0, 2).flatten(2, 3)
                rows.copy_(grad[:, :, : rows.shape[2]].reshape(rows.shape))
    if given.state is not None:
        grads[-1] = d_state.reshape(given.state.shape).clone()
    return grads


def _walk_back(ready: Prepared, u: Tensor, before: Tensor, d_output: Tensor | None, d_written: Tensor | None, d_state: Tensor) -> tuple[Prepared, Tensor]:
    """Gradients of what was prepared, and of the state before the first of these chunks."""
    d_u = torch.zeros_like(u) if d_written is None else d_written
    pulled, d_query, d_within = None, None, None
    if ready.query is not None and ready.within is not None:
        d_output = torch.zeros_like(ready.query[..., :1]).expand(*ready.query.shape[:-1], u.shape[-1]) if d_output is None else d_output
        d_u = d_u + (ready.within.mT @ d_output).sum(2)
        pulled = (ready.query.mT @ d_output).sum(2)
        d_query, d_within = d_output @ before.unsqueeze(2).mT, d_output @ u.unsqueeze(2).mT
    d_us, after = [], []
    steps = list(_chunks(d_u, ready.keys, ready.erased, ready.left, pulled))
    for pushed, keys, erased, left, pull in reversed(steps):
        after.append(d_state)
        d_target = torch.baddbmm(pushed, keys, d_state)
        d_state = d_state if left is None else left * d_state
        d_state = d_state if pull is None else d_state + pull
        d_state = d_state if erased is None else torch.baddbmm(d_state, erased.mT, d_target, alpha=-1)
        d_us.append(d_target)
    d_u, later = torch.stack(d_us[::-1]), torch.stack(after[::-1])
    d_erased = None if ready.erased is None else -(d_u @ before.mT)
    d_left = None
    if ready.left is not None:
        d_left = (later * before).sum(-1, keepdim=True)
        d_left = d_left.sum(-2, keepdim=True) if ready.left.shape[-2] == 1 else d_left
    return Prepared(d_u, d_erased, d_query, d_within, u @ later.mT, d_left), d_state


def _chunks(*tensors: Tensor | None) -> Iterator[tuple]:
    """The chunks of several tensors side by side. Unbound, because the gradient of an index is as large as the sequence."""
    count = next(len(t) for t in tensors if t is not None)
    return zip(*([None] * count if t is None else t.unbind() for t in tensors), strict=True)


@torch.library.custom_op("hopfield_amem::linear", mutates_args=())
def linear(
    query: Tensor | None, keys: Tensor, values: Tensor, write_rate: Tensor | None, erase_rate: Tensor | None, erase: Tensor | None,
    decay: Tensor | None, state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Output, final state, what was written; and for the way back the state before every chunk and the inverses."""
    return forward(Sequence(query, keys, values, write_rate, erase_rate, erase, decay, state))


@linear.register_fake
def _(query, keys, values, write_rate, erase_rate, erase, decay, state):
    given = Sequence(query, keys, values, write_rate, erase_rate, erase, decay, state)
    lead, width, length = keys.shape[:2], (keys.shape[3], values.shape[3]), keys.shape[2]
    output = values.new_empty(0) if query is None else values.new_empty(*query.shape[:3], width[1])
    chunks = -(-length // given.chunk) if length else 0
    solved = (0, 0, 0, 0) if erase_rate is None or not length else (chunks, given.heads, given.chunk, given.chunk)
    states = (values.new_empty(shape).movedim(0, 1) for shape in ((chunks, given.heads, *width), solved))
    return output, values.new_empty(*lead, *width), values.new_empty(*lead, length, width[1]), *states


@torch.library.custom_op("hopfield_amem::linear_backward", mutates_args=())
def linear_backward(
    d_output: Tensor | None, d_final: Tensor | None, d_written: Tensor | None, query: Tensor | None, keys: Tensor, values: Tensor,
    write_rate: Tensor | None, erase_rate: Tensor | None, erase: Tensor | None, decay: Tensor | None, state: Tensor | None,
    written: Tensor, states: Tensor, inverses: Tensor,
) -> list[Tensor]:  # fmt: skip
    """Gradients of everything given, empty where nothing was."""
    given = Sequence(query, keys, values, write_rate, erase_rate, erase, decay, state)
    grads = backward(given, (written, states, inverses), (None if query is None else d_output, d_final, d_written))
    return [keys.new_empty(0) if g is None else g for g in grads]


@linear_backward.register_fake
def _(d_output, d_final, d_written, query, keys, values, write_rate, erase_rate, erase, decay, state, written, states, inverses):
    given = (query, keys, values, write_rate, erase_rate, erase, decay, state)
    return [keys.new_empty(0) if t is None else t.new_empty(t.shape) for t in given]


def _backward(cotangents, tensors, results, _, __):
    grads = linear_backward(*cotangents, *tensors, *results[2:])
    return tuple(None if t is None else g for t, g in zip(tensors, grads, strict=True))


FAMILIES["linear"] = Family(3, lambda tensors, _: linear(*tensors), _backward, definitions.linear)
