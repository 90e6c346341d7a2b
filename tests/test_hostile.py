"""Files from a stranger: nothing that is loaded executes anything, and whatever is damaged gives one sentence, soon and in little memory."""

import io
import json
import os
import pickle
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, BytesStorageMetadata, Metadata, MetadataIndex
from typer.testing import CliRunner

from hopfield_amem import presets
from hopfield_amem.analysis.memorization import Memorization
from hopfield_amem.analysis.runs import records, status
from hopfield_amem.cli import app
from hopfield_amem.distributed import Ranks, ShardedMemory
from hopfield_amem.distributed.metadata import Plain, Reader
from hopfield_amem.layers import PatternMemory
from hopfield_amem.storage import FORMAT, load_memory, load_spec, save_memory
from hopfield_amem.streamed import StreamedMemory

DEEP = "[" * 100_000
LOADERS = {"load_memory": load_memory, "load_spec": load_spec, "PatternMemory": PatternMemory.load, "StreamedMemory": StreamedMemory}


class Trap:
    """Pickled, it makes a file where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.fixture(params=LOADERS)
def load(request):
    return LOADERS[request.param]


@pytest.fixture
def stored(tmp_path):
    """A file of sixteen patterns."""
    save_memory(tmp_path / "memory.safetensors", presets.log_sum_exp(2.0), torch.randn(16, 8), torch.randn(16, 3))
    return tmp_path / "memory.safetensors"


def refused(act, *kinds, largest=2**24, resident=2**27):
    """One sentence, in no more than so much memory: of Python's objects, and of the process."""
    begin_peak()
    before = peak()
    tracemalloc.start()
    try:
        with pytest.raises(kinds or (ValueError,)) as caught:
            act()
        assert len(str(caught.value)) > 20
        assert tracemalloc.get_traced_memory()[1] < largest
    finally:
        tracemalloc.stop()
    assert peak() - before < resident
    return str(caught.value)


def begin_peak():
    """Let Linux measure the peak of memory anew; elsewhere nothing."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes that the process held at most; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def content(spec, **tensors):
    """A file with a spec of our choice, and tensors of declared shapes."""
    named = {"__metadata__": {FORMAT: spec if isinstance(spec, str) else json.dumps({"format": FORMAT, "version": 1, "spec": spec})}} | tensors
    return header(json.dumps(named).encode())


def test_a_pickle_in_place_of_a_memory_is_not_opened(load, tmp_path):
    trap, file = tmp_path / "sprung", tmp_path / "memory.safetensors"
    for write in (lambda: file.write_bytes(pickle.dumps(Trap(trap))), lambda: torch.save({"keys": Trap(trap)}, file)):
        write()
        assert "damaged or no safetensors file" in refused(lambda: load(file))
    assert not trap.exists()


def test_a_memory_cut_anywhere_or_with_another_beginning_is_refused(load, stored):
    whole = stored.read_bytes()
    for end in range(0, len(whole), 64):
        stored.write_bytes(whole[:end])
        refused(lambda: load(stored))
    for wrong in (b"PK\x03\x04" + whole[4:], b"\x89HDF" + whole[4:], b"\0" * len(whole), whole[::-1]):
        stored.write_bytes(wrong)
        refused(lambda: load(stored))


@pytest.mark.parametrize("length", [0, 2**20, 2**32, 2**40, 2**63, 2**64 - 1])
def test_a_header_that_declares_another_length_is_refused(load, length, stored):
    stored.write_bytes(header(b"{}", length) + b" " * 100)
    refused(lambda: load(stored))


@pytest.mark.parametrize("shape", [[2**40, 8], [2**62, 2**62], [-1, 8], [0.5, 8], "8"])
def test_tensors_larger_than_the_file_are_refused(load, shape, tmp_path):
    file = tmp_path / "memory.safetensors"
    file.write_bytes(content("{}", keys={"dtype": "F32", "shape": shape, "data_offsets": [0, 2**45]}) + b"\0" * 64)
    refused(lambda: load(file))


SPECS = [
    DEEP, "null", "[]", '"text"', "{}", "NaN", "9" * 5000,
    {"is": "system", "args": "touch sprung"}, {"is": "__import__"}, {"is": ["Dot"]}, {"is": "ReadEnergy"}, {"tuple": "abc"}, {"integers": [[1], [2, 3]]},
    {"is": "ReadEnergy", "similarity": {"is": "Custom", "function": "os.system"}, "separation": {"is": "Exp"}, "beta": 1.0},
    {"is": "ReadEnergy", "similarity": {"is": "Dot"}, "separation": {"is": "Elementwise", "function": "exec"}, "beta": 1.0},
    {"is": "ReadEnergy", "similarity": {"is": "Dot"}, "separation": {"is": "Exp"}, "beta": 1.0, "eval": "1"},
    {"is": "ReadEnergy", "similarity": {"is": "Dot"}, "separation": {"is": "Exp"}, "scaling": {"is": "Log"}, "beta": "1"},
    {"is": "ReadEnergy", "similarity": {"is": "Dot"}, "separation": {"is": "Power", "degree": 10**30}, "scaling": {"is": "Log"}, "beta": 10**400},
    {"is": "Memory", "read": {"is": "Dot"}},
    {"is": "Memory", "read": None, "write": "os.system"},
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec)[:40])
def test_a_spec_builds_parts_of_energies_and_nothing_else(load, spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "memory.safetensors"
    file.write_bytes(content(spec, keys={"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}) + b"\0" * 64)
    refused(lambda: load(file))
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


@pytest.fixture
def checkpoint(tmp_path):
    """The folder of a memory of one rank, and that memory."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    memory = ShardedMemory(4, presets.log_sum_exp(), Ranks())
    memory.store(torch.randn(5, 4))
    memory.save(tmp_path / "checkpoint")
    yield tmp_path / "checkpoint", memory
    dist.destroy_process_group()


