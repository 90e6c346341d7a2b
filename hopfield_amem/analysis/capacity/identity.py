"""What a memory or a task is, told so that no other passes for it: the key under which finished looks are kept."""

from __future__ import annotations

import enum
import hashlib
import os
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
UNSEEN = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}  # of a module: its hooks, and torch's own marks


class Untold(ValueError):
    """Something that cannot be told from others of its kind."""


@dataclass(frozen=True)
class Keep:
    """Where finished looks are kept, and what is measured.

    Args:
        folder: one serves many memories and tasks.
        key: names what cannot be told from others: partials, lambdas, closures, objects of local classes. Give every such memory, sampler or map its own, and
            another one when it changes. It may be left out where all can be told: energies, descents, tensors, modules, and functions of a module.

    Raises:
        ValueError: an empty key.
    """

    folder: str | os.PathLike[str]
    key: str | None = None

    def __post_init__(self):
        if not isinstance(self.folder, str | os.PathLike) or not (self.key is None or (isinstance(self.key, str) and self.key)):
            raise ValueError(f"Keep takes a folder and a name for what is measured, got {self.folder!r} and {self.key!r}.")


def identity(*things: object, key: str | None = None) -> str:
    """A digest of what things are: types, numbers, the bytes of tensors, names and code of functions. With a key, that stands for what cannot be told.

    Raises:
        ValueError: something cannot be told, and there is no key.
    """
    try:
        text = "\n".join(part for thing in (key, *things) for part in _told(thing, key))
    except RecursionError:
        raise Untold(_refused("something that holds itself")) from None
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _told(thing: object, key: str | None) -> Iterator[str]:
    """Words that no other thing has."""
    yield f"{type(thing).__module__}.{type(thing).__qualname__}"
    if isinstance(thing, (*PLAIN, enum.Enum)):
        yield repr(thing)
    elif isinstance(thing, Tensor | np.ndarray | np.generic | torch.Generator):
        yield _digest(thing)
    elif isinstance(thing, Mapping):
        for name, value in sorted(thing.items(), key=lambda pair: repr(pair[0])):
            yield from (*_told(name, key), *_told(value, key))
    elif isinstance(thing, list | tuple):
        yield str(len(thing))
        for value in thing:
            yield from _told(value, key)
    elif isinstance(thing, type):
        yield _named(thing, key)
    elif isinstance(thing, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        yield from _of_function(thing, key)
    else:
        yield from _of_object(thing, key)


def _digest(numbers: Tensor | np.ndarray | np.generic | torch.Generator) -> str:
    if isinstance(numbers, torch.Generator):
        numbers = numbers.get_state()
    if isinstance(numbers, Tensor):
        shape, kind = tuple(numbers.shape), numbers.dtype
        raw = numbers.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        shape, kind, raw = numbers.shape, numbers.dtype, numbers.tobytes()
    return f"{shape} {kind} {hashlib.sha256(raw).hexdigest()}"


def _of_function(function: types.FunctionType | types.BuiltinFunctionType | types.MethodType, key: str | None) -> Iterator[str]:
    """Name and code of a function of a module; of a method also what it belongs to."""
    owner = getattr(function, "__self__", None)
    if isinstance(function, types.MethodType):
        yield from (function.__name__, *_told(owner, key))
    elif isinstance(function, types.BuiltinFunctionType):
        yield function.__qualname__
        if not isinstance(owner, types.ModuleType | type | None):
            yield from _told(owner, key)
    else:
        yield _named(function, key)
        yield from _of_code(function.__code__)
        yield from _told((function.__defaults__, function.__kwdefaults__), key)


def _of_code(code: types.CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _of_code(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _named(thing: type | types.FunctionType, key: str | None) -> str:
    """The name under which a class or function is found in its module."""
    found: object = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not thing and key is None:
        raise Untold(_refused(f"the {'class' if isinstance(thing, type) else 'function'} {thing.__qualname__}, which no module holds under this name"))
    return f"{thing.__module__}.{thing.__qualname__}"


def _of_object(thing: object, key: str | None) -> Iterator[str]:
    """Class and fields; of a module also parameters and buffers."""
    yield _named(type(thing), key)
    if isinstance(thing, nn.Module):
        own = {name: value for name, value in vars(thing).items() if name not in UNSEEN}
        hidden = any(vars(thing)[name] for name in UNSEEN & set(vars(thing)) if name.endswith("hooks"))
    elif is_dataclass(thing):
        own, hidden = {field.name: getattr(thing, field.name) for field in fields(thing) if field.init}, False  # others follow
    else:
        slots = any(vars(kind).get("__slots__") for kind in type(thing).__mro__)
        own, hidden = dict(getattr(thing, "__dict__", {})), slots or type(thing).__new__ is not object.__new__  # as those written in C have
    if hidden and key is None:
        raise Untold(_refused(f"{type(thing).__qualname__}, whose contents do not show"))
    yield from _told(own, key)


def _refused(what: str) -> str:
    return f"Looks cannot be kept: {what} cannot be told from others of its kind. Name it: folder=Keep(folder, key)."
