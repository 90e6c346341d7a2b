"""Memory = read × write: a cell of the table, as a spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .read import ReadEnergy
from .write import Hebbian, WriteEnergy, as_write_energy


@dataclass(frozen=True)
class Memory:
    """A read energy and the write energy that fills it: ``Memory(linear_attention(), Delta())`` is DeltaNet.

    Args:
        read: how a query moves downhill among the stored pairs.
        write: how the stored pairs move downhill when a new one arrives, or a plain ``loss(prediction, value)``.
    """

    read: ReadEnergy
    write: WriteEnergy | Callable[[Tensor, Tensor], Tensor] = Hebbian()

    def __post_init__(self):
        if not isinstance(self.read, ReadEnergy):
            raise ValueError(f"Memory reads with a ReadEnergy, for example presets.log_sum_exp(), got {self.read!r}.")
        object.__setattr__(self, "write", as_write_energy(self.write))

    def __str__(self) -> str:
        return f"read  {self.read}\nwrite ℓ(ŷ, v) = {self.write}"
