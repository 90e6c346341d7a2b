"""Feed-forward blocks as memories: with their own activation nothing changes, with another energy what the energy says."""

import pytest
import torch

pytest.importorskip("transformers")

from feedforward_models import BLOCKS, MODELS, close, made, output

from hopfield_amem import presets
from hopfield_amem.integrations.huggingface import hopfield_, own_activation
from hopfield_amem.layers.feedforward import HopfieldFFN


@pytest.mark.parametrize("name", MODELS)
def test_with_its_own_activation_a_model_is_unchanged(name):
    model = made(name)
    pattern, activation = BLOCKS[name]
    before, keys, parameters = output(model), list(model.state_dict()), {n: id(p) for n, p in model.named_parameters()}
    grads = torch.autograd.grad(before.square().mean(), list(model.parameters()), allow_unused=True)
    report = hopfield_(model, own_activation)
    after = output(model)
    close(after, before)
    assert list(model.state_dict()) == keys and {n: id(p) for n, p in model.named_parameters()} == parameters
    for ours, theirs in zip(torch.autograd.grad(after.square().mean(), list(model.parameters()), allow_unused=True), grads, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert (ours - theirs).abs().max() <= 2e-6 * max(float(g.abs().max()) for g in grads if g is not None)
    assert list(report.replaced) == [pattern.replace("*", str(layer)) for layer in range(2)] and not report.skipped
    probe = torch.linspace(-4, 4, 33)
    for memory in report.replaced.values():
        assert isinstance(memory, HopfieldFFN) and memory.slots == (128 if name == "GPT-2" else 48) and memory.dim == 32
        torch.testing.assert_close(memory.given.separation.slope(probe), activation(probe))
        assert memory.energy(torch.randn(5, 32)).shape == (5,) and memory.association(torch.randn(5, 32)).shape == (5, memory.slots)


@pytest.mark.parametrize("name", ["GPT-2", "ModernBERT", "BERT"])
def test_dropout_falls_on_the_same_numbers(name):
    model = made(name).train()
    torch.manual_seed(3)
    before = output(model)
    hopfield_(model, own_activation)
    torch.manual_seed(3)
    close(output(model), before)


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "ModernBERT", "BERT"])
def test_what_is_saved_loads_as_the_stock_model(name, tmp_path):
    model = made(name)
    before = output(model)
    hopfield_(model, presets.entmax())
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(output(type(model).from_pretrained(tmp_path).eval()), before, rtol=0, atol=0)


def test_generation_is_the_same_token_for_token():
    model, start = made("GPT-2"), torch.randint(3, 50, (2, 4))
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, "attention_mask": torch.ones_like(start)}
    before = model.generate(start, **options)
    hopfield_(model, own_activation)
    assert torch.equal(model.generate(start, **options), before)


@pytest.mark.parametrize("energy", [presets.log_sum_exp(), presets.entmax(), presets.softmax1(), presets.epanechnikov(0.01), presets.relu_feed_forward(2.0)])
@pytest.mark.parametrize("name", ["GPT-2", "Llama", "ModernBERT", "BERT"])
def test_other_energies_read_the_same_memories(name, energy):
    model = made(name)
    before = output(model)
    report = hopfield_(model, energy)
    fqn, memory = next(iter(report.replaced.items()))
    x = torch.randn(2, 5, 32)
    weights = memory.association(x)
    read = energy.averaged(weights, weights.sum(-1, keepdim=True)) if energy.divides else weights
    stored = dict(model.get_submodule(fqn).named_children())
    if name == "GPT-2":
        expected = stored["c_proj"](read)
        torch.testing.assert_close(weights, energy.weights(x, stored["c_fc"].weight.T, bias=energy.beta * stored["c_fc"].bias), rtol=1e-5, atol=1e-6)
    elif name == "Llama":
        expected = stored["down_proj"](read * stored["up_proj"](x))
    elif name == "ModernBERT":
        expected = stored["Wo"](read * stored["Wi"](x)[..., 48:])
    else:
        expected = read
    torch.testing.assert_close(memory(x), expected, rtol=1e-5, atol=1e-6)
    assert (output(model) - before).abs().max() > 1e-3
    rate = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        losses.append(output(model).square().mean())
        rate.zero_grad()
        losses[-1].backward()
        rate.step()
    assert losses[2] < losses[0]
    assert all(p.grad is not None for n, p in model.named_parameters() if ".mlp." in n or ".intermediate." in n)


def test_a_function_may_choose_an_energy_for_every_block():
    energies = iter([presets.entmax(), presets.log_sum_exp()])
    report = hopfield_(made("GPT-2"), lambda block: next(energies))
    assert [memory.given for memory in report.replaced.values()] == [presets.entmax(), presets.log_sum_exp()]
