"""What the kernels need of a GPU, from compiling them for one: no register spills, shared memory suffices, tensor cores and asynchronous copies work."""

import os

import pytest
import torch

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET", "0") not in {"", "0"}:
    pytest.skip("an interpreter compiles nothing", allow_module_level=True)

from hopfield_amem import ENERGIES
from hopfield_amem.kernels.triton import linear_recording, recording, resources

READS = {
    "softmax": ("log_sum_exp", {}),
    "softmax, tied": ("log_sum_exp", dict(tied=True)),
    "softmax, causal": ("log_sum_exp", dict(causal=True)),
    "softmax, wide": ("log_sum_exp", dict(width=128)),
    "norms": ("epanechnikov", {}),
    "threshold": ("sparsemax", {}),
    "powers": ("squared_relu_feed_forward", dict(width=128)),
}


def launched(name, **given):
    read = recording.operands(ENERGIES[name], **given)
    return read, recording.launches(read)


@pytest.mark.parametrize("name", READS)
def test_default_configurations_are_clean(name):
    energy, given = READS[name]
    _, found = launched(energy, **given)
    assert {each.role for each in found} >= {"forward", "queries", "slots"}
    for each in found:
        used = resources.compile_launch(each, 90)
        assert used.spills == 0 and used.stack == 0
        assert used.shared <= 227 * 1024
        assert used.grouped > 0, "wide tiles multiply by warp groups"
        assert used.copies > 0, "loads are asynchronous"


@pytest.mark.parametrize(
    ("name", "given"), [("log_sum_exp", {}), ("linear_attention", dict(width=128)), ("epanechnikov", {}), ("log_sum_exp", dict(decay=True))], ids=str
)
def test_solves_of_written_memories_are_clean(name, given):
    found = recording.written_launches(ENERGIES[name], **given)
    assert {each.role for each in found} >= {"solve", "transposed", "queries", "slots"}
    for each in found:
        if each.role in ("solve", "transposed"):
            used = resources.compile_launch(each, 90)
            assert used.clean and used.stack == 0
            assert used.products > 0 and used.copies > 0


def test_older_gpus_have_less_shared_memory():
    read = recording.operands(ENERGIES["log_sum_exp"])
    used = resources.compile_launch(recording.launches(read, 80)[0], 80)
    assert used.clean and used.shared <= 163 * 1024
    assert used.products > 0 and used.grouped == 0


def test_nothing_is_allocated_and_the_same_code_is_recognised():
    _, first = launched("log_sum_exp")
    _, second = launched("exponential")  # the same factors but for the confinement, which kernels do not see
    _, other = launched("softmax1")
    assert all(t.device.type == "meta" for each in first for t in each.arguments if isinstance(t, torch.Tensor))
    assert [each.source for each in first] == [each.source for each in second]
    assert first[0].source != other[0].source


def test_few_queries_are_split_and_merged():
    _, found = launched("log_sum_exp", queries=32, slots=2**18, batch=1, heads=1)
    assert [each.role for each in found] == ["forward", "merge", "queries", "slots"]


def test_the_code_of_what_leaves_call_is_part_of_their_identity():
    _, found = launched("gelu_feed_forward")
    assert found[0].constants["LEAF"].content == found[0].constants["LEAF"].jet.cache_key


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("decay", ["", "scalar", "channel"])
@pytest.mark.parametrize("width", [64, 128])
def test_linear_memories_are_clean(width, decay, arch):
    found = linear_recording.linear_launches(linear_recording.linear_operands(width, decay=decay, tied=False, group=2), arch)
    assert {each.role for each in found} >= {"solve", "scan", "scan_back", "outputs", "outputs_back", "gradients"}
    assert ("decayed" in {each.role for each in found}) == (decay == "channel")
    for each in {each.source: each for each in found}.values():
        used = resources.compile_launch(each, arch)
        assert used.clean and used.stack == 0, used
        if each.role in {"decayed", "rated"}:  # no products
            continue
        assert used.products > 0
        assert used.copies > 0 or each.config.stages == 1 or decay == "channel", "loads are asynchronous where no loop is inside theirs"


@pytest.mark.parametrize("given", [dict(erases=False, decay="", rated=False), dict(erases=False, decay="channel"), dict(width=20, columns=9), dict(width=256)])
def test_other_linear_memories_are_clean(given):
    for each in linear_recording.linear_launches(linear_recording.linear_operands(**given)):
        assert resources.compile_launch(each, 90).clean, each.name
