"""The parameters of a model as memories: attention, feed-forward blocks, single linear maps, and what each is known to hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from ....layers import HopfieldFFN, HopfieldLookup
from ....layers.linear import Sizes, sizes
from ...capacity.facts import attention_capacity, linear_memory_capacity, mlp_memory_capacity

ATTENTION = ("Attention", "Mixer", "Pooling")  # ends of names of classes
QUERIES = ("query", "q_proj", "query_proj", "to_q", "q_lin", "wq", "Wq", "q")
OUTPUTS = ("output", "out_proj", "o_proj", "c_proj", "dense", "wo", "Wo", "to_out", "out_lin", "proj")
HEADS = ("num_heads", "heads", "n_heads", "num_attention_heads", "n_head")
SPLIT = ("intermediate", "output")  # modules that hold the two halves of a feed-forward block (BERT)


@dataclass(frozen=True)
class Part:
    """A part of a model as a memory.

    Attributes:
        name: of the module.
        kind: "attention", "feed-forward", "linear", "embedding" or "other".
        parameters: how many it has, those shared with earlier parts left out.
        dim: width of what it is asked.
        slots: hidden units of a feed-forward block, H·d_h of attention; None where there are none.
        heads: of attention, None where it does not say.
        facts: that it can hold, as far as that is known; None where nothing is.
        known: "theorem" or "heuristic": how the number of facts is known.
    """

    name: str
    kind: str
    parameters: int
    dim: int | None = None
    slots: int | None = None
    heads: int | None = None
    facts: float | None = None
    known: str = ""


def parts_of(model: nn.Module) -> tuple[Part, ...]:
    """Every memory of a model in the order of its modules, then what is none. Parameters are counted once, so that the parts add up to the model.

    Attention is told by names of classes and children, a feed-forward block by linear children that fit together: which module is meant for what no
    shape says. A block of another make is counted as its linear maps, or among "other".
    """
    ledger = _Ledger()
    for name, module in model.named_modules():
        if id(module) in ledger.taken:
            continue
        found = _attention(module)
        if found is not None:
            joint, dim = found
            ledger.enter(name, "attention", list(module.modules()), dim, joint, _heads(module), float(attention_capacity(joint, 1, dim).sequences), "theorem")
        elif (block := _feed_forward(module, ledger.taken)) is not None:
            linear, dim, slots = block
            ledger.enter(name, "feed-forward", linear, dim, slots, None, mlp_memory_capacity(dim, slots), "heuristic")
    for name, module in model.named_modules():
        size = sizes(module)
        if id(module) not in ledger.taken and size is not None:
            facts = linear_memory_capacity(min(size)).facts if min(size) > 1 else None
            ledger.enter(name, "linear", [module], size[0], None, None, facts, "heuristic")
        elif isinstance(module, nn.Embedding):
            ledger.enter(name, "embedding", [module])
    ledger.enter("all the rest", "other", list(model.modules()))
    return tuple(ledger.parts)


class _Ledger:
    """Which modules and parameters are accounted for."""

    def __init__(self):
        self.parts: list[Part] = []
        self.taken: set[int] = set()
        self.counted: set[int] = set()

    def enter(self, name: str, kind: str, modules: list[nn.Module], *found) -> None:
        """A part made of these modules' own parameters; one without any that are new is left out."""
        fresh = {id(p): p.numel() for module in modules for p in module.parameters(recurse=False) if id(p) not in self.counted}
        self.taken |= set(map(id, modules))
        self.counted |= set(fresh)
        if fresh:
            self.parts.append(Part(name or "the model", kind, sum(fresh.values()), *found))


def _attention(module: nn.Module) -> Sizes | None:
    """H·d_h and d of a module that is attention; None where it is not, or holds no map that tells."""
    children = dict(module.named_children())
    if not type(module).__name__.endswith(ATTENTION) and not any(name in children for name in QUERIES[:-1]):
        return None
    linear = [(name.rsplit(".", 1)[-1], size) for name, part in module.named_modules() if (size := sizes(part)) is not None]
    for names, turned in ((OUTPUTS, False), (QUERIES, True)):
        for name, (taken, given) in linear:
            joint, dim = (given, taken) if turned else (taken, given)
            if name in names:
                return joint, dim
    return None


def _feed_forward(module: nn.Module, taken: Iterable[int]) -> tuple[list[nn.Module], int, int] | None:
    """The modules that hold a feed-forward block's parameters, d and m; None where a module is none."""
    if isinstance(module, HopfieldFFN):
        return list(module.modules()), module.dim, module.slots
    if isinstance(module, HopfieldLookup):
        return list(module.modules()), module.keys.shape[1], module.keys.shape[0]
    if (experts := _experts(module)) is not None:
        return [module], *experts
    linear = [child for child in _halves(module) if id(child) not in taken]
    shapes = [size for child in linear if (size := sizes(child)) is not None]
    if len(shapes) == 2 and shapes[0][1] == shapes[1][0]:
        return linear, *shapes[0]
    if len(shapes) == 2 and shapes[0][1] == 2 * shapes[1][0]:  # scores and gates side by side
        return linear, shapes[0][0], shapes[1][0]
    if len(shapes) == 3:
        (dim, slots), *_ = sorted(shapes, key=shapes.count, reverse=True)  # keys and gate have one shape, values another
        if sorted(shapes) == sorted([(dim, slots), (dim, slots), (slots, dim)]) and dim != slots:
            return linear, dim, slots
    return None


def _halves(module: nn.Module) -> Iterator[nn.Module]:
    """Linear children, or those of the two modules that hold one each."""
    children = dict(module.named_children())
    split = [children[name] for name in SPLIT if name in children and sizes(children[name]) is None]
    held = [part for part in children.values() if sizes(part) is not None]
    if held or len(split) < 2:
        yield from held
        return
    yield from (part for half in split for part in half.children() if sizes(part) is not None)


def _experts(module: nn.Module) -> Sizes | None:
    """d and the slots of all experts whose values are one tensor (experts, ·, ·) beside one of keys, gated or not."""
    own = dict(module.named_parameters(recurse=False))
    keys, values = own.get("gate_up_proj", own.get("up_proj", own.get("w1"))), own.get("down_proj", own.get("w2"))
    if keys is None or values is None or keys.ndim != 3 or values.ndim != 3:
        return None
    gated = keys.numel() // values.numel()
    for slots, dim in (values.shape[1:], values.shape[1:][::-1]):
        if sorted(keys.shape[1:]) == sorted((gated * slots, dim)):
            return dim, len(values) * slots
    return None


def _heads(module: nn.Module) -> int | None:
    holders = [holder for part in module.modules() for holder in (part, getattr(part, "config", None)) if holder is not None]
    return next((found for holder in holders for name in HEADS if isinstance(found := getattr(holder, name, None), int)), None)
