"""Looking on while a transformer runs: its attention functions and the values of its feed-forward blocks, for the time of a context."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ...analysis.tally import HeadTally, SlotTally
from ...layers.feedforward import HopfieldFFN
from .reading import BLOCK, Call, Unreadable, called, check, readings


class Recorder:
    """Tallies of every attention module and feed-forward block of a model, and the modules that could not be read.

    Args:
        model: whose calls are recorded; those of other models pass by.
        memories: module -> name: where to watch every feed-forward memory, a ``HopfieldFFN`` or the projection that holds the values.
        threshold: see ``active_slots``.
    """

    def __init__(self, model: nn.Module, memories: dict[nn.Module, str], threshold: float):
        self._model, self._memories = model, memories
        self._names = {module: name for name, module in model.named_modules()}
        self.heads: dict[str, HeadTally] = {}
        self.beta: dict[str, Tensor] = {}
        self.blocks = {name: SlotTally(threshold) for name in memories.values()}
        self.seen: set[str] = set()
        self.skipped: dict[str, str] = {}
        self.tokens: Tensor | None = None
        self._answering = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what runs inside. Nothing of the model is changed but its training mode and hooks, and those are restored, as are transformers' functions."""
        with ExitStack() as stack:
            for place, name, function in _attentions(self._model):
                stack.enter_context(_replaced(place, name, partial(self._attention, function, eager=place is not ALL_ATTENTION_FUNCTIONS._local_mapping)))
            for module, name in self._memories.items():
                stack.callback(module.register_forward_pre_hook(partial(self._on_tokens, name)).remove)
            stack.enter_context(_evaluating(self._model))
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    def _attention(self, function: Callable, module: nn.Module, *tensors: Any, eager: bool, **options: Any) -> tuple[Tensor, Tensor | None]:
        """Stands for an attention function: calls it, then looks at what it was given. A function that it calls in turn answers no question of the model's."""
        if module not in self._names or self._answering:
            return function(module, *tensors, **options)
        self._answering = True
        try:
            answer = function(module, *tensors, **options)
        finally:
            self._answering = False
        shown = options | {"is_causal": False} if eager else options  # eager attention knows no other causality than its mask's
        self._observe(self._names[module], called(module, function, tensors, shown, answer[0]))
        return answer

    def _observe(self, name: str, call: Call) -> None:
        self.seen.add(name)
        if name in self.skipped:
            return
        tokens, first = self._present(call.query, call.keys)
        tally = self.heads.setdefault(name, HeadTally())
        try:
            for rows, reading, read in readings(call):
                check(call, rows, read, tokens[:, rows] & reading.presence.any(-1).any(1))
                tally.add(reading, tokens[:, rows], first)
        except Unreadable as error:
            self.skipped[name] = str(error)
            del self.heads[name]
        else:
            self.beta[name] = torch.as_tensor(call.energy.beta, dtype=torch.float64).expand(call.query.shape[1])

    def _present(self, query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Which queries are tokens, (batch, q), and which slot is the first token, (batch,). A padding mask of another length says nothing about them."""
        batch, length, slots = query.shape[0], query.shape[2], keys.shape[2]
        every, start = query.new_ones(batch, length, dtype=torch.bool), query.new_zeros(batch, dtype=torch.long)
        if self.tokens is None:
            return every, start
        if self.tokens.shape == (batch, slots) and length <= slots:
            return self.tokens[:, slots - length :], self.tokens.long().argmax(-1)
        return self.tokens if self.tokens.shape == (batch, length) else every, start

    def _on_tokens(self, name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.seen.add(name)
        if name in self.skipped:
            return
        rows, tokens = given[0], self.tokens
        if tokens is not None and not bool(tokens.all()):
            if rows.shape[:-1] == tokens.shape:
                rows = rows[tokens]
            elif rows.shape[:-1] == (tokens.numel(),):
                rows = rows[tokens.flatten()]
            else:
                self.skipped[name] = f"it was given {tuple(rows.shape)}, in which the padding, {tuple(tokens.shape)}, cannot be told from the tokens"
                del self.blocks[name]
                return
        slots = module.slots if isinstance(module, HopfieldFFN) else rows.shape[-1]
        for part in rows.reshape(-1, rows.shape[-1]).split(max(1, BLOCK // slots)):
            self.blocks[name].add(activation(module, part))


def activation(module: nn.Module, rows: Tensor) -> Tensor:
    """What multiplies the values of a feed-forward memory, (rows, slots), in float32 at least: weights and gates, or what the projection is given."""
    if isinstance(module, HopfieldFFN):
        gate = module._addressed(rows)[1]
        rows = module.association(rows) if gate is None else module.association(rows) * gate
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def _attentions(model: nn.Module) -> list[tuple[dict[str, Any], str, Callable]]:
    """Where a model's modules find attention functions, by which name, and what is there: transformers' table, and for eager attention the modules' own files.

    The table has entries of its own over those of its class.
    """
    table = ALL_ATTENTION_FUNCTIONS
    names = {str(getattr(getattr(module, "config", None), "_attn_implementation", None)) for module in model.modules()}
    found: list[tuple[dict[str, Any], str, Callable]] = [(table._local_mapping, name, table[name]) for name in names if name in table]
    files = {kind.__module__: vars(sys.modules[kind.__module__]) for module in model.modules() for kind in type(module).__mro__}
    return found + [(names, name, names[name]) for names in files.values() for name in names if name.endswith("eager_attention_forward")]


@contextmanager
def _replaced(place: dict[str, Any], name: str, new: Any) -> Iterator[None]:
    missing = object()
    former = place.get(name, missing)
    place[name] = new
    try:
        yield
    finally:
        if former is missing:
            del place[name]
        else:
            place[name] = former


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time of a context; afterwards every module is in its own mode again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
