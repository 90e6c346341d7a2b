"""The door of reading a memory that is spread over ranks."""

from __future__ import annotations

import math

from torch import Tensor
from torch.distributed.tensor import DTensor

from ..energies import Log, Memory, ReadEnergy, Sum, checks
from ..energies.truth import full_precision
from ..kernels import computation, explain, gated
from ..kernels.rule import Rule
from ..kernels.spread import searched
from .agreement import agreed, differentiated, followed, replicated
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
    rank's own. Where ranks have queries of their own see ``Gathered``; DTensors take ``mesh.over_mesh``.

    Args:
        energy: with ``Sum``, ``Log``, or ``Simplex`` whose weights sum to one.
        query: (..., q, d), equal on all ranks bit by bit, as a β that is a tensor.
        keys, values: slots of this rank, (..., n, d) and (..., n, v); n may be 0, and differ from rank to rank.
        presence: of these slots, broadcastable to (..., q, n).
        bias: of these slots, broadcastable to (..., n).
        steps: as in ``hopfield_amem.retrieve``.
        ranks: the processes. None: all.

    Returns:
        (..., q, d), or (..., q, v) with values, equal on all ranks.

    Raises:
        ValueError, TypeError: as in ``hopfield_amem.retrieve``, on the rank that gave what does not fit; on all others one that says so.
            On all, where they do not call alike: other queries or β, gradients recorded on some only. Other scalings; energies whose own functions
            hold learned parameters.
        RankLost: a rank died, or did not come.
    """
    ranks = Ranks() if ranks is None else ranks
    spec = energy.read if isinstance(energy, Memory) else energy
    own = differentiated(keys, values, presence, bias)
    if not agreed(ranks, query, lambda: _checked(spec, query, keys, values, gates=(presence, bias), steps=steps), own):
        query = followed(query)
    named = {"query": query, "keys": keys, "values": values, "bias": bias}
    dtype, (query, *_) = computation(query, *(rows[..., :0, :] for rows in (keys, values) if rows is not None))  # slots are converted where they are read
    rounded = keys.to(dtype)
    values, keys = None if values is None else rounded if values is keys else values.to(dtype), rounded
    gates = gated(presence, bias, False, 0.0, query.device)
    with full_precision(query):
        read = Sharded(spec, keys, gates, ranks)
        state = query
        for _ in range(steps if values is None else steps - 1):
            state = read.settle(state)
        result = (state if values is None else read.read(state, values)).to(dtype)
    _contents(spec, named, result)
    return result


def supported(energy: ReadEnergy) -> None:
    """Raise ValueError for an energy whose parts on several ranks do not add up to the whole."""
    rule = Rule(energy.similarity, energy.separation, energy.scaling)
    if type(energy.scaling) in (Sum, Log) or rule.exponential or searched(energy):
        return
    raise ValueError(
        f"{energy.scaling} cannot be read over ranks: only Sum, Log and Simplex with weights that sum to one are sums over slots, up to one number per query. "
        "Level, TopK, SequentialSubsets and k-subsets rank or order the slots of a row, for which all of them must lie in one place."
    )


def _checked(spec: ReadEnergy, query: Tensor, keys: Tensor, values: Tensor | None, *, gates: tuple[Tensor | None, Tensor | None], steps: int) -> dict:
    """What ranks must have in common."""
    if not isinstance(spec, ReadEnergy):
        raise TypeError(f"retrieve needs a ReadEnergy or a Memory, for example presets.log_sum_exp(beta), got {type(spec).__name__}.")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1 (one step is attention), got {steps!r}.")
    supported(spec)
    plain({"query": query, "keys": keys, "values": values})
    checks.inputs(spec, query, keys, values, *gates)
    _unlearned(spec, query)
    if values is None or steps > 1:
        checks.step(spec)
        if spec.similarity.rests:
            raise ValueError(f"A state settles at a weighted median of all slots under {spec.similarity}, no sum over ranks. Read values, in one step.")
    if spec.separation.reach < math.inf and keys.device.type == "cpu":  # NaN would be out of reach
        checks.contents(spec, {"keys": keys, "values": values, "bias": gates[1]}, keys)
    beta = replicated(spec.beta) if isinstance(spec.beta, Tensor) else spec.beta
    widths = None if values is None else (values.shape[:-2], values.shape[-1])
    common = {"energy": str(spec), "beta": beta, "query": replicated(query), "steps": steps}
    return common | {"leading dimensions of keys": keys.shape[:-2], "leading dimensions and width of values": widths}


def plain(named: dict[str, Tensor | None]) -> None:
    """Raise TypeError for a DTensor."""
    for name, tensor in named.items():
        if isinstance(tensor, DTensor):
            raise TypeError(f"{name} is a DTensor, which distributed.mesh.over_mesh(energy, query, keys, values) reads; here give {name}.to_local().")


def _unlearned(energy: ReadEnergy, query: Tensor) -> None:
    """Raise ValueError where a sweep would leave parameters without a gradient. One slot is made up, so that ranks without slots say the same."""
    _, (one,) = computation(query.new_ones(1, query.shape[-1]))
    try:
        explain(energy, one, one, backend="chunked")
    except ValueError:
        raise ValueError(
            f"Over ranks the parameters inside this energy's own functions get no gradient ({energy}). Move what is learned into beta, the query or the "
            "keys, or read under torch.no_grad()."
        ) from None


def _contents(spec: ReadEnergy, named: dict[str, Tensor | None], result: Tensor) -> None:
    try:
        checks.contents(spec, named, result)
    except ValueError as error:
        if "overflowed" in str(error):
            raise ValueError(f"{error} Or the keys or values of another rank hold NaN or Inf: that rank says so.") from None
        raise