def rewritten(folder, change):
    """The metadata of a checkpoint, changed."""
    found = pickle.loads((folder / ".metadata").read_bytes())  # of our own making
    change(found)
    (folder / ".metadata").write_bytes(pickle.dumps(found))


def test_a_checkpoint_whose_metadata_would_run_something_runs_nothing(checkpoint, tmp_path):
    folder, memory = checkpoint
    trap = tmp_path / "sprung"
    for pickled in (pickle.dumps(Trap(trap)), pickle.dumps([Trap(trap)], protocol=0)):
        (folder / ".metadata").write_bytes(pickled)
        assert "no part of a checkpoint" in refused(lambda: memory.load(folder))
    assert not trap.exists() and len(memory) == 5


def trapped(trap):
    """A pickle with a trap, as torch writes one."""
    written = io.BytesIO()
    torch.save(Trap(trap), written)
    return written.getvalue()


def test_a_checkpoint_whose_data_would_run_something_runs_nothing(checkpoint, tmp_path):
    """Declared as bytes, an entry is a pickle to torch; declared as a tensor, it is read with ``weights_only``."""
    folder, memory = checkpoint
    trap, honest = tmp_path / "sprung", (folder / ".metadata").read_bytes()
    (folder / "other.distcp").write_bytes(pickled := trapped(trap))
    for name in ("next", "0.patterns", "0.ids", "1.patterns"):
        for declared in (lambda entry: BytesStorageMetadata(), lambda entry: entry):

            def change(found, name=name, declared=declared):
                found.state_dict_metadata[name] = declared(found.state_dict_metadata.get(name, found.state_dict_metadata["0.patterns"]))
                for index in [index for index in found.storage_data if index.fqn == name]:
                    found.storage_data[index] = _StorageInfo("other.distcp", 0, len(pickled))
                found.storage_data[MetadataIndex(name)] = _StorageInfo("other.distcp", 0, len(pickled))

            rewritten(folder, change)
            refused(lambda: memory.load(folder))
            (folder / ".metadata").write_bytes(honest)
    for file in folder.glob("*.distcp"):
        file.write_bytes(pickled + bytes(2**16))
    refused(lambda: memory.load(folder), ValueError, OSError)
    assert not trap.exists() and len(memory) == 5


