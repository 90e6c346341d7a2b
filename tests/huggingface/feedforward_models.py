"""Transformers and blocks small enough for a test, with feed-forward parts of every make."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("transformers")
import transformers as hf

from hopfield_amem.energies import gelu_tanh

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
WORDS = SIZES | {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = WORDS | {"num_key_value_heads": 1, "head_dim": 16}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 32, "bos_token_id": 1, "eos_token_id": 2}
MARKS = {"cls_token_id": 1, "sep_token_id": 2, "mlp_dropout": 0.2}
MODELS = {
    "GPT-2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT)),
    "Llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "Qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED)),
    "Gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GROUPED)),
    "Phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**WORDS)),
    "ViT": lambda: hf.ViTModel(hf.ViTConfig(**SIZES, image_size=8, patch_size=4)),
    "ModernBERT": lambda: hf.ModernBertModel(hf.ModernBertConfig(**WORDS, **MARKS)),
    "BERT": lambda: hf.BertModel(hf.BertConfig(**WORDS)),
}
BLOCKS = {
    "GPT-2": ("transformer.h.*.mlp", gelu_tanh),
    "Llama": ("model.layers.*.mlp", F.silu),
    "Qwen3": ("model.layers.*.mlp", F.silu),
    "Gemma2": ("model.layers.*.mlp", gelu_tanh),
    "Phi3": ("model.layers.*.mlp", F.silu),
    "ViT": ("layers.*.mlp", F.gelu),
    "ModernBERT": ("layers.*.mlp", F.gelu),
    "BERT": ("encoder.layer.*.intermediate", F.gelu),
}


def made(name):
    """A model whose weights are large enough for differences to show."""
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


def output(model, rows=2):
    generator = torch.Generator().manual_seed(7)
    config = getattr(model, "config", None)
    if config.model_type == "vit":
        return model(pixel_values=torch.randn(rows, 3, 8, 8, generator=generator))[0]
    return model(input_ids=torch.randint(3, 50, (rows, 9), generator=generator))[0]


def close(ours, theirs, tolerance=1e-6):
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


class Adapted(nn.Module):
    """A low-rank adapter around a linear child, of whatever orientation."""

    def __init__(self, base):
        super().__init__()
        self.base, self.weight, self.bias = base, base.weight, base.bias
        self.in_features, self.out_features = getattr(base, "in_features", getattr(base, "nx", None)), getattr(base, "out_features", getattr(base, "nf", None))
        self.down, self.up = nn.Linear(self.in_features, 2, bias=False), nn.Linear(2, self.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Counted(nn.Linear):
    """A linear layer of a class of its own, as quantised ones are, that counts its calls."""

    calls = 0

    def forward(self, x):
        Counted.calls += 1
        return F.linear(x, self.weight.round(decimals=1), self.bias)


class Block(nn.Module):
    """Feed-forward with names that nobody knows."""

    def __init__(self, taken=6, slots=10, given=6, gated=False):
        super().__init__()
        self.out = nn.Linear(slots, given)
        self.a, self.b = nn.Linear(taken, slots), nn.Linear(taken, slots) if gated else None
        self.bend = nn.SiLU()

    def forward(self, x):
        return self.out(self.bend(self.a(x)) * (1 if self.b is None else self.b(x)))


class Around(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x
