"""The door of reading: ``retrieve``, its backends, and ``explain``."""

from __future__ import annotations

import importlib.util
import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..energies import Custom, Elementwise, Invariant, Manhattan, Memory, ReadEnergy, checks
from . import fused
from .bounded import Bounded
from .chunked import Chunked
from .gates import EVERYTHING, Gates
from .reference import Reference

if TYPE_CHECKING:
    from .compiler import Compiled

BACKENDS = ("reference", "chunked", "triton")
SMALL = 2**16  # association matrices up to this many scores are cheapest in full


def retrieve(
    energy: ReadEnergy | Memory,
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    *,
    presence: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool | int = False,
    dropout: float = 0.0,
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
        keys: stored patterns, (..., n, d). Leading dimensions broadcast: one (n, d) memory serves queries of any shape, and queries
            (batch, heads, group, q, d) share keys (batch, heads, 1, n, d) without a copy.
        values: what is read, (..., n, v); None for the settled state itself.
        presence: which slots are there, boolean or in [0, 1], broadcastable to (..., q, n). 0 deletes a slot.
        bias: what is added to the score of every slot, ``F(β S + b)``, broadcastable to (..., n): the bias of a feed-forward key.
        causal: True: query i sees slots 0..i only. A number w: it sees the w latest of them (a sliding window).
        dropout: probability in [0, 1) with which a weight is dropped; the others are divided by 1 − dropout. Drawn once for all steps.
        steps: number of steps, at least 1.
        backend: "reference" (full matrices), "chunked" (bounded memory), "triton" (generated kernels, on a GPU or interpreted), or
            "auto" (see ``explain``).

    Returns:
        (..., q, d), or (..., q, v) with values, in the dtype of the query (of autocast, where that is on). A query that sees no slot reads
        zeros; as a state it settles where the energy without slots does (``Dot``: 0; distances and spheres: it stays).

    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit; NaN or Inf in the patterns; a backend that cannot serve.
        Contents are only checked where reading them is free: not on a GPU, under vmap or while compiling.
    """
    spec = energy.read if isinstance(energy, Memory) else energy
    _check(spec, query, keys, values, (presence, bias), steps)
    gates = gated(presence, bias, causal, dropout, query.device)
    chosen = explain(spec, query, keys, backend=backend).backend
    named = {"query": query, "keys": keys, "values": values, "bias": bias}
    dtype, (query, keys, values) = computation(query, keys, values, native=chosen == "triton")
    with full_precision(query):
        read = opened(chosen)(spec, keys, gates)
        state = query
        for _ in range(steps if values is None else steps - 1):
            state = read.settle(state)
        result = (state if values is None else read.read(state, values)).to(dtype)
    checks.contents(spec, named, result)
    return result


def engine(
    energy: ReadEnergy, query: Tensor, keys: Tensor, *, presence: Tensor | None = None, causal: bool | int = False, backend: str = "auto"
) -> Reference | Bounded:
    """The chosen backend bound to one memory: ``settle``, ``read``, ``energy`` and ``force`` of states like ``query``."""
    chosen = explain(energy, query, keys, backend=backend).backend
    return opened(chosen)(energy, keys, gated(presence, None, causal, 0.0, query.device))


def gated(presence: Tensor | None, bias: Tensor | None, causal: bool | int, dropout: float, device: torch.device) -> Gates:
    """The options of a read, checked, as one object; dropout draws its seed here."""
    if isinstance(causal, bool):
        reach = EVERYTHING if causal else 0
    elif isinstance(causal, int) and 1 <= causal <= EVERYTHING:
        reach = causal
    else:
        raise ValueError(f"causal is True, False, or the number of latest slots a query sees (at least 1), got {causal!r}.")
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ValueError(f"dropout is the probability in [0, 1) with which a weight is dropped, got {dropout!r}.")
    seed = torch.randint(2**62, (), device=device) if dropout else None
    return Gates(presence, bias, reach, float(dropout), seed)


def opened(backend: str):
    """The class behind a backend's name; triton is imported on first use."""
    if backend == "triton":
        from .triton.backend import Kernels

        return Kernels
    return {"reference": Reference, "chunked": Chunked}[backend]


@dataclass(frozen=True)
class Explanation:
    """Which backend serves a read, and why. Prints as a sentence, and below it what the compiler made of the energy."""

    backend: str
    engine: str
    reason: str
    compiled: Compiled | None = field(default=None, repr=False)

    def __str__(self) -> str:
        sentence = f"{self.backend} ({self.engine}): {self.reason}"
        return sentence if self.compiled is None else f"{sentence}\n\n{self.compiled}"


def explain(energy: ReadEnergy | Memory, query: Tensor, keys: Tensor, *, backend: str = "auto") -> Explanation:
    """Say which backend ``retrieve`` takes for these tensors and why; for "triton" also the energy's class, folds and leaf source.

    Raises:
        ValueError: an unknown backend, or one that cannot serve this energy or these tensors.
    """
    spec = energy.read if isinstance(energy, Memory) else energy
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"Unknown backend {backend!r}. There are {', '.join(BACKENDS)}, and auto, which chooses.")
    if backend == "reference":
        return Explanation("reference", "full matrices", "asked for by name")
    if backend == "triton":
        return _explained_kernels(spec, query, "asked for by name")
    scores = math.prod(torch.broadcast_shapes(query.shape[:-2], keys.shape[:-2])) * query.shape[-2] * keys.shape[-2]
    softmax = fused.AVAILABLE and fused.suits(spec) and query.device.type == "cpu"
    if _learned(spec, query, keys):
        if backend == "chunked":
            raise ValueError(
                f"The chunked backend would give no gradient to the parameters inside this energy's own functions ({spec}). Use backend='reference', "
                "or move what is learned into beta, the query or the keys."
            )
        return Explanation("reference", "full matrices", "a function of this energy holds learned parameters, whose gradient only full matrices give")
    asked = "asked for by name; " if backend == "chunked" else ""
    if backend == "auto" and query.device.type == "cuda":
        try:
            return _explained_kernels(spec, query, f"{scores:,} scores on a GPU")
        except ValueError as error:
            asked = f"no kernel serves this ({error}); "
    if backend == "auto" and scores <= SMALL:
        return Explanation("reference", "full matrices", f"{asked}{scores:,} scores fit in cache, where full matrices are fastest")
    if isinstance(spec.similarity, Manhattan):
        return Explanation("chunked", "elementwise tiles", f"{asked}{spec.similarity} is no inner product: scores are computed elementwise, tile by tile")
    if softmax:
        reason = "the weights are exp(β S − Q) of an inner product, which torch's fused attention computes exactly (a fractional presence takes tiles)"
        return Explanation("chunked", "torch fused attention", asked + reason)
    return Explanation("chunked", "streamed tiles", f"{asked}{scores:,} scores are streamed in tiles, forward and backward")


