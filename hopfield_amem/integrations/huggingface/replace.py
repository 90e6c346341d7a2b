"""Swapping parts of a model for memories, in place, with a way back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from torch import nn

from ...energies import Memory, ReadEnergy
from ...layers.feedforward import HopfieldFFN
from ...layers.replacement import Place, Replacement, Swap, places
from .anatomy import guesses, obstacle, sizes
from .feedforward import NO_BLOCK, remembered

HINT = re.compile(r"(MLP|Mlp|FeedForward|FFN|Intermediate|MoE|MoeBlock|Experts)$")  # of names of classes; only to say why such a module was left

Build = Callable[[Place], "nn.Module | str"]


def hopfield_(
    model: nn.Module,
    spec: ReadEnergy | Memory | Callable[[nn.Module], ReadEnergy],
    targets: str | Sequence[str] | None = None,
    filter_fn: Callable[[nn.Module, str], bool] | None = None,
) -> Replacement:
    """Swap a model's feed-forward blocks, or its attention, for memories, in place.

    A feed-forward block becomes a ``FeedForwardMemory`` with the same parameters under the same names: ``save_pretrained`` then writes what the stock
    class loads. Whether a module is such a block is found out by running its own code, on small stand-ins of its linear children. With a
    ``Memory`` as spec, attention modules become mixers with parameters of their own.

    Args:
        model: any module; the blocks of GPT-2, Llama, Qwen, Gemma, Phi, ViT, BERT, ModernBERT, T5 and many others qualify.
        spec: a ReadEnergy: what takes the place of every activation. A Memory, for example ``presets.delta_net()``: what takes the place of attention.
            A function of a block that returns its ReadEnergy: ``own_activation`` keeps what the model computes and makes its memories visible.
            Tensors that a ReadEnergy's functions learn stay outside of the model, whose ``state_dict`` is the stock one: train, move and save them beside it.
        targets: which modules, by name: a regular expression that matches all of it, the end of it after a dot, or several of these. None: all.
        filter_fn: ``filter_fn(module, name)`` says whether a module may be swapped.

    Returns:
        What was ``replaced``, what was ``skipped`` and why, and the way back, ``undo()``.

    Raises:
        ValueError: a spec of a wrong kind, or nothing that could be swapped: then the model is as it was.
    """
    build, looked_at = _builder(spec)
    asked = targets is not None

    def wanted(place: Place) -> bool:
        chosen = _named(place.fqn, targets) if targets is not None else looked_at(place)
        return chosen and (filter_fn is None or filter_fn(place.module, place.fqn))

    swaps, left = _made(model, spec, build, wanted)
    if not swaps:
        raise ValueError(_nothing(model, spec, targets, left))
    for swap in swaps:
        swap.put()
    skipped = {place.fqn: reason for place, reason in left if asked or reason != NO_BLOCK or _hinted(place.module)}
    return Replacement({swap.place.fqn: swap.memory for swap in swaps}, skipped, tuple(swaps))


def _made(model: nn.Module, spec: object, build: Build, wanted: Callable[[Place], bool]) -> tuple[list[Swap], list[tuple[Place, str]]]:
    """The memories, and the places that have none with the reason; nothing is changed yet."""
    swaps: list[Swap] = []
    left: list[tuple[Place, str]] = []
    made: dict[int, nn.Module | str] = {}
    for place in places(model):
        if any(place.fqn.startswith(f"{swap.place.fqn}.") for swap in swaps) or not wanted(place):
            continue
        if id(place.module) not in made:
            made[id(place.module)] = build(place)
        memory = made[id(place.module)]  # a module that stands in several places becomes one memory
        if isinstance(memory, str):
            left.append((place, memory))
        else:
            title = str(memory.given if isinstance(memory, HopfieldFFN) else spec)
            swaps.append(Swap.of(place, memory, title))
    return swaps, left


def _builder(spec: ReadEnergy | Memory | Callable[[nn.Module], ReadEnergy]) -> tuple[Build, Callable[[Place], bool]]:
    """How the module of a place is made a memory, and which are looked at when none are named."""
    if isinstance(spec, Memory):
        from .mixer import mixing

        return lambda place: mixing(place.module, spec), lambda place: hasattr(place.module, "is_causal")
    if isinstance(spec, ReadEnergy):
        return lambda place: remembered(place.module, spec, _read_beside(place)), _like_a_block
    if not callable(spec) or isinstance(spec, nn.Module):
        raise ValueError(f"hopfield_ takes a ReadEnergy, a Memory, or a function from a block to its ReadEnergy such as own_activation; got {spec!r}.")

    def chosen(place: Place) -> nn.Module | str:
        memory = remembered(place.module, None, _read_beside(place))
        return memory if isinstance(memory, str) else remembered(place.module, spec(place.module), _read_beside(place))

    return chosen, _like_a_block


def _like_a_block(place: Place) -> bool:
    """Whether a module has the children of a feed-forward block, or is called like one."""
    return _hinted(place.module) or any(True for _ in guesses(place.module, _read_beside(place)))


def _hinted(module: nn.Module) -> bool:
    holds = obstacle(module) is not None or any(sizes(child) for child in module.children())
    return holds and bool(HINT.search(type(module).__name__))


def _read_beside(place: Place) -> bool:
    """Whether a neighbour takes what the module gives: the two halves of a block that is split over modules (BERT's ``intermediate`` and ``output``)."""
    own = [size for child in place.module.children() if (size := sizes(child)) is not None]
    beside = (child for neighbour in place.parent.children() if neighbour is not place.module for child in neighbour.children())
    return len(own) == 1 and any(sizes(child) == own[0][::-1] for child in beside)


def _named(fqn: str, targets: str | Sequence[str]) -> bool:
    """Whether a name ends with a target after a dot, or matches it as a regular expression."""
    several = (targets,) if isinstance(targets, str) else targets
    return any(fqn == target or fqn.endswith(f".{target}") or re.fullmatch(target, fqn) for target in several)


def _nothing(model: nn.Module, spec: object, targets: str | Sequence[str] | None, left: list[tuple[Place, str]]) -> str:
    kind = "attention module" if isinstance(spec, Memory) else "feed-forward block"
    asked = "" if targets is None else f" among targets {targets!r}"
    seen = "\n".join(f"  {place.fqn}: {reason}" for place, reason in left) or f"  none; children of the model are {[n for n, _ in model.named_children()]}"
    return f"hopfield_ found no {kind} to swap in {type(model).__name__}{asked}. Looked at:\n{seen}"
