"""What a model has memorised of given rows: bits beyond a reference, recall, extraction, membership, and how far apart its states are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..detection import detection
from ..memory_model import pattern_radius
from .corpus import Corpus
from .training import shown, token_losses

ROWS = 1024  # rows of one forward pass
SHOWN = 256  # rows that are continued
COMPARED = 1024  # rows whose states are compared


def unintended_memorization(logp_model: Tensor, logp_ref: Tensor) -> Tensor:
    """Bits ``−log₂ p_θ(x) + log₂ max(p_θ̂(x), p_θ(x))`` that a model knows of each row beyond a reference (Morris et al. 2025, arXiv 2505.24832). (n,) -> (n,)

    The reference θ says what one can know without the row: the uniform law, for random tokens exactly, or a model that never saw it.

    Args:
        logp_model: natural logarithm of the probability that the trained model gives each row.
        logp_ref: of the reference, (n,) or ().

    Raises:
        ValueError: NaN, or shapes that do not fit.
    """
    if bool(logp_model.isnan().any()) or bool(logp_ref.isnan().any()) or logp_ref.shape not in ((), logp_model.shape):
        raise ValueError(
            f"Expected log probabilities without NaN, one reference for each or one for all; got {tuple(logp_model.shape)}, {tuple(logp_ref.shape)}."
        )
    return (torch.maximum(logp_model, logp_ref) - logp_ref) / math.log(2)


@torch.no_grad()
def row_losses(model: nn.Module, rows: Tensor, corpus: Corpus) -> Tensor:
    """``−log p`` of every token that counts, in float64. (n, 1 + length) -> (n, counted)"""
    device = next(model.parameters()).device
    counted = shown(corpus, device)
    parts = (token_losses(model(part[:, :-1]), part, counted) for part in rows.to(device).split(ROWS))
    return torch.cat([part.double().cpu() for part in parts])


@torch.no_grad()
def recall(model: nn.Module, corpus: Corpus) -> dict[str, float]:
    """Shares of the distinct training rows all of whose tokens are the most probable ones given those before ("exact"), and of such tokens ("argmax").

    The first token of a row, before which nothing is known, is not asked unless it is all that counts.
    """
    device = next(model.parameters()).device
    counted, hits = shown(corpus, device), []
    counted = counted[counted > 0] if len(counted) > 1 else counted
    for part in corpus.distinct.to(device).split(ROWS):
        likely = model(part[:, :-1]).index_select(1, counted).argmax(-1)
        hits.append(likely == part[:, 1:].index_select(1, counted))
    right = torch.cat(hits)
    return {"exact": float(right.all(1).double().mean()), "argmax": float(right.double().mean())}


@torch.no_grad()
def extracted(model: nn.Module, corpus: Corpus, prefix: int | None = None) -> float:
    """Share of training rows that the model continues to their end, each time with the most probable token (Carlini et al. 2021, arXiv 2012.07805).

    Args:
        model: the trained model.
        corpus: whose first 256 distinct training rows are taken.
        prefix: tokens that are given. None: up to the first that counts, or half of them where all count.

    Raises:
        ValueError: a prefix that leaves nothing to continue.
    """
    given = (min(corpus.scored) if corpus.scored else corpus.length // 2) if prefix is None else prefix
    if not 0 <= given < corpus.length:
        raise ValueError(f"A prefix leaves something to continue: 0 to {corpus.length - 1} tokens, got {given}.")
    rows = corpus.distinct[:SHOWN].to(next(model.parameters()).device)
    tokens = rows[:, : 1 + given]
    while tokens.shape[1] < rows.shape[1]:
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], dim=1)
    return float((tokens == rows).all(1).double().mean())


def membership(inside: Tensor, outside: Tensor) -> dict[str, float]:
    """How well the loss of a row tells that it was trained on: AUROC, and F1 at the best threshold, as many members as others. (n,), (m,)

    The best threshold is found from the losses themselves, so that F1 is 2/3 at least (all are called members); AUROC is 0.5 by chance.
    """
    count = min(len(inside), len(outside))
    found = detection((-inside[:count]).numpy(), (-outside[:count]).numpy())
    return {"F1": float((2 * found.kept / (1 + found.kept + found.passed)).max()), "AUROC": found.auroc}


@torch.no_grad()
def radius(model: nn.Module, corpus: Corpus) -> tuple[float | None, int | None]:
    """Half the median distance of the last states of training rows to their nearest neighbours, and their width; None where a model has no ``states``."""
    if not hasattr(model, "states"):
        return None, None
    rows = corpus.distinct[:COMPARED].to(next(model.parameters()).device)
    states = model.states(rows[:, :-1])[:, -1]  # type: ignore[operator]
    if len(states) < 2:
        return None, states.shape[-1]
    return pattern_radius(states, (1.0,)).radius, states.shape[-1]


def findings(model: nn.Module, corpus: Corpus, reference: nn.Module | None = None) -> dict:
    """All that is measured of a trained model, as one flat record.

    Args:
        model: trained on ``corpus.training``.
        corpus: the rows.
        reference: what stands for the law of the data where none is known.
    """
    rows = corpus.distinct
    inside, outside = row_losses(model, rows, corpus), row_losses(model, corpus.validation, corpus)
    bits = corpus.bits_per_example
    expected = torch.full((len(rows),), -(bits or 0.0) * math.log(2), dtype=torch.float64) if reference is None else -row_losses(reference, rows, corpus).sum(1)
    memorised = unintended_memorization(-inside.sum(1), expected)
    reach, dim = radius(model, corpus)
    return {
        "data bits": corpus.bits if corpus.bits is not None else float(-expected.sum() / math.log(2)),
        "memorised bits": float(memorised.sum()), "net bits": float(-(inside.sum() + expected.sum()) / math.log(2)), "distinct": len(rows),
        **recall(model, corpus), "extracted": extracted(model, corpus), "training loss": float(inside.mean()), "validation loss": float(outside.mean()),
        "reference loss": float(-expected.sum() / inside.numel()), "reference model": reference is not None, "symbols": corpus.symbols, "radius": reach,
        "pattern dim": dim, "membership": membership(inside.mean(1), outside.mean(1)),
    }  # fmt: skip
