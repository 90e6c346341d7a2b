"""Heads of a transformer read as memories agree with the attentions that the model itself returns."""

import os
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("transformers")

from tiny_models import MODELS, build, close, output, padded

from hopfield_amem import presets
from hopfield_amem.analysis.tally import HeadTally
from hopfield_amem.descent import FixedPoint, Flow
from hopfield_amem.integrations.huggingface import inspect, reading, register_attention

NO_SDPA = {"gemma2", "gpt_oss"}  # transformers refuses it: capped scores, sinks


@pytest.mark.parametrize(("name", "implementation"), [*((name, "eager") for name in MODELS), *((name, "sdpa") for name in MODELS if name not in NO_SDPA)])
def test_heads_agree_with_the_attentions_of_eager(name, implementation):
    inputs = padded(name)
    model = build(name, implementation)
    before = output(model, inputs)
    during = []
    handle = model.register_forward_hook(lambda _, __, found: during.append((found.logits if "logits" in found else found.last_hidden_state).clone()))
    found = inspect(model, inputs)
    handle.remove()
    assert torch.equal(during[0], before) and torch.equal(output(model, inputs), before)

    with torch.no_grad():
        attentions = build(name, "eager")(**inputs, output_attentions=True).attentions
    heads = found.heads
    assert heads.effective.shape == (2, 4) and len(attentions) == 2
    tokens = inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones(3, 17, dtype=torch.bool)
    for layer, weights in enumerate(attentions):
        counted = tokens[:, None] & ((weights > 0).sum(-1) > 1)
        assert torch.equal(heads.queries[layer], counted.sum((0, 2)))

        def mean(value, counted=counted):
            return (value.double() * counted).sum((0, 2)) / counted.sum((0, 2))

        mass = weights.sum(-1)
        assert torch.allclose(heads.effective[layer], mean(mass.square() / weights.square().sum(-1).clamp_min(1e-30)), rtol=1e-5)
        size = 1 + ((weights.sort(-1, descending=True).values.cumsum(-1) < 0.9 * (1 - 1e-6) * mass[..., None])[..., :-1]).sum(-1)
        assert torch.allclose(heads.size[layer], mean(size), atol=2e-2)  # which side of 0.9 a weight falls is decided by rounding
        first = tokens.long().argmax(-1)[:, None, None, None].expand(*weights.shape[:-1], 1)
        assert torch.allclose(heads.first[layer], mean(weights.gather(-1, first).squeeze(-1)), atol=1e-5)
        assert torch.allclose(heads.null[layer], mean(1 - mass), atol=1e-5)
        top = weights.topk(2, -1).values
        noise = (weights.square().sum(-1) - top[..., 0].square()) / top[..., 0].square().clamp_min(1e-30)
        assert torch.allclose(1 / heads.snr[layer], mean(noise), rtol=1e-4, atol=1e-6)
        margin = torch.where(counted, (top[..., 0] / top[..., 1]).log(), torch.nan)
        assert torch.allclose(heads.margin[layer], margin.transpose(0, 1).flatten(1).nanmedian(1).values.double(), rtol=1e-3, atol=1e-5)
    if name == "gpt_oss":
        assert (heads.null > 0.01).all() and len(found.skipped) == 2 and "experts" in next(iter(found.skipped))
    else:
        assert not found.skipped and len(found.feed_forwards.blocks) == 2


