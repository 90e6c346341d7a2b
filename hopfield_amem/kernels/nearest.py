"""The most similar stored patterns of every query, in bounded memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..energies import ReadEnergy, checks
from .cut import ELEMENTS
from .gates import gated
from .rows import fitting


@torch.no_grad()
def nearest(
    energy: ReadEnergy, query: Tensor, keys: Tensor, *, presence: Tensor | None = None, causal: bool | int = False, count: int = 1
) -> tuple[Tensor, Tensor]:
    """Similarities S and indices of the ``count`` most similar slots, most similar first.

    (..., q, d), (..., n, d) -> (..., q, min(count, n)) twice. A slot with presence 0, or out of the reach of a causal query, has similarity −inf.
    """
    checks.inputs(energy, query, keys, None, presence)
    reach, rows = gated(None, None, causal, 0.0, query.device).reach, torch.arange(query.shape[-2], device=query.device).unsqueeze(-1)
    slots = keys.shape[-2]
    lead = torch.broadcast_shapes(query.shape[:-2], keys.shape[:-2])
    scores = math.prod(lead) * query.shape[-2]
    width = fitting(scores * (1 if energy.similarity.inner else query.shape[-1]), ELEMENTS)
    best = query.new_full((*lead, query.shape[-2], 0), -math.inf)
    index = torch.zeros(best.shape, dtype=torch.long, device=query.device)
    origin = energy.similarity.origin(keys)
    shifted = query if origin is None else query - origin
    for j in range(0, slots, width):
        part = keys[..., j : j + width, :]
        if energy.similarity.inner:
            part = part if origin is None else part - origin
            score = energy.similarity.lift_state(shifted) @ energy.similarity.lift_keys(part).mT
        else:
            score = energy.similarity(query, part)
        if presence is not None:
            gate = presence if presence.shape[-1] == 1 else presence[..., j : j + width]
            score = torch.where(gate > 0, score, -math.inf)
        if reach:
            ago = rows - torch.arange(j, j + part.shape[-2], device=query.device)
            score = torch.where((ago >= 0) & (ago < reach), score, -math.inf)
        score = torch.cat([best, score.expand(*lead, *score.shape[-2:])], -1)
        best, chosen = score.topk(min(count, score.shape[-1]), -1)
        fresh = torch.arange(j, j + part.shape[-2], device=query.device).expand(*lead, query.shape[-2], -1)
        index = torch.cat([index, fresh], -1).gather(-1, chosen)
    return best, index
