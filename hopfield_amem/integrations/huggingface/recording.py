"""Looking on while a transformer runs: its attention functions and the values of its feed-forward blocks, for the time of a context."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ...analysis.tally import HeadTally, SlotTally
from .reading import Call, Unreadable, called, check, readings


class Recorder:
    """Tallies of every attention module and feed-forward block of a model, and the modules that could not be read.

    Args:
        model: whose calls are recorded; those of other models pass by.
        values: second projection -> its name, for every feed-forward block.
        threshold: see ``active_slots``.
    """

    def __init__(self, model: nn.Module, values: dict[nn.Module, str], threshold: float):
        self._model, self._values = model, values
        self._names = {module: name for name, module in model.named_modules()}
        self.heads: dict[str, HeadTally] = {}
        self.beta: dict[str, Tensor] = {}
        self.blocks = {name: SlotTally(threshold) for name in values.values()}
        self.seen: set[str] = set()
        self.skipped: dict[str, str] = {}
        self.tokens: Tensor | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what runs inside. Nothing of the model is changed but its training mode and hooks, and those are restored, as are transformers' functions."""
        with ExitStack() as stack:
            for name in {_implementation(module) for module in self._names}:
                stack.enter_context(self._listening(name))
            for module, name in self._values.items():
                stack.callback(module.register_forward_pre_hook(partial(self._on_values, name)).remove)
            stack.enter_context(_evaluating(self._model))
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    @contextmanager
    def _listening(self, name: str) -> Iterator[None]:
        """An entry of transformers' table that calls the one it stands for and then looks at what it was given."""
        table = ALL_ATTENTION_FUNCTIONS
        former = table._local_mapping.get(name)
        table[name] = partial(self._attention, table.get(name))
        try:
            yield
        finally:
            del table[name]
            if former is not None:
                table[name] = former

    def _attention(self, registered: Callable | None, module: nn.Module, *tensors: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        function = registered or _eager(module)
        answer = function(module, *tensors, **options)
        if module in self._names:
            if registered is None:
                options = options | {"is_causal": False}  # eager attention knows no other causality than its mask's
            self._observe(self._names[module], called(module, function, tensors, options, answer[0]))
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
            beta = torch.as_tensor(call.energy.beta, dtype=torch.float64).detach()
            self.beta[name] = beta.expand(call.query.shape[1]) if beta.ndim == 0 else beta.flatten()

    def _present(self, query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Which queries are tokens, (batch, q), and which slot is the first token, (batch,). A padding mask of another length says nothing about them."""
        batch, length, slots = query.shape[0], query.shape[2], keys.shape[2]
        every, start = query.new_ones(batch, length, dtype=torch.bool), query.new_zeros(batch, dtype=torch.long)
        if self.tokens is None:
            return every, start
        if self.tokens.shape == (batch, slots) and length <= slots:
            return self.tokens[:, slots - length :], self.tokens.long().argmax(-1)
        return self.tokens if self.tokens.shape == (batch, length) else every, start

    def _on_values(self, name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.seen.add(name)
        if name in self.skipped:
            return
        activation, tokens = given[0], self.tokens
        if tokens is not None and not bool(tokens.all()):
            if activation.shape[:-1] == tokens.shape:
                activation = activation[tokens]
            elif activation.shape[:-1] == (tokens.numel(),):
                activation = activation[tokens.flatten()]
            else:
                self.skipped[name] = f"it was given {tuple(activation.shape)}, in which the padding, {tuple(tokens.shape)}, cannot be told from the tokens"
                del self.blocks[name]
                return
        self.blocks[name].add(activation.reshape(-1, activation.shape[-1]).to(torch.promote_types(activation.dtype, torch.float32)))


def _implementation(module: nn.Module) -> str:
    """Name of the attention that a module asks for."""
    return getattr(getattr(module, "config", None), "_attn_implementation", None) or "eager"


def _eager(module: nn.Module) -> Callable:
    """The eager attention in the file of the module's forward, which transformers does not list."""
    forward = inspect.unwrap(type(module).forward)
    return vars(sys.modules[forward.__module__])["eager_attention_forward"]


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