@pytest.mark.parametrize(
    ("name", "implementation", "side"),
    [("llama", "sdpa", "left"), ("llama", "eager", "left"), ("llama", "sdpa", "right"), ("bert", "sdpa", "right"), ("modernbert", "eager", "left")],
)
def test_padding_is_excluded(name, implementation, side):
    """A padded batch is the sequences one by one: padding is no query, no slot and no token of a feed-forward block."""
    model, inputs = build(name, implementation), padded(name, side)
    alone = [{"input_ids": ids[mask.bool()][None]} for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    close(inspect(model, inputs), inspect(model, alone))
    assert inspect(model, inputs).feed_forwards.tokens.tolist() == [46, 46]


@pytest.mark.parametrize("name", ["gpt_oss", "vit"])
def test_several_batches_are_one(name):
    model, inputs = build(name), padded(name)
    split = [{key: value[i : i + 1] for key, value in inputs.items()} for i in range(3)]
    close(inspect(model, inputs), inspect(model, iter(split)))


def test_blocks_of_rows_are_all_rows(monkeypatch):
    model, inputs = build("gemma2"), padded("gemma2")
    whole = inspect(model, inputs)
    monkeypatch.setattr(reading, "BLOCK", 3 * 4 * 17 * 5)  # five rows at a time, two at the end
    close(whole, inspect(model, inputs))


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


def test_memory_is_that_of_a_block_of_rows(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 2**14)
    query, keys = torch.randn(1, 2, 700, 4), torch.randn(1, 2, 700, 4)
    module = SimpleNamespace(is_causal=False)
    call = reading.Call(module, len, query, keys, keys, None, {"scaling": 0.5}, torch.zeros(1, 700, 2, 4))
    tally, seen = HeadTally(), torch.ones(1, 700, dtype=torch.bool)
    with Largest() as largest:
        for rows, block, _ in reading.readings(call):
            tally.add(block, seen[:, rows], torch.zeros(1, dtype=torch.long))
    assert tally.summary()["queries"].tolist() == [700, 700]
    assert largest.elements <= 2**14 < 2 * 700 * 700


def test_energy_is_that_of_the_spec():
    """Per head, the mean of ``log_sum_exp(scaling)`` at the queries; hidden states equal to it by hand."""
    model = build("bert", "sdpa")
    inputs, seen = padded("bert"), {}
    attention = model.encoder.layer[1].attention.self
    handles = [layer.register_forward_hook(lambda m, i, o, n=n: seen.__setitem__(n, o)) for n, layer in (("q", attention.query), ("k", attention.key))]
    found = inspect(model, inputs).heads
    for handle in handles:
        handle.remove()
    query, keys = (seen[n].unflatten(-1, (4, 8)).transpose(1, 2) for n in "qk")
    tokens = inputs["attention_mask"].bool()
    energy = presets.log_sum_exp(8**-0.5)(query, keys, presence=tokens[:, None, None])
    expected = (energy * tokens[:, None]).sum((0, 2)) / tokens.sum()
    assert torch.allclose(found.energy[1], expected.double(), rtol=1e-5) and torch.allclose(found.beta, torch.tensor(8**-0.5).double())


ENERGIES = {"entmax": presets.entmax(1.5, 2.0), "softmax1": presets.softmax1(), "epanechnikov": presets.epanechnikov(0.5), "softmax": presets.log_sum_exp()}
DESCENTS = {"one": FixedPoint(steps=1), "three": FixedPoint(steps=3, tolerance=0), "flow": Flow(time=1.0, method="euler")}
TAKES = {"llama": set(ENERGIES), "gpt_oss": set(ENERGIES) - {"epanechnikov"}, "gemma2": set(ENERGIES) - {"epanechnikov"}, "t5": {"softmax", "softmax1"}}
"""What holds sinks (a score), caps (a score) and position biases (an exponential)."""


@pytest.mark.parametrize(
    ("name", "energy", "descent"),
    [(name, energy, descent) for name in TAKES for energy in sorted(TAKES[name]) for descent in DESCENTS if (name, descent) != ("gemma2", "three")],
)
def test_attention_of_another_energy(name, energy, descent):
    """Weights, energies and states are those of the energy and the descent: what they read is the model's output, or the module would be skipped."""
    model, inputs = build(name), padded(name)
    model.set_attn_implementation(register_attention(f"inspected {energy} {descent}", ENERGIES[energy], DESCENTS[descent]))
    before = output(model, inputs)
    found = inspect(model, inputs)
    assert torch.equal(output(model, inputs), before) and len(found.heads.layers) == 2
    softmax = inspect(build(name), inputs).heads
    if (energy, descent) == ("softmax", "one"):
        assert torch.allclose(found.heads.effective, softmax.effective, rtol=1e-4) and torch.allclose(found.heads.energy, softmax.energy, rtol=1e-4)
    else:
        assert not torch.allclose(found.heads.energy, softmax.energy, rtol=1e-2)
    assert bool((found.heads.null > 0).any()) == (energy == "softmax1" or name == "gpt_oss")


def test_states_are_those_of_the_descent():
    """After three steps the energy of every state has fallen, and the margin is that of the state that reads."""
    inputs, found = padded("bert"), {}
    for name in ("one", "three"):
        model = build("bert")
        model.set_attn_implementation(register_attention(f"inspected softmax {name}", presets.log_sum_exp(), DESCENTS[name]))
        found[name] = inspect(model, inputs).heads
    assert (found["three"].energy[0] < found["one"].energy[0]).all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_mask_of_four_dimensions(dtype):
    """The same mask as the padding's, given in full: padding is what does not see itself."""
    model, inputs = build("llama", "sdpa"), padded("llama")
    mask = inputs["attention_mask"].bool()
    full = mask[:, None, None] & torch.ones(17, 17, dtype=torch.bool).tril()
    given = full if dtype == torch.bool else torch.where(full, 0.0, torch.finfo(torch.float32).min)
    positions = (mask.long().cumsum(-1) - 1).clamp_min(0)
    inputs["position_ids"] = positions
    close(inspect(model, inputs), inspect(model, inputs | {"attention_mask": given}))
