"""A memory over several processes reads like the whole one in one process: forward, backward, k steps; and a death is told, not waited for."""

import copy
import math
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ranks import SERVER, close, over_ranks, slots
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.overrides import TorchFunctionMode

import hopfield_amem as h
from hopfield_amem.distributed import Gathered, RankLost, Ranks, retrieve
from hopfield_amem.distributed.agreement import checksum
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
from hopfield_amem.kernels import Gates, pieces
from hopfield_amem.layers import HopfieldFFN

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
    with pytest.raises(ValueError, match="Ranks must call alike"):
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


def contents_that_cannot_be_seen_in_a_result_are_checked(rank, world, folder):
    first, patterns = rank == 0, torch.randn(6, 5)
    bias = torch.full((6,), math.nan if first else 0.0)
    for name in ("sparsemax", "epanechnikov", "entmax"):
        with pytest.raises(ValueError, match="bias holds NaN or Inf" if first else "Another rank"):
            retrieve(ENERGIES[name], patterns, patterns, bias=bias)


def what_all_ranks_are_given_is_compared(rank, world, folder):
    query, keys, energy = torch.randn(4, 5), torch.randn(6, 5), ENERGIES["softmax"]
    alike = query if rank else query.mT.contiguous().mT  # of other strides
    retrieve(energy, alike, keys)
    retrieve(energy.at(torch.tensor(2.0)), query, keys)
    for name in ("softmax", "entmax"):
        with pytest.raises(ValueError, match="Ranks must call alike"):
            retrieve(ENERGIES[name], query + 1e-6 * rank, keys)
        with pytest.raises(ValueError, match="Ranks must call alike"):
            retrieve(ENERGIES[name].at(torch.tensor(1.0 + rank)), query, keys)
    with pytest.raises(ValueError, match="query holds NaN or Inf"):
        retrieve(energy, query * math.nan, keys)


def gradients_are_followed_on_all_ranks_or_none(rank, world, folder):
    query, keys, energy = torch.randn(4, 5), torch.randn(6, 5), ENERGIES["softmax"]
    with torch.set_grad_enabled(rank == 1), pytest.raises(ValueError, match="Ranks must call alike"):
        retrieve(energy, query, keys)
    with pytest.raises(ValueError, match="Ranks must call alike"):
        retrieve(energy, query.clone().requires_grad_(rank == 1), keys)
    with pytest.raises(ValueError, match="Ranks must call alike"):
        retrieve(energy.at(torch.tensor(1.0, requires_grad=rank == 1)), query, keys)


def slots_of_one_rank_may_be_frozen(rank, world, folder):
    part = slots(rank, world)
    for name in ("softmax", "entmax", "squares"):
        for trained in ("keys", "values", "all"):
            query, keys, values = drawn((7, 5), (100, 5), (100, 3))
            whole = [query.detach(), keys, values]
            h.retrieve(ENERGIES[name], *whole, steps=2).square().sum().backward()
            own = [query.detach(), keys.detach()[part].clone(), values.detach()[part].clone()]
            if rank == world - 1:
                own[1].requires_grad_(trained != "values")
                own[2].requires_grad_(trained != "keys")
            retrieve(ENERGIES[name], *own, steps=2).square().sum().backward()
            for mine, truth in zip(own[1:], whole[1:], strict=True):
                if mine.requires_grad:
                    close(mine.grad, truth.grad[part], 1e-7)


def a_rank_without_queries_needs_no_gradient(rank, world, folder):
    keys, query = torch.randn(6, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    mine = query.clone().requires_grad_() if rank else query[:0]
    asked = Gathered(mine)
    asked.own(retrieve(ENERGIES["softmax"], asked.queries, keys)).square().sum().backward()
    if rank:
        truth = query.clone().requires_grad_()
        h.retrieve(ENERGIES["softmax"], truth, keys.repeat(world, 1)).square().sum().backward()
        close(mine.grad, truth.grad)


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
        contents_that_cannot_be_seen_in_a_result_are_checked,
        what_all_ranks_are_given_is_compared,
        gradients_are_followed_on_all_ranks_or_none,
        slots_of_one_rank_may_be_frozen,
        a_rank_without_queries_needs_no_gradient,
        a_process_outside_a_group_cannot_read_alone,
        slots_of_a_block_are_split,
    ],
    3: [reads_and_gradients, own_queries, meshes, slots_of_one_rank_may_be_frozen],
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
    pairs = {way: [SERVER.Process(target=deserted, args=(rank, str(tmp_path), way)) for rank in range(2)] for way in ("killed", "stalled")}
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


