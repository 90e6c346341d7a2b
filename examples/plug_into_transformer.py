"""Story 3: attention in a HuggingFace transformer read from an energy. Needs the extra: pip install "hopfield_amem[hf]"."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model is built from a config; nothing is downloaded

import torch
from transformers import AttentionInterface, AttentionMaskInterface, GPT2Config, GPT2LMHeadModel
from transformers.masking_utils import sdpa_mask

from hopfield_amem import presets, retrieve


def hopfield_attention(energy, steps=1):
    """An attention function for transformers: queries settle among the keys, then read the values."""

    def forward(module, query, key, value, attention_mask, scaling=None, is_causal=None, **_):
        beta = query.shape[-1] ** -0.5 if scaling is None else scaling
        causal = (module.is_causal if is_causal is None else is_causal) and attention_mask is None and query.shape[2] > 1
        read = retrieve(energy.at(beta), query, key, value, presence=attention_mask, causal=causal, steps=steps)
        return read.transpose(1, 2).contiguous(), None

    return forward


variants = {
    "softmax": hopfield_attention(presets.log_sum_exp()),
    "softmax, 3 steps": hopfield_attention(presets.log_sum_exp(), steps=3),
    "softmax1": hopfield_attention(presets.softmax1()),
    "entmax": hopfield_attention(presets.entmax(1.5)),
    "epanechnikov": hopfield_attention(presets.epanechnikov()),
}
for name, forward in variants.items():
    AttentionInterface.register(f"hopfield {name}", forward)
    AttentionMaskInterface.register(f"hopfield {name}", sdpa_mask)  # without it padding would be dropped in silence

torch.manual_seed(0)
text = torch.tensor(list(b"Reading moves the state downhill; writing moves the memory downhill. " * 4)).unsqueeze(0)
padding = torch.ones_like(text)
padding[0, :5] = 0  # a left-padded prompt

for name in ["eager", *(f"hopfield {v}" for v in variants)]:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=256, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    )
    model.set_attn_implementation(name)
    logits = model(text, attention_mask=padding).logits
    if name == "eager":
        expected = logits
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        loss = model(text, labels=text).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    difference = (logits - expected)[:, 5:].abs().max().item()
    print(f"{name:26s} difference of the logits from eager {difference:.1e}   loss after 30 steps {loss.item():.3f}")
