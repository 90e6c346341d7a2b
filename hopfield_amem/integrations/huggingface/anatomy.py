"""What the children of a feed-forward block do: guessed from their shapes, and proved by running the block's own code on small stand-ins of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import torch
from torch import Tensor, nn

from ...layers.linear import Sizes, sizes

TOKENS, SLOTS, WIDTH = 3, 4, 5  # sizes of the stand-ins: all different, so that a wrong guess does not fit


@dataclass(frozen=True)
class Anatomy:
    """Which child does what, by name.

    Args:
        keys: gives the scores; with a ``half``, scores and gates side by side.
        values: is given the weights. None: a neighbour of the block is.
        gate: gives the gates. None: the block is not gated, or ``keys`` gives both.
        half: which half of what ``keys`` gives are the scores. None: all of it.
        activation: what the block makes weights of scores with.
        dropped: every dropout of the block, and whether it acts on the weights and on what is read.
    """

    keys: str
    values: str | None
    gate: str | None
    half: int | None
    activation: Callable[[Tensor], Tensor]
    dropped: tuple[tuple[str, tuple[bool, bool]], ...] = ()


def guesses(block: nn.Module, read_beside: bool = False) -> Iterator[Anatomy]:
    """Every anatomy that the shapes of the children allow, in the order of their names.

    Args:
        block: the module.
        read_beside: whether a neighbour of the block may hold the values, as in BERT.
    """
    children = dict(block.named_children())
    linear = {name: size for name, child in children.items() if (size := sizes(child)) is not None}
    dropouts = [name for name, child in children.items() if isinstance(child, nn.Dropout)]
    own: list[Any] = [value for name, value in vars(block).items() if not name.startswith("_") and callable(value) and not isinstance(value, type)]
    rest = [child for name, child in children.items() if name not in linear and name not in dropouts]
    activations: list[Any] = [child for child in rest if not child.state_dict()] + own
    for activation, arrangement in product(activations, list(_arrangements(linear, read_beside))):
        for places in product(((True, False), (False, True), (True, True), (False, False)), repeat=len(dropouts)):
            yield Anatomy(*arrangement, activation, tuple(zip(dropouts, places, strict=True)))


def _arrangements(linear: dict[str, Sizes], read_beside: bool) -> Iterator[tuple[str, str | None, str | None, int | None]]:
    """Keys, values, gate, half."""
    if len(linear) == 1 and read_beside:
        yield next(iter(linear)), None, None, None
    elif len(linear) == 2:
        for keys, values in permutations(linear):
            if linear[keys][1] == linear[values][0]:
                yield keys, values, None, None
            elif linear[keys][1] == 2 * linear[values][0]:
                yield from ((keys, values, None, half) for half in (0, 1))
    elif len(linear) == 3:
        for keys, gate, values in permutations(linear):
            if linear[keys] == linear[gate] and linear[keys][1] == linear[values][0]:
                yield keys, values, gate, None


def obstacle(block: nn.Module) -> str | None:
    """Why a block may not be taken apart, whatever it computes; None where it may."""
    own = [name for name, _ in (*block.named_parameters(recurse=False), *block.named_buffers(recurse=False))]
    if own or any(name == "experts" for name, _ in block.named_children()):
        mixture = not own or any(tensor.ndim == 3 for tensor in block.parameters(recurse=False))
        return "a mixture of experts: a router decides which keys a token meets" if mixture else f"holds parameters of its own ({', '.join(own)})"
    if "forward" in vars(block) or getattr(block, "_compiled_call_impl", None) is not None:
        return "its forward was replaced by another tool, or compiled: swap first"
    if any((block._forward_hooks, block._forward_pre_hooks, block._backward_hooks, block._backward_pre_hooks)):
        return "carries hooks, which a new module would lose: swap first (that is also the order for fully_shard and parallel plans)"
    return None


def stand_in(block: nn.Module, anatomy: Anatomy) -> nn.Module:
    """The block with its own code, but small random float64 children in place of linear ones, and with dropouts that drop."""
    twin = copy.copy(block)
    twin._modules = dict(block._modules)
    shapes = {anatomy.keys: (TOKENS, SLOTS if anatomy.half is None else 2 * SLOTS), anatomy.gate: (TOKENS, SLOTS), anatomy.values: (SLOTS, WIDTH)}
    for name, shape in shapes.items():
        if name is not None:
            twin._modules[name] = nn.Linear(*shape, dtype=torch.float64, device="cpu")
    twin._modules |= {name: nn.Dropout(0.5) for name, _ in anatomy.dropped}
    return twin


@torch.no_grad()
def computes(block: nn.Module, anatomy: Anatomy, memory_of: Callable[[nn.Module], nn.Module]) -> bool:
    """Whether the block's code computes, on stand-ins, what a memory with this anatomy does: at rest, and in training with the same dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        tokens = torch.randn(2, 7, TOKENS, dtype=torch.float64, device="cpu")
        try:
            twin = stand_in(block, anatomy)
            memory = memory_of(twin)
            return all(_same(twin, memory, tokens, training) for training in (False, True))
        except Exception:  # code that was written for something else may fail in any way; then it is something else
            return False


def _same(twin: nn.Module, memory: nn.Module, tokens: Tensor, training: bool) -> bool:
    results = []
    for module in (twin, memory):
        module.training = training
        for child in module.children():
            if isinstance(child, nn.Dropout):
                child.train(training)
        torch.default_generator.manual_seed(1)
        results.append(module.forward(tokens))
    theirs, ours = results
    return isinstance(theirs, Tensor) and theirs.shape == ours.shape and torch.allclose(theirs, ours, rtol=1e-9, atol=1e-9)
