"""What a memory recalls, and how it completes what is only partly known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..descent import Descended
from ..energies import ReadEnergy, checks
from ..kernels import retrieve


@dataclass(frozen=True)
class Recalled(Descended):
    """What a memory recalled: the state and certificate of the descent, and what was found where it ended.

    Attributes:
        ids: of the stored pattern nearest to the state, (..., q).
        values: what is read at the state, ``Σ p v``, (..., q, v); None for a memory without values.
    """

    ids: Tensor | None = None
    values: Tensor | None = None


def completed(energy: ReadEnergy, query: Tensor, patterns: Tensor, known: Tensor) -> Tensor:
    """Queries whose unknown features are read from the patterns by the known ones: the pair (known, whole) with its first half held. (..., q, d) -> same

    k known features speak for all d: β counts d/k times, as scikit-learn's ``nan_euclidean_distances`` counts. Queries that know the same share a read.
    """
    checks.inputs(energy, query, patterns, None, None)
    if not isinstance(known, Tensor) or known.dtype != torch.bool or known.shape not in (query.shape, query.shape[-1:]):
        came = f"{known.dtype} of {tuple(known.shape)}" if isinstance(known, Tensor) else type(known).__name__
        raise ValueError(f"known is boolean, of the query's shape {tuple(query.shape)} or one entry per feature; got {came}.")
    known = known.expand(query.shape)
    if not bool(known.any(-1).all()):
        raise ValueError("Every query must know at least one of its features.")
    masks, which = known.flatten(0, -2).unique(dim=0, return_inverse=True)
    rows = query.flatten(0, -2)
    result = torch.empty_like(rows)
    for index, mask in enumerate(masks):
        mine = which == index
        sharper = energy.at(energy.beta * mask.numel() / int(mask.sum()))
        read = retrieve(sharper, rows[mine][:, mask], patterns[:, mask], patterns)
        result[mine] = torch.where(mask, rows[mine], read)
    return result.view(query.shape)
