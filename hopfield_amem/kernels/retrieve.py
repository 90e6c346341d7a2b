"""The door of reading: ``retrieve``, its backends, and ``explain``."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energies import Custom, Elementwise, Manhattan, Memory, ReadEnergy, checks
from . import fused
from .chunked import Chunked
from .reference import Reference

BACKENDS = {"reference": Reference, "chunked": Chunked}
SMALL = 2**16  # association matrices up to this many scores are cheapest in full


def retrieve(
    energy: ReadEnergy | Memory,
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    *,
    presence: Tensor | None = None,
    causal: bool = False,
    steps: int = 1,
    backend: str = "auto",
) -> Tensor:
    """Let queries settle among stored patterns, and read.

    Without values the result is the state after ``steps`` settled steps, ``x ← argmin_x C(x) − Σ_μ p_μ S(x, ξ_μ)``. With values the
    last of the steps reads them instead: ``Σ_μ p_μ v_μ`` at the state that ``steps − 1`` settled steps reached. One step
    of ``log_sum_exp(β)`` with values is ``softmax(β Q Kᵀ) V``; k *extra* updates, as hopfield-layers counts, are ``steps = k + 1``.

    Args:
        energy: what to descend, or a ``Memory`` whose read energy is meant.
        query: states to start from, (..., q, d).
        keys: stored patterns, (..., n, d). Leading dimensions broadcast: one (n, d) memory serves queries of any shape.
        values: what is read, (..., n, v); None for the settled state itself.
        presence: which slots are there, boolean or in [0, 1], broadcastable to (..., q, n). 0 deletes a slot.
        causal: query i sees slots 0..i only.
        steps: number of steps, at least 1.
        backend: "reference" (full matrices), "chunked" (bounded memory), or "auto" (see ``explain``).

    Returns:
        (..., q, d), or (..., q, v) with values, in the dtype of the query (of autocast, where that is on). A query that sees no slot reads
        zeros; as a state it settles where the energy without slots does (``Dot``: 0; distances and spheres: it stays).

    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit; NaN or Inf in the patterns; a backend that cannot serve.
        Contents are only checked where reading them is free: not on a GPU, under vmap or while compiling.
    """
    spec = energy.read if isinstance(energy, Memory) else energy
    _check(spec, query, keys, values, (presence, causal), steps)
    named = {"query": query, "keys": keys, "values": values}
    dtype, (query, keys, values) = computation(query, keys, values)
    with full_precision(query):
        read = engine(spec, query, keys, presence=presence, causal=causal, backend=backend)
        state = query
        for _ in range(steps if values is None else steps - 1):
            state = read.settle(state)
        result = (state if values is None else read.read(state, values)).to(dtype)
    checks.contents(spec, named, result)
    return result


def engine(
    energy: ReadEnergy, query: Tensor, keys: Tensor, *, presence: Tensor | None = None, causal: bool = False, backend: str = "auto"
) -> Reference | Chunked:
    """The chosen backend bound to one memory: ``settle``, ``read``, ``energy`` and ``force`` of states like ``query``."""
    chosen = explain(energy, query, keys, backend=backend).backend
    return BACKENDS[chosen](energy, keys, presence, causal)


@dataclass(frozen=True)
class Explanation:
    """Which backend serves a read, and why. Prints as a sentence."""

    backend: str
    engine: str
    reason: str

    def __str__(self) -> str:
        return f"{self.backend} ({self.engine}): {self.reason}"


def explain(energy: ReadEnergy | Memory, query: Tensor, keys: Tensor, *, backend: str = "auto") -> Explanation:
    """Say which backend ``retrieve`` takes for these tensors and why.

    Raises:
        ValueError: an unknown backend, or one that cannot serve this energy.
    """
    spec = energy.read if isinstance(energy, Memory) else energy
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"Unknown backend {backend!r}. There are {', '.join(BACKENDS)}, and auto, which chooses.")
    scores = math.prod(torch.broadcast_shapes(query.shape[:-2], keys.shape[:-2])) * query.shape[-2] * keys.shape[-2]
    softmax = fused.AVAILABLE and fused.suits(spec) and query.device.type == "cpu"
    if backend == "reference":
        return Explanation("reference", "full matrices", "asked for by name")
    if _learned(spec, query, keys):
        if backend == "chunked":
            raise ValueError(
                f"The chunked backend would give no gradient to the parameters inside this energy's own functions ({spec}). Use backend='reference', "
                "or move what is learned into beta, the query or the keys."
            )
        return Explanation("reference", "full matrices", "a function of this energy holds learned parameters, whose gradient only full matrices give")
    asked = "asked for by name; " if backend == "chunked" else ""
    if backend == "auto" and scores <= SMALL:
        return Explanation("reference", "full matrices", f"{scores:,} scores fit in cache, where full matrices are fastest")
    if isinstance(spec.similarity, Manhattan):
        return Explanation("chunked", "elementwise tiles", f"{asked}{spec.similarity} is no inner product: scores are computed elementwise, tile by tile")
    if softmax:
        reason = "the weights are exp(β S − Q) of an inner product, which torch's fused attention computes exactly (a fractional presence takes tiles)"
        return Explanation("chunked", "torch fused attention", asked + reason)
    return Explanation("chunked", "streamed tiles", f"{asked}{scores:,} scores are streamed in tiles, forward and backward")


def _learned(energy: ReadEnergy, query: Tensor, keys: Tensor) -> bool:
    """Whether a user's separation or similarity holds tensors that require a gradient."""
    own = [
        part
        for part in (energy.separation, energy.similarity)
        if isinstance(part, (Elementwise, Custom)) or not type(part).__module__.startswith("hopfield_amem.")
    ]
    if not own or not torch.is_grad_enabled() or not query.shape[-2] or not keys.shape[-2]:
        return False
    score = energy.similarity(query.detach()[..., :1, :], keys.detach()[..., :1, :])
    return energy.separation(score).requires_grad


def _check(energy: ReadEnergy, query: Tensor, keys: Tensor, values: Tensor | None, gates: tuple[Tensor | None, bool], steps: int) -> None:
    if not isinstance(energy, ReadEnergy):
        raise TypeError(f"retrieve needs a ReadEnergy or a Memory, for example presets.log_sum_exp(beta), got {type(energy).__name__}.")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1 (one step is attention), got {steps!r}.")
    checks.inputs(energy, query, keys, values, gates[0])
    if values is None or steps > 1:
        checks.step(energy)


def computation(*tensors: Tensor | None) -> tuple[torch.dtype, list]:
    """Dtype of the result, and the tensors in the dtype of the computation: autocast's choice, at least float32 inside."""
    given = [t for t in tensors if t is not None]
    device = given[0].device.type
    autocast = torch.is_autocast_enabled(device) and all(t.dtype != torch.float64 for t in given)
    dtype = torch.get_autocast_dtype(device) if autocast else given[0].dtype
    inside = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    rounded = [None if t is None else t.to(dtype).to(inside) for t in tensors]
    return dtype, rounded


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Autocast off: the computation keeps the dtype that ``computation`` gave its inputs."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
