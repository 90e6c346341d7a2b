"""Looking at a transformer changes nothing, and what cannot be read is skipped with a reason."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

pytest.importorskip("transformers")
import transformers as hf
from tiny_models import SIZES, TOKENS, build, close, output, padded
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hopfield_amem.analysis.association import effective_slots, metastable_size, score_margin
from hopfield_amem.analysis.plots.association import association_heads
from hopfield_amem.integrations.huggingface import inspect


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


def test_padding_that_cannot_be_told_is_not_guessed():
    model, inputs = build("bert"), padded("bert")
    chunked = hf.BertModel(hf.BertConfig(**SIZES, **TOKENS, chunk_size_feed_forward=1))
    chunked.load_state_dict(model.state_dict())
    found = inspect(chunked, inputs)
    assert not found.feed_forwards.blocks and "cannot be told from the tokens" in found.skipped["encoder.layer.0.output.dense"]
    whole = {"input_ids": inputs["input_ids"]}
    close(inspect(chunked, whole), inspect(model, whole))


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
