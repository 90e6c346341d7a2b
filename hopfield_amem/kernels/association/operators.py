"""The operators of memories whose state grows, opaque to torch.compile: ``written`` solves for u, ``recalled`` reads it, on (b, h, t, ·) tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energies.registry import named
from ..differentiable import FAMILIES, Family
from . import definitions, growing
from .growing import Slots


@torch.library.custom_op("hopfield_amem::written", mutates_args=())
def written(
    erase: Tensor, keys: Tensor, values: Tensor, write_rate: Tensor | None, erase_rate: Tensor | None, cached: Tensor | None, level: Tensor | None,
    presence: Tensor | None, beta: Tensor, rule: str, divides: bool,
) -> Tensor:  # fmt: skip
    """u (b, h, t, v): erase (b, h, t, d), keys of all slots (b, h, c + t, d), rates (b, h, t), cached u (b, h, c, v), levels and presence of
    all slots (b, h, c + t), β (b, h)."""
    x, slots = _one(erase), _slots(keys, level, presence, beta.reshape(-1, 1), rule, divides)
    u = growing.write(x, slots, _target(values, write_rate), _column(erase_rate), _flat(cached))
    return u.reshape(values.shape)


@written.register_fake
def _(erase, keys, values, write_rate, erase_rate, cached, level, presence, beta, rule, divides):
    return values.new_empty(values.shape)


@torch.library.custom_op("hopfield_amem::written_backward", mutates_args=())
def written_backward(
    d_written: Tensor, erase: Tensor, keys: Tensor, values: Tensor, write_rate: Tensor | None, erase_rate: Tensor | None, cached: Tensor | None,
    level: Tensor | None, presence: Tensor | None, beta: Tensor, u: Tensor, rule: str, divides: bool,
) -> list[Tensor]:  # fmt: skip
    """Gradients of everything given but the presence, empty where nothing was."""
    x, slots = _one(erase), _slots(keys, level, presence, beta.reshape(-1, 1), rule, divides)
    held = u if cached is None else torch.cat([cached, u], 2)
    grads, d_target, d_rate, d_cached = growing.write_backward(x, slots, _flat(held), _column(erase_rate), _flat(d_written))  # type: ignore[arg-type]
    d_target = d_target.reshape(values.shape)
    d_values = d_target if write_rate is None else write_rate.unsqueeze(-1) * d_target
    d_write = None if write_rate is None else (d_target * values).sum(-1)
    given = (erase, keys, values, write_rate, erase_rate, cached, level, None, beta)
    found = (grads.x, grads.keys, d_values, d_write, d_rate, d_cached, grads.level, None, grads.beta)
    return [erase.new_empty(0) if t is None or g is None else g.reshape(t.shape).contiguous() for t, g in zip(given, found, strict=True)]


@written_backward.register_fake
def _(d_written, erase, keys, values, write_rate, erase_rate, cached, level, presence, beta, u, rule, divides):
    given = (erase, keys, values, write_rate, erase_rate, cached, level, None, beta)
    return [erase.new_empty(0) if t is None else t.new_empty(t.shape) for t in given]


@torch.library.custom_op("hopfield_amem::recalled", mutates_args=())
def recalled(query: Tensor, keys: Tensor, held: Tensor, level: Tensor | None, presence: Tensor | None, beta: Tensor, rule: str, divides: bool) -> Tensor:
    """o (b, hq, t, v): query (b, hq, t, d), keys and u of all slots (b, h, c + t, ·), levels and presence (b, h, c + t), β (b, hq)."""
    x = _grouped(query, keys)
    beta = beta.reshape(x.shape[:2])
    return growing.read(x, _slots(keys, level, presence, beta, rule, divides), _flat(held)).reshape(*query.shape[:3], held.shape[3])  # type: ignore[arg-type]


@recalled.register_fake
def _(query, keys, held, level, presence, beta, rule, divides):
    return held.new_empty(*query.shape[:3], held.shape[3])


@torch.library.custom_op("hopfield_amem::recalled_backward", mutates_args=())
def recalled_backward(
    d_output: Tensor, query: Tensor, keys: Tensor, held: Tensor, level: Tensor | None, presence: Tensor | None, beta: Tensor, rule: str, divides: bool,
) -> list[Tensor]:  # fmt: skip
    """Gradients of everything given but the presence, empty where nothing was."""
    x = _grouped(query, keys)
    slots = _slots(keys, level, presence, beta.reshape(x.shape[:2]), rule, divides)
    grads, d_held = growing.read_backward(x, slots, _flat(held), _grouped(d_output, keys))  # type: ignore[arg-type]
    given, found = (query, keys, held, level, None, beta), (grads.x, grads.keys, d_held, grads.level, None, grads.beta)
    return [query.new_empty(0) if t is None or g is None else g.reshape(t.shape).contiguous() for t, g in zip(given, found, strict=True)]


@recalled_backward.register_fake
def _(d_output, query, keys, held, level, presence, beta, rule, divides):
    return [query.new_empty(0) if t is None else t.new_empty(t.shape) for t in (query, keys, held, level, None, beta)]


def _flat(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.flatten(0, 1)


def _one(rows: Tensor) -> Tensor:
    return rows.flatten(0, 1).unsqueeze(1)


def _grouped(rows: Tensor, keys: Tensor) -> Tensor:
    """(b, h · g, t, d) -> (b · h, g, t, d)"""
    return rows.reshape(keys.shape[0] * keys.shape[1], rows.shape[1] // max(1, keys.shape[1]), *rows.shape[2:])


def _column(rate: Tensor | None) -> Tensor | None:
    return None if rate is None else rate.flatten(0, 1).unsqueeze(-1)


def _target(values: Tensor, rate: Tensor | None) -> Tensor:
    return (values if rate is None else rate.unsqueeze(-1) * values).flatten(0, 1)


def _slots(keys: Tensor, level: Tensor | None, presence: Tensor | None, beta: Tensor, rule: str, divides: bool) -> Slots:
    return Slots(named(rule), divides, keys.flatten(0, 1).unsqueeze(1), _flat(level), _flat(presence), beta)


def _pulled(operator):
    def backward(cotangents, tensors, results, options, _):
        grads = operator(cotangents[0], *tensors, *(results[:1] if operator is written_backward else ()), *options)
        return tuple(None if t is None or not t.is_floating_point() else g for t, g in zip(tensors, grads, strict=True))

    return backward


FAMILIES["written"] = Family(1, lambda tensors, options: (written(*tensors, *options),), _pulled(written_backward), definitions.written)
FAMILIES["recalled"] = Family(1, lambda tensors, options: (recalled(*tensors, *options),), _pulled(recalled_backward), definitions.recalled)
