"""Retrieval on DTensors: keys and values split by slots over a mesh, queries whole or split."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from ..energies import Memory, ReadEnergy
from .gathered import Gathered
from .ranks import Ranks
from .retrieve import retrieve


def over_mesh(energy: ReadEnergy | Memory, query: DTensor, keys: DTensor, values: DTensor | None = None, *, steps: int = 1) -> DTensor:
    """``retrieve`` on DTensors of one mesh of one dimension: no scores and no slots are gathered.

    Args:
        query: (..., q, d), ``Replicate()``; or ``Shard`` of the queries, each with a loss of its own: then the result is split alike.
        keys, values: (..., n, d) and (..., n, v), ``Shard`` of the slots (what the ranks hold may be uneven, as ``distribute_tensor`` makes it).
        steps: as in ``retrieve``.

    Raises:
        TypeError: something that is no DTensor.
        ValueError: other placements, other meshes, or as in ``retrieve``.
    """
    named = {"query": query, "keys": keys} | ({} if values is None else {"values": values})
    for name, tensor in named.items():
        if not isinstance(tensor, DTensor):
            raise TypeError(f"{name} must be a DTensor, got {type(tensor).__name__}: distribute_tensor(...) makes one, and plain tensors take retrieve.")
    for name, tensor in named.items():
        if tensor.device_mesh != keys.device_mesh or tensor.device_mesh.ndim != 1:
            raise ValueError(f"query, keys and values must lie on one mesh of one dimension, got {name} on {tensor.device_mesh}.")
        if name != "query" and not tensor.placements[0].is_shard(tensor.ndim - 2):
            raise ValueError(f"{name} must be split by slots, Shard({tensor.ndim - 2}), got {tensor.placements[0]}: redistribute it.")
    mesh = keys.device_mesh
    ranks, local = Ranks(mesh.get_group()), (None if values is None else values.to_local())
    if query.placements[0].is_shard(query.ndim - 2):
        asked = Gathered(query.to_local(), ranks)
        mine = asked.own(retrieve(energy, asked.queries, keys.to_local(), local, steps=steps, ranks=ranks))
        return DTensor.from_local(mine, mesh, [Shard(mine.ndim - 2)], run_check=False, shape=_shape(query, mine), stride=_stride(_shape(query, mine)))
    if not query.placements[0].is_replicate():
        raise ValueError(f"The query must be whole on every rank, Replicate(), or split by queries, Shard({query.ndim - 2}), got {query.placements[0]}.")
    found = retrieve(energy, query.to_local(), keys.to_local(), local, steps=steps, ranks=ranks)
    return DTensor.from_local(found, mesh, [Replicate()], run_check=False)


def _shape(query: DTensor, mine: Tensor):
    return query.shape[:-1] + mine.shape[-1:]


def _stride(shape) -> tuple[int, ...]:
    steps = [1]
    for size in reversed(shape[1:]):
        steps.insert(0, steps[0] * size)
    return tuple(steps)