@pytest.mark.skipif(not (torch.cuda.is_available() and dist.is_nccl_available()), reason="NCCL needs a GPU for every rank, and there is none")
def test_over_nccl(tmp_path):
    """On as many GPUs as there are, up to two; on one, a group of one rank."""
    checks = [energies_of_states, reads_and_gradients, rounding_and_large_scores]
    over_ranks(min(2, torch.cuda.device_count()), checks, tmp_path, seconds=60, backend="nccl")


@pytest.fixture
def alone():
    """A group of this process only."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


SAID = {  # by gloo, NCCL and stores
    "Read error [127.0.0.1]:13543: Connection reset by peer. This is typically caused by a remote worker hanging": RankLost,
    "pair.cc:553] Connection closed by peer [127.0.0.1]:8068": RankLost,
    "Timed out waiting 3000ms for recv operation to complete": RankLost,
    "Application timeout caused pair closure": RankLost,
    "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.": RankLost,
    "wait timeout after 3000ms, keys: /default_pg/0//cpu//0": RankLost,
    "[enforce fail at pair.cc:456] op.preamble.length <= op.nbytes. 900 vs 4. Received data size doesn't match expected size": RuntimeError,
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000000 bytes": RuntimeError,
    "Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?": RankLost,
    "CUDA error: the launch timed out and was terminated": RuntimeError,
    "Expected all tensors to be on the same device": RuntimeError,
}


def test_only_a_peer_that_is_gone_is_a_lost_rank(alone):
    def said(error):
        raise error

    ranks = Ranks()
    for message, kind in SAID.items():
        with pytest.raises(RuntimeError) as caught:
            ranks.waited(lambda message=message: said(RuntimeError(message)))
        assert caught.type is kind, message
    with pytest.raises(torch.OutOfMemoryError):
        ranks.waited(lambda: said(torch.OutOfMemoryError("CUDA out of memory, after a request timed out")))
    with pytest.raises(RuntimeError, match="invalid output tensor list") as caught:
        ranks.waited(lambda: dist.all_gather([torch.empty(3)] * 2, torch.ones(3)))
    assert caught.type is RuntimeError


@pytest.mark.parametrize("name", ENERGIES)
def test_slots_of_another_dtype_are_converted_piece_by_piece(alone, monkeypatch, name):
    """Slots in float32, states in float64: no copy is larger than a piece, and nothing is lost, forward or backward."""
    monkeypatch.setattr(pieces, "PIECE", 8 * (5 + 3) * 17)
    drawn_rows = [torch.randn(shape) for shape in ((9, 5), (100, 5), (100, 3))]
    presence, bias = torch.rand(9, 100, dtype=torch.float64), torch.randn(100, dtype=torch.float64)
    for steps, valued in ((1, True), (2, True), (2, False)):
        query, keys, values = (rows.double().requires_grad_() for rows in drawn_rows)
        mine = [query.detach().clone().requires_grad_(), *(rows.clone().requires_grad_() for rows in drawn_rows[1:])]
        truth = h.retrieve(ENERGIES[name], query, keys, values if valued else None, presence=presence, bias=bias, steps=steps)
        with Converted() as converted:
            read, state = Sharded(ENERGIES[name], mine[1], Gates(presence, bias), Ranks()), mine[0]
            for _ in range(steps - valued):
                state = read.settle(state)
            found = read.read(state, mine[2]) if valued else state
            weight = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view(found.shape)
            (found * weight).sum().backward()
        assert max(converted.rows) <= 17 * 8 // 5 and sum(converted.rows) >= 2 * 100  # forward, and again for the gradient
        (truth * weight).sum().backward()
        close(found, truth, 1e-9)
        for own, whole in zip(mine, (query, keys, values), strict=True):
            if own.grad is not None:
                close(own.grad.double(), whole.grad, 1e-5)


@pytest.mark.parametrize("changed", ["keys", "values", "query", "beta", "bias"])
@pytest.mark.parametrize("name", ["softmax", "entmax"])
def test_what_converted_pieces_read_must_not_be_written_to_before_backward(alone, name, changed):
    given = dict(zip(("query", "keys", "values", "bias"), drawn((4, 5), (30, 5), (30, 3), (30,), dtype=torch.float32), strict=True))
    given |= {"query": given["query"].detach().double().requires_grad_(), "beta": torch.tensor(0.5, requires_grad=True)}
    read = Sharded(ENERGIES[name].at(given["beta"]), given["keys"], Gates(bias=given["bias"]), Ranks())
    found = read.read(given["query"], given["values"])
    with torch.no_grad():
        given[changed].mul_(-0.5)
    with pytest.raises(RuntimeError, match=f"{changed} was changed in place|modified by an inplace operation"):
        found.square().sum().backward()


def test_equal_tensors_have_equal_checksums():
    numbers = torch.tensor([1 + 2j, -3j])
    for tensor, same in (
        (torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])),
        (numbers.conj().imag, torch.tensor([-2.0, 3.0])),  # a view that negates
        (numbers.conj(), torch.tensor([1 - 2j, 3j])),
        (torch.ones(2, 3).bfloat16().mT, torch.ones(3, 2).bfloat16()),
        (torch.tensor([math.nan, math.inf]), torch.tensor([math.nan, math.inf])),
    ):
        assert checksum(tensor) == checksum(same) != checksum(same + 1j * same if same.is_complex() else torch.full_like(same, 7.0))


def test_messages_travel_where_the_group_has_a_backend(alone, monkeypatch):
    here, there = torch.ones(1), torch.ones(1, device="meta")
    assert Ranks().device(there).type == "cpu"
    for config, near, device in (
        ("cuda:nccl", here, "cuda"),
        ("cuda:nccl", "no tensor", "cuda"),
        ("cpu:gloo,cuda:nccl", there, "cpu"),
        ("cuda:nccl,cpu:gloo", there, "cpu"),
        ("meta:any", there, "meta"),
    ):
        monkeypatch.setattr(dist, "get_backend_config", lambda group, config=config: config)
        assert Ranks().device(near).type == device


class Converted(TorchFunctionMode):
    """Counts the slots that were copied from float32 to float64 at once."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if function is torch.Tensor.to and args[0].dtype == torch.float32 and found.dtype == torch.float64:
            self.rows.append(args[0].shape[-2])
        return found


