"""A memory spread over processes stores, recalls, forgets and is saved like the whole one in one process."""

import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import SIZES, close, over_ranks, slots
from torch.distributed.checkpoint import filesystem
from torch.overrides import TorchFunctionMode

import hopfield_amem as h
from hopfield_amem.distributed import Ranks, ShardedMemory
from hopfield_amem.energies import Dot, ReadEnergy, RectifiedPower, Sum
from hopfield_amem.layers import PatternMemory


def what_memories_are_asked_is_checked_everywhere(rank, world, folder):
    energy, patterns, first = h.presets.distance(1.0), torch.randn(6, 5), rank == 0
    memory = ShardedMemory(5, energy)
    memory.store(patterns[rank::world])
    nan = patterns * math.nan if first else patterns
    for asked in (memory.recall, memory.nearest):
        with pytest.raises(ValueError, match="query holds NaN or Inf" if first else "Another rank"):
            asked(nan)
    for count in (-1, 0, 2.0):
        with pytest.raises(ValueError, match="count is how many patterns" if first else "Another rank"):
            memory.nearest(patterns, count if first else 1)
    for ids in ([0.5], torch.tensor([True]), ["a"]):
        with pytest.raises(ValueError, match="Another rank" if not first else r"Ids are whole numbers|str"):
            memory.forget(ids if first else [0])
    for given in (memory.recall, memory.nearest, memory.deal):
        with pytest.raises(ValueError, match="Ranks must call alike"):
            given(patterns + 1e-6 * rank)
    assert memory.total() == 6


def stored_recalled_forgotten_saved(rank, world, folder):
    energy, part = h.presets.distance(2.0), slots(rank, world)
    patterns, values, query = 9 * torch.randn(100, 6), torch.randn(100, 2), 9 * torch.randn(3, 5, 6)
    whole, memory = PatternMemory(6, energy), ShardedMemory(6, energy)
    with pytest.raises(ValueError, match="empty on all ranks"):
        memory.recall(query)
    whole.store(patterns, values)
    ids = memory.store(patterns[part], values[part])
    assert ids.tolist() == list(range(100))[part] and memory.total() == 100 and len(memory) == SIZES[world][rank]

    def same():
        found, truth = memory.recall(query), whole.recall(query)
        close(found.state, truth.state, 1e-4)
        close(found.values, truth.values, 1e-4)
        assert torch.equal(found.ids, truth.ids) and bool(found.converged.all()) and bool((found.margin >= 0).all())

    same()
    memory.forget([3, 50, 99])
    whole.forget([3, 50, 99])
    same()
    with pytest.raises(ValueError, match="No rank holds a pattern under"):
        memory.forget([3])
    memory.deal(patterns[:9] + 50, values[:9])
    whole.store(patterns[:9] + 50, values[:9])
    assert memory.total() == 106
    same()
    memory.save(f"{folder}/memory")
    fewer = dist.new_group(list(range(world - 1)))
    if rank < world - 1:
        again = ShardedMemory(6, energy, Ranks(fewer))
        again.load(f"{folder}/memory")
        again.store(patterns[:1] if rank else patterns[:0], values[:1] if rank else values[:0])
        assert again.total() == 106 + (world > 2)
        similarity, found = again.nearest(patterns[[0, 4]] + 50, 2)
        assert similarity.shape == (2, 2) and found[:, 0].tolist() == [100, 104]
    dist.barrier()
    other = ShardedMemory(7, energy)
    with pytest.raises(ValueError, match="stores patterns"):
        other.load(f"{folder}/memory")
    with pytest.raises(ValueError, match="no checkpoint"):
        memory.load(f"{folder}/elsewhere")
    model = torch.nn.ModuleDict({"memory": memory})
    dcp.save(model.state_dict(), checkpoint_id=f"{folder}/model")
    state = model.state_dict()
    held = memory.patterns.clone()
    state["memory._extra_state"][f"rank {rank}"]["patterns"].zero_()
    dcp.load(state, checkpoint_id=f"{folder}/model")
    model.load_state_dict(state)
    close(memory.patterns, held, 0.0)