def _explained_kernels(energy: ReadEnergy, query: Tensor, reason: str) -> Explanation:
    """What the generated kernels make of an energy.

    Raises:
        ValueError: an energy that cannot be compiled, a dtype without matrix products, or tensors the kernels cannot run on.
    """
    if query.dtype == torch.float64:
        raise ValueError("The triton backend computes in float32 at most, got float64. Use backend='chunked' or 'reference', or convert with .float().")
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if query.device.type != "cuda" and not interpreted:
        raise ValueError(
            f"The triton backend needs a GPU, got tensors on {query.device.type}. Two ways out: move them to a GPU with .cuda(), or set the environment "
            "variable TRITON_INTERPRET=1 before starting Python, which runs the same kernels, slowly, on CPU tensors. backend='chunked' is fast on a CPU."
        )
    if importlib.util.find_spec("triton") is None:
        raise ValueError("The triton backend needs the package triton (pip install triton; Linux). backend='chunked' runs everywhere.")
    from .compiler import compiled

    form = None if torch.compiler.is_compiling() else compiled(energy.name)  # a graph being traced compiles it in the operator
    return Explanation("triton", "interpreted kernels" if interpreted else "generated kernels", reason, form)


def _learned(energy: ReadEnergy, query: Tensor, keys: Tensor) -> bool:
    """Whether a user's separation or similarity holds tensors that require a gradient."""
    own = [
        part
        for part in (energy.separation, energy.similarity)
        if isinstance(part, (Elementwise, Custom, Invariant)) or not type(part).__module__.startswith("hopfield_amem.")
    ]
    if not own or not torch.is_grad_enabled() or not query.shape[-2] or not keys.shape[-2]:
        return False
    score = energy.similarity(query.detach()[..., :1, :], keys.detach()[..., :1, :])
    return energy.separation(score).requires_grad


def _check(energy: ReadEnergy, query: Tensor, keys: Tensor, values: Tensor | None, gates: tuple[Tensor | None, Tensor | None], steps: int) -> None:
    if not isinstance(energy, ReadEnergy):
        raise TypeError(f"retrieve needs a ReadEnergy or a Memory, for example presets.log_sum_exp(beta), got {type(energy).__name__}.")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1 (one step is attention), got {steps!r}.")
    checks.inputs(energy, query, keys, values, *gates)
    if values is None or steps > 1:
        checks.step(energy)


def computation(*tensors: Tensor | None, native: bool = False) -> tuple[torch.dtype, list]:
    """Dtype of the result, and the tensors in the dtype of the computation: autocast's choice, at least float32 inside unless ``native``."""
    given = [t for t in tensors if t is not None]
    device = given[0].device.type
    autocast = torch.is_autocast_enabled(device) and all(t.dtype != torch.float64 for t in given)
    dtype = torch.get_autocast_dtype(device) if autocast else given[0].dtype
    inside = dtype if native or dtype in (torch.float32, torch.float64) else torch.float32
    rounded = [None if t is None else t.to(dtype).to(inside) for t in tensors]
    return dtype, rounded


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Autocast off: the computation keeps the dtype that ``computation`` gave its inputs."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