def test_half_precision_slots_are_read_where_they_lie(alone):
    query, keys = torch.randn(4, 8).bfloat16(), torch.randn(300, 8).bfloat16()
    for energy in (ENERGIES["softmax"], ENERGIES["entmax"]):
        for context in (torch.no_grad(), torch.enable_grad()):
            with context, pytest.MonkeyPatch.context() as patch:
                patch.setattr(pieces, "PIECE", 4 * 8 * 50)
                torch.testing.assert_close(retrieve(energy, query, keys, steps=2), h.retrieve(energy, query, keys, steps=2))


@pytest.mark.parametrize(("scaling", "energy"), [("Sum", "squares"), ("Log", "softmax"), ("Simplex", "entmax")])
def test_reads_exchange_what_the_cost_model_counts(alone, monkeypatch, scaling, energy):
    sent = []
    reduced = Ranks._reduced
    monkeypatch.setattr(Ranks, "_reduced", lambda ranks, tensor, operation: sent.append(tensor.nbytes) or reduced(ranks, tensor, operation))
    for queries, count in ((16, 50), (16, 5000), (63, 500)):
        sent.clear()
        retrieve(ENERGIES[energy], torch.randn(queries, 32), torch.randn(count, 32), torch.randn(count, 8))
        cost = read_cost(Read(count, queries, 32, 8, 4, scaling=scaling), H100, 1)
        *_, last = sent
        assert last == 4 * queries * (8 if scaling == "Simplex" else 9)  # nothing grows with the slots
        if scaling == "Simplex":
            assert 0.4 * cost.messages < len(sent) < 1.6 * cost.messages
            searches = len(sent) - 5  # beside the agreement, the largest scores, two for the gradient of τ, and what is read
            with monkeypatch.context() as patch:
                patch.setattr("hopfield_amem.distributed.cost.SEARCH", searches)
                cost = read_cost(Read(count, queries, 32, 8, 4, scaling=scaling), H100, 1)
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
