"""Layers over processes: heads (tensor parallelism), shards of parameters (FSDP2) and their checkpoints equal the layer in one process."""

import copy

import pytest
import torch
import torch.distributed.checkpoint as dcp
from ranks import over_ranks
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from hopfield_amem import presets
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import HopfieldAttention, HopfieldFFN, HopfieldLookup, HopfieldPooling, LookupAttention, MemoryMixer, Wiring
from hopfield_amem.layers.parallel import HeadwiseParallel

RANKS = 2
SPLIT = {
    "attention": lambda: HopfieldAttention(16, 4),
    "one head each": lambda: HopfieldAttention(16, 2, presets.distance(0.1), FixedPoint(steps=3, tolerance=0.0)),
    "wired": lambda: HopfieldAttention(16, 4, wiring=Wiring(memories=2, norms=("query", "keys", "values", "space"), rotary=1e4, connected=True)),
    "pooling": lambda: HopfieldPooling(16, 4, presets.entmax(), queries=3, wiring=Wiring(bias=False)),
    "lookup attention": lambda: LookupAttention(16, 4, slots=9),
}
SHARDED = {  # energies that see every bias: Adam would follow the rounding of a gradient that is zero
    "attention": lambda: HopfieldAttention(16, 3, presets.distance(0.1), wiring=Wiring(head_dim=4)),
    "pooling": lambda: HopfieldPooling(16, 4, presets.distance(0.1), queries=3),
    "lookup": lambda: HopfieldLookup(16, 9, values=5),
    "feed-forward": lambda: HopfieldFFN(16, 9, presets.gelu_feed_forward(), gated=True),
    "mixer": lambda: MemoryMixer(16, 4, presets.gated_delta_net()),
}


def close(mine, truth):
    torch.testing.assert_close(whole(mine), truth, rtol=1e-9, atol=1e-9)


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def made(make):
    """The same on every rank, with no head like another."""
    torch.manual_seed(0)
    layer = make().double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name == "log_beta":
                parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def read(layer, x):
    found = layer(x)
    return found[0] if isinstance(found, tuple) else found


def heads_are_split(mesh: DeviceMesh, folder: str) -> None:
    for make in SPLIT.values():
        layer = made(make)
        split = parallelize_module(copy.deepcopy(layer), mesh, HeadwiseParallel())
        x = torch.randn(2, 5, 16, dtype=torch.float64).requires_grad_()
        mine = x.detach().clone().requires_grad_()
        local = slice(mesh.get_local_rank() * layer.heads // RANKS, (mesh.get_local_rank() + 1) * layer.heads // RANKS)
        presence = torch.rand(2, layer.heads, *layer.association(x).shape[-2:]) < 0.7
        output, truth = split(mine, presence=presence[:, local]), layer(x, presence=presence)
        close(output, truth)
        output.square().sum().backward()
        truth.square().sum().backward()
        close(mine.grad, x.grad)
        for (name, parameter), other in zip(split.named_parameters(), layer.parameters(), strict=True):
            close(parameter.grad, other.grad)
            assert parameter.shape == other.shape, name
        close(split.energy(mine), layer.energy(x)[:, local])
        close(split.association(mine), layer.association(x)[:, local])


def a_plan_inside_a_model(mesh: DeviceMesh, folder: str) -> None:
    model = made(lambda: nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), HopfieldAttention(16, 4)) for _ in range(2))))
    split = parallelize_module(copy.deepcopy(model), mesh, {"*.1": HeadwiseParallel()})
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    close(split(x), model(x))
    assert all(isinstance(block[1].log_beta, DTensor) for block in split)


def what_cannot_be_split_is_refused(mesh: DeviceMesh, folder: str) -> None:
    for message, layer in {
        "splits the heads of HopfieldAttention": nn.Linear(16, 16),
        "cannot share 1 memories equally": HopfieldAttention(16, 2, wiring=Wiring(memories=1)),
        "Static roles": HopfieldAttention(16, 2, wiring=Wiring(static=("query",))),
    }.items():
        with pytest.raises(ValueError, match=message):
            parallelize_module(layer, mesh, HeadwiseParallel())
    plan = {role: ColwiseParallel() for role in ("query", "keys", "values")} | {"output": RowwiseParallel()}
    forgotten = parallelize_module(HopfieldAttention(16, 2), mesh, plan)
    with pytest.raises(ValueError, match="1 heads but 2 inverse temperatures"):
        forgotten(torch.ones(2, 5, 16))


def parameters_are_sharded(mesh: DeviceMesh, folder: str) -> None:
    for make in SHARDED.values():
        layer = made(lambda make=make: nn.Sequential(nn.Linear(16, 16), make()))
        sharded = copy.deepcopy(layer)
        fully_shard(sharded[1], mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        batch = torch.randn(2 * RANKS, 5, 16, dtype=torch.float64)
        part = batch.chunk(RANKS)[mesh.get_local_rank()]
        for model, x in ((sharded, part), (layer, batch)):
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
            for _ in range(2):
                optimizer.zero_grad()
                read(model, x).square().mean().backward()
                optimizer.step()
        for (name, parameter), other in zip(sharded.named_parameters(), layer.named_parameters(), strict=True):
            assert isinstance(parameter, DTensor) and parameter.ndim > 0, name
            close(parameter, other[1])
        close(read(sharded, batch), read(layer, batch))


def views_of_shards_are_right_or_refused(mesh: DeviceMesh, folder: str) -> None:
    bare = Wiring(static=("query", "keys", "values", "output"))
    for wiring, error in ((bare, ValueError), (Wiring(), RuntimeError)):  # without projections only the temperatures are shards
        layer = made(lambda wiring=wiring: HopfieldAttention(16, 2, wiring=wiring))
        sharded, x = fully_shard(copy.deepcopy(layer), mesh=mesh), torch.randn(2, 5, 16, dtype=torch.float64)
        with pytest.raises(error):
            sharded.energy(x)
        register_fsdp_forward_method(sharded, "energy")
        close(sharded.energy(x), layer.energy(x))


def shards_are_saved_and_loaded(mesh: DeviceMesh, folder: str) -> None:
    layer = made(SPLIT["wired"])
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    dcp.save(fully_shard(copy.deepcopy(layer), mesh=mesh).state_dict(), checkpoint_id=f"{folder}/checkpoint")
    fresh = parallelize_module(SPLIT["wired"]().double(), mesh, HeadwiseParallel())
    state = fresh.state_dict()
    dcp.load(state, checkpoint_id=f"{folder}/checkpoint")
    fresh.load_state_dict(state)
    close(fresh(x), layer(x))


CHECKS = (
    heads_are_split,
    a_plan_inside_a_model,
    what_cannot_be_split_is_refused,
    parameters_are_sharded,
    views_of_shards_are_right_or_refused,
    shards_are_saved_and_loaded,
)


def every_check(rank, world, folder):
    mesh = init_device_mesh("cpu", (world,))
    for check in CHECKS:
        torch.manual_seed(0)
        check(mesh, folder)


def test_layers_over_processes(tmp_path):
    over_ranks(RANKS, [every_check], tmp_path)
