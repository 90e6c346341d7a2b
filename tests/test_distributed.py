"""A memory over several processes reads like the whole one in one process: forward, backward, k steps, stored, saved; and a death is told, not waited for."""

import copy
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import over_ranks
from torch.distributed.checkpoint import filesystem
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.overrides import TorchFunctionMode

import hopfield_amem as h
from hopfield_amem.distributed import Gathered, RankLost, Ranks, ShardedMemory, retrieve
from hopfield_amem.distributed.cost import H100, Read, balance, fewest_ranks, most_ranks, read_cost, sweep_seconds
from hopfield_amem.distributed.engine import Sharded
from hopfield_amem.distributed.mesh import over_mesh
from hopfield_amem.energies import (
    Activation,
    Cosine,
    Dot,
    Epanechnikov,
    Euclidean,
    Exp,
    Free,
    Level,
    Log,
    Manhattan,
    Mapped,
    Power,
    Quadratic,
    ReadEnergy,
    RectifiedPower,
    Simplex,
    Sphere,
    Sum,
    TopK,
    Tsallis,
)  # fmt: skip
from hopfield_amem.kernels import Gates
from hopfield_amem.layers import HopfieldFFN, PatternMemory

ENERGIES = {
    "softmax": h.presets.log_sum_exp(2.0),
    "distance": h.presets.distance(0.7),
    "empty slot": ReadEnergy(Dot(), Exp(), Log(null_slot=True), beta=0.8),
    "sphere": ReadEnergy(Cosine(), Exp(), Log(), beta=4.0),
    "epanechnikov": ReadEnergy(Euclidean(), Epanechnikov(), Log(), beta=0.1),
    "squares": ReadEnergy(Dot(), Power(2), Sum(), Sphere()),
    "cubes": ReadEnergy(Dot(), RectifiedPower(3), Log(), Quadratic()),
    "softmax by threshold": ReadEnergy(Dot(), Exp(), Simplex()),
    "sparsemax": ReadEnergy(Dot(), Tsallis(2.0), Simplex(), beta=0.4),
    "entmax": ReadEnergy(Dot(), Tsallis(1.5), Simplex(), beta=0.4),
    "entmax 1.25 of distances": ReadEnergy(Euclidean(), Tsallis(1.25), Simplex(), Free(), beta=0.3),
    "entmax on a sphere": ReadEnergy(Cosine(), Tsallis(1.5), Simplex(), beta=4.0),
    "squares by threshold": ReadEnergy(Dot(), RectifiedPower(3), Simplex(), beta=0.4),
}
SIZES = {2: (30, 70), 3: (17, 0, 83)}  # uneven, and one rank that holds nothing


def close(mine, truth, tolerance=1e-10):
    torch.testing.assert_close(mine, truth, rtol=tolerance, atol=tolerance)


def slots(rank, world):
    first = sum(SIZES[world][:rank])
    return slice(first, first + SIZES[world][rank])


def drawn(*shapes, dtype=torch.float64):
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def pair(tensors, part, rows):
    """The tensors again, as leaves of their own: those of one rank (the last ``rows`` of them are cut by slots)."""
    whole = len(tensors) - rows
    return [t.detach().clone().requires_grad_() if k < whole else t.detach()[part].clone().requires_grad_() for k, t in enumerate(tensors)]


def reads_and_gradients(rank, world, folder):
    part = slots(rank, world)
    for name, energy in ENERGIES.items():
        for steps, valued in ((1, True), (3, True), (2, False)) if world == 2 else ((1, True),):
            beta, query, keys, values, bias = drawn((), (2, 9, 5), (100, 5), (100, 3), (100,))
            beta = (0.5 * beta.detach()).exp().mul(0.5).requires_grad_()
            presence = torch.rand(100, dtype=torch.float64).mul(1.2).clamp(0.2, 1).sub(0.2).requires_grad_()
            plain = steps > 1
            leaves = (beta, query, keys, values) if plain else (beta, query, keys, values, bias, presence)
            mine = pair(leaves, part, len(leaves) - 2)
            found = []
            for read, (b, q, k, v, *gates) in ((h.retrieve, leaves), (retrieve, mine)):
                options = {} if plain else {"bias": gates[0], "presence": gates[1]}
                found.append(read(energy.at(b), q, k, v if valued else None, steps=steps, **options))
            truth, output = found
            close(output, truth, 1e-9)
            weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
            for result in found:
                (result * weight).sum().backward()
            for k, (own, whole) in enumerate(zip(mine, leaves, strict=True)):
                expected = whole.grad if k < 2 or whole.grad is None else whole.grad[part]
                if expected is None:
                    assert own.grad is None, name
                else:
                    close(own.grad, expected, 1e-7)


