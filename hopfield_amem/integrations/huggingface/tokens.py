"""What a HuggingFace attention mask says about tokens: which are there, and where a document begins."""

from __future__ import annotations

import torch
from torch import Tensor

AHEAD = "The attention mask lets tokens attend to later ones (a prefix, an image); a memory is written in order and cannot."


def presence(mask: Tensor | None, batch: int, length: int) -> Tensor | None:
    """Which of the newest tokens are there, (batch, length); None: all.

    Args:
        mask: (batch, 1 or heads, length, n), True or above half the least number where a query attends; (batch, n), nonzero where a token is; or None.

    Raises:
        TypeError: a mask that is no tensor, as flex attention makes it.
        ValueError: a mask that does not fit the tokens.
    """
    if mask is None:
        return None
    _check(mask, length)
    there = mask[:, mask.shape[1] - length :] != 0 if mask.ndim == 2 else _seen(mask).diagonal(0, -2, -1)
    return there.expand(batch, length)


def documents(mask: Tensor | None, there: Tensor | None) -> Tensor | None:
    """Where documents that share a row begin and end when the rows are laid one after another, (documents + 1,); None: every row is one document.

    Raises:
        ValueError: a mask by which tokens attend to later ones, which no memory can. In a compiled graph, where values decide nothing, a
            RuntimeError at run time, for documents too.
    """
    if mask is None or there is None or mask.ndim != 4 or there.shape[1] < 2:
        return None
    neighbours, seen = there[:, 1:] & there[:, :-1], _seen(mask)
    begins, ahead = neighbours & ~seen.diagonal(-1, -2, -1), neighbours & seen.diagonal(1, -2, -1)
    if torch.compiler.is_compiling():
        torch._assert_async(~(begins | ahead).any(), f"{AHEAD} Nor can documents share a row in a compiled graph.")  # type: ignore[reportPrivateImportUsage]
        return None
    some, future = torch.stack([begins.any(), ahead.any()]).tolist()
    if future:
        raise ValueError(AHEAD)
    if not some:
        return None
    first = torch.cat([begins.new_ones(len(begins), 1), begins], 1).flatten()
    return torch.cat([first.nonzero().flatten(), first.new_full((1,), len(first), dtype=torch.long)])


def in_a_row(tokens: Tensor) -> Tensor:
    """Rows of a batch one after another. (batch, ..., T, d) -> (1, ..., batch · T, d)"""
    return tokens.movedim(0, -3).flatten(-3, -2).unsqueeze(0)


def _seen(mask: Tensor) -> Tensor:
    """Which of the newest tokens each of them attends to. (batch, ·, length, n) -> (batch, length, length)"""
    newest = mask[:, 0, :, mask.shape[-1] - mask.shape[-2] :]
    return newest > torch.finfo(newest.dtype).min / 2 if newest.is_floating_point() else newest.bool()


def _check(mask: Tensor, length: int) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"A mixer reads padding from a mask that is a tensor, got {type(mask).__name__}: use the sdpa or eager attention implementation.")
    fits = (mask.ndim == 2 and mask.shape[1] >= length) or (mask.ndim == 4 and mask.shape[-2] == length <= mask.shape[-1])
    if not fits:
        raise ValueError(f"An attention mask for {length} tokens is (batch, n) or (batch, heads, {length}, n) with n ≥ {length}, got {tuple(mask.shape)}.")
