"""Transformers small enough for a test."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

pytest.importorskip("transformers")
import transformers as hf

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


def close(one, other, but=()):
    for name in ("beta", "energy", "visible", "effective", "size", "kind", "classes", "snr", "margin", "first", "null", "queries"):
        if name not in but:
            assert torch.allclose(getattr(one.heads, name), getattr(other.heads, name), rtol=1e-4, atol=1e-5, equal_nan=True), name
    for name in ("slots", "active", "effective", "dead", "tokens"):
        assert torch.allclose(getattr(one.feed_forwards, name).double(), getattr(other.feed_forwards, name).double(), rtol=1e-4), name
