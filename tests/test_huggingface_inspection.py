"""What is said about a transformer's memories is true, and looking changes nothing."""

import math
import os
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("transformers")
import transformers as hf
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hopfield_amem import presets
from hopfield_amem.analysis.association import active_slots, effective_slots, metastable_class, metastable_size, retrieval_noise, score_margin
from hopfield_amem.analysis.inspection import tabulate
from hopfield_amem.analysis.plots.association import association_heads
from hopfield_amem.analysis.tally import HeadTally, Reading, SlotTally
from hopfield_amem.descent import FixedPoint, Flow
from hopfield_amem.integrations.huggingface import hopfield_, inspect, own_activation, reading, register_attention

SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = SIZES | TOKENS | {"num_key_value_heads": 2, "head_dim": 8}
MODELS = {
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GROUPED, sliding_window=6, attn_logit_softcapping=2.0)),
    "gpt_oss": lambda: hf.GptOssForCausalLM(hf.GptOssConfig(**GROUPED, num_local_experts=2, num_experts_per_tok=1, sliding_window=6)),
    "bert": lambda: hf.BertModel(hf.BertConfig(**SIZES, **TOKENS)),
    "modernbert": lambda: hf.ModernBertModel(hf.ModernBertConfig(**SIZES, **TOKENS, cls_token_id=1, sep_token_id=2, local_attention=6)),
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**{k: v for k, v in SIZES.items() if k != "vocab_size"}, image_size=16, patch_size=4)),
    "t5": lambda: hf.T5EncoderModel(hf.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)),
}
NO_SDPA = {"gemma2", "gpt_oss"}  # transformers refuses it: capped scores, sinks


def build(name, implementation="eager", sharpness=8.0):
    """A model of random weights, large enough that attention is far from uniform."""
    torch.manual_seed(1)
    model, sharpness = MODELS[name]().eval(), 1.0 if name == "t5" else sharpness  # T5 leaves the scaling to its weights
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2 and parameter.shape[0] != 50:
                parameter.mul_(sharpness)
    model.set_attn_implementation(implementation)
    assert model.config._attn_implementation == implementation
    return model


def padded(name, side="left"):
    if name == "vit":
        return {"pixel_values": torch.randn(3, 3, 16, 16)}
    ids, mask = torch.randint(3, 50, (3, 17)), torch.ones(3, 17, dtype=torch.long)
    mask[0, :5] = 0
    return {"input_ids": ids, "attention_mask": mask if side == "left" else mask.flip(-1)}


def output(model, inputs):
    with torch.no_grad():
        found = model(**inputs)
    return (found.logits if "logits" in found else found.last_hidden_state).clone()


def one_read(scores, *, first=0):
    """The summary of one head that reads these scores (q, n) with softmax; ½‖x‖² = 0, β = 1."""
    scores = scores[None, None]
    weights = scores.softmax(-1)
    seen = torch.ones_like(scores, dtype=torch.bool)
    tally = HeadTally()
    tally.add(Reading(-scores.logsumexp(-1), scores, weights, seen, torch.zeros(scores.shape[:-1])), seen[:, 0, :, 0], torch.tensor([first]))
    return tabulate({"layer": tally.summary() | {"beta": torch.ones(1)}}, {}, {}).heads


def test_one_pattern():
    q = 100 * torch.eye(40, 40)[:7]
    heads = one_read(q @ torch.eye(40).T)
    assert heads.effective.item() == pytest.approx(1) and heads.size.item() == 1 and heads.kind.item() == 4
    assert heads.classes.tolist() == [[[0, 0, 0, 7]]]
    assert heads.margin.item() == 100 and heads.snr.item() > 1e12 and heads.visible.item() == 40


def test_all_patterns():
    heads = one_read(torch.zeros(7, 40))
    assert heads.effective.item() == pytest.approx(40) and heads.size.item() == 36 and heads.kind.item() == 1
    assert heads.margin.item() == 0 and heads.snr.item() == pytest.approx(1 / 39) and heads.first.item() == pytest.approx(1 / 40)
    assert heads.energy.item() == pytest.approx(-math.log(40))


def test_a_sink_on_the_first_token():
    scores = torch.zeros(5, 17)
    scores[:, 3] = 200
    assert one_read(scores, first=3).first.item() == pytest.approx(1)
    assert one_read(scores, first=0).first.item() == pytest.approx(0)


