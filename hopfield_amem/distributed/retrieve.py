"""The door of reading a memory that is spread over ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from zlib import crc32

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..energies import Log, Memory, ReadEnergy, Sum, checks
from ..energies.truth import full_precision
from ..kernels import computation, gated
from ..kernels.cut import Rule
from ..kernels.spread import searched
from .engine import Sharded
from .ranks import Ranks


def retrieve(
    energy: ReadEnergy | Memory,
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    *,
    presence: Tensor | None = None,
    bias: Tensor | None = None,
    steps: int = 1,
    ranks: Ranks | None = None,
) -> Tensor:
    """``hopfield_amem.retrieve`` among the slots of all ranks: equal to it, on all slots in one process, to rounding, forward and backward.

    Every rank gives the same queries and slots of its own, however many or few, and gets the whole result. The loss is one that all ranks compute alike:
    ``backward``, which every rank must call, then leaves the whole gradient of the query (and of β) on every rank, and of keys and values that of the
    rank's own. Where ranks have queries of their own see ``Gathered``. DTensors may be given too, see ``over_mesh``.

    Args:
        energy: with ``Sum``, ``Log``, or ``Simplex`` whose weights sum to one.
        query: (..., q, d), equal on all ranks.
        keys, values: slots of this rank, (..., n, d) and (..., n, v); n may be 0, and differ from rank to rank.
        presence: of these slots, broadcastable to (..., q, n).
        bias: of these slots, broadcastable to (..., n).
        steps: as in ``hopfield_amem.retrieve``.
        ranks: the processes. None: all.

    Returns:
        (..., q, d), or (..., q, v) with values, equal on all ranks.

    Raises:
        ValueError, TypeError: as in ``hopfield_amem.retrieve``, on the rank that gave what does not fit; on all others one that says so. Other scalings.
        RankLost: a rank died, or did not come.
    """
    ranks = Ranks() if ranks is None else ranks
    spec = energy.read if isinstance(energy, Memory) else energy
    agreed(ranks, query, lambda: _checked(spec, query, keys, values, gates=(presence, bias), steps=steps))
    named = {"query": query, "keys": keys, "values": values, "bias": bias}
    dtype, (query, keys, values) = computation(query, keys, values)
    gates = gated(presence, bias, False, 0.0, query.device)
    with full_precision(query):
        read = Sharded(spec, keys, gates, ranks)
        state = query
        for _ in range(steps if values is None else steps - 1):
            state = read.settle(state)
        result = (state if values is None else read.read(state, values)).to(dtype)
    _contents(spec, named, result)
    return result


def agreed(ranks: Ranks, like: Tensor, check: Callable[[], object]) -> None:
    """Run a check that returns what ranks must have in common, and raise on all ranks where it fails on one, or where they differ."""
    problem, common = None, ""
    try:
        common = repr(check())
    except (ValueError, TypeError) as error:
        problem = error
    device = like.device if isinstance(like, Tensor) else "cpu"
    mark = crc32(common.encode())
    failed, highest, lowest = ranks.largest(torch.tensor([problem is not None, mark, -mark], device=device)).tolist()
    if problem is not None:
        raise problem
    if failed:
        raise ValueError(f"Another rank gave inputs that do not fit, and says which; rank {ranks.rank} has stopped with it.")
    if highest != -lowest:
        raise ValueError(f"Ranks must read alike, but they differ in the energy, the query, the width of values, the dtype or the steps; here: {common}.")


def supported(energy: ReadEnergy) -> None:
    """Raise ValueError for an energy whose parts on several ranks do not add up to the whole."""
    rule = Rule(energy.similarity, energy.separation, energy.scaling)
    if type(energy.scaling) in (Sum, Log) or rule.exponential or searched(energy):
        return
    raise ValueError(
        f"{energy.scaling} cannot be read over ranks: only Sum, Log and Simplex with weights that sum to one are sums over slots, up to one number per query. "
        "Level, TopK, SequentialSubsets and k-subsets rank or order the slots of a row, for which all of them must lie in one place."
    )


def _checked(spec: ReadEnergy, query: Tensor, keys: Tensor, values: Tensor | None, *, gates: tuple[Tensor | None, Tensor | None], steps: int) -> tuple:
    """What ranks must have in common."""
    if not isinstance(spec, ReadEnergy):
        raise TypeError(f"retrieve needs a ReadEnergy or a Memory, for example presets.log_sum_exp(beta), got {type(spec).__name__}.")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1 (one step is attention), got {steps!r}.")
    supported(spec)
    checks.inputs(spec, query, keys, values, *gates)
    if values is None or steps > 1:
        checks.step(spec)
        if spec.similarity.rests:
            raise ValueError(f"A state settles at a weighted median of all slots under {spec.similarity}, no sum over ranks. Read values, in one step.")
    if spec.separation.reach < math.inf and keys.device.type == "cpu":  # NaN would be out of reach
        checks.contents(spec, {"keys": keys, "values": values}, keys)
    beta = tuple(spec.beta.shape) if isinstance(spec.beta, Tensor) else spec.beta
    return str(spec), beta, tuple(query.shape), query.dtype, keys.shape[:-2], None if values is None else (values.shape[:-2], values.shape[-1]), steps


def _contents(spec: ReadEnergy, named: dict[str, Tensor | None], result: Tensor) -> None:
    try:
        checks.contents(spec, named, result)
    except ValueError as error:
        if "overflowed" in str(error):
            raise ValueError(f"{error} Or the keys or values of another rank hold NaN or Inf: that rank says so.") from None
        raise


class Gathered:
    """Queries of every rank's own, each with a loss of its own, put together for a memory that all ranks share.

        asked = Gathered(query)
        mine = asked.own(retrieve(energy, asked.queries, keys, values))

    Gradients are those of the sum of all ranks' losses: what several steps of ``optimizer.step()`` on one process would see, or data parallelism without
    the division by the number of ranks.

    Args:
        query: (..., q, d), of this rank; q may differ from rank to rank.
        ranks: the processes. None: all.

    Attributes:
        queries: of all ranks, one after the other (..., Σ q, d).
    """

    def __init__(self, query: Tensor, ranks: Ranks | None = None):
        ranks = Ranks() if ranks is None else ranks
        agreed(ranks, query, lambda: (checks.floating("query", query), query.shape[:-2], query.shape[-1], query.dtype))
        counts = ranks.counts(query.shape[-2], query.device)
        self.ranks, self._mine = ranks, slice(sum(counts[: ranks.rank]), sum(counts[: ranks.rank + 1]))
        self.queries: Tensor = _Gather.apply(query, ranks, self._mine)  # type: ignore[assignment]

    def own(self, result: Tensor) -> Tensor:
        """The rows (..., q, ·) that answer this rank's queries, of what was read for all of them (..., Σ q, ·)."""
        return _Own.apply(result, self.ranks, self._mine)  # type: ignore[return-value]


class _Gather(torch.autograd.Function):
    """Rows of all ranks. The gradient that comes back is equal on all of them, so that every rank takes its own rows."""

    @staticmethod
    def forward(ctx, query, ranks, mine):  # type: ignore[override]
        ctx.mine = mine
        return torch.cat(ranks.rows(query), -2)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):  # type: ignore[override]
        return cotangent[..., ctx.mine, :].contiguous(), None, None


class _Own(torch.autograd.Function):
    """This rank's rows. Every rank must see the gradients of all rows."""

    @staticmethod
    def forward(ctx, result, ranks, mine):  # type: ignore[override]
        ctx.ranks = ranks
        return result[..., mine, :].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):  # type: ignore[override]
        return torch.cat(ctx.ranks.rows(cotangent), -2), None, None
