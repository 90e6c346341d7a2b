"""Reads of one memory by generated kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energies import Dot, Euclidean, Manhattan, ReadEnergy
from ..bounded import Bounded
from ..compiler import compiled
from ..differentiable import differentiable
from ..explanation import WIDEST
from ..gates import Gates
from ..layout import Layout
from . import launch
from .operands import Operands
from .operators import BASELINE, MASS, VALUE, WIDE


class Kernels(Bounded):
    """Streams by Triton kernels: keys and values as they lie in memory, in their own precision, sums in float32."""

    def __init__(self, energy: ReadEnergy, keys: Tensor, gates: Gates):
        if not isinstance(energy.beta, Tensor) and not 1e-30 < energy.beta < 1e30:
            raise ValueError(f"The triton backend computes in float32: β must lie between 1e-30 and 1e30, got {energy.beta:g}. Rescale the patterns instead.")
        super().__init__(energy, keys, gates)
        self.shifted = keys if self.origin is None else keys - self.origin.to(keys.dtype)

    def stream(self, state: Tensor, values: Tensor | None, mass: bool = False, value: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        if values is not None and values.shape[-1] > WIDEST:
            parts = [self.stream(state, part, mass, value) for part in values.split(WIDEST, -1)]
            return torch.cat([part[0] for part in parts], -1), *parts[0][1:]
        gates = self.gates
        wide = WIDE * (values is None or mass)  # what a step is computed from stays in float32
        values = self._read(values)
        appended = mass and gates.dropout > 0  # dropped weights are summed by a column of ones
        if appended:
            values = self.shifted if values is None else values
            values = torch.cat([values, torch.ones_like(values[..., :1])], -1)
        layout, tensors = self._laid_out(state, values)
        needs = VALUE * value + MASS * (mass and not appended) + BASELINE * torch.is_grad_enabled() + wide
        options = (self.spec.name, gates.reach, gates.dropout, needs, gates.offset)
        *tensors, ages = tensors
        output, level, weight, *_ = differentiable("triton", options, *tensors, gates.seed, ages)
        output = layout.unfolded(output)
        level = layout.unfolded(level.unsqueeze(-1)).squeeze(-1)
        if appended:
            return output[..., :-1], level, output[..., -1:]
        return output, level, layout.unfolded(weight.unsqueeze(-1)) if mass else None

    def carry(self, state: Tensor, values: Tensor | None, carry: launch.Carry | None) -> launch.Carry:
        """The carried state of a read after these slots, without gradients."""
        _, tensors = self._laid_out(state, self._read(values))
        return launch.partial(self._operands(tensors), carry)

    def signature(self, state: Tensor, values: Tensor | None) -> tuple:
        """What two reads must share for one to carry on the sums of the other."""
        layout, tensors = self._laid_out(state, self._read(values))
        return tuple(layout.lead), tuple(layout.kept), *(None if t is None else tuple(t.shape[:2]) for t in tensors[:3])

    def completed(self, state: Tensor, values: Tensor | None, carry: launch.Carry) -> tuple[Tensor, Tensor, Tensor]:
        """``Σ p v``, Q and ``Σ p`` (..., q, 1) of a carried state."""
        layout, tensors = self._laid_out(state, self._read(values))
        results = launch.completed(self._operands(tensors), carry)
        value, mass = (layout.unfolded(t.unsqueeze(-1)) for t in (results.value, results.mass))
        return layout.unfolded(results.output), value.squeeze(-1), mass

    def _read(self, values: Tensor | None) -> Tensor | None:
        """What is read: the given values, or None where a state is pulled to the keys themselves."""
        similarity = self.spec.similarity
        if values is not None or isinstance(similarity, (Dot, Euclidean, Manhattan)) or not similarity.inner:
            return values
        return similarity.lift_keys(self.shifted)[..., : self.dim]

    def _laid_out(self, state: Tensor, values: Tensor | None) -> tuple[Layout, list[Tensor | None]]:
        gates = self.gates
        beta = self.spec.beta if isinstance(self.spec.beta, Tensor) else torch.full((), self.spec.beta, dtype=torch.float32, device=state.device)
        leads = [beta.shape, *(t.shape[:-1] for t in (gates.bias, gates.level) if t is not None)]
        layout = Layout(self.centred(state).to(self.keys.dtype), self.shifted, values, self.presence, gates.aligned, *leads)
        return layout, layout.grouped((beta, 0), (gates.bias, 1), (gates.level, 1))

    def _operands(self, tensors: list[Tensor | None]) -> Operands:
        state, keys, values, presence, beta, bias, level = tensors
        assert state is not None and keys is not None and beta is not None
        gates = self.gates
        return Operands(compiled(self.spec.name), state, keys, values, presence, beta, bias, gates.seed, gates.reach, gates.dropout, level, gates.offset)
