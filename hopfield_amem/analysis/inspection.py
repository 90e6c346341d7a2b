"""What a transformer's memories did with its inputs, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from .association import CLASSES
from .result import Result, pandas

NUMERALS = {0: "-", **{number: name.split(":")[0] for number, name in CLASSES.items()}}


@dataclass(frozen=True)
class Heads:
    """Attention heads as memories. Tensors are (layers, heads) on the CPU; NaN (0 in integers) where a layer has fewer heads or no query counted.

    A query counts when it is no padding, sees at least two slots and gives weight to one, or to what is no slot. Everything but ``margin``, ``kind``
    and ``snr`` is a mean over these; signal, noise and class are those of queries that give weight to a slot.

    Attributes:
        layers: names of the attention modules, in the order they were first called.
        beta: inverse temperature.
        energy: ``E(x) = ½‖x‖² − Q[Σ F(βx·k)]/β`` of the state that reads the values (the query), the state's own ``½‖x‖²`` included as in
            ``ReadEnergy``; for softmax ``½‖q‖² − log Σ exp(βq·k)/β``, sinks and what masks add to scores inside the logarithm.
        visible: N, slots that a query sees.
        effective: effective number of slots retrieved, ``1/Σp²`` of weights that sum to one; 1 to N.
        size: k, the least number of slots that hold 0.90 of the weight.
        kind: operating class of the head, 1 (global average) to 4 (single pattern), 0 for none: the median over queries; see ``metastable_class``.
        classes: how many queries were in each class, (layers, heads, 4).
        snr: retrieval signal-to-noise ratio, one over the mean of ``retrieval_noise``; inf when nothing interfered.
        margin: median over queries of βΔ, the largest score minus the second largest.
        first: weight on the first token, 0 to 1.
        null: weight on what is no slot: a learned sink, an empty memory; 0 to 1.
        queries: how many queries counted.
    """

    layers: tuple[str, ...]
    beta: Tensor
    energy: Tensor
    visible: Tensor
    effective: Tensor
    size: Tensor
    kind: Tensor
    classes: Tensor
    snr: Tensor
    margin: Tensor
    first: Tensor
    null: Tensor
    queries: Tensor


@dataclass(frozen=True)
class FeedForwards:
    """Feed-forward blocks as memories whose slots are their hidden units. Tensors are (blocks,) on the CPU.

    Attributes:
        blocks: names of the modules that hold the values, the second projections.
        slots: how many there are.
        active: mean share of slots active at a token, 0 to 1; see ``active_slots``.
        effective: mean effective number of slots at a token, ``(Σ|a|)²/Σa²``.
        dead: share of slots never active over all inputs, 0 to 1.
        tokens: how many tokens were counted.
    """

    blocks: tuple[str, ...]
    slots: Tensor
    active: Tensor
    effective: Tensor
    dead: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Inspection(Result):
    """Heads and feed-forward blocks of a model, read as memories; ``skipped`` names the modules that could not be read, with the reason. Prints as a table."""

    heads: Heads
    feed_forwards: FeedForwards
    skipped: Mapping[str, str]

    def rows(self) -> list[dict[str, Any]]:
        """One dict of plain numbers per head, "kind" being the numeral of the class ("-" for none), then one per feed-forward block, of other keys."""
        return [*_head_rows(self.heads), *_block_rows(self.feed_forwards)]

    def plot(self):
        """Maps of the heads, layers × heads, and bars of the feed-forward blocks: ``plots.association.association_heads``."""
        from .plots.association import association_heads

        return association_heads(self)

    def to_pandas(self) -> tuple[Any, Any]:
        """The rows as two data frames: heads, feed-forward blocks.

        Raises:
            ImportError: without pandas.
        """
        return pandas().DataFrame(_head_rows(self.heads)), pandas().DataFrame(_block_rows(self.feed_forwards))

    def __str__(self) -> str:
        parts = [_attention_table(self.heads), _feed_forward_table(self.feed_forwards)]
        parts += ["\n".join(["skipped", *(f"  {name}: {reason}" for name, reason in self.skipped.items())])] if self.skipped else []
        return "\n\n".join(part for part in parts if part)


def tabulate(heads: Mapping[str, Mapping[str, Tensor]], blocks: Mapping[str, Mapping[str, float]], skipped: Mapping[str, str]) -> Inspection:
    """The table from the summaries of ``HeadTally``, "beta" (heads,) beside each, and ``SlotTally``, by name."""
    widest = max((len(summary["queries"]) for summary in heads.values()), default=0)

    def column(name: str) -> Tensor:
        rows = [torch.nn.functional.pad(summary[name].double(), (0, widest - len(summary["queries"])), value=torch.nan) for summary in heads.values()]
        return torch.stack(rows) if rows else torch.zeros(0, 0, dtype=torch.float64)

    gaps = [(0, 0, 0, widest - len(summary["queries"])) for summary in heads.values()]
    classes = [torch.nn.functional.pad(summary["classes"], gap) for summary, gap in zip(heads.values(), gaps, strict=True)]
    classes = torch.stack(classes) if classes else torch.zeros(0, 0, 4, dtype=torch.long)
    plain = {name: column(name) for name in ("beta", "energy", "visible", "effective", "size", "margin", "first", "null")}
    table = Heads(tuple(heads), kind=_median_class(classes), classes=classes, snr=1 / column("noise"), queries=column("queries").nan_to_num(0).long(), **plain)
    found = {name: torch.tensor([block[name] for block in blocks.values()], dtype=torch.float64) for name in ("slots", "active", "effective", "dead", "tokens")}
    shares = {name: found[name] / found["slots"] for name in ("active", "dead")}
    counts = {name: found[name].long() for name in ("slots", "tokens")}
    return Inspection(table, FeedForwards(tuple(blocks), effective=found["effective"], **shares, **counts), dict(skipped))


def _median_class(classes: Tensor) -> Tensor:
    """The class of the (lower) median query, counted from the smallest metastable states. (..., 4) -> (...)"""
    ascending = classes.flip(-1).cumsum(-1)
    below = (2 * ascending < ascending[..., -1:]).sum(-1)
    return torch.where(ascending[..., -1] > 0, 4 - below, 0)


def _head_rows(heads: Heads) -> list[dict[str, Any]]:
    names = [f.name for f in fields(heads) if f.name not in ("layers", "kind", "classes")]
    return [
        {"layer": layer, "head": j, "kind": NUMERALS[int(heads.kind[i, j])], **{name: getattr(heads, name)[i, j].item() for name in names}}
        for i, layer in enumerate(heads.layers)
        for j in range(heads.queries.shape[1])
        if not heads.beta[i, j].isnan()
    ]


def _block_rows(table: FeedForwards) -> list[dict[str, Any]]:
    names = [f.name for f in fields(table) if f.name != "blocks"]
    return [{"block": block, **{name: getattr(table, name)[i].item() for name in names}} for i, block in enumerate(table.blocks)]


def _attention_table(heads: Heads) -> str:
    if not heads.layers:
        return ""
    names = {"visible": "N", "effective": "1/Σp²", "size": "k", "energy": "energy", "snr": "SNR", "margin": "βΔ", "first": "first", "null": "null"}
    lines = [["attention (median of the heads)", *names.values(), "class of each head"]]
    for i, layer in enumerate(heads.layers):
        numbers = [f"{float(getattr(heads, name)[i].nanmedian()):.3g}" for name in names]
        lines.append([layer, *numbers, " ".join(NUMERALS[kind] for kind in heads.kind[i].tolist())])
    return _aligned(lines)


def _feed_forward_table(table: FeedForwards) -> str:
    if not table.blocks:
        return ""
    lines = [["feed-forward", "slots", "active", "effective", "dead"]]
    for i, block in enumerate(table.blocks):
        lines.append([block, str(int(table.slots[i])), f"{float(table.active[i]):.1%}", f"{float(table.effective[i]):.4g}", f"{float(table.dead[i]):.1%}"])
    return _aligned(lines)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]) for line in lines)
