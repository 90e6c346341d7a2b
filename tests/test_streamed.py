"""Slots that stay in a file are read like slots in memory, in bounded memory."""

import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from hopfield_amem import ENERGIES, presets, retrieve, streamed
from hopfield_amem.energies import Dot, Epanechnikov, Euclidean, Exp, Level, Log, Manhattan, ReadEnergy, Simplex, Tsallis
from hopfield_amem.kernels import nearest
from hopfield_amem.storage import load_memory, metadata, save_memory
from hopfield_amem.streamed import StreamedMemory, write_memory

SLOTS, DIM = 100, 5
ABLE = {name: energy for name, energy in ENERGIES.items() if energy.streams and energy.similarity.steps and not energy.similarity.rests}
ROW = 8 * (DIM + 3)  # bytes of a slot with its values


def drawn(dtype=torch.float64):
    return tuple(torch.rand(n, d, dtype=dtype) for n, d in ((9, DIM), (SLOTS, DIM), (SLOTS, 3)))


@pytest.mark.parametrize("piece", [17 * ROW, 63 * ROW, 2**20])
@pytest.mark.parametrize("name", ["softmax", "entmax", "distance"])
def test_pieces_of_any_size_read_as_the_whole(tmp_path, name, piece):
    energy = {"softmax": presets.log_sum_exp(3.0), "entmax": presets.entmax(beta=2.0), "distance": presets.distance(5.0)}[name]
    query, keys, values = drawn()
    presence = torch.rand(SLOTS, dtype=torch.float64) * (torch.arange(SLOTS) % 3 > 0)
    for held in (None, presence):
        save_memory(tmp_path / "memory", energy, keys, values, presence=held)
        memory = StreamedMemory(tmp_path / "memory", piece=piece)
        assert (len(memory), memory.dim, memory.width, memory.spec) == (SLOTS, DIM, 3, energy)
        for steps in (1, 3):
            truth = retrieve(energy, query, keys, values, presence=held, steps=steps)
            torch.testing.assert_close(memory.retrieve(query, steps=steps), truth, rtol=1e-10, atol=1e-10)
        for mine, truth in zip(memory.nearest(query, 4), nearest(energy, query, keys, presence=held, count=4), strict=True):
            torch.testing.assert_close(mine, truth)