def test_a_query_that_gives_all_to_a_sink_retrieves_nothing():
    scores = torch.tensor([[[[0.0, 0.0, 0.0], [5.0, 5.0, -9.0]]]])
    weights, null = torch.tensor([[[[0.0, 0.0, 0.0], [0.25, 0.25, 0.0]]]]), torch.tensor([[[1.0, 0.5]]])
    tally = HeadTally()
    tally.add(
        Reading(null, scores, weights, torch.ones(1, 1, 2, 3, dtype=torch.bool), null), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    )
    heads = tabulate({"layer": tally.summary() | {"beta": torch.ones(1)}}, {}, {}).heads
    assert heads.queries.item() == 2 and heads.null.item() == 0.75 and heads.first.item() == 0.125 and heads.effective.item() == 1
    assert heads.snr.item() == 1 and heads.classes.tolist() == [[[1, 0, 0, 0]]]


def test_the_classes_are_those_of_the_paper():
    k = torch.tensor([512, 257, 256, 65, 64, 17, 16, 1, 0])
    assert metastable_class(k, torch.tensor(512)).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 0]
    assert metastable_class(torch.tensor([1, 2, 3, 8]), torch.tensor(8)).tolist() == [4, 2, 2, 1]  # a single slot is a single pattern


def test_the_class_of_a_head_is_that_of_its_median_query():
    for sizes in ([1, 2, 60, 60, 300], [300, 60, 300], [1, 1, 300], [20], [1, 300]):
        scores = torch.full((len(sizes), 512), -100.0)
        for row, k in zip(scores, sizes, strict=True):
            row[: round(k / 0.9)] = 0.0
        median = torch.tensor(sizes).median()
        assert one_read(scores).kind.item() == metastable_class(median, torch.tensor(512)), sizes


@pytest.mark.parametrize("n", [1, 2, 17, 63])
def test_numbers_of_slots(n):
    uniform, single = torch.full((3, n), 1 / n), torch.eye(n)[:1]
    assert torch.allclose(effective_slots(uniform), torch.tensor(float(n))) and effective_slots(single).item() == 1
    assert metastable_size(uniform).tolist() == [math.ceil(0.9 * n - 1e-6)] * 3 and metastable_size(single).item() == 1
    assert torch.allclose(retrieval_noise(uniform), torch.tensor(n - 1.0), atol=1e-5) and retrieval_noise(single).item() == 0
    weights = torch.rand(5, 2 * n)[:, ::2]
    assert torch.allclose(effective_slots(-3 * weights), effective_slots(weights)) and torch.equal(metastable_size(3 * weights), metastable_size(weights))


def test_rows_without_weight_retrieve_nothing():
    nothing = torch.zeros(1, 4)
    assert effective_slots(nothing).item() == 0 and metastable_size(nothing).item() == 0 and retrieval_noise(nothing).isnan().all()
    assert score_margin(torch.ones(1, 1)).isnan().all()
    assert score_margin(torch.tensor([[3.0, 9.0, 1.0]]), torch.tensor([True, False, True])).item() == 2
    assert score_margin(torch.tensor([[3.0, 9.0]]), torch.tensor([True, False])).isnan().all()


def test_the_noise_is_that_of_random_values():
    weights, values = torch.rand(6, 9, dtype=torch.float64), torch.randn(20000, 9, 16, dtype=torch.float64)
    top = weights.argmax(-1)
    read = weights @ values
    signal = weights.gather(-1, top[:, None]) * values[:, top]
    measured = ((read - signal).square().sum(-1) / (signal.square().sum(-1).mean(0))).mean(0)
    assert torch.allclose(retrieval_noise(weights), measured, rtol=0.05)


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


def close(one, other, but=()):
    for name in ("beta", "energy", "visible", "effective", "size", "kind", "classes", "snr", "margin", "first", "null", "queries"):
        if name not in but:
            assert torch.allclose(getattr(one.heads, name), getattr(other.heads, name), rtol=1e-4, atol=1e-5, equal_nan=True), name
    for name in ("slots", "active", "effective", "dead", "tokens"):
        assert torch.allclose(getattr(one.feed_forwards, name).double(), getattr(other.feed_forwards, name).double(), rtol=1e-4), name


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


@pytest.fixture
def register():
    """Attention functions known to transformers for the time of a test."""
    names = []

    def known(name, function):
        names.append(name)
        hf.AttentionInterface.register(name, function)
        hf.AttentionMaskInterface.register(name, hf.masking_utils.sdpa_mask)
        return name

    yield known
    for name in names:
        del hf.AttentionInterface._global_mapping[name], hf.AttentionMaskInterface._global_mapping[name]


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


def test_attention_that_is_not_what_it_seems_is_skipped(register):
    """Nothing is claimed about weights that do not give the model's output."""

    def linear(module, query, key, value, mask, **_):
        return (query @ key.mT @ value).transpose(1, 2), None

    model, inputs = build("bert"), padded("bert")
    model.set_attn_implementation(register("linear", linear))
    found = inspect(model, inputs)
    assert not found.heads.layers and len(found.skipped) == 2 and "relative difference" in found.skipped["encoder.layer.0.attention.self"]
    assert len(found.feed_forwards.blocks) == 2 and "skipped" in str(found)
    with pytest.raises(ValueError, match="no attention heads"):
        association_heads(found)


