"""What specs that hold tensors have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn


class Spec:
    """A frozen spec that may hold tensors: equal to another where all fields are, a tensor only to itself. Written as ``@dataclass(frozen=True, eq=False)``."""

    def _set(self, **values: Any) -> None:
        """Set the fields of a frozen spec, in a constructor."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(_same(mine, its) for mine, its in zip(_values(self), _values(other), strict=True))

    def __hash__(self) -> int:
        return hash((type(self), *map(_hashable, _values(self))))


def tensors(spec: object) -> Iterator[Tensor]:
    """The tensors that a spec or module holds."""
    if isinstance(spec, Tensor):
        yield spec
    elif isinstance(spec, nn.Module):
        yield from spec.parameters()
        yield from spec.buffers()
    elif is_dataclass(spec) and not isinstance(spec, type):
        for value in _values(spec):
            yield from tensors(value)


def modules(spec: object) -> Iterator[nn.Module]:
    """The modules that a spec holds, those of the specs inside it included; one that stands in several places comes as often."""
    if isinstance(spec, nn.Module):
        yield spec
    elif is_dataclass(spec) and not isinstance(spec, type):
        for value in _values(spec):
            yield from modules(value)


def _values(spec: object) -> list[Any]:
    return [getattr(spec, field.name) for field in fields(spec)] if is_dataclass(spec) else [id(spec)]


def _same(mine: object, its: object) -> bool:
    return mine is its if isinstance(mine, Tensor) or isinstance(its, Tensor) else mine == its


def _hashable(value: object) -> object:
    return tuple(value.items()) if isinstance(value, dict) else value


def scaled(beta: float | Tensor) -> tuple[str, str]:
    """How a formula prints β: what multiplies a score, and what divides Q; both are empty for 1."""
    printed = f"{beta:g}" if isinstance(beta, (int, float)) else "β"
    return ("", "") if printed == "1" else (printed, f" / {printed}")


def shown(value: object) -> str:
    """A number as it is printed, or the shape of a tensor."""
    if isinstance(value, Tensor):
        return f"tensor{tuple(value.shape)}" if value.ndim else "a tensor"
    return f"{value:g}" if isinstance(value, (int, float)) else repr(value)