def rounding_and_large_scores(rank, world, folder):
    part = slots(rank, world)
    for name in ("softmax", "distance", "sparsemax", "entmax"):
        energy = ENERGIES[name]
        query, keys, values = (t.detach() for t in drawn((17, 6), (100, 6), (100, 3)))
        query, keys = 10 * query, 10 * keys  # scores in the hundreds
        truth = h.retrieve(energy, query, keys, values)
        found = retrieve(energy, query.float(), keys[part].float(), values[part].float())
        whole = h.retrieve(energy, query.float(), keys.float(), values.float())
        error, common = ((t.double() - truth).abs().max() for t in (found, whole))
        assert error <= max(2 * common, 1e-5), (name, error, common)
        close(retrieve(energy, query, keys[part], values[part]), truth, 1e-9)


def energies_of_states(rank, world, folder):
    part = slots(rank, world)
    for energy in ENERGIES.values():
        query, keys = drawn((9, 5), (100, 5))
        mine = pair((query, keys), part, 1)
        found = Sharded(energy, mine[1], Gates(), Ranks()).energy(mine[0])
        truth = energy(query, keys)
        close(found, truth, 1e-9)
        for result in (found, truth):
            result.sum().backward()
        close(mine[0].grad, query.grad, 1e-7)
        close(mine[1].grad, keys.grad[part], 1e-7)


def own_queries(rank, world, folder):
    part, count = slots(rank, world), (4, 0, 7)[rank]
    for name in ("softmax", "entmax"):
        energy = ENERGIES[name]
        query, keys, values = drawn((2, 11, 5), (100, 5), (100, 3))
        rows = slice((0, 4, 4)[rank], (0, 4, 4)[rank] + count)
        mine = [t.detach().clone().requires_grad_() for t in (query[:, rows], keys[part], values[part])]
        asked = Gathered(mine[0])
        output = asked.own(retrieve(energy, asked.queries, *mine[1:], steps=2))
        truth = h.retrieve(energy, query, keys, values, steps=2)
        close(output, truth[:, rows])
        scale = torch.tensor([[1.0]] * 4 + [[3.0]] * 7, dtype=torch.float64)  # every rank has a loss of its own
        (output * scale[rows]).square().sum().backward()
        (truth * scale).square().sum().backward()
        for own, whole in zip(mine, (query.grad[:, rows], keys.grad[part], values.grad[part]), strict=True):
            close(own.grad, whole)


def no_slots_at_all(rank, world, folder):
    query, none = torch.randn(4, 5), torch.zeros(0, 5)
    for name in ("softmax", "empty slot", "sphere", "squares", "entmax", "distance"):
        close(retrieve(ENERGIES[name], query, none, none[:, :2]), torch.zeros(4, 2))
        close(retrieve(ENERGIES[name], query, none), h.retrieve(ENERGIES[name], query, none))


def one_rank_cannot_leave_the_others_waiting(rank, world, folder):
    query, keys = torch.randn(4, 5), torch.randn(6, 5)
    energy, first = ENERGIES["softmax"], rank == 0
    with pytest.raises(ValueError, match="must share their last dimension" if first else "Another rank gave inputs that do not fit"):
        retrieve(energy, query, keys[:, :3] if first else keys)
    with pytest.raises(ValueError, match="Ranks must read alike"):
        retrieve(energy, query, keys, steps=1 + rank)
    with pytest.raises(ValueError, match="keys holds NaN or Inf" if first else "another rank hold NaN or Inf"):
        retrieve(energy, query, keys + math.nan if first else keys)
    with pytest.raises(ValueError, match="keys holds NaN or Inf" if first else "Another rank"):
        retrieve(ENERGIES["sparsemax"], query, keys + math.nan if first else keys)
    for scaling, separation in ((Level(), Exp()), (TopK(2), Exp()), (Simplex(2.0), Tsallis(2.0))):
        with pytest.raises(ValueError, match="cannot be read over ranks"):
            retrieve(ReadEnergy(Dot(), separation, scaling), query, keys)
    manhattan = ReadEnergy(Manhattan(), Exp(), Log())
    with pytest.raises(ValueError, match="weighted median"):
        retrieve(manhattan, query, keys)
    mine = keys.chunk(world)[rank]
    close(retrieve(manhattan, query, mine, mine), h.retrieve(manhattan, query, keys, keys), 1e-5)
    with pytest.raises(ValueError, match="cannot be followed over ranks"):
        ShardedMemory(5, ReadEnergy(Dot(), RectifiedPower(3), Sum()))


