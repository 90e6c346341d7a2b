"""Generating with a recurrent memory in a HuggingFace model, beside its own attention: time per token and size of the cache against the context.

    python benchmarks/generation.py            a Llama-shaped model (hidden 512, 4 layers) with random weights
    python benchmarks/generation.py --quick    small sizes, to see that it runs

Contexts are read in pieces; then single tokens are timed, each from the cache as it was, all models in turn. Results go to
benchmarks/results/generation.json and .md.
"""

from __future__ import annotations

import copy
import warnings

import torch
from command import asked
from measure import Effort, timed
from results import MEBIBYTE
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from hopfield_amem import Memory, presets
from hopfield_amem.energies import UnstableWrite
from hopfield_amem.integrations.huggingface import hopfield_

MEMORIES: dict[str, Memory | None] = {"attention (sdpa)": None, "DeltaNet": presets.delta_net(), "Gated DeltaNet": presets.gated_delta_net()}
PIECE = 256  # tokens that are read at once
STEEPEST = 1.1  # how much longer a token may take after the longest context than after the shortest

warnings.simplefilter("ignore", UnstableWrite)


class Reader:
    """A model, and its cache at the contexts it has read to."""

    def __init__(self, memory: Memory | None, sizes: dict[str, int]):
        torch.manual_seed(0)
        self.model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=8, vocab_size=1000, max_position_embeddings=2**15)).eval()
        if memory is not None:
            hopfield_(self.model, memory)
        self.cache = DynamicCache(config=self.model.config)

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of the last token of a piece."""
        return self.model(ids, past_key_values=self.cache, logits_to_keep=1).logits[:, -1]

    def token(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits after one more token; the cache stays where it was, because every layer replaces its tensors and changes none."""
        layers, self.cache.layers = self.cache.layers, [copy.copy(layer) for layer in self.cache.layers]
        try:
            return self.read(ids)
        finally:
            self.cache.layers = layers

    @property
    def size(self) -> int:
        """Bytes that the cache holds."""
        held = [part for layer in self.cache.layers for part in (getattr(layer, "memory", None) or (layer.keys, layer.values))]
        return sum(part.nbytes for part in held if part is not None)


@torch.no_grad()
def measured(contexts: list[int], sizes: dict[str, int], effort: Effort) -> list[dict]:
    """Per context and model: seconds per token, bytes of the cache, and how far the logits are from those of one pass over the shortest context."""
    ids = torch.randint(1000, (1, max(contexts) + 1), generator=torch.Generator().manual_seed(1))
    readers = {name: Reader(memory, sizes) for name, memory in MEMORIES.items()}
    gaps = {name: one_pass(reader, ids[:, : contexts[0] + 1]) for name, reader in readers.items()}
    rows, start = [], 0
    for context in contexts:
        for piece in ids[:, start:context].split(PIECE, 1):
            for reader in readers.values():
                reader.read(piece)
        start, token = context, ids[:, context : context + 1]
        times = timed({name: lambda reader=reader, token=token: reader.token(token) for name, reader in readers.items()}, effort)
        rows.append({"context": context, "time": times, "bytes": {name: reader.size for name, reader in readers.items()}, "gap": gaps})
    return rows


def one_pass(reader: Reader, ids: torch.Tensor) -> float:
    """The largest difference between reading in pieces and at once."""
    fresh = copy.copy(reader)
    fresh.cache = DynamicCache(config=reader.model.config)
    *_, last = [fresh.read(piece) for piece in (*ids[:, :-1].split(PIECE // 2, 1), ids[:, -1:])]
    return float((last - reader.model(ids, use_cache=False).logits[:, -1]).abs().max())


def page(result: dict) -> str:
    """The results as Markdown."""
    where, rows, shape = result["environment"], result["rows"], result["model"]
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("python", "torch", "transformers"))
    lines = [
        "# Generating with a memory in a HuggingFace model", "",
        f"`{result['command']}` on {where['machine']['cpu']}, {where['threads']} threads, {where['date'][:10]}; {versions}. LlamaForCausalLM, hidden "
        f"{shape['hidden_size']}, {shape['num_hidden_layers']} layers, 8 heads, float32, batch 1; random weights. One token through the whole model, "
        "fastest of alternating samples, and what its cache then holds." + " Quick run: small sizes, not to be quoted." * where["quick"], "",
        "| tokens read | " + " | ".join(MEMORIES) + " |", "|---" * (len(MEMORIES) + 1) + "|",
    ]  # fmt: skip
    lines += [f"| {row['context']:,} | " + " | ".join(_cell(row, name) for name in MEMORIES) + " |" for row in rows]
    lines += ["| longest over shortest | " + " | ".join(f"{v['time']:.2f} × time, {v['bytes']:.1f} × size" for v in result["growth"].values()) + " |", ""]
    constant = [name for name, grown in result["growth"].items() if grown["constant"]]
    gap = max(rows[0]["gap"].values())
    lines += [f"Constant (time ≤ {STEEPEST:g} ×, size 1 ×): {', '.join(constant) or 'none'}."]
    lines += [f"Reading in pieces differs from one pass by at most {gap:.0e} (logits).", ""]
    return "\n".join(lines)


def _cell(row: dict, name: str) -> str:
    busy = " (busy)" if any(row["time"][name]["busy"]) else ""
    return f"{row['time'][name]['fastest'] * 1e3:.3g} ms{busy}, {row['bytes'][name] / MEBIBYTE:.3g} MiB"


def growth(rows: list[dict]) -> dict[str, dict]:
    """The longest context over the shortest, by model."""
    first, last = rows[0], rows[-1]
    ratios = {name: (last["time"][name]["fastest"] / first["time"][name]["fastest"], last["bytes"][name] / first["bytes"][name]) for name in MEMORIES}
    return {name: {"time": time, "bytes": size, "constant": time <= STEEPEST and size == 1} for name, (time, size) in ratios.items()}


def main() -> None:
    run = asked(__file__, __doc__)
    shape = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 4}
    contexts, effort = [256, 1024, 4096, 8192], Effort(rounds=5, retries=3)
    if run.quick:
        shape, contexts, effort = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}, [256, 512], Effort(2, 0, 0.05)
    rows = measured(contexts, shape, effort)
    result = run.result(model=shape, rows=rows, growth=growth(rows))
    print(run.keep(result, page(result)).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
