"""Slots of feed-forward blocks read as memories."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

pytest.importorskip("transformers")
import transformers as hf
from tiny_models import GROUPED, build, output, padded

from hopfield_amem import presets
from hopfield_amem.analysis.association import active_slots
from hopfield_amem.analysis.tally import SlotTally
from hopfield_amem.integrations.huggingface import hopfield_, inspect, own_activation


def test_slots_of_a_feed_forward_memory_by_hand():
    activation = torch.tensor([[4.0, 0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.001, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert active_slots(activation).sum(-1).tolist() == [1, 2, 4, 0] and active_slots(activation, 0.0).sum(-1).tolist() == [1, 3, 4, 0]
    tally = SlotTally(0.01)
    tally.add(activation[:1])
    tally.add(activation[1:])
    found = tally.summary()
    assert found["tokens"] == 4 and found["slots"] == 5 and found["active"] == 7 / 4 and found["dead"] == 1
    assert found["effective"] == pytest.approx((1 + 2.001**2 / 2.000001 + 4 + 0) / 4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "modernbert", "vit", "t5"])
def test_slots_of_a_feed_forward_block(name):
    """The activations are those that the second projection is given: as many slots as its keys, dead where its keys are zero."""
    model, inputs = build(name, "sdpa"), padded(name)
    found = inspect(model, inputs).feed_forwards
    second = dict(model.named_modules())[found.blocks[1]]
    given = []
    handle = second.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    output(model, inputs)
    handle.remove()
    tokens = inputs["attention_mask"].bool() if name != "vit" else torch.ones(3, 17, dtype=torch.bool)
    size = given[0][tokens].abs()
    active = size > 0.01 * size.amax(-1, keepdim=True)
    assert found.slots[1] == size.shape[-1] and found.tokens[1] == len(size)
    assert found.active[1].item() == pytest.approx(active.double().mean().item())
    assert found.dead[1].item() == pytest.approx((~active.any(0)).double().mean().item())
    assert found.effective[1].item() == pytest.approx((size.sum(-1).square() / size.square().sum(-1)).mean().item(), rel=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "modernbert"])
def test_memories_that_took_the_place_of_blocks(name):
    """A swapped block is watched without being called otherwise: same outputs, and with its own activation the same slots."""
    model, inputs = build(name, "sdpa"), padded(name)
    stock = inspect(model, inputs).feed_forwards
    report = hopfield_(model, own_activation)
    before, during = output(model, inputs), []
    handle = model.register_forward_hook(lambda _, __, found: during.append((found.logits if "logits" in found else found.last_hidden_state).clone()))
    found = inspect(model, inputs)
    handle.remove()
    assert torch.equal(during[0], before) and not found.skipped and len(found.feed_forwards.blocks) == 2
    for column in ("slots", "active", "effective", "dead", "tokens"):
        assert torch.allclose(getattr(found.feed_forwards, column).double(), getattr(stock, column).double(), rtol=1e-5), column
    report.undo()
    if name == "gpt2":
        hopfield_(model, presets.entmax(1.5))
        before = output(model, inputs)
        sparse = inspect(model, inputs, threshold=0.0).feed_forwards
        assert torch.equal(output(model, inputs), before) and (sparse.active < 1).all() and (sparse.effective < stock.effective).all()


def test_a_dead_slot_is_found():
    model, inputs = build("t5", "sdpa"), padded("t5")
    block, given = model.encoder.block[0].layer[1].DenseReluDense, []
    handle = block.wo.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    before = inspect(model, inputs, threshold=0.0).feed_forwards
    handle.remove()
    alive = (given[0][inputs["attention_mask"].bool()] > 0).any(0).nonzero().flatten()
    with torch.no_grad():
        block.wi.weight[alive[:12]] = 0
    after = inspect(model, inputs, threshold=0.0).feed_forwards
    assert after.dead[0] == before.dead[0] + 12 / 48 and after.active[0] < before.active[0] < 0.6  # half of what ReLU sees is negative


def test_experts_and_unknown_blocks_are_skipped_with_a_reason():
    model = hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, num_local_experts=2))
    found = inspect(model, padded("llama"))
    assert not found.feed_forwards.blocks and len(found.heads.layers) == 2
    assert "one tensor of all experts" in found.skipped["model.layers.0.mlp.experts"] and len(found.skipped) == 2
