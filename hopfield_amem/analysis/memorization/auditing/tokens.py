"""Log probabilities of tokens, from any model that gives them, and the laws that they are held against."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

TOKENS = 16384  # of one forward pass
ROUNDING = 100  # units of rounding by which logits of a causal model may differ from call to call
LogProbabilities = Callable[[Tensor], Tensor]
"""Tokens (b, t) -> ``log p(token i | tokens before it)`` for i = 1 … t − 1, natural logarithms, (b, t − 1)."""


def next_token(model: nn.Module, logits: Callable[[Tensor], object] | None = None) -> LogProbabilities:
    """Log probabilities of every token but the first, as a model predicts it from those before it: its logits at i are of token i + 1.

    Args:
        model: ``model(tokens)`` gives logits (b, t, V), or an object that has them as ``logits``. It is run in evaluation mode, without gradients.
        logits: how it is called, where that is otherwise.

    Raises (when called):
        TypeError: a result without logits.
        ValueError: logits of another shape, tokens outside of V, logits that are not finite, a model that sees the token it is asked for.
    """
    called, checked = model if logits is None else logits, set()

    @torch.no_grad()
    def log_probabilities(tokens: Tensor) -> Tensor:
        device = next((p.device for p in model.parameters()), tokens.device)
        training = model.training
        model.eval()
        try:
            if not checked:
                _causal(called, model, tokens[:1].to(device))
                checked.add(True)
            parts = tokens.split(max(1, TOKENS // tokens.shape[1]))
            return torch.cat([_chosen(_logits(called, model, part.to(device)), part.to(device)).cpu() for part in parts])
        finally:
            model.train(training)

    return log_probabilities


def uniform(vocabulary: int) -> LogProbabilities:
    """``−log V`` for every token.

    Raises:
        ValueError: a vocabulary below 2.
    """
    if not isinstance(vocabulary, int) or vocabulary < 2:
        raise ValueError(f"A uniform law needs a vocabulary of at least 2 tokens, got {vocabulary!r}.")
    return lambda tokens: torch.full((len(tokens), tokens.shape[1] - 1), -math.log(vocabulary), dtype=torch.float64)


def unigram(rows: Sequence[Tensor], vocabulary: int) -> LogProbabilities:
    """``log (c + 1)/(n + V)`` of a token that occurs c times among the n predicted ones of these rows: the law of their frequencies (Laplace's)."""
    counts = torch.ones(vocabulary, dtype=torch.float64)
    for row in rows:
        counts += torch.bincount(row[1:], minlength=vocabulary)
    logs = (counts / counts.sum()).log()
    return lambda tokens: logs[tokens[:, 1:]]


def rows_of(dataset: Tensor | Iterable[Tensor | Sequence[int]]) -> list[Tensor]:
    """A data set as rows of tokens, (t,) each with t ≥ 2.

    Raises:
        TypeError: texts, or what is no tokens.
        ValueError: no row, rows of fewer than two tokens, negative tokens.
    """
    if isinstance(dataset, str | bytes) or not isinstance(dataset, Iterable):
        raise TypeError(f"A data set is a tensor of tokens (sequences, length) or an iterable of rows of tokens, got {type(dataset).__name__}. Tokenize texts.")
    rows = []
    for place, given in enumerate(dataset, 1):
        if isinstance(given, str | bytes | dict):
            raise TypeError(f"Row {place} is a {type(given).__name__}, not tokens. Tokenize texts, and give the tokens alone.")
        row = torch.as_tensor(given).cpu()
        if row.is_floating_point() or row.dtype == torch.bool or row.ndim != 1 or len(row) < 2 or int(row.min()) < 0:
            raise ValueError(f"Row {place} must hold two tokens at least, whole numbers from 0 on; got {row.dtype} of shape {tuple(row.shape)}.")
        rows.append(row.long())
    if not rows:
        raise ValueError("The data set is empty. An iterator that has been used up cannot be read again.")
    return rows


def scores(law: LogProbabilities, rows: Sequence[Tensor]) -> Tensor:
    """``log p`` of every row, float64. (n,)

    Raises:
        ValueError: log probabilities of another shape, NaN, or above 0.
    """
    found = torch.empty(len(rows), dtype=torch.float64)
    lengths: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        lengths.setdefault(len(row), []).append(place)
    for length, places in lengths.items():
        tokens = torch.stack([rows[place] for place in places])
        logs = torch.as_tensor(law(tokens)).double().cpu()
        if logs.shape != (len(places), length - 1):
            raise ValueError(
                f"Log probabilities of tokens {tuple(tokens.shape)} have shape {(len(places), length - 1)}, one for every token but the first; "
                f"got {tuple(logs.shape)}."
            )
        if bool(logs.isnan().any()) or bool((logs > 1e-6).any()):
            raise ValueError("Log probabilities are at most 0 and never NaN; what came are scores of another kind.")
        found[places] = logs.sum(1)
    return found


def _logits(called: Callable, model: nn.Module, tokens: Tensor) -> Tensor:
    try:
        result = called(tokens)
    except IndexError as error:
        raise ValueError(
            f"{type(model).__name__} cannot take tokens up to {int(tokens.max())} in rows of {tokens.shape[1]} ({error}): another tokenizer made them, or its "
            "positions end before."
        ) from error
    logits = result if isinstance(result, Tensor) else getattr(result, "logits", None)
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"{type(model).__name__} gives no logits over tokens but a {type(result).__name__}: a model without a read-out has no token probabilities. "
            "Give log_probabilities, a function of tokens (b, t) that returns log p of all but the first, (b, t − 1)."
        )
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape or logits.shape[2] < 2:
        raise ValueError(f"{type(model).__name__} must give logits (b, t, V) for tokens {tuple(tokens.shape)}, got {tuple(logits.shape)}.")
    if int(tokens.max()) >= logits.shape[2]:
        raise ValueError(f"{type(model).__name__} knows tokens below {logits.shape[2]}, and the data have {int(tokens.max())}: another tokenizer made them.")
    return logits


def _chosen(logits: Tensor, tokens: Tensor) -> Tensor:
    if not bool(logits.isfinite().any(-1).all()):
        raise ValueError("The logits of some token are all NaN or infinite: the model has diverged.")
    return logits[:, :-1].float().log_softmax(-1).gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)


def _causal(called: Callable, model: nn.Module, tokens: Tensor) -> None:
    """A model that predicts from what came before does not change its mind when the last token is another one."""
    given = _logits(called, model, tokens)
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % given.shape[2]
    changed = (_logits(called, model, other) - given)[:, :-1].abs().max()
    if bool(changed > ROUNDING * torch.finfo(given.dtype).eps * given.abs().max()):
        raise ValueError(
            f"{type(model).__name__} sees the tokens it is asked for (logits before the last token change with it): its outputs are no probabilities of "
            "a sequence. Audit a causal model, or give log_probabilities."
        )
