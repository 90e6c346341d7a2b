"""Reads of a memory whose slots are spread over ranks, by the methods of every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import torch
from torch import Tensor

from ..energies import Log, ReadEnergy, Sum
from ..energies.scalings.scaling import has_null_slot
from ..kernels import Bounded, Gates, explain
from ..kernels.pieces import Pieces, converted
from ..kernels.retrieve import opened
from ..kernels.rule import Rule
from ..kernels.spread import Part, Spread, averages, searched, threshold, value
from .merge import merged
from .ranks import Ranks, shared, summed


class Sharded(Bounded):
    """Every rank sweeps its own slots by the fastest backend there, and the sweeps are merged. States are equal on all ranks, and so are results.

    Slots of another dtype than the states, of half precision, are converted a piece at a time.

    ``Sum``: one exchange per sweep. Softmax weights and every ``Log``: two. Other ``Simplex`` weights: two, and one for every step of the search for τ.
    """

    def __init__(self, energy: ReadEnergy, keys: Tensor, gates: Gates, ranks: Ranks):
        self.spec, self.keys, self.gates, self.dim = energy, keys, gates, keys.shape[-1]
        self.origin = self.presence = None  # what ranks exchange is seen from 0; each of them sweeps around an origin of its own
        self.ranks, self.rule = ranks, Rule(energy.similarity, energy.separation, energy.scaling)
        beta = shared(energy.beta, ranks) if isinstance(energy.beta, Tensor) else energy.beta
        scaling = Log() if has_null_slot(energy.scaling) else energy.scaling  # the empty slot joins once, when ranks are merged
        self.part = ReadEnergy(energy.similarity, energy.separation, scaling, energy.confinement, beta)

    def stream(self, state: Tensor, values: Tensor | None, mass: bool = False, value: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        if searched(self.spec):
            return self._searched(state, values, mass)
        mine = shared(state, self.ranks)

        def swept(part: Part) -> tuple[Tensor, Tensor]:
            if part.values is None:
                output, weight, level = self._local(part).pull(mine)
            else:
                output, level, weight = self._local(part).stream(mine, part.values, mass=mass, value=True)
            return output if weight is None else torch.cat([output, weight], -1), level

        output, level = self._merged(converted(Part(self.keys, values, self.gates), state.dtype, swept, self._beside(state)))
        columns = self.dim if values is None else values.shape[-1]
        return output[..., :columns], level, output[..., columns:] if mass else None

    def value(self, state: Tensor) -> Tensor:
        part = Part(self.keys, None, self.gates)
        if searched(self.spec):
            spread = _OverRanks(part, state, self.ranks, self._beside(state))
            with torch.no_grad():
                tau, alive = threshold(self.spec, state, spread)
            return torch.where(alive, value(self.spec, state, tau, spread), -torch.inf)
        mine = shared(state, self.ranks)

        def valued(part: Part) -> tuple[Tensor, Tensor]:
            level = self._local(part).value(mine)
            return level.new_zeros(*level.shape, 0), level

        return self._merged(converted(part, state.dtype, valued, self._beside(state)))[1]

    def _beside(self, state: Tensor) -> dict[str, object]:
        return {"query": state, "beta": self.spec.beta}

    def _local(self, part: Part) -> Bounded:
        return self._whole if part.keys is self.keys else opened(_backend(self.part, part.keys))(self.part, part.keys, part.gates)

    @cached_property
    def _whole(self) -> Bounded:
        """Of all slots at once: what it prepares serves every step."""
        return opened(_backend(self.part, self.keys))(self.part, self.keys, self.gates)

    def _merged(self, reads: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """What the pieces of all ranks give together."""
        outputs, levels = (torch.stack(parts) for parts in zip(*reads, strict=True))
        if isinstance(self.spec.scaling, Sum):
            both = summed(torch.cat([outputs, levels.unsqueeze(-1)], -1).sum(0), self.ranks)
            return both[..., :-1], both[..., -1]
        output, level = merged(outputs, levels - self.rule.constant, self.rule.null, self.ranks)
        return output, level + self.rule.constant

    def _searched(self, state: Tensor, values: Tensor | None, mass: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        spread = _OverRanks(Part(self.keys, values, self.gates), state, self.ranks, self._beside(state))
        tau, alive = threshold(self.spec, state, spread)
        level = torch.where(alive, 0.0, -torch.inf)  # Q is not needed here, only whether there is a slot
        return averages(self.spec, state, tau, spread), level, alive.to(state.dtype).unsqueeze(-1) if mass else None


class _OverRanks(Spread):
    """The part of this rank, measured together with those of all others."""

    def __init__(self, part: Part, state: Tensor, ranks: Ranks, beside: dict[str, object]):
        self.mine, self.ranks = Pieces(lambda measure: converted(part, state.dtype, measure, beside)), ranks

    def highest(self, measure: Callable[[Part], Tensor]) -> Tensor:
        return self.ranks.largest(self.mine.highest(measure))

    def total(self, measure: Callable[..., Tensor], *given: Tensor) -> Tensor:
        return summed(self.mine.total(measure, *(shared(tensor, self.ranks) for tensor in given)), self.ranks)


def _backend(energy: ReadEnergy, keys: Tensor) -> str:
    """The kernels on a GPU where they serve, otherwise streaming in torch."""
    if keys.device.type == "cuda" and keys.shape[-2] and explain(energy, keys[..., :1, :], keys).backend == "triton":
        return "triton"
    return explain(energy, keys[..., :1, :], keys, backend="chunked").backend
