"""Attention read from energies in a HuggingFace model, against its scaled_dot_product_attention: time and peak memory of whole passes.

    python benchmarks/huggingface.py            a Llama-shaped model (hidden 512, 4 layers) over 2,048 tokens, random weights
    python benchmarks/huggingface.py --quick    small sizes, to see that it runs

Every pass of ours is timed in turn with one of the same model on sdpa; peaks are of fresh processes. Softmax must agree with sdpa before it is timed.
Results go to benchmarks/results/huggingface.json and .md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import memory as resident
import torch
from command import asked, fresh
from measure import Effort, agreement, ratio, timed
from results import MEBIBYTE
from transformers import LlamaConfig, LlamaForCausalLM

from hopfield_amem import presets
from hopfield_amem.descent import FixedPoint
from hopfield_amem.integrations.huggingface import register_attention

SOFTMAX = "log_sum_exp"
READS = {
    SOFTMAX: (presets.log_sum_exp(), FixedPoint(steps=1)),
    "three steps": (presets.log_sum_exp(), FixedPoint(steps=3, tolerance=0)),
    "softmax1": (presets.softmax1(), FixedPoint(steps=1)),
    "epanechnikov": (presets.epanechnikov(), FixedPoint(steps=1)),
    "entmax": (presets.entmax(1.5), FixedPoint(steps=1)),
}
BAR = 1.05  # our time over that of sdpa, median of the pairs
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Shape:
    """A Llama-shaped model and what it reads. ``padded`` is the share of the first text of two that is padding; 0 is one text without a mask."""

    hidden: int = 512
    layers: int = 4
    heads: int = 8
    memories: int = 8
    tokens: int = 2048
    padded: float = 0.0

    def __str__(self) -> str:
        texts = f"2 × {self.tokens:,} tokens, one {self.padded:.0%} padding" if self.padded else f"{self.tokens:,} tokens"
        return f"{texts}, {self.heads} heads" + ("" if self.heads == self.memories else f" on {self.memories} memories")


def work(shape: Shape, attention: str, backward: bool) -> Callable[[], tuple[torch.Tensor, ...]]:
    """One pass: the logits, and where it goes both ways the gradients of all weights."""
    if attention != "sdpa":
        register_attention(attention, *READS[attention])
    torch.manual_seed(0)
    sizes = {"hidden_size": shape.hidden, "intermediate_size": 8 * shape.hidden // 3, "num_hidden_layers": shape.layers}
    heads = {"num_attention_heads": shape.heads, "num_key_value_heads": shape.memories}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, vocab_size=1000, max_position_embeddings=2**15, use_cache=False))
    model.set_attn_implementation(attention)
    if model.config._attn_implementation != attention:
        raise ValueError(f"This model does not take the attention {attention!r}.")
    ids = torch.randint(1000, (2 if shape.padded else 1, shape.tokens))
    mask = torch.ones_like(ids)
    mask[0, : int(shape.padded * shape.tokens)] = 0

    def passed() -> tuple[torch.Tensor, ...]:
        with torch.set_grad_enabled(backward):
            logits = model(ids, attention_mask=mask).logits
        if not backward:
            return (logits,)
        loss = torch.nn.functional.cross_entropy(logits[mask.bool()], ids[mask.bool()])
        return (logits.detach()[mask.bool()], *torch.autograd.grad(loss, list(model.parameters())))

    return passed


def compared(shape: Shape, name: str, backward: bool, effort: Effort) -> dict:
    """One row: our time and memory against those of sdpa."""
    ours, peer = work(shape, name, backward), work(shape, "sdpa", backward)
    gap = agreement(ours(), peer()) if name == SOFTMAX and not (shape.padded and not backward) else None
    time = timed({"ours": ours, "peer": peer}, effort)
    del ours, peer
    peaks = {"ours": peak(shape, name, backward), "peer": peak(shape, "sdpa", backward)}
    agrees, ratios = gap is None or max(gap.values()) <= TOLERANCE, ratio(time["ours"], time["peer"])
    met = agrees and ratios["median"] <= BAR if name == SOFTMAX else None
    return {
        "shape": asdict(shape), "title": str(shape), "read": name, "backward": backward, "agreement": gap, "time": time, "ratios": ratios,
        "peak": peaks, "met": met,
    }  # fmt: skip


def peak(shape: Shape, attention: str, backward: bool) -> int | None:
    """Bytes by which a pass, its results included, exceeds model and inputs; in a fresh process. None where it did not finish."""
    return fresh(__file__, asdict(shape), attention, backward)


def _peak_here(shape: dict, attention: str, backward: bool) -> int:
    work(Shape(**shape | {"tokens": 300}), attention, backward)()
    return resident.growth(work(Shape(**shape), attention, backward))


def rows(quick: bool) -> Iterator[dict]:
    """Softmax in all shapes, every other read in the plain one."""
    plain = Shape(hidden=64, layers=2, tokens=400) if quick else Shape()
    effort = Effort(rounds=2, retries=0, shortest=0.05) if quick else Effort(rounds=9)
    grouped = Shape(**asdict(plain) | {"memories": 2})
    padded = Shape(**asdict(plain) | {"tokens": plain.tokens // 2, "padded": 0.25})
    for shape in (plain, grouped, padded):
        for backward in (False, True):
            yield compared(shape, SOFTMAX, backward, effort)
    for name in list(READS)[1:]:
        for backward in (False, True):
            yield compared(plain, name, backward, effort)


def page(result: dict) -> str:
    """The results as Markdown."""
    where = result["environment"]
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("python", "torch", "transformers", "hopfield_amem"))
    lines = [
        "# Attention from energies in a HuggingFace model", "",
        f"`{result['command']}` on {where['machine']['cpu']}, {where['threads']} threads, {where['date'][:10]}; {versions}. LlamaForCausalLM, float32, random "
        "weights, 1,000 words, against the same model on sdpa. Time: of whole passes, fastest of alternating samples, and the median ratio of the pairs. "
        "Peak: of the resident memory beyond model and inputs, logits (and gradients) included."
        + (" Quick run: small sizes, not to be quoted." if where["quick"] else ""), "",
        f"| attention | model reads | pass | time: ours / sdpa | median ratio | peak, MiB: ours / sdpa | bar ≤ {BAR:g} |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    return "\n".join([*lines, *(_line(row) for row in result["rows"]), ""])


def _line(row: dict) -> str:
    fastest = " / ".join(f"{row['time'][side]['fastest']:.4g} s" for side in ("ours", "peer"))
    busy = row["time"]["ours"]["busy"] + row["time"]["peer"]["busy"]
    peaks = " / ".join("–" if row["peak"][side] is None else f"{row['peak'][side] / MEBIBYTE:.0f}" for side in ("ours", "peer"))
    judged = "" if row["met"] is None else "met" if row["met"] else "**missed**"
    gap = "" if row["agreement"] is None else f", agrees to {max(row['agreement'].values()):.0e}"
    marks = f" (busy in {sum(busy)} of {len(busy)} samples)" if any(busy) else ""
    both = "both ways" if row["backward"] else "forward"
    return f"| {row['read']} | {row['title']} | {both} | {fastest} | {row['ratios']['median']:.3f}{marks} | {peaks} | {judged}{gap} |"


def main() -> None:
    run = asked(__file__, __doc__, _peak_here)
    for row in run.rows(run.result(), rows(run.quick), page):
        print(_line(row), flush=True)


if __name__ == "__main__":
    main()
