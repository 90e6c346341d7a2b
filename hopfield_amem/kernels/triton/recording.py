"""What a read would launch on a GPU, written down instead of launched: no GPU takes part, and no tensor holds numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from ...energies import ReadEnergy
from ..compiler import Compiled, compiled
from . import configs, gradients, launch, solves
from .configs import Config, Tile
from .operands import BASELINE, Operands

PROCESSORS = {80: 108, 86: 84, 89: 128, 90: 132, 100: 148}
"""Multiprocessors of A100, A10, L40, H100 and H200, B200: they decide how slots are split."""
ROLES = {"forward": "forward", "merge": "merge", "threshold": "threshold", "backward_queries": "queries", "backward_slots": "slots"}
ROLES |= {"written_forward": "solve", "written_backward": "transposed"}


class Launch(NamedTuple):
    """A kernel and everything that it would have been launched with."""

    kernel: Any
    config: Config
    arguments: tuple
    constants: dict[str, Any]

    @property
    def role(self) -> str:
        """Its name in the table of configurations."""
        return str(ROLES.get(self.kernel.__name__, self.kernel.__name__))

    @property
    def name(self) -> str:
        """Its role, or what else it is."""
        return "baseline" if self.constants.get("KIND") == BASELINE else self.role + " back" * self.constants.get("BACK", False)

    @property
    def source(self) -> tuple[Any, ...]:
        """What tells this kernel from others before it is compiled: equal for energies whose leaves are the same code."""
        constants = {name: value for name, value in self.constants.items() if name != "LEAF"}
        leaf = tuple(getattr(function, "src", None) for function in self.constants.get("LEAF", ()))
        return self.kernel.__name__, self.config, str(constants), leaf, tuple(map(_described, _flat(self.arguments)))


def launches(
    read: Operands, arch: int = 90, value: bool = False, mass: bool = False, backward: bool = True, wide: bool = False
) -> list[Launch]:  # fmt: skip
    """What a read of a gradient-taking program would launch; ``value`` and ``mass`` ask for Q and Σ p, with gradients through them."""
    dtype = torch.float32 if wide else read.state.dtype
    with recorded(arch) as found:
        results = launch.forward(read, value, mass, backward, dtype)
        if backward:
            cotangents = (torch.empty_like(results.output), results.value if value else None, results.mass if mass else None)
            gradients.backward(read, cotangents, results.tensors(), (True,) * 7)
    return found


def operands(
    energy: ReadEnergy | Compiled, width: int = 64, columns: int | None = None, queries: int = 4096, slots: int = 8192, batch: int = 4, heads: int = 8,
    dtype: torch.dtype = torch.bfloat16, tied: bool = False, presence: str = "", bias: bool = False, causal: bool = False, dropout: bool = False,
) -> Operands:  # fmt: skip
    """A read without numbers, on the meta device. ``presence``: "" for none, "mask", "soft", or "soft per query"."""

    def empty(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    amounts = None
    if presence:
        amounts = empty(batch, heads, queries if "per query" in presence else 1, slots, dtype=torch.float32 if "soft" in presence else torch.bool)
    return Operands(
        energy if isinstance(energy, Compiled) else compiled(energy.name),
        state=empty(batch, heads, queries, width),
        keys=empty(batch, heads, slots, width),
        values=None if tied else empty(batch, heads, slots, columns or width),
        presence=amounts,
        beta=empty(batch, heads, dtype=torch.float32),
        bias=empty(batch, heads, slots, dtype=torch.float32) if bias else None,
        seed=empty(dtype=torch.int64) if dropout else None,
        reach=2**31 - 1 if causal else 0,
        rate=0.1 * dropout,
    )


def written_launches(
    energy: ReadEnergy, arch: int = 90, width: int = 64, rows: int = 4096, cache: int = 0, dtype: torch.dtype = torch.bfloat16, decay: bool = False,
    presence: bool = False,
) -> list[Launch]:  # fmt: skip
    """What a written memory and its gradients would launch, without numbers."""

    def empty(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(4, 8, *shape, dtype=dtype, device="meta")

    memory = solves.Written(
        compiled(energy.name),
        energy.divides,
        erase=empty(rows, width),
        keys=empty(cache + rows, width),
        values=empty(rows, width),
        write_rate=empty(rows, dtype=torch.float32),
        erase_rate=empty(rows, dtype=torch.float32),
        cached=empty(cache, width) if cache else None,
        level=empty(cache + rows, dtype=torch.float64) if decay else None,
        presence=empty(cache + rows, dtype=torch.bool) if presence else None,
        beta=empty(dtype=torch.float32),
    )
    with recorded(arch) as found:
        u, statistic = solves.forward(memory)
        solves.backward(memory, u, u, statistic, (True,) * 8)
    return found


def retiled(each: Launch, tile: Tile, read: Operands) -> Launch:
    """The same launch on another tile."""
    config = configs.config(tile, read)
    return each._replace(config=config, constants={**each.constants, "SHAPE": config.shape})


@contextmanager
def recorded(arch: int) -> Iterator[list[Launch]]:
    """Launches that are written down instead of made, on a GPU with as many processors as the usual one of this kind."""
    found: list[Launch] = []

    def record(kernel: Any, grid: tuple[int, ...], config: Config, *arguments: Any, **constants: Any) -> None:
        found.append(Launch(kernel, config, arguments, constants))

    with patch.object(configs, "run", record), patch.object(launch, "processors", lambda device: PROCESSORS[arch]), _pretending(arch):
        yield found


def _pretending(arch: int) -> Any:
    return patch.object(configs, "capability", lambda device: arch)


def _flat(arguments: Sequence[Any]) -> Iterator[Any]:
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from _flat(argument)
        else:
            yield argument


def _described(argument: Any) -> Any:
    return (argument.dtype, argument.data_ptr() % 16) if isinstance(argument, torch.Tensor) else argument