def learned_functions_are_refused_on_all_ranks(rank, world, folder):
    query, keys = torch.randn(4, 5), torch.randn(6 * rank, 5)  # none on rank 0, which must not go on alone
    net, slope = torch.nn.Linear(5, 5), torch.ones(()).requires_grad_()
    for energy in (
        ReadEnergy(Mapped(net), Exp(), Log(), Quadratic()),
        ReadEnergy(Dot(), Activation(lambda score: torch.tanh(slope * score)), Sum(), Quadratic()),
        ReadEnergy(Mapped(net), Tsallis(1.5), Simplex(), Quadratic()),
        ReadEnergy(Mapped(net), Exp(), Simplex(), Quadratic()),
    ):
        with pytest.raises(ValueError, match="get no gradient"):
            retrieve(energy, query, keys, keys)


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
    bias = torch.full((3,), math.nan if first else 0.0)
    for name in ("sparsemax", "epanechnikov", "entmax"):
        with pytest.raises(ValueError, match="bias holds NaN or Inf" if first else "Another rank"):
            retrieve(ENERGIES[name], patterns, memory.patterns, bias=bias)
    assert memory.total() == 6


def a_process_outside_a_group_cannot_read_alone(rank, world, folder):
    group = dist.new_group([0])
    if rank == 0:
        assert Ranks(group).size == 1
    else:
        with pytest.raises(ValueError, match="is not in this group"):
            Ranks(group)


def meshes(rank, world, folder):
    mesh = init_device_mesh("cpu", (world,))
    query, keys, values = drawn((7, 5), (101, 5), (101, 3))
    truth = h.retrieve(ENERGIES["softmax"], query, keys, values)
    truth.square().sum().backward()
    for placement in (Replicate(), Shard(0)):
        mine = [distribute_tensor(t.detach(), mesh, [p]).requires_grad_() for t, p in ((query, placement), (keys, Shard(0)), (values, Shard(0)))]
        found = over_mesh(ENERGIES["softmax"], *mine)
        assert found.shape == truth.shape and found.placements == (placement,)
        close(found.full_tensor(), truth.detach())
        found.to_local().square().sum().backward()
        for own, whole in zip(mine, (query, keys, values), strict=True):
            assert isinstance(own.grad, DTensor)
            close(own.grad.full_tensor(), whole.grad)
    with pytest.raises(ValueError, match="must be split by slots"):
        over_mesh(ENERGIES["softmax"], mine[0], mine[1].redistribute(mesh, [Replicate()]))
    for given in ((query, *mine[1:]), (mine[0], keys, mine[2]), (*mine[:2], values), (query, keys, values)):
        with pytest.raises(TypeError, match="must be a DTensor"):
            over_mesh(ENERGIES["softmax"], *given)
    for given in ((mine[0], keys, values), (query, mine[1], values), (query, keys, mine[2])):
        with pytest.raises(TypeError, match="over_mesh"):
            retrieve(ENERGIES["softmax"], *given)
    with pytest.raises(TypeError, match="over_mesh"):
        Gathered(mine[0])


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