def test_own_attention_code_is_skipped_with_a_reason():
    config = hf.BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    found = inspect(hf.BloomForCausalLM(config), padded("bert"))
    assert not found.heads.layers and "did not call an attention function" in found.skipped["transformer.h.0.self_attention"]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_everything_is_restored_after_an_error(implementation, monkeypatch):
    model, inputs = build("llama", implementation), padded("llama")
    model.train()
    model.model.layers[1].mlp.eval()
    training = [module.training for module in model.modules()]
    table, eager, state = dict(ALL_ATTENTION_FUNCTIONS), hf.models.llama.modeling_llama.eager_attention_forward, torch.get_rng_state()

    def fails(*_):
        raise RuntimeError("half-way")

    with monkeypatch.context() as patched:
        patched.setattr(model.lm_head, "forward", fails)
        with pytest.raises(RuntimeError, match="half-way"):
            inspect(model, inputs)
    assert hf.models.llama.modeling_llama.eager_attention_forward is eager
    assert dict(ALL_ATTENTION_FUNCTIONS) == table and not ALL_ATTENTION_FUNCTIONS._local_mapping
    assert [module.training for module in model.modules()] == training and torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.config._attn_implementation == implementation and torch.equal(torch.get_rng_state(), state)


def test_an_entry_of_the_table_that_was_there_before_stays():
    model, inputs = build("bert", "sdpa"), padded("bert")
    calls, stock = [], ALL_ATTENTION_FUNCTIONS["sdpa"]

    def counted(*args, **kwargs):
        calls.append(1)
        return stock(*args, **kwargs)

    ALL_ATTENTION_FUNCTIONS["sdpa"] = counted
    try:
        inspect(model, inputs)
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is counted and len(calls) == 2
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]


def test_every_file_has_its_own_eager_attention(monkeypatch):
    """What is called is what the model would have called, also where a file has several (Llama 4), and where one calls another."""
    from transformers.models.bert import modeling_bert

    model, inputs = build("bert"), padded("bert")
    stock, calls = modeling_bert.eager_attention_forward, []

    def inner_eager_attention_forward(module, *args, **kwargs):
        calls.append(module)
        return stock(module, *args, **kwargs)

    def outer(*args, **kwargs):
        return modeling_bert.inner_eager_attention_forward(*args, **kwargs)

    monkeypatch.setattr(modeling_bert, "inner_eager_attention_forward", inner_eager_attention_forward, raising=False)
    monkeypatch.setattr(modeling_bert, "eager_attention_forward", outer)
    found = inspect(model, inputs).heads
    assert calls == [layer.attention.self for layer in model.encoder.layer] and found.queries.tolist() == [[46] * 4] * 2
    assert modeling_bert.eager_attention_forward is outer and modeling_bert.inner_eager_attention_forward is inner_eager_attention_forward


def test_other_models_are_not_recorded():
    model, other, inputs = build("bert", "sdpa"), build("llama", "sdpa"), padded("bert")

    def meanwhile(*_):
        output(other, inputs)

    model.embeddings.register_forward_hook(meanwhile)
    assert inspect(model, inputs).heads.layers == ("encoder.layer.0.attention.self", "encoder.layer.1.attention.self")


def test_a_compiled_model_is_read_too():
    inputs = padded("bert")
    plain = inspect(build("bert", "sdpa"), inputs)
    model = torch.compile(build("bert", "sdpa"), backend="eager")
    model(**inputs)
    close(plain, inspect(model, inputs))
    torch.compiler.reset()


def test_half_precision():
    inputs = padded("llama")
    full, half = inspect(build("llama", "sdpa"), inputs), inspect(build("llama", "sdpa").bfloat16(), inputs)
    assert not half.skipped and torch.allclose(half.heads.visible, full.heads.visible)
    assert torch.allclose(half.heads.effective, full.heads.effective, rtol=0.2)


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


def test_padding_that_cannot_be_told_is_not_guessed():
    model, inputs = build("bert"), padded("bert")
    chunked = hf.BertModel(hf.BertConfig(**SIZES, **TOKENS, chunk_size_feed_forward=1))
    chunked.load_state_dict(model.state_dict())
    found = inspect(chunked, inputs)
    assert not found.feed_forwards.blocks and "cannot be told from the tokens" in found.skipped["encoder.layer.0.output.dense"]
    whole = {"input_ids": inputs["input_ids"]}
    close(inspect(chunked, whole), inspect(model, whole))


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


