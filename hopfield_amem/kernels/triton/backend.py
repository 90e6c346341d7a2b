"""Reads of one memory by generated kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energies import Dot, Euclidean, Manhattan
from ..bounded import Bounded
from ..differentiable import differentiable
from ..layout import Layout
from .operators import BASELINE, MASS, VALUE, WIDE


class Kernels(Bounded):
    """Streams by Triton kernels: keys and values as they lie in memory, in their own precision, sums in float32."""

    def stream(self, state: Tensor, values: Tensor | None, mass: bool = False, value: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        gates, similarity = self.gates, self.spec.similarity
        wide = WIDE * (values is None or mass)  # what a step is computed from stays in float32
        if values is None and not isinstance(similarity, (Dot, Euclidean, Manhattan)) and similarity.inner:
            values = similarity.lift_keys(self.shifted)[..., : self.dim]  # what a state is pulled to is not the key itself
        appended = mass and gates.dropout > 0  # dropped weights are summed by a column of ones
        if appended:
            values = self.shifted if values is None else values
            values = torch.cat([values, torch.ones_like(values[..., :1])], -1)
        beta = self.spec.beta if isinstance(self.spec.beta, Tensor) else torch.full((), self.spec.beta, dtype=torch.float32, device=state.device)
        bias = gates.bias
        leads = [beta.shape, *([bias.shape[:-1]] if bias is not None else [])]
        layout = Layout(self.centred(state).to(self.keys.dtype), self.shifted, values, self.presence, gates.aligned, *leads)
        tensors, _ = layout.grouped((beta, 0), (bias, 1))
        needs = VALUE * value + MASS * (mass and not appended) + BASELINE * torch.is_grad_enabled() + wide
        output, level, weight, *_ = differentiable("triton", (self.spec.name, gates.reach, gates.dropout, needs), *tensors, gates.seed)
        output = layout.ungrouped(output)
        level = layout.ungrouped(level.unsqueeze(-1)).squeeze(-1)
        if appended:
            return output[..., :-1], level, output[..., -1:]
        return output, level, layout.ungrouped(weight.unsqueeze(-1)) if mass else None
