"""Reads of a memory whose slots are spread over ranks, by the methods of every backend."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..energies import Log, ReadEnergy, Sum
from ..energies.scalings.scaling import has_null_slot
from ..kernels import Bounded, Gates, explain
from ..kernels.cut import Rule
from ..kernels.retrieve import opened
from ..kernels.spread import Part, Spread, averages, searched, threshold, value
from .merge import merged
from .ranks import Ranks, shared, summed


class Sharded(Bounded):
    """Every rank sweeps its own slots by the fastest backend there, and the sweeps are merged. States are equal on all ranks, and so are results.

    ``Sum``: one exchange per sweep. Softmax weights and every ``Log``: two. Other ``Simplex`` weights: two, and one for every step of the search for τ.
    """

    def __init__(self, energy: ReadEnergy, keys: Tensor, gates: Gates, ranks: Ranks):
        super().__init__(energy, keys, gates)
        self.origin = None  # what ranks exchange is seen from 0; each of them sweeps around an origin of its own
        self.ranks, self.rule = ranks, Rule(energy.similarity, energy.separation, energy.scaling)
        beta = shared(energy.beta, ranks) if isinstance(energy.beta, Tensor) else energy.beta
        scaling = Log() if has_null_slot(energy.scaling) else energy.scaling  # the empty slot joins once, when ranks are merged
        self.part = ReadEnergy(energy.similarity, energy.separation, scaling, energy.confinement, beta)
        self.local = None if searched(energy) else opened(_backend(self.part, keys))(self.part, keys, gates)

    def stream(self, state: Tensor, values: Tensor | None, mass: bool = False, value: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.local is None:
            return self._searched(state, values, mass)
        mine = shared(state, self.ranks)
        if values is None:
            output, weight, level = self.local.pull(mine)
        else:
            output, level, weight = self.local.stream(mine, values, mass=mass, value=True)
        columns = output.shape[-1]
        output = output if weight is None else torch.cat([output, weight], -1)
        output, level = self._merged(output, level)
        return output[..., :columns], level, output[..., columns:] if mass else None

    def value(self, state: Tensor) -> Tensor:
        if self.local is None:
            spread = _OverRanks(Part(self.keys, None, self.gates), self.ranks)
            with torch.no_grad():
                tau, alive = threshold(self.spec, state, spread)
            return torch.where(alive, value(self.spec, state, tau, spread), -torch.inf)
        level = self.local.value(shared(state, self.ranks))
        if isinstance(self.spec.scaling, Sum):
            return summed(level, self.ranks)
        return self._merged(level.new_zeros(*level.shape, 0), level)[1]

    def _merged(self, output: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.spec.scaling, Sum):
            both = summed(torch.cat([output, level.unsqueeze(-1)], -1), self.ranks)
            return both[..., :-1], both[..., -1]
        output, level = merged(output, level - self.rule.constant, self.rule.null, self.ranks)
        return output, level + self.rule.constant

    def _searched(self, state: Tensor, values: Tensor | None, mass: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        spread = _OverRanks(Part(self.keys, values, self.gates), self.ranks)
        tau, alive = threshold(self.spec, state, spread)
        level = torch.where(alive, 0.0, -torch.inf)  # Q is not needed here, only whether there is a slot
        return averages(self.spec, state, tau, spread), level, alive.to(state.dtype).unsqueeze(-1) if mass else None


class _OverRanks(Spread):
    """The part of this rank, measured together with those of all others."""

    def __init__(self, part: Part, ranks: Ranks):
        self.part, self.ranks = part, ranks

    def highest(self, measure: Callable[[Part], Tensor]) -> Tensor:
        return self.ranks.largest(measure(self.part))

    def total(self, measure: Callable[..., Tensor], *given: Tensor) -> Tensor:
        return summed(measure(self.part, *(shared(tensor, self.ranks) for tensor in given)), self.ranks)


def _backend(energy: ReadEnergy, keys: Tensor) -> str:
    """The kernels on a GPU where they serve, otherwise streaming in torch."""
    if keys.device.type == "cuda" and keys.shape[-2] and explain(energy, keys[..., :1, :], keys).backend == "triton":
        return "triton"
    return explain(energy, keys[..., :1, :], keys, backend="chunked").backend
