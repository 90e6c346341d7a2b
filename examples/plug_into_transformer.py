"""Story 3: a HuggingFace transformer whose attention reads from any energy. Needs the extra: pip install "hopfield_amem[hf]"."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model is built from a configuration; nothing is downloaded

import torch
from rich.console import Console
from rich.table import Table
from transformers import GPT2Config, GPT2LMHeadModel

from hopfield_amem import presets
from hopfield_amem.descent import FixedPoint
from hopfield_amem.integrations.huggingface import register_attention

attentions = [
    "eager",
    register_attention("softmax", presets.log_sum_exp()),
    register_attention("softmax, 3 steps", presets.log_sum_exp(), FixedPoint(steps=3)),
    register_attention("softmax1", presets.softmax1()),
    register_attention("entmax", presets.entmax(1.5)),
    register_attention("epanechnikov", presets.epanechnikov()),
]
text = torch.tensor([list(b"Reading moves the state downhill; writing moves the memory downhill. " * 4)])
padding = (torch.arange(text.shape[1]) >= 5).long().unsqueeze(0)  # five places on the left are padding
table, logits = Table("attention", "logits, difference from eager", "loss after 30 steps"), {}
for name in attentions:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)).eval()
    model.set_attn_implementation(name)
    logits[name] = model(text, attention_mask=padding).logits[:, 5:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        loss = model(text, labels=text).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    table.add_row(name, f"{(logits[name] - logits['eager']).abs().max():.1e}", f"{loss:.3f}")
Console().print(table)
