"""Attention of real transformers, built from tiny configurations, read from energies: with log_sum_exp it is their own."""

import copy

import pytest
import torch

transformers = pytest.importorskip("transformers")

from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, StaticCache  # noqa: E402

from hopfield_amem import ReadEnergy, presets  # noqa: E402
from hopfield_amem.descent import FixedPoint, GradientDescent  # noqa: E402
from hopfield_amem.energies import Dot, Epanechnikov, Exp, Log, Simplex, Sum  # noqa: E402
from hopfield_amem.integrations.huggingface import EnergyAttention, register_attention  # noqa: E402

WINDOW, LENGTH, WORDS = 6, 17, 48
WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": WORDS}
TOKENS = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
GROUPED = WIDTHS | TOKENS | {"num_key_value_heads": 2, "max_position_embeddings": 256}
SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
VIT = {"image_size": 16, "patch_size": 4, "num_labels": 5}
MODELS = {  # class, configuration, and what it is made of
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", TOKENS | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": WORDS}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED | SLIDING | {"use_sliding_window": True}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", GROUPED | {"head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", GROUPED | SLIDING | {"head_dim": 8, "attn_logit_softcapping": 5.0}),
    "gpt_oss": ("GptOssForCausalLM", "GptOssConfig", GROUPED | SLIDING | {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1}),
    "bert": ("BertForMaskedLM", "BertConfig", WIDTHS | TOKENS),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertConfig", WIDTHS | TOKENS | {"local_attention": WINDOW, "global_attn_every_n_layers": 2}),
    "vit": ("ViTForImageClassification", "ViTConfig", {k: v for k, v in WIDTHS.items() if k != "vocab_size"} | VIT),
    "t5": ("T5ForConditionalGeneration", "T5Config", TOKENS | {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": WORDS}),
}  # fmt: skip
DECODERS = ["gpt2", "llama", "qwen2", "qwen3", "gemma2", "gpt_oss"]
SOFTMAX = "hopfield"
OTHERS = {
    "entmax": (presets.entmax(1.5), FixedPoint(steps=1)),
    "epanechnikov": (presets.epanechnikov(0.2), FixedPoint(steps=1)),
    "softmax1": (presets.softmax1(), FixedPoint(steps=1)),
    "distance": (presets.distance(), FixedPoint(steps=1)),
    "three steps": (presets.log_sum_exp(), FixedPoint(steps=3, tolerance=0)),
    "gradient descent": (presets.log_sum_exp(), GradientDescent(step_size=0.5, steps=2, tolerance=0)),
}


def built(name, attention="eager", dtype=torch.float32, **changes):
    """A model with weights so large that attention is peaked; the same for every attention."""
    kind, config, options = MODELS[name]
    if attention != "eager":
        register_attention(attention) if attention == SOFTMAX else register_attention(attention, *OTHERS[attention])
    torch.manual_seed(1)
    config = getattr(transformers, config)(**options | changes)
    if name == "t5":
        config._attn_implementation = attention  # in 5.17 it is only while a model is made that its encoder and decoder hear of it
    model = getattr(transformers, kind)(config).to(dtype)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim > 1 and any(part in key for part in ("q_proj", "k_proj", "c_attn", "query", "key", "Wqkv", "Attention.q")):
                weight.mul_(2 if name == "t5" else 16)  # T5 starts with larger ones
            if "sinks" in key:
                weight.normal_()
    model.set_attn_implementation(attention)
    assert model.config._attn_implementation == attention
    assert {module.config._attn_implementation for module in model.modules() if hasattr(module, "config")} == {attention}
    return model.eval()


def given(name, padding=None, length=LENGTH):
    """Inputs, and where outputs count: everywhere but at the padding."""
    torch.manual_seed(2)
    if name == "vit":
        return {"pixel_values": torch.randn(2, 3, 16, 16)}, torch.ones(2, dtype=torch.bool)
    ids = torch.randint(1, WORDS, (2, length))
    here = torch.ones_like(ids)
    if padding is not None:
        here[0, :5] = 0
        here = here if padding == "left" else here.flip(-1)
    batch = {"input_ids": ids, "attention_mask": here}
    if name == "t5":
        return batch | {"decoder_input_ids": ids[:, :9]}, torch.ones(2, 9, dtype=torch.bool)
    return batch, here.bool()


@pytest.fixture
def calls(monkeypatch):
    """Counts the calls of our attention."""
    counted, original = [], EnergyAttention.__call__

    def call(self, *args, **options):
        counted.append(self)
        return original(self, *args, **options)

    monkeypatch.setattr(EnergyAttention, "__call__", call)
    return counted


LONG = 120  # queries and slots of 2 texts and 4 heads: more than fit in full matrices
CASES = [(name, padding, LENGTH) for name in MODELS for padding in (None, "left", "right")]
CASES += [(name, padding, LONG) for name in MODELS if name != "vit" for padding in (None, "left")]


@pytest.mark.parametrize(("name", "padding", "length"), CASES)
def test_softmax_is_the_stock_attention_gradients_included(name, padding, length, calls):
    """Logits to 2e-6, and every gradient, relative to the largest; sliding windows, caps, sinks, groups and position biases on the way."""
    batch, here = given(name, padding, length)
    results = []
    for attention in ("eager", SOFTMAX):
        model = built(name, attention)
        logits = model(**batch).logits
        logits[here].square().mean().backward()
        results.append([logits[here], *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(calls) == {"t5": 6}.get(name, 2)
    (truth, *slopes), (logits, *grads) = results
    scale = 10 if name == "t5" else 1  # its scores are not scaled down and reach the hundreds
    assert (logits - truth).abs().max() <= 2e-6 * scale * max(1.0, truth.abs().max())
    assert len(grads) == len(slopes)
    steepest = max(s.abs().max() for s in slopes)
    for grad, slope in zip(grads, slopes, strict=True):
        assert (grad - slope).abs().max() <= 5e-6 * scale * steepest


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_those_of_eager_and_peaked(name):
    batch, _ = given(name, None if name == "vit" else "left")
    truth = built(name)(**batch, output_attentions=True)
    found = built(name, SOFTMAX)(**batch, output_attentions=True)
    kinds = ["encoder_attentions", "decoder_attentions", "cross_attentions"] if name == "t5" else ["attentions"]
    for kind in kinds:
        assert len(getattr(found, kind)) == len(getattr(truth, kind)) == 2
        for mine, eager in zip(getattr(found, kind), getattr(truth, kind), strict=True):
            alive = mine.sum(-1) > 0
            torch.testing.assert_close(mine[alive], eager[alive], rtol=0, atol=1e-5)
            assert eager[alive].amax(-1).mean() > 0.3


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_padding_is_not_seen(name):
    """What stands at masked places changes nothing: a mask function was registered with the attention."""
    batch, here = given(name, "left")
    model = built(name, SOFTMAX)
    changed = batch | {"input_ids": torch.where(here, batch["input_ids"], 7)}
    with torch.no_grad():
        assert torch.equal(model(**batch).logits[here], model(**changed).logits[here])
        assert not torch.equal(model(**batch).logits, model(input_ids=batch["input_ids"]).logits)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_packed_documents_do_not_see_each_other(name):
    ids, places = torch.randint(1, WORDS, (1, LENGTH)), torch.cat([torch.arange(5), torch.arange(LENGTH - 5)]).unsqueeze(0)
    model = built(name, SOFTMAX)
    with torch.no_grad():
        packed = model(input_ids=ids, position_ids=places, use_cache=False).logits
        apart = torch.cat([model(input_ids=part, use_cache=False).logits for part in (ids[:, :5], ids[:, 5:])], 1)
    torch.testing.assert_close(packed, apart, rtol=0, atol=2e-6)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", DECODERS)
def test_a_prefill_in_chunks_is_one_pass(name, cache):
    batch, here = given(name, "left")
    model = built(name, SOFTMAX)
    past = DynamicCache(config=model.config) if cache == "dynamic" else StaticCache(config=model.config, max_cache_len=LENGTH + 3)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        whole, parts = model(**batch).logits, []
        for start, stop in ((0, 7), (7, 8), (8, LENGTH)):
            places = (mask.cumsum(-1) - 1).clamp_min(0)[:, start:stop]
            parts.append(model(input_ids=ids[:, start:stop], attention_mask=mask[:, :stop], position_ids=places, past_key_values=past).logits)
        whole = model(**batch, position_ids=(mask.cumsum(-1) - 1).clamp_min(0)).logits
    torch.testing.assert_close(torch.cat(parts, 1)[here], whole[here], rtol=0, atol=2e-6 * max(1.0, float(whole.abs().max())))


@pytest.mark.parametrize("how", [{}, {"cache_implementation": "static", "disable_compile": True}, {"num_beams": 3, "num_return_sequences": 2}])
@pytest.mark.parametrize("name", [*DECODERS, "t5"])
def test_generation_token_for_token(name, how, calls):
    if name == "t5" and "cache_implementation" in how:
        pytest.skip("one cache is enough for T5")
    batch, _ = given(name, "left")
    batch = {key: value for key, value in batch.items() if key != "decoder_input_ids"}
    texts, scores = [], []
    for attention in ("eager", SOFTMAX):
        model = built(name, attention)
        out = model.generate(**batch, **how, max_new_tokens=8, do_sample=False, return_dict_in_generate=True, output_logits=True)
        texts.append(out.sequences)
        scores.append(torch.stack(out.logits))
    assert calls
    assert torch.equal(*texts)
    torch.testing.assert_close(*scores, rtol=0, atol=2e-6 * max(1.0, float(scores[0].abs().max())) * (10 if name == "t5" else 1))


@pytest.mark.parametrize("attention", OTHERS)
@pytest.mark.parametrize("name", ["llama", "gpt_oss", "bert", "vit"])
def test_other_energies_differ_generate_and_train(name, attention):
    if name == "gpt_oss" and attention in ("epanechnikov", "distance"):
        with pytest.raises(ValueError, match="sinks, which"):
            built(name, attention)(**given(name)[0])
        return
    batch, here = given(name, None if name == "vit" else "left")
    model = built(name, attention)
    logits = model(**batch).logits
    assert logits.isfinite().all()
    assert (logits - built(name)(**batch).logits)[here].abs().max() > 1e-4
    labels = torch.arange(2) if name == "vit" else torch.where(here, batch["input_ids"], -100)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for _ in range(8):
        losses.append(model(**batch, labels=labels).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    if name in DECODERS:
        model.eval()
        out = model.generate(**batch, max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True)
        with torch.no_grad():
            here = torch.cat([batch["attention_mask"], torch.ones(2, 4, dtype=torch.long)], 1)
            again = model(out.sequences, attention_mask=here, position_ids=(here.cumsum(-1) - 1).clamp_min(0)).logits[:, -5:-1]
        torch.testing.assert_close(torch.stack(out.logits, 1), again, rtol=0, atol=1e-5 * max(1.0, float(again.abs().max())))


class Module(torch.nn.Module):
    """What an attention function asks of the module that calls it."""

    is_causal = True


def heads(queries=5, slots=7, dtype=torch.float64):
    return (torch.randn(2, count, n, 4, dtype=dtype, requires_grad=True) for count, n in ((4, queries), (2, slots), (2, slots)))


def attended(energy, *tensors, **options):
    """Attention written out: full matrices of the energy, keys and values repeated for every head."""
    query, key, value = tensors
    key, value = (t.repeat_interleave(2, 1) for t in (key, value))
    weights = energy.weights(query, key, **options)
    return energy.averaged(weights @ value, weights.sum(-1, keepdim=True)).transpose(1, 2)


ENERGIES = {
    "log_sum_exp": presets.log_sum_exp(),
    "softmax1": presets.softmax1(),
    "distance": presets.distance(),
    "simplex": ReadEnergy(Dot(), Exp(), Simplex()),
    "sum": ReadEnergy(Dot(), Exp(), Sum()),
    "entmax": presets.entmax(),
    "epanechnikov": presets.epanechnikov(),
}


@pytest.mark.parametrize(("queries", "shape"), [(5, (2, 1, 5, 7)), (5, (1, 4, 5, 7)), (5, (2, 4, 1, 7)), (1, (2, 4, 1, 7)), (1, (2, 1, 1, 7))])
@pytest.mark.parametrize("name", ENERGIES)
def test_masks_of_every_kind(name, queries, shape):
    """True attends; 0 and −∞ (or what models use for it) mean the same; an empty row reads zeros and hurts no gradient."""
    energy, tensors = ENERGIES[name], list(heads(queries))
    mask = torch.rand(shape) > 0.4
    mask[0, :, 0] = False
    expected = attended(energy.at(0.5), *tensors, presence=mask)
    slopes = torch.autograd.grad(expected.square().sum(), tensors)
    for empty in (None, -torch.inf, torch.finfo(torch.float32).min, -1e4):
        given = mask if empty is None else torch.where(mask, 0.0, empty)
        output, _ = EnergyAttention(energy)(Module(), *tensors, given, scaling=0.5)
        torch.testing.assert_close(output, expected)
        assert not output[0, 0].any()
        torch.testing.assert_close(torch.autograd.grad(output.square().sum(), tensors), slopes)


@pytest.mark.parametrize("shape", [(2, 1, 5, 7), (1, 4, 5, 7)])
@pytest.mark.parametrize("name", ENERGIES)
def test_numbers_added_to_scores(name, shape):
    """Exact for an exponential F, whatever their sign, with their gradient; refused for any other."""
    energy, (query, key, value) = ENERGIES[name], heads()
    added = torch.randn(shape, dtype=torch.float64) * 3
    added[..., 2] = -torch.inf
    added.requires_grad_()
    attention = EnergyAttention(energy)
    if name in ("entmax", "epanechnikov"):
        with pytest.raises(ValueError, match="exponential separation only"):
            attention(Module(), query, key, value, added)
        return
    output, weights = attention(Module(), query, key, value, added, scaling=0.5, output_attentions=True)
    scores = energy.at(0.5).scores(query, key.repeat_interleave(2, 1)) + added
    truth = energy.scaling.weights(energy.separation, scores)
    torch.testing.assert_close(weights, truth)
    torch.testing.assert_close(output, (truth @ value.repeat_interleave(2, 1)).transpose(1, 2))
    wanted = [added, query, key, value]
    expected = torch.autograd.grad((truth @ value.repeat_interleave(2, 1)).square().sum(), wanted)
    for mine, slope in zip(torch.autograd.grad(output.square().sum(), wanted), expected, strict=True):
        torch.testing.assert_close(mine, slope)


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("causal", [None, True, False])
@pytest.mark.parametrize("name", ["log_sum_exp", "entmax"])
def test_without_a_mask_queries_see_the_past(name, causal, queries):
    """As scaled_dot_product_attention: from the upper left, and a single query sees everything."""
    tensors = list(heads(queries))
    output, _ = EnergyAttention(ENERGIES[name])(Module(), *tensors, None, scaling=0.5, is_causal=causal)
    past = None if causal is False or queries == 1 else torch.ones(queries, 7, dtype=torch.bool).tril()
    torch.testing.assert_close(output, attended(ENERGIES[name].at(0.5), *tensors, presence=past))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["log_sum_exp", "softmax1", "simplex", "entmax", "kernel density"])
def test_sinks(name, masked):
    """A sink is one slot more, of score a and value 0."""
    energy = ENERGIES.get(name, ReadEnergy(Dot(), Epanechnikov(), Log()))
    query, key, value = heads()
    sink = torch.randn(4, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 1, 5, 7) > 0.3 if masked else None
    output, _ = EnergyAttention(energy)(Module(), query, key, value, mask, scaling=0.5, s_aux=sink)
    scores = energy.at(0.5).scores(query, key.repeat_interleave(2, 1))
    scores = torch.cat([scores, sink.view(4, 1, 1).expand(2, 4, 5, 1)], -1)
    past = torch.ones(5, 7, dtype=torch.bool).tril() if mask is None else mask
    present = torch.nn.functional.pad(past.expand(2, 4, 5, 7), (0, 1), value=True)
    weights = energy.scaling.weights(energy.separation, scores, present)[..., :-1]
    truth = (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(output, truth)
    wanted = [sink, query, key, value]
    torch.testing.assert_close(torch.autograd.grad(output.square().sum(), wanted), torch.autograd.grad(truth.square().sum(), wanted))


def test_capped_scores():
    query, key, value = heads()
    for energy in (presets.log_sum_exp(2.0), presets.entmax()):
        _, weights = EnergyAttention(energy)(Module(), query, key, value, None, scaling=0.5, softcap=0.7, is_causal=False, output_attentions=True)
        scores = 0.7 * torch.tanh(energy.beta * 0.5 * query @ key.repeat_interleave(2, 1).mT / 0.7)
        torch.testing.assert_close(weights, energy.scaling.weights(energy.separation, scores))
    with pytest.raises(ValueError, match="no closed-form step"):
        EnergyAttention(presets.log_sum_exp(), FixedPoint(steps=2))(Module(), query, key, value, None, softcap=0.7)


def test_dropout_in_training_only():
    query, key, value = heads(64, 64)
    _, whole = EnergyAttention(presets.log_sum_exp())(Module().eval(), query, key, value, None, dropout=0.3, output_attentions=True)
    _, some = EnergyAttention(presets.log_sum_exp())(Module(), query, key, value, None, dropout=0.3, output_attentions=True)
    kept = some > 0
    torch.testing.assert_close(some, torch.where(kept, whole / 0.7, 0.0))
    assert abs(float(kept.sum() / (whole > 0).sum()) - 0.7) < 0.02
    model, (batch, _) = built("llama", SOFTMAX, attention_dropout=0.3), given("llama")
    assert torch.equal(model(**batch).logits, model(**batch).logits)
    model.train()
    assert not torch.equal(model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize(("name", "attention"), [("llama", SOFTMAX), ("llama", "epanechnikov"), ("gemma2", SOFTMAX)])
def test_compiled_in_one_graph(name, attention):
    torch.compiler.reset()
    batch, here = given(name, "left")
    one = {"num_hidden_layers": 1, **({"layer_types": ["sliding_attention"]} if name == "gemma2" else {})}
    model = built(name, attention, **one)
    expected = model(**batch).logits[here]
    compiled = torch.compile(built(name, attention, **one), fullgraph=True, backend="aot_eager")
    logits = compiled(**batch).logits[here]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    logits.square().mean().backward()
    expected.square().mean().backward()
    for mine, truth in zip(compiled.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, truth.grad, rtol=1e-4, atol=1e-5)


def test_recomputed_gradients():
    batch, _ = given("llama", "left")
    grads = []
    for recompute in (False, True):
        model = built("llama", SOFTMAX).train()
        if recompute:
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable  # the one name until 5.2x, the other since
            enable({"use_reentrant": False})
        model(**batch, labels=batch["input_ids"], use_cache=False).loss.backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*grads, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_half_precision(name):
    """As near to float32 as the stock attention is."""
    batch, here = given(name, "left")
    truth = built(name)(**batch).logits[here]
    eager, mine = (built(name, attention, torch.bfloat16)(**batch).logits[here] for attention in ("eager", SOFTMAX))
    assert mine.dtype == torch.bfloat16
    assert (mine - truth).abs().mean() < 1.3 * (eager - truth).abs().mean()


def test_an_empty_row_of_a_model_is_finite(recwarn):
    batch, _ = given("llama")
    mask = torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    mask[:, :, 3] = False
    model = built("llama", SOFTMAX)
    model(input_ids=batch["input_ids"], attention_mask=mask).logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_saved_models_take_the_name_again(tmp_path):
    batch, _ = given("llama")
    model = built("llama", SOFTMAX)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, attn_implementation=SOFTMAX)
    assert again.config._attn_implementation == SOFTMAX
    assert type(model).from_pretrained(tmp_path).config._attn_implementation == "sdpa"
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    assert torch.equal(copy.deepcopy(model)(**batch).logits, model(**batch).logits)


def test_registering_twice_is_once_and_names_keep_their_meaning():
    name = register_attention("kept", presets.entmax(1.5))
    attention = AttentionInterface()[name]
    assert register_attention("kept", presets.entmax(1.5)) == "kept"
    assert AttentionInterface()[name] is attention
    assert name in AttentionMaskInterface()
    with pytest.raises(ValueError, match="is registered as"):
        register_attention("kept", presets.entmax(1.3))
    with pytest.raises(ValueError, match="is registered as"):
        register_attention("kept", presets.entmax(1.5), FixedPoint(steps=2))


@pytest.mark.parametrize("name", ["", "eager", "my_sdpa", "flash_hopfield", "flex_attention_2", "someone/hopfield", "paged|hopfield"])
def test_names_that_mean_something_are_refused(name):
    with pytest.raises(ValueError, match="meaning of its own"):
        register_attention(name)


def test_what_cannot_be_served_is_refused():
    with pytest.raises(TypeError, match=r"presets\.entmax"):
        register_attention("refused", "entmax")
    with pytest.raises(TypeError, match="must be a number"):
        register_attention("refused", presets.log_sum_exp(torch.ones(4)))
    with pytest.raises(TypeError, match="FixedPoint"):
        register_attention("refused", presets.entmax(), 3)
    with pytest.raises(ValueError, match="no closed-form step"):
        register_attention("refused", ReadEnergy(lambda x, k: x @ k.mT, Exp(), Log()), FixedPoint(steps=2))
    assert "refused" not in AttentionInterface()
    query, key, value = heads()
    attention = EnergyAttention(presets.log_sum_exp())
    with pytest.raises(ValueError, match="paged cache"):
        attention(Module(), query, key, value, None, cache=object())
    with pytest.raises(TypeError, match="boolean tensor"):
        attention(Module(), query, key, value, torch.ones(2, 1, 5, 7, dtype=torch.long))
    with pytest.raises(ValueError, match="must have shape"):
        attention(Module(), query, key, value, torch.ones(5, 7, dtype=torch.bool))