@pytest.mark.parametrize("name", ABLE)
def test_every_energy_settles_as_in_memory(tmp_path, name):
    query, keys, _ = drawn()
    save_memory(tmp_path / "memory", ABLE[name], keys)
    memory = StreamedMemory(tmp_path / "memory", piece=30 * DIM * 8)
    torch.testing.assert_close(memory.retrieve(query, steps=2), retrieve(ABLE[name], query, keys, steps=2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_written_in_pieces_is_what_is_saved_whole(tmp_path, dtype):
    energy, (query, keys, values) = presets.entmax(1.5, 2.0), drawn(dtype)
    write_memory(tmp_path / "pieces", energy, zip(keys.split(30), values.split(30), strict=True), SLOTS)
    stored = load_memory(tmp_path / "pieces")
    assert stored.spec == energy and torch.equal(stored.keys, keys) and torch.equal(stored.values, values)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    found = StreamedMemory(tmp_path / "pieces", piece=999).retrieve(query)
    torch.testing.assert_close(found, retrieve(energy, query, keys, values), rtol=tolerance, atol=tolerance)


def test_a_piece_may_be_empty(tmp_path):
    energy, (_, keys, values) = presets.entmax(1.5, 2.0), drawn()
    pieces = [(keys[:0], values[:0]), (keys[:40], values[:40]), (keys[40:40], values[40:40]), (keys[40:], values[40:])]
    write_memory(tmp_path / "memory", energy, pieces, SLOTS)
    stored = load_memory(tmp_path / "memory")
    assert torch.equal(stored.keys, keys) and torch.equal(stored.values, values)


def test_no_good_file_is_replaced_by_a_broken_one(tmp_path):
    path, (_, keys, values) = tmp_path / "memory", drawn()
    save_memory(path, presets.log_sum_exp(), keys, values)
    good = path.read_bytes()
    for pieces, slots in (([(keys, values)], 100.0), ([(keys, values)], True), ([(keys, values.expand(2, 100, 3))], 100), ([(keys, values)], 99)):
        with pytest.raises(ValueError, match=r"slots|Pieces are"):
            write_memory(path, presets.log_sum_exp(), pieces, slots)
        assert path.read_bytes() == good


@pytest.mark.parametrize(("name", "passes"), [("softmax", (1, 1)), ("entmax", (5, 40))])
def test_no_more_than_a_piece_is_read_together(tmp_path, monkeypatch, name, passes):
    """Rows are counted where they leave the file."""
    energy, (query, keys, values) = {"softmax": presets.log_sum_exp(3.0), "entmax": presets.entmax(beta=2.0)}[name], drawn()
    save_memory(tmp_path / "memory", energy, keys, values)
    memory, taken, opened = StreamedMemory(tmp_path / "memory", piece=17 * ROW + 1), [], streamed.opened

    class Counting:
        def __init__(self, rows):
            self.rows = rows

        def __getitem__(self, where):
            found = self.rows[where]
            taken.append((found.shape[1], len(found)))
            return found

    @contextmanager
    def counted(path):
        with opened(path) as file:
            yield SimpleNamespace(get_slice=lambda name: Counting(file.get_slice(name)))

    monkeypatch.setattr(streamed, "opened", counted)
    memory.retrieve(query)
    rows = [count for width, count in taken if width == DIM]
    assert max(rows) == 17 and sum(rows) % SLOTS == 0 and passes[0] <= sum(rows) // SLOTS <= passes[1]


SPECS = {"softmax": presets.log_sum_exp(), "entmax": presets.entmax(), "finite reach": ReadEnergy(Euclidean(), Epanechnikov(), Log(), beta=0.1)}


@pytest.mark.parametrize("name", SPECS)
def test_what_a_file_must_not_hold(tmp_path, name):
    path, (query, keys, values) = tmp_path / "memory", drawn()
    about = metadata(SPECS[name])
    broken = keys.clone()
    broken[70, 2] = math.nan
    presence = torch.ones(SLOTS, dtype=torch.float64)
    presence[70] = 1.5
    for held, message in (
        ({"keys": broken, "values": values}, r"keys\[60:80\] of the file holds NaN or Inf \(first at index \(10, 2\)\)"),
        ({"keys": keys, "values": values / 0}, r"values\[0:20\] of the file holds NaN or Inf"),
        ({"keys": keys, "values": values, "presence": presence}, r"presence\[60:80\] of the file must lie in \[0, 1\]"),
        ({"keys": keys, "values": values, "presence": presence * math.nan}, r"presence\[0:20\] of the file holds NaN"),
    ):
        save_file(held, path, metadata=about)
        with pytest.raises(ValueError, match=message):
            StreamedMemory(path, piece=20 * ROW).retrieve(query)
    for held, message in (
        ({"keys": keys, "values": values[:-1].clone()}, r"patterns \(n, d\), values \(n, v\)"),
        ({"keys": keys, "presence": presence[:-1].clone()}, r"a presence \(n,\)"),
        ({"keys": keys, "values": values.float()}, "share one floating-point dtype"),
        ({"keys": keys.long()}, "share one floating-point dtype"),
        ({"keys": keys, "presence": presence.long()}, "a presence is boolean or floating-point"),
    ):
        save_file(held, path, metadata=about)
        with pytest.raises(ValueError, match=message):
            StreamedMemory(path)


@pytest.mark.parametrize("name", ["softmax", "entmax"])
def test_a_file_that_changes_is_an_error(tmp_path, monkeypatch, name):
    path, (query, keys, values) = tmp_path / "memory", drawn()
    save_memory(path, SPECS[name], keys, values)
    memory, sound = StreamedMemory(path, piece=30 * ROW), streamed._sound

    def replaced(held, first):
        sound(held, first)
        if first == 30:
            save_memory(path, SPECS[name], keys + 1, values)

    monkeypatch.setattr(streamed, "_sound", replaced)
    with pytest.raises(ValueError, match="was replaced or changed since it was opened"):
        memory.retrieve(query)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (lambda: memory.retrieve(query), lambda: StreamedMemory(path)):
        with pytest.raises(ValueError, match="damaged or no safetensors file"):
            read()


def test_a_file_that_was_not_finished_is_not_there(tmp_path):
    energy, keys = presets.log_sum_exp(), torch.randn(10, 4)

    def broken():
        yield keys, None
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_memory(tmp_path / "memory", energy, broken(), 20)
    for pieces, slots, message in (
        ([(keys, None)], 20, "hold 10 slots, not the 20"),
        ([(keys, None), (keys, None)], 15, "hold 15 slots in all"),
        ([(keys, None), (keys, keys)], 20, "must be alike"),
        ([(keys + math.nan, None)], 10, "NaN or Inf"),
        ([], 0, "at least one"),
        ([(keys, None)], 10.0, "an integer of at least one, got 10.0"),
        ([(keys, keys.expand(3, 10, 4))], 10, r"keys \(k, d\) and values \(k, v\)"),
        ([(keys.expand(3, 10, 4), None)], 10, r"keys \(k, d\) and values \(k, v\)"),
    ):
        with pytest.raises(ValueError, match=message):
            write_memory(tmp_path / "memory", energy, pieces, slots)
    assert not list(tmp_path.iterdir())


def test_errors_teach(tmp_path):
    keys = torch.randn(10, 4)
    with pytest.raises(FileNotFoundError, match="no stored memory"):
        StreamedMemory(tmp_path / "nothing")
    (tmp_path / "other").write_bytes(b"12345678")
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        StreamedMemory(tmp_path / "other")
    path = tmp_path / "memory"
    for energy, message in ((ReadEnergy(Dot(), Exp(), Level()), "whole rows of scores"), (ReadEnergy(Dot(), Tsallis(2.0), Simplex(2.0)), "whole rows")):
        save_memory(path, energy, keys)
        with pytest.raises(ValueError, match=message):
            StreamedMemory(path)
    save_memory(path, presets.log_sum_exp(), torch.randn(2, 10, 4))
    with pytest.raises(ValueError, match=r"patterns \(n, d\)"):
        StreamedMemory(path)
    save_memory(path, ReadEnergy(Manhattan(), Exp(), Log()), keys)
    with pytest.raises(ValueError, match="weighted median"):
        StreamedMemory(path).retrieve(keys)
    save_memory(path, presets.log_sum_exp(), keys)
    memory = StreamedMemory(path)
    with pytest.raises(ValueError, match="share their last dimension"):
        memory.retrieve(keys[:, :3])
    with pytest.raises(TypeError, match="share one dtype"):
        memory.retrieve(keys.double())
    with pytest.raises(ValueError, match="steps must be"):
        memory.retrieve(keys, steps=0)
