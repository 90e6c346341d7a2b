"""What stands inside of a block is called in its memory too: adapters, hooks, quantised weights."""

import pytest
import torch

pytest.importorskip("transformers")

from feedforward_models import Adapted, Around, Block, Counted, close, made, output

from hopfield_amem import presets
from hopfield_amem.integrations.huggingface import FeedForwardMemory, hopfield_, own_activation


@pytest.mark.parametrize("energy", [own_activation, presets.entmax()])
@pytest.mark.parametrize("name", ["GPT-2", "Llama", "ModernBERT"])
def test_adapters_are_called_whether_they_come_before_or_after(name, energy):
    early, late = made(name), made(name)
    late.load_state_dict(early.state_dict())
    hopfield_(late, energy)
    for model in (early, late):
        torch.manual_seed(1)
        for block in [m for m in model.modules() if type(m).__name__.endswith("MLP") or isinstance(m, FeedForwardMemory)]:
            for child in [n for n, c in block.named_children() if hasattr(c, "weight")]:
                setattr(block, child, Adapted(block.get_submodule(child)))
    stock = output(early)
    hopfield_(early, energy)
    close(output(early), output(late))
    if energy is own_activation:
        close(output(early), stock)
        assert (stock - output(made(name))).abs().max() > 1e-3


def test_quantised_and_hooked_children_are_called():
    model = Around(Block(), Block(gated=True))
    for block in model.blocks:
        block.a = Counted(6, 10)
        block.out.register_forward_hook(lambda module, given, out: out + 1)
    x = torch.randn(3, 6)
    before, Counted.calls = model(x), 0
    hopfield_(model, own_activation)
    close(model(x), before)
    assert Counted.calls == 2


def test_a_distance_declines_keys_that_may_only_be_called():
    model = Around(Block(), Block())
    model.blocks[1].a = Counted(6, 10)
    report = hopfield_(model, presets.distance())
    assert list(report.replaced) == ["blocks.0"] and "a may only be called" in report.skipped["blocks.1"]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # of transformers, which peft calls
def test_peft_adapters_before_and_after():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["gate_proj", "down_proj"], init_lora_weights=False, r=2)
    early, late = made("Llama"), made("Llama")
    late.load_state_dict(early.state_dict())
    report = hopfield_(late, own_activation)
    models = []
    for model in (early, late):
        torch.manual_seed(1)
        models.append(peft.get_peft_model(model, config).eval())
    stock = models[0](torch.arange(3, 12)[None]).logits
    hopfield_(models[0], own_activation)
    for model in models:
        close(model(torch.arange(3, 12)[None]).logits, stock)
    report.undo()
    close(models[1](torch.arange(3, 12)[None]).logits, stock)


@pytest.mark.filterwarnings("ignore")  # torchao's own, on import
def test_int8_weights():
    quantization = pytest.importorskip("torchao.quantization")
    model = made("Llama")
    plain = output(model)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig(), filter_fn=lambda module, fqn: fqn.endswith("_proj") and "mlp" in fqn)
    before = output(model)
    assert (before - plain).abs().max() > 0
    hopfield_(model, own_activation)
    torch.testing.assert_close(output(model), before, rtol=0, atol=0)
