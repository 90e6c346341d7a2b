"""A small language model whose mixer and feed-forward block are memories of any energy, and what its parameters belong to."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ...energies import presets
from ...layers import Addressing, HopfieldAttention, HopfieldFFN, MemoryMixer, Wiring, Writing

POSITIONS = 1e4  # base of the rotary positions
SLOTS = 4  # of a feed-forward memory, per channel

MakeModel = Callable[..., nn.Module]
"""``(symbols, **size) -> model``, whose forward pass takes tokens (batch, T) to logits (batch, T, symbols)."""


def _attention(energy: Callable) -> Callable[[int, int], nn.Module]:
    return lambda width, heads: HopfieldAttention(width, heads, energy((width // heads) ** -0.5), wiring=Wiring(rotary=POSITIONS))


def _delta_former(width: int, heads: int) -> nn.Module:
    memory = presets.delta_former((width // heads) ** -0.5, presets.linear_attention())
    return MemoryMixer(width, heads, memory, addressing=Addressing(rotary=POSITIONS), writing=Writing(limit=1.0))


MEMORIES: dict[str, Callable[[int, int], nn.Module]] = {
    "softmax": _attention(presets.log_sum_exp),
    "entmax": _attention(lambda beta: presets.entmax(1.5, beta)),
    "delta": lambda width, heads: MemoryMixer(width, heads, presets.delta_net(), addressing=Addressing(rotary=POSITIONS)),
    "deltaformer": _delta_former,
}
"""Token mixers by name, ``(width, heads) -> module``."""

FEED_FORWARDS = {
    "relu": presets.relu_feed_forward(),
    "gelu": presets.gelu_feed_forward(),
    "silu": presets.silu_feed_forward(),
    "squared relu": presets.squared_relu_feed_forward(),
    "softmax": presets.log_sum_exp(),
    "entmax": presets.entmax(1.5),
}
"""Energies of the feed-forward memories by name."""


class Block(nn.Module):
    """Tokens mixed, then looked up in a feed-forward memory of four slots per channel; both behind a norm, both added."""

    def __init__(self, mixer: nn.Module, memory: HopfieldFFN):
        super().__init__()
        self.mixer, self.memory = mixer, memory
        self.before, self.between = nn.LayerNorm(memory.dim), nn.LayerNorm(memory.dim)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.before(x)
        x = x + (self.mixer(seen)[0] if isinstance(self.mixer, MemoryMixer) else self.mixer(seen, causal=True))
        return x + self.memory(self.between(x))


class LanguageModel(nn.Module):
    """Tokens (batch, T) -> logits of the next ones (batch, T, symbols): an embedding, blocks, a norm and a linear read-out, pre-norm as GPT-2 is.

    ``states`` are what is read out, (batch, T, width).
    """

    def __init__(self, symbols: int, width: int, blocks: list[Block]):
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, symbols, bias=False)
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.normal_(self.output.weight, std=width**-0.5)

    def states(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.states(tokens))


def language_model(symbols: int, width: int, *, layers: int = 1, heads: int = 2, memory: str = "softmax", feed_forward: str = "gelu") -> LanguageModel:
    """A GPT-like model whose mixer and feed-forward block are memories (see ``MEMORIES`` and ``FEED_FORWARDS``), with rotary positions.

    Args:
        symbols: size of the alphabet.
        width: of the tokens, a multiple of twice the heads.
        layers: blocks.
        heads: of every mixer.
        memory: "softmax", "entmax", "delta" (DeltaNet) or "deltaformer": attention by that energy, or a memory written by the delta rule.
        feed_forward: "relu", "gelu", "silu", "squared relu", "softmax" or "entmax".

    Raises:
        ValueError: names that are not there, sizes that do not fit.
    """
    for name, there in ((memory, MEMORIES), (feed_forward, FEED_FORWARDS)):
        if name not in there:
            raise ValueError(f"Expected one of {', '.join(map(repr, there))}, got {name!r}.")
    if layers < 1 or heads < 1 or width < 1 or width % (2 * heads):
        raise ValueError(f"width is a positive multiple of twice the heads, and there is a layer at least; got width={width}, heads={heads}, layers={layers}.")
    blocks = [Block(MEMORIES[memory](width, heads), HopfieldFFN(width, SLOTS * width, FEED_FORWARDS[feed_forward])) for _ in range(layers)]
    return LanguageModel(symbols, width, blocks)


def parameters(model: nn.Module) -> dict[str, int]:
    """Numbers that a model learns: all of them, those of its attention and mixers, those of its feed-forward memories (norms and embeddings are neither)."""
    counts = {"parameters": sum(p.numel() for p in model.parameters()), "parameters attention": 0, "parameters feed-forward": 0}
    for module in model.modules():
        kind = _kind(module)
        if kind:
            counts[f"parameters {kind}"] += sum(p.numel() for p in module.parameters())
    return counts


def _kind(module: nn.Module) -> str:
    if isinstance(module, HopfieldFFN):
        return "feed-forward"
    return "attention" if isinstance(module, (HopfieldAttention, MemoryMixer, nn.MultiheadAttention)) else ""
