"""What tokens have to do with each other: every one sees all the others."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..energies import Log, ReadEnergy, Sum
from ..energies.scaling import has_null_slot
from ..kernels import Gates, engine
from ..kernels.gates import EVERYTHING

FEW = 128  # tokens up to which a mask of all pairs is no larger than the queries


class Seen(NamedTuple):
    """What a block is shown: amounts of pairs (..., heads or 1, n or 1, n), and which tokens are there (..., n). None: everything."""

    pairs: Tensor | None
    there: Tensor | None

    def tokens(self, numbers: Tensor) -> Tensor:
        """Numbers of tokens (..., n), 0 where no token is."""
        return numbers if self.there is None else torch.where(self.there, numbers, 0.0)

    def heads(self, numbers: Tensor) -> Tensor:
        """Numbers of tokens in every head (..., heads, n), 0 where no token is."""
        return numbers if self.there is None else torch.where(self.there.unsqueeze(-2), numbers, 0.0)

    def rows(self, tokens: Tensor, otherwise: Tensor | float) -> Tensor:
        """Tokens (..., n, dim), and something else where no token is."""
        return tokens if self.there is None else torch.where(self.there.unsqueeze(-1), tokens, otherwise)


def others(tokens: int, pairs: Tensor | None, device: torch.device) -> Tensor:
    """Amounts of all pairs without those of a token with itself, (..., n, n)"""
    apart = ~torch.eye(tokens, dtype=torch.bool, device=device)
    return apart if pairs is None else torch.where(apart, pairs, torch.zeros((), dtype=pairs.dtype, device=device))


def elsewhere(energy: ReadEnergy, query: Tensor, keys: Tensor, pairs: Tensor | None, backend: str) -> Tensor:
    """Q of every query over all tokens but its own, 0 where there is none. (..., n, d) twice -> (..., n)

    Of few tokens, each one's own is masked. Of many, Q over the tokens before and Q over those after are merged, where Q merges.
    """
    tokens = query.shape[-2]
    merges = isinstance(energy.scaling, (Sum, Log)) and not has_null_slot(energy.scaling)
    if tokens <= FEW or not merges or (pairs is not None and pairs.shape[-2] > 1):
        seen = others(tokens, pairs, query.device)
        return torch.where((seen > 0).any(-1), engine(energy, query, keys, Gates(seen), backend=backend).value(query), 0.0)
    before = _before(energy, query, keys, pairs, backend)
    after = _before(energy, query.flip(-2), keys.flip(-2), None if pairs is None else pairs.flip(-1), backend).flip(-1)
    value = before + after if isinstance(energy.scaling, Sum) else _log_add(before, after)
    if pairs is None:
        return value
    there = (pairs > 0).squeeze(-2).long()
    return torch.where(there.sum(-1, keepdim=True) > there, value, 0.0)


def _before(energy: ReadEnergy, query: Tensor, keys: Tensor, pairs: Tensor | None, backend: str) -> Tensor:
    """Q of every query over the tokens before it, for the first one that of no token. (..., n, d) twice -> (..., n)"""
    query, keys = query[..., 1:, :], keys[..., :-1, :]
    gates = Gates(None if pairs is None else pairs[..., :-1], reach=EVERYTHING)
    return pad(engine(energy, query, keys, gates, backend=backend).value(query), (1, 0), value=0.0 if isinstance(energy.scaling, Sum) else -math.inf)


def _log_add(first: Tensor, second: Tensor) -> Tensor:
    """``log(e^a + e^b)`` with all derivatives also where a, b or both are −∞, of which ``logaddexp`` makes NaN."""
    top = torch.maximum(first, second).detach()
    top = torch.where(top == -math.inf, 0.0, top)
    total = torch.exp(first - top) + torch.exp(second - top)
    return torch.where(total == 0, -math.inf, top + torch.where(total == 0, 1.0, total).log())
