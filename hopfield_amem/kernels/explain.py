"""Which backend serves a read or a write, and why."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..energies import Manhattan, Memory, ReadEnergy
from ..energies.truth import known
from . import fused
from .association.explain import explained
from .explanation import BACKENDS, SMALL, Explanation, by_kernels, counted, learned, refusal
from .rule import Rule


def explain(energy: ReadEnergy | Memory, query: Tensor, keys: Tensor, *, backend: str = "auto") -> Explanation:
    """Say which backend ``retrieve``, or for a ``Memory`` ``associate``, takes for these tensors and why; for "triton" also the energy's class, folds
    and leaf source.

    Raises:
        ValueError: an unknown backend, or one that cannot serve this energy or these tensors.
    """
    if isinstance(energy, Memory):
        return explained(energy, query, keys, backend)
    spec = energy
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"Unknown backend {backend!r}. There are {', '.join(BACKENDS)}, and auto, which chooses.")
    if backend == "reference":
        return Explanation("reference", "full matrices", "asked for by name")
    if backend == "triton":
        return by_kernels(spec, query, "asked for by name")
    scores = math.prod(torch.broadcast_shapes(query.shape[:-2], keys.shape[:-2])) * query.shape[-2] * keys.shape[-2]
    softmax = fused.AVAILABLE and fused.suits(spec) and query.device.type == "cpu"
    if learned(spec, query, keys):
        if backend == "chunked":
            raise ValueError(
                f"The chunked backend would give no gradient to the parameters inside this energy's own functions ({spec}). Use backend='reference', "
                "or move what is learned into beta, the query or the keys."
            )
        return Explanation("reference", "full matrices", "a function of this energy holds learned parameters, whose gradient only full matrices give")
    asked = "asked for by name; " if backend == "chunked" else ""
    if backend == "auto" and query.device.type == "cuda":
        try:
            return by_kernels(spec, query, f"{counted(scores)} scores on a GPU")
        except ValueError as error:
            asked = f"no kernel serves this ({error}); "
    if backend == "auto" and known(scores <= SMALL) and not _unrolled(spec):
        return Explanation("reference", "full matrices", f"{asked}{counted(scores)} scores fit in cache, where full matrices are fastest")
    if not spec.streams:
        reason = f"{asked}{spec.scaling} weighs all slots of a row together: the full rows of a few queries at a time"
        return Explanation("chunked", "full rows", reason)
    if isinstance(spec.similarity, Manhattan):
        return Explanation("chunked", "elementwise tiles", f"{asked}{spec.similarity} is no inner product: scores are computed elementwise, tile by tile")
    if softmax:
        reason = "the weights are exp(β S − Q) of an inner product, which torch's fused attention computes exactly (a fractional presence takes tiles)"
        return Explanation("chunked", "torch fused attention", asked + reason)
    return Explanation("chunked", "streamed tiles", f"{asked}{counted(scores)} scores are streamed in tiles, forward and backward")


def backends(energy: ReadEnergy) -> tuple[str, ...]:
    """The backends that serve reads of an energy, on tensors that suit them (see ``explain``): all, or all but generated kernels."""
    return BACKENDS[:2] if refusal(energy.name) else BACKENDS


def _unrolled(energy: ReadEnergy) -> bool:
    """Whether the graph of full matrices would hold every step of a level's search, which takes minutes to compile; an operator is one node."""
    rule = Rule(energy.similarity, energy.separation, energy.scaling)
    return torch.compiler.is_compiling() and (rule.thresholded or rule.whole)
