"""What a memory answers to fixed probes after every token: the memory matrix as it is seen, also where it has infinitely many columns."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energies import Hebbian, Log, Sum
from ...energies.scalings.scaling import is_exponential
from .contexts import Drawn, window_end
from .learners import Learner


@torch.no_grad()
def answers(learner: Learner, given: Drawn) -> Tensor:
    """``S_t φ(q)`` of every probe after every token t. -> (contexts, heads, probes, t, d/heads)

    A memory of constant size reads the probes in place of queries. One that keeps its tokens is written once, and what a probe reads of its first t tokens
    are prefix sums, of ``F′(s_j) u_j`` and of what they are divided by.

    Raises:
        ValueError: a memory that keeps its tokens and has another scaling than ``Sum`` and ``Log``, an empty slot, or a decay.
    """
    if not learner.grows(given.keys, given.values):
        keys, values = given.keys.unsqueeze(2), given.values.unsqueeze(2)
        query = given.probes.unsqueeze(-2).expand(*given.probes.shape[:-1], keys.shape[-2], -1)
        return learner.associate(query.expand(len(keys), *query.shape), keys, values)[0]
    return _prefixes(learner, given)


def _prefixes(learner: Learner, given: Drawn) -> Tensor:
    energy = learner.written.read
    if type(energy.scaling) not in (Sum, Log) or getattr(energy.scaling, "null_slot", False) or learner.decay is not None:
        raise ValueError(f"What a probe reads of {energy} while it grows is a prefix sum for Sum() and Log() without an empty slot or a decay, and not else.")
    score = energy.scores(given.probes, given.keys)  # (contexts, heads, probes, t)
    score = score - score.amax(-1, keepdim=True) if is_exponential(energy.separation) and not _plain(energy) else score
    slope = energy.separation.slope(score)
    total = (slope.unsqueeze(-1) * _written(learner, given).unsqueeze(2)).cumsum(-2)
    if _plain(energy):
        return total
    mass = (slope if energy.divides else energy.separation(score)).cumsum(-1).unsqueeze(-1)
    return torch.where(mass == 0, 0.0, total / torch.where(mass == 0, 1.0, mass))


def _plain(energy) -> bool:
    """Whether a read is a sum that nothing divides."""
    return isinstance(energy.scaling, Sum) and not energy.divides


def _written(learner: Learner, given: Drawn) -> Tensor:
    """u_t, (contexts, heads, t, d/heads)"""
    if isinstance(learner.written.write, Hebbian):
        token = torch.arange(1, given.keys.shape[-2] + 1, dtype=given.keys.dtype)
        return given.values if learner.rate is None else learner.rate(token, given.keys).unsqueeze(-1) * given.values
    state = learner.associate(given.keys, given.keys, given.values)[1]
    return state.written  # pyright: ignore[reportAttributeAccessIssue]


def sizes(learner: Learner, given: Drawn, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``‖ΔW_t‖``, ``‖W_t‖`` and ``‖W_t − W*‖²`` at tokens t, W* the learner's own limit, ``limit · Cov(v, k)``. -> (contexts, points) three times

    Norms are root mean squares over probes (the last a mean square). ``ΔW_t`` is what token t changed; its norm is averaged over the tokens from t to 9/8 t,
    because a single token says little and a law of t is the same over windows that grow with t.
    """
    read = answers(learner, given)
    moved = _over_probes(read.diff(dim=-2)).sqrt().cumsum(-1)  # column j: what tokens 2 to j + 2 changed
    last = window_end(times)
    update = (moved[:, last - 2] - moved[:, times - 2]) / (last - times)
    at = read[..., times - 1, :]
    return update, _over_probes(at).sqrt(), _over_probes(at - learner.limit * given.covariance.unsqueeze(-2))


def _over_probes(change: Tensor) -> Tensor:
    """Mean square over probes of a vector whose heads stand side by side. (contexts, heads, probes, t, d) -> (contexts, t)"""
    return change.square().sum((1, -1)).mean(1)
