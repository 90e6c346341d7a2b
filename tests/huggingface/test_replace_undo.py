"""Swapped models can be put back, copied, compiled and told of."""

import copy
import sys
import types

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

from feedforward_models import MODELS, Adapted, Around, Block, close, made, output

from hopfield_amem import presets
from hopfield_amem.integrations.huggingface import hopfield_, own_activation


@pytest.mark.parametrize("name", ["GPT-2", "BERT"])
def test_undo_puts_the_very_modules_back(name):
    model = made(name)
    before, modules, text = output(model), {n: id(m) for n, m in model.named_modules()}, repr(model)
    report = hopfield_(model, presets.entmax())
    assert {n: id(m) for n, m in model.named_modules()} != modules
    report.undo()
    assert {n: id(m) for n, m in model.named_modules()} == modules and repr(model) == text
    torch.testing.assert_close(output(model), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match="undone already"):
        report.undo()


def test_undo_keeps_what_happened_to_the_children():
    model = Around(Block())
    report = hopfield_(model, own_activation)
    model.train()
    model.blocks[0].a = Adapted(model.blocks[0].a)
    x = torch.randn(3, 6)
    before = model(x)
    model.eval()
    report.undo()
    close(model(x), before)
    assert type(model.blocks[0]) is Block and isinstance(model.blocks[0].a, Adapted) and not model.blocks[0].training


def test_undo_changes_nothing_when_something_stands_in_the_way():
    model = Around(Block(), Block())
    report = hopfield_(model, own_activation)
    memory = model.blocks[1]
    model.blocks[0] = nn.Identity()
    with pytest.raises(ValueError, match=r"blocks\.0"):
        report.undo()
    assert model.blocks[1] is memory


def test_swapped_models_copy_compile_and_leave_the_seed_alone():
    torch.compiler.reset()
    model = made("GPT-2")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    hopfield_(model, own_activation)
    assert torch.equal(torch.rand(3), expected)
    close(output(copy.deepcopy(model)), output(model))
    memory, x = model.transformer.h[0].mlp, torch.randn(2, 3, 32)
    torch.testing.assert_close(torch.compile(memory, fullgraph=True, backend="aot_eager")(x), memory(x))
    assert "keys=c_fc, values=c_proj" in repr(memory) and "gelu_tanh" in repr(memory)


def test_models_without_numbers_can_be_swapped():
    with torch.device("meta"):
        model = MODELS["Llama"]()
    assert len(hopfield_(model, presets.entmax()).replaced) == 2


def test_reports_print_what_happened():
    model = Around(Block(), Block(), Block())
    model.blocks[2].register_forward_hook(lambda *given: None)
    lines = str(hopfield_(model, presets.entmax(), r"blocks\.\d")).splitlines()
    assert lines[0] == "replaced: 2" and lines[1].split() == ["2", "×", "blocks.*", "Block", *str(presets.entmax()).split()]
    assert lines[2] == "skipped: 1" and "blocks.2" in lines[3] and "carries hooks" in lines[3]


def test_a_memory_takes_the_place_of_attention(monkeypatch):
    asked = []

    def mixing(module, memory):
        asked.append((type(module).__name__, memory))
        return "first layers stay" if module.layer_idx == 0 else nn.Identity()

    monkeypatch.setitem(sys.modules, "hopfield_amem.integrations.huggingface.mixer", types.SimpleNamespace(mixing=mixing))
    model = made("Llama")
    stock = model.model.layers[1].self_attn
    report = hopfield_(model, presets.delta_net())
    assert asked == [("LlamaAttention", presets.delta_net())] * 2
    assert isinstance(model.model.layers[1].self_attn, nn.Identity) and report.skipped == {"model.layers.0.self_attn": "first layers stay"}
    report.undo()
    assert model.model.layers[1].self_attn is stock
    with pytest.raises(ValueError, match=r"no attention module to swap.*\n.*layers\.0\.self_attn: first layers stay"):
        hopfield_(model, presets.delta_net(), r".*\.0\.self_attn")


def test_mixers_come_and_go_with_their_projections():
    model = made("Llama")
    before, modules = output(model), {n: id(m) for n, m in model.named_modules()}
    report = hopfield_(model, presets.delta_net())
    assert list(report.replaced) == [f"model.layers.{layer}.self_attn" for layer in range(2)]
    assert all(id(model.get_submodule(n)) == module for n, module in modules.items() if n.endswith("_proj"))
    assert (output(model) - before).abs().max() > 1e-3 and "write" in str(report)
    report.undo()
    assert {n: id(m) for n, m in model.named_modules()} == modules
    torch.testing.assert_close(output(model), before, rtol=0, atol=0)