def test_a_query_that_sees_one_slot_chooses_nothing():
    found = inspect(build("llama", "sdpa"), {"input_ids": torch.randint(3, 50, (2, 9))}).heads
    assert (found.queries == 2 * 8).all() and torch.allclose(found.visible, torch.tensor(5.5).double())
    alone = inspect(build("llama", "sdpa"), {"input_ids": torch.randint(3, 50, (2, 1))}).heads
    assert (alone.queries == 0).all() and alone.effective.isnan().all() and (alone.kind == 0).all()


def test_errors_at_the_door():
    model, inputs = build("bert"), padded("bert")
    with pytest.raises(TypeError, match="models of transformers"):
        inspect(torch.nn.Linear(2, 2), inputs)
    with pytest.raises(TypeError, match="keyword arguments"):
        inspect(model, inputs["input_ids"])
    with pytest.raises(TypeError, match="number 2 is a Tensor"):
        inspect(model, [inputs, inputs["input_ids"]])
    with pytest.raises(ValueError, match="no inputs"):
        inspect(model, iter([]))
    with pytest.raises(ValueError, match="threshold"):
        inspect(model, inputs, threshold=1.0)
    seq2seq = hf.BartModel(hf.BartConfig(**{"vocab_size": 50, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2}))  # fmt: skip
    with pytest.raises(ValueError, match="get_encoder"):
        inspect(seq2seq, inputs)
    assert inspect(seq2seq.get_encoder(), inputs).heads.layers == ("layers.0.self_attn",)
    mixer = hf.MambaModel(hf.MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ValueError, match="could be read as a memory"):
        inspect(mixer, {"input_ids": inputs["input_ids"]})
    for function, wrong in ((effective_slots, torch.ones(3, dtype=torch.long)), (metastable_size, torch.ones(3, 0)), (score_margin, torch.tensor(1.0))):
        with pytest.raises((TypeError, ValueError)):
            function(wrong)
    with pytest.raises(ValueError, match="mass"):
        metastable_size(torch.ones(3), 0.0)


def test_the_table():
    found = inspect(build("llama", "sdpa"), padded("llama"))
    rows = found.rows()
    assert len(rows) == 2 * 4 + 2 and rows[5]["layer"] == "model.layers.1.self_attn" and rows[5]["head"] == 1
    assert rows[5]["effective"] == found.heads.effective[1, 1].item() and rows[5]["kind"] in ("I", "II", "III", "IV")
    assert rows[8]["block"] == "model.layers.0.mlp.down_proj" and rows[8]["slots"] == 48
    lines = str(found).splitlines()
    assert lines[1].startswith("model.layers.0.self_attn") and lines[4].startswith("feed-forward") and len(lines) == 7


def test_data_frames(monkeypatch):
    found = inspect(build("bert", "sdpa"), padded("bert"))
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas"):
        found.to_pandas()
    monkeypatch.setitem(__import__("sys").modules, "pandas", SimpleNamespace(DataFrame=list))
    heads, blocks = found.to_pandas()
    assert [*heads, *blocks] == found.rows() and len(blocks) == 2


def test_layers_of_different_numbers_of_heads():
    def summary(heads):
        tally = HeadTally()
        scores = torch.randn(2, heads, 5, 9)
        seen = torch.ones(2, heads, 5, 9, dtype=torch.bool)
        tally.add(Reading(scores[..., 0], scores, scores.softmax(-1), seen, torch.zeros(2, heads, 5)), seen[:, 0, :, 0], torch.zeros(2, dtype=torch.long))
        return tally.summary() | {"beta": torch.ones(heads, dtype=torch.float64)}

    found = tabulate({"wide": summary(3), "narrow": summary(1)}, {}, {})
    assert found.heads.effective[1].isnan().tolist() == [False, True, True] and found.heads.kind[1, 1:].tolist() == [0, 0]
    assert len(found.rows()) == 4 and str(found).count("\n") == 2
    assert len(association_heads(found).subfigs) == 1  # no feed-forward blocks, no bars


def test_the_figure_says_what_it_shows(tmp_path):
    from hopfield_amem.analysis.plots import save

    figure = association_heads(inspect(build("gpt_oss"), padded("gpt_oss")), "gpt-oss")
    path = save(figure, tmp_path / "heads.png")
    assert path.stat().st_size > 10_000
    maps = [place for part in figure.subfigs for place in part.axes if place.get_title()]
    assert [place.get_title() for place in maps][2:] == ["weight on the first token or a sink", "margin, nearest to second nearest"]
    both = association_heads(inspect(build("llama"), padded("llama")))
    assert both.subfigs[1].axes[0].get_title() == "feed-forward blocks, 48 slots each"