def checkpoints_are_replaced_whole(rank, world, folder):
    energy, patterns, path = h.presets.distance(1.0), torch.randn(60, 5), Path(folder, "kept", "memory")
    memory, again = ShardedMemory(5, energy), ShardedMemory(5, energy)
    for size in (20, 60):  # the second takes the place of the first
        memory.deal(patterns[memory.total() : size], patterns[memory.total() : size, :2])
        memory.save(path)
        again.load(path)
        assert again.total() == size and torch.equal(again.patterns, memory.patterns) and torch.equal(again.ids, memory.ids)
    made = []

    class Made(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            if function is torch.empty and found.dtype != torch.uint8:  # bytes are messages of torch itself
                made.append(found.numel())
            return found

    with Made():
        again.load(path)
    assert sum(made) == len(again) * (5 + 2 + 1)  # room for the rows of this rank only
    write = filesystem.FileSystemWriter.write_data
    if rank == world - 1:
        filesystem.FileSystemWriter.write_data = lambda *_: (_ for _ in ()).throw(OSError("the disk is full"))
    if rank == 0:
        path.rename(path.with_name(".memory.before"))  # as if a save had ended between its two names
    dist.barrier()
    with pytest.raises(ValueError, match=r"A save was interrupted; the checkpoint before it is .*\.memory\.before"):
        again.load(path)
    dist.barrier()
    try:
        memory.forget([0])
        with pytest.raises(OSError, match=r"was not written: rank 1 met OSError \(the disk is full\)"):
            memory.save(path)
    finally:
        filesystem.FileSystemWriter.write_data = write
    again.load(path)
    assert again.total() == 60
    memory.save(path)
    again.load(path)
    assert again.total() == 59 and [file.name for file in path.parent.iterdir()] == ["memory"]
    with pytest.raises(ValueError, match="holds something else"):
        memory.save(folder)


def damaged_checkpoints_are_one_sentence(rank, world, folder):
    energy, path = h.presets.distance(1.0), Path(folder, "damaged")
    memory = ShardedMemory(5, energy)
    memory.store(torch.randn(30, 5))
    memory.save(path)

    def fails(kind, message):
        dist.barrier()
        with pytest.raises(kind, match=message) as caught:
            memory.load(path)
        assert "\n" not in str(caught.value) and memory.total() == 30 * world
        dist.barrier()

    last = path / "__1_0.distcp"
    held, about = last.read_bytes(), (path / ".metadata").read_bytes()
    dist.barrier()
    for name, content, kind, message in (
        (last, held[: len(held) // 2], ValueError, r"was not read: rank \d met"),
        (last, None, OSError, r"was not read: rank \d met FileNotFoundError"),
        (path / ".metadata", about[:40], ValueError, "is damaged: its .metadata cannot be read"),
    ):
        if rank == 0:
            name.unlink() if content is None else name.write_bytes(content)
        fails(kind, message)
    ids, rows = torch.arange(3), torch.zeros(3, 5)
    for number, (state, message) in enumerate((
        ({"0.patterns": rows, "next": ids[0]}, "part 0"),
        ({"0.ids": ids, "next": ids[0]}, "part 0"),
        ({"0.patterns": rows, "0.ids": ids[:2].clone(), "next": ids[0]}, "part 0"),
        ({"0.patterns": rows, "0.ids": ids, "1.patterns": rows, "1.ids": ids, "1.values": rows, "next": ids[0]}, "in equal numbers"),
        ({"0.patterns": rows, "0.ids": ids}, "lacks 'next'"),
        ({"patterns": rows}, "not of a ShardedMemory"),
    )):  # fmt: skip
        path = Path(folder, f"damaged {number}")
        dcp.save(state, checkpoint_id=path)
        fails(ValueError, message)


def room_is_made_once(rank, world, folder):
    patterns, memory = torch.randn(20, 5), ShardedMemory(5, h.presets.distance(1.0))
    memory.reserve(20 * rank)  # each rank by itself
    held = memory._keys.data_ptr()
    for part in patterns.split(10):
        memory.store(part if rank else part[:0])
    assert memory.total() == 20 * (world - 1) and len(memory._keys) == len(memory) == 20 * rank and memory._keys.data_ptr() == held


def a_failure_of_one_rank_is_told_to_all(rank, world, folder):
    patterns, memory, check = torch.randn(6, 5), ShardedMemory(5, h.presets.distance(1.0)), ShardedMemory._check

    def fails(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for store in (memory.store, memory.deal):
        memory._check = (lambda *given: check(memory, *given)) if rank else fails
        with pytest.raises(ValueError if rank else torch.OutOfMemoryError, match="Another rank" if rank else "CUDA out of memory"):
            store(patterns)
        del memory._check
        store(patterns)
    assert memory.total() == 6 * world + 6


def what_differs_is_named_and_gradients_do_not_matter_where_none_are_recorded(rank, world, folder):
    patterns, memory = torch.randn(6, 5), ShardedMemory(5, h.presets.distance(1.0))
    with torch.set_grad_enabled(rank == 0):
        memory.deal(patterns.clone().requires_grad_(rank == 0))
    assert memory.total() == 6
    for call, given, named in (
        (memory.deal, patterns + rank, "one of: patterns, values,"),
        (memory.nearest, patterns + rank, "one of: energy, query, count,"),
        (memory.forget, [rank], "one of: ids,"),
    ):
        with pytest.raises(ValueError, match=f"Ranks must call alike, but they differ in {named}"):
            call(given)
    empty = ShardedMemory(5, h.presets.distance(1.0))
    with pytest.raises(ValueError, match="one of: width of values, dtype of patterns,"):
        empty.store(patterns, patterns[:, : 1 + rank])


def an_energy_that_may_run_away_is_refused(rank, world, folder):
    with pytest.raises(ValueError, match="cannot be followed over ranks"):
        ShardedMemory(5, ReadEnergy(Dot(), RectifiedPower(3), Sum()))


CHECKS = {
    2: [
        what_memories_are_asked_is_checked_everywhere,
        checkpoints_are_replaced_whole,
        damaged_checkpoints_are_one_sentence,
        room_is_made_once,
        a_failure_of_one_rank_is_told_to_all,
        what_differs_is_named_and_gradients_do_not_matter_where_none_are_recorded,
        an_energy_that_may_run_away_is_refused,
    ],
    3: [stored_recalled_forgotten_saved],
}


@pytest.mark.parametrize("world", [2, 3])
def test_over_processes(tmp_path, world):
    over_ranks(world, CHECKS[world], tmp_path, seconds=20)


def test_the_example_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    example = str(Path(__file__).parents[1] / "examples" / "sharded_memory.py")
    environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(h.__file__).parents[1])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", example, "--patterns", "600"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "600 patterns" in done.stdout and "100% found" in done.stdout and "recalled alike: True" in done.stdout
    assert not list(tmp_path.glob("tmp*"))
    monkeypatch.setattr(sys, "argv", [example, "--patterns", "1"])
    with pytest.raises(SystemExit):
        runpy.run_path(example, run_name="__main__")
    assert "every one of the 2 ranks stores patterns" in capsys.readouterr().err