@pytest.mark.parametrize(
    "pickled",
    [b"cpathlib\nPosixPath\n(N(dVname\nVother\nstb.", b"ctorch.distributed.checkpoint.metadata\nMetadata\n(N(dV__init__\nNstb.",
     b"ctorch.serialization\n_get_layout\n(N(dV__name__\nVother\nstb.",
     b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n(I0\ntR(dV_value_\nI7\nsb."],
    ids=["Path", "Metadata", "function", "member"],
)  # fmt: skip
def test_a_checkpoint_changes_no_class(pickled, tmp_path):
    held = (Path.name, Metadata.__init__, torch.serialization._get_layout.__name__, _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT.value)
    (tmp_path / ".metadata").write_bytes(pickled)
    assert "sets attributes" in refused(lambda: Reader(tmp_path).read_metadata())
    assert held == (Path.name, Metadata.__init__, torch.serialization._get_layout.__name__, _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT.value)


def test_attributes_are_looked_up_on_memory_formats_only():
    """Early releases of Python 3.11 write a member of an enumeration as ``getattr(owner, name)``."""
    written = b"cbuiltins\ngetattr\n(ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\nV%b\ntR."
    assert Plain(io.BytesIO(written % b"TORCH_PRESERVE_FORMAT")).load() is _MEM_FORMAT_ENCODING.TORCH_PRESERVE_FORMAT
    others = b"cbuiltins\ngetattr\n(ctorch.distributed.checkpoint.metadata\nMetadata\nV__init__\ntR."
    for pickled in (others, written % b"__class__", written % b"mro"):
        with pytest.raises(pickle.UnpicklingError, match="no memory format"):
            Plain(io.BytesIO(pickled)).load()


@pytest.mark.parametrize("pickled", [b"Nr" + struct.pack("<I", 2**24) + b".", b"\x96" + struct.pack("<Q", 2**29) + b"."], ids=["memo", "bytearray"])
def test_a_short_description_takes_little_memory(pickled, tmp_path):
    (tmp_path / ".metadata").write_bytes(pickled)
    refused(lambda: Reader(tmp_path).read_metadata())


def test_a_checkpoint_names_files_of_its_folder_and_no_more_than_they_hold(checkpoint, tmp_path):
    folder, memory = checkpoint
    whole = (folder / ".metadata").read_bytes()

    def elsewhere(found):
        for info in found.storage_data.values():
            info.relative_path = f"../{folder.name}/{info.relative_path}"

    def huge(found):
        found.state_dict_metadata["0.patterns"].size = torch.Size([2**40, 4])

    def transformed(found):
        for info in found.storage_data.values():
            info.transform_descriptors = ["stream.zstd"]

    for change, said in ((elsewhere, "outside of the folder"), (huge, "the files hold"), (transformed, "transforms")):
        rewritten(folder, change)
        assert said in refused(lambda: memory.load(folder))
        (folder / ".metadata").write_bytes(whole)
    memory.load(folder)
    assert len(memory) == 5


def test_a_checkpoint_cut_anywhere_is_refused(checkpoint):
    folder, memory = checkpoint
    for file in (folder / ".metadata", *folder.glob("*.distcp")):
        whole = file.read_bytes()
        for end in range(0, len(whole), 64 if file.name == ".metadata" else 512):
            file.write_bytes(whole[:end])
            refused(lambda: memory.load(folder), ValueError, OSError)
        file.write_bytes(whole)


@pytest.mark.parametrize("text", ["", DEEP, "{", "\0" * 64, "[1", '{"a": ' + "9" * 5000 + "}", "[]", "3", json.dumps({"provenance": DEEP})])
def test_records_that_are_none_are_named_and_left_out(text, tmp_path):
    run = "0" * 20
    for name in (f"{run}.json", f"{run}.failed.json", f"{run}.claim"):
        (tmp_path / name).write_text(text)
    with pytest.warns(UserWarning, match="corrupt"):
        assert records(tmp_path) == []
    assert not status(tmp_path).done
    (tmp_path / "all.jsonl").write_text(text or "{")
    refused(lambda: Memorization.load(tmp_path / "all.jsonl"))


def shown(*arguments):
    """What a command says when it refuses: exit 1 or 2, without a traceback."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert found.exit_code in (1, 2) and isinstance(found.exception, SystemExit), found.exception
    return found.output


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('touch sprung')", "log_sum_exp(__import__('os').system('touch sprung'))", "(" * 10_000, "log_sum_exp(beta=9**9**9)", "[" * 400,
     "log_sum_exp.__globals__", "learned_kernel('exec')", "log_sum_exp(beta=" + "9" * 400 + ")", "", "\0", "os",
     "log_sum_exp(*[1])", "log_sum_exp(**{'beta': 'x'})"],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_an_energy_given_as_text_executes_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Error" in shown("landscape", "--energy", text, "--out", tmp_path / "out")
    assert not Path("sprung").exists()


def test_patterns_and_configs_of_a_command_execute_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array, trap = tmp_path / "patterns.npy", tmp_path / "sprung"
    whole = io.BytesIO()
    np.save(whole, np.zeros((4, 8)))
    huge = whole.getvalue().replace(b"(4, 8), }      ", b"(4000000000,8),}")
    archive = io.BytesIO()
    np.savez(archive, np.zeros(3))
    hostile = [pickle.dumps(Trap(trap)), huge, archive.getvalue(), b"", *(whole.getvalue()[:end] for end in range(0, len(whole.getvalue()), 64))]
    np.save(array, np.array([Trap(trap)], dtype=object), allow_pickle=True)
    for bytes_ in [array.read_bytes(), *hostile]:
        array.write_bytes(bytes_)
        assert "holds no array" in shown("landscape", "--patterns", array, "--out", tmp_path / "out")
    for text in ("", DEEP, "[[]]", "{"):
        (tmp_path / "configs.json").write_text(text)
        shown("runs", "take", "os:system", tmp_path / "configs.json", tmp_path / "runs")
    assert not trap.exists()