def slots_of_a_block_are_split(rank, world, folder):
    """Tensor parallelism over the slots of a feed-forward memory, and slots trained through ``retrieve``."""
    mesh, x = init_device_mesh("cpu", (world,)), torch.randn(6, 8, dtype=torch.float64)
    layer = HopfieldFFN(8, 12, h.presets.gelu_feed_forward()).double()
    split = parallelize_module(copy.deepcopy(layer), mesh, {"keys": ColwiseParallel(), "values": RowwiseParallel()})
    for model in (layer, split):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    close(split(x), layer(x), 1e-8)
    query, keys, values = drawn((20, 5), (100, 5), (100, 3))
    mine = pair((query, keys, values), slots(rank, world), 2)
    for read, leaves in ((h.retrieve, (query, keys, values)), (retrieve, mine)):
        optimizer = torch.optim.AdamW(leaves, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            read(ENERGIES["softmax"], *leaves).square().mean().backward()
            optimizer.step()
    for own, whole in zip(mine, (query, keys[slots(rank, world)], values[slots(rank, world)]), strict=True):
        close(own.detach(), whole.detach(), 1e-8)


CHECKS = {
    2: [
        energies_of_states,
        reads_and_gradients,
        rounding_and_large_scores,
        no_slots_at_all,
        one_rank_cannot_leave_the_others_waiting,
        learned_functions_are_refused_on_all_ranks,
        what_memories_are_asked_is_checked_everywhere,
        a_process_outside_a_group_cannot_read_alone,
        checkpoints_are_replaced_whole,
        damaged_checkpoints_are_one_sentence,
        slots_of_a_block_are_split,
    ],
    3: [reads_and_gradients, own_queries, meshes, stored_recalled_forgotten_saved],
}


def deserted(rank, folder, way):
    """Rank 1 dies or stalls; rank 0 reads on, and writes what it was told, and after how long."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/{way}.store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    ranks, query, keys = Ranks(dist.new_group(timeout=timedelta(seconds=4))), torch.ones(4, 5), torch.randn(6, 5)
    retrieve(ENERGIES["softmax"], query, keys, ranks=ranks)
    if rank and way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if rank:
        time.sleep(60)
    start = time.perf_counter()
    try:
        for _ in range(3):
            retrieve(ENERGIES["softmax"], query, keys, ranks=ranks)
    except RankLost as error:
        Path(folder, f"{way}.txt").write_text(f"{time.perf_counter() - start:.1f} {error}", encoding="utf-8")
        raise


def test_a_rank_that_does_not_answer_ends_the_job(tmp_path):
    spawned = torch.multiprocessing.get_context("spawn")
    pairs = {way: [spawned.Process(target=deserted, args=(rank, str(tmp_path), way)) for rank in range(2)] for way in ("killed", "stalled")}
    for process in (process for pair in pairs.values() for process in pair):
        process.start()
    for way, (reads, leaves) in pairs.items():
        reads.join(60)
        leaves.kill()
        assert reads.exitcode not in (0, None), way  # an error, not a hang (gloo may abort a process that leaves while its peer stalls)
        seconds, _, message = (tmp_path / f"{way}.txt").read_text(encoding="utf-8").partition(" ")
        assert float(seconds) < 15 and message.startswith("Rank 0 of 2 waited for another rank that did not answer")


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


@pytest.fixture
def alone():
    """A group of this process only."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(("scaling", "energy"), [("Sum", "squares"), ("Log", "softmax"), ("Simplex", "entmax")])
def test_reads_exchange_what_the_cost_model_counts(alone, monkeypatch, scaling, energy):
    sent = []
    reduced = Ranks._reduced
    monkeypatch.setattr(Ranks, "_reduced", lambda ranks, tensor, operation: sent.append(tensor.nbytes) or reduced(ranks, tensor, operation))
    for queries, slots in ((16, 50), (16, 5000), (63, 500)):
        sent.clear()
        retrieve(ENERGIES[energy], torch.randn(queries, 32), torch.randn(slots, 32), torch.randn(slots, 8))
        cost = read_cost(Read(slots, queries, 32, 8, 4, scaling=scaling), H100, 1)
        *_, last = sent
        assert last == 4 * queries * (8 if scaling == "Simplex" else 9)  # nothing grows with the slots
        if scaling == "Simplex":
            assert 0.4 * cost.messages < len(sent) < 1.6 * cost.messages
            searches = len(sent) - 5  # beside the agreement, the largest scores, two for the gradient of τ, and what is read
            with monkeypatch.context() as patch:
                patch.setattr("hopfield_amem.distributed.cost.SEARCH", searches)
                cost = read_cost(Read(slots, queries, 32, 8, 4, scaling=scaling), H100, 1)
            assert (cost.messages + 2, cost.payload + 12 * queries) == (len(sent), sum(sent[1:]))
        else:
            assert len(sent) == cost.messages and sum(sent[1:]) == cost.payload


def test_costs_scale_as_they_must():
    read = Read(1e12, 64)
    few, many = (read_cost(read, H100, ranks) for ranks in (6400, 12800))
    assert few.fits and few.held == 8e10 and not read_cost(read, H100, 6399).fits and fewest_ranks(read, H100) == 6400
    assert few.sweeping == pytest.approx(2 * many.sweeping) and few.exchanging < many.exchanging
    assert balance(read, H100) == pytest.approx(989e12 / 3.35e12)  # one multiplication and one addition of each number of 2 bytes, for each query
    ranks = most_ranks(read, H100)
    assert read_cost(read, H100, ranks).efficiency >= 0.5 > read_cost(read, H100, 2 * ranks).efficiency
    assert most_ranks(Read(1e3, 1), H100) == 1
    with pytest.raises(ValueError, match="Sum, Log or Simplex"):
        Read(10, 1, scaling="TopK")
    with pytest.raises(ValueError, match="Sizes are positive"):
        Read(0, 1)


def test_sweeps_take_their_share_and_the_last_run():
    assert sweep_seconds(24, 0.5, 1) == 12 and sweep_seconds(24, 0.5, 8) == 1.5
    assert sweep_seconds(25, 0.5, 8) == pytest.approx(25 / 16 + 7 / 16) and sweep_seconds(25, 0.5, 8) <= 2  # the best is four rounds of it: 2 s
    assert sweep_seconds(10**6, 60, 10**5, record=0.01) == 10**4  # a folder that all share serves no faster
    with pytest.raises(ValueError, match="at least one process"):
        sweep_seconds(1, 1.0, 0)
