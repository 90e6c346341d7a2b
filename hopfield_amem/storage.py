"""A stored memory on disk: its patterns as tensors and its spec as text, in one safetensors file. Loading executes nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import energies
from .energies import Memory, ReadEnergy, checks

__all__ = ["StoredMemory", "load_memory", "load_spec", "save_memory"]

FORMAT, VERSION = "hopfield_amem.memory", 1
BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError)  # what a hostile spec may run into; RecursionError is one
EXTRA = "extra."  # what the names of further tensors begin with in a file
_PARTS = {name: value for name, value in vars(energies).items() if isinstance(value, type) and dataclasses.is_dataclass(value)}


@dataclass(frozen=True)
class StoredMemory:
    """What a file holds: ``retrieve(stored.spec, query, stored.keys, stored.values, presence=stored.presence)``."""

    spec: ReadEnergy | Memory
    keys: Tensor
    values: Tensor | None = None
    presence: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)


def save_memory(
    path: str | Path, spec: ReadEnergy | Memory, keys: Tensor, values: Tensor | None = None, *, presence: Tensor | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> None:  # fmt: skip
    """Write patterns (..., n, d), values (..., n, v), presence and spec to one file, atomically; ``extra`` are further tensors to keep beside them.

    Raises:
        ValueError: tensors that do not fit each other, or a spec made of plain functions, which a file cannot hold.
        TypeError: something that is no spec, or tensors of a wrong kind.
    """
    from safetensors.torch import save_file

    read = spec.read if isinstance(spec, Memory) else spec
    if not isinstance(read, ReadEnergy):
        raise TypeError(f"save_memory needs a ReadEnergy or a Memory, got {type(spec).__name__}.")
    _fits(read, keys, values, presence)
    tensors = {"keys": keys, "values": values, "presence": presence, "beta": read.beta if isinstance(read.beta, Tensor) else None}
    tensors |= {EXTRA + name: tensor for name, tensor in (extra or {}).items()}
    held = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items() if t is not None}
    described = metadata(spec)
    with replacing(path) as temporary:
        save_file(held, temporary, metadata=described)


def _umask() -> int:
    """What the process takes from the rights of new files; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def metadata(spec: ReadEnergy | Memory) -> dict[str, str]:
    """What a file says about itself beside its tensors.

    Raises:
        ValueError: a spec made of plain functions, which a file cannot hold.
    """
    return {FORMAT: json.dumps({"format": FORMAT, "version": VERSION, "spec": _to_plain(spec)})}


@contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """The name of a file beside ``path`` that takes its place when all went well, and is removed otherwise."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_memory(path: str | Path) -> StoredMemory:
    """Read a file written by ``save_memory``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is damaged, was written by something else or by a newer version, or holds tensors that do not fit.
    """
    with opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
        text = file.metadata()[FORMAT]
    try:
        spec = _spec(json.loads(text), tensors.get("beta"))
        extra = {name.removeprefix(EXTRA): tensor for name, tensor in tensors.items() if name.startswith(EXTRA)}
        stored = StoredMemory(spec, tensors["keys"], tensors.get("values"), tensors.get("presence"), extra)
        read = spec.read if isinstance(spec, Memory) else spec
        _fits(read, stored.keys, stored.values, stored.presence)
    except BROKEN as error:
        raise ValueError(f"{path} holds a memory that cannot be restored: {error}") from None
    return stored


def load_spec(path: str | Path) -> ReadEnergy | Memory:
    """The spec in a file alone. Errors as of ``load_memory``."""
    with opened(path) as file:
        beta = file.get_tensor("beta") if "beta" in file.keys() else None  # noqa: SIM118
        text = file.metadata()[FORMAT]
    try:
        return _spec(json.loads(text), beta)
    except BROKEN as error:
        raise ValueError(f"{path} holds a memory that cannot be restored: {error}") from None


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """A file of a stored memory, for reading (its tensors are mapped into memory, not copied)."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no stored memory at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            if FORMAT not in (file.metadata() or {}) or "keys" not in file.keys():  # noqa: SIM118
                raise ValueError(f"{path} is a safetensors file, but not a stored memory: it lacks the {FORMAT} entry or the tensor 'keys'.")
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}). Load a file written by save_memory.") from None


def _fits(read: ReadEnergy, keys: Tensor, values: Tensor | None, presence: Tensor | None) -> None:
    """Raise unless the tensors form one memory; a presence must be one per slot, since a file knows no queries."""
    checks.inputs(read, keys, keys, values, None)
    if presence is not None:
        checks.inputs(read, keys[..., :1, :], keys, values, presence)


def _spec(content: dict, beta: Tensor | None) -> ReadEnergy | Memory:
    if content.get("format") != FORMAT or not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise ValueError(f"written as {content.get('format')!r} version {content.get('version')!r}; this library reads {FORMAT!r} up to version {VERSION}.")
    spec = _from_plain(content["spec"], beta)
    if not isinstance(spec, (ReadEnergy, Memory)):
        raise ValueError(f"its spec is a {type(spec).__name__}, not an energy or a memory.")
    return spec


def _to_plain(part):
    """A spec as nested dictionaries: the class's name and its fields."""
    if isinstance(part, Tensor):
        return None if part.is_floating_point() else {"integers": part.tolist()}  # a learned β travels as a tensor
    if isinstance(part, tuple):
        return {"tuple": [_to_plain(element) for element in part]}
    if not dataclasses.is_dataclass(part):
        if part is None or isinstance(part, (bool, int, float, str)):
            return part
        raise ValueError(
            f"A file cannot hold the function {getattr(part, '__name__', part)!r}. Save the tensors yourself, or write the energy with the separations, "
            "similarities and losses that hopfield_amem names."
        )
    if _PARTS.get(type(part).__name__) is not type(part):
        raise ValueError(f"A file cannot hold a {type(part).__name__}: it is not part of hopfield_amem.energies.")
    fields = {f.name: _to_plain(getattr(part, f.name)) for f in dataclasses.fields(part) if f.init}
    return {"is": type(part).__name__, **fields}


def _from_plain(plain, beta: Tensor | None):
    if not isinstance(plain, dict):
        return plain
    if "integers" in plain:
        return torch.tensor(plain["integers"])
    if "tuple" in plain:
        return tuple(_from_plain(element, beta) for element in plain["tuple"])
    fields = {name: _from_plain(value, beta) for name, value in plain.items() if name != "is"}
    kind = _PARTS.get(plain.get("is", ""))
    if kind is None:
        raise ValueError(f"unknown part {plain.get('is')!r} in its spec.")
    if kind is ReadEnergy and fields.get("beta") is None:
        fields["beta"] = beta
    return kind(**fields)
