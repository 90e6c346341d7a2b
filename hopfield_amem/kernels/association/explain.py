"""Which backend writes and reads token by token, and why."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...energies import Log, Memory, Ridge, Sum
from ...energies.truth import known
from ..explanation import BACKENDS, SMALL, Explanation, by_kernels, counted, learned
from .tokens import constant


def explained(memory: Memory, query: Tensor, keys: Tensor, backend: str) -> Explanation:
    """Which path writes and reads token by token.

    Raises:
        ValueError: an unknown backend, or one that cannot serve this memory or these tensors.
    """
    if backend not in ("auto", "recurrent", *BACKENDS):
        raise ValueError(f"Unknown backend {backend!r}. There are recurrent, {', '.join(BACKENDS)}, and auto, which chooses.")
    if memory.slope is None:
        if backend not in ("auto", "recurrent"):
            raise ValueError(f"The write loss {memory.write} is not quadratic: it has no matrix form and runs token by token. Use backend='recurrent'.")
        return Explanation("recurrent", "token by token", "the write loss is not quadratic, so that no triangular system solves it")
    if backend in ("reference", "recurrent"):
        return Explanation(backend, {"reference": "full matrices", "recurrent": "token by token"}[backend], "asked for by name")
    if any(learned(energy, query, keys) for energy in (memory.read, memory.predictor)):
        if backend == "auto":
            return Explanation("reference", "full matrices", "a function of this memory holds learned parameters, whose gradient only full matrices give")
        raise ValueError(f"The {backend} backend would give no gradient to the parameters inside this memory's own functions. Use backend='reference'.")
    tokens, asked = keys.shape[-2], "asked for by name; " if backend != "auto" else ""
    if backend == "auto" and tokens == 1 and constant(memory):
        return Explanation("recurrent", "token by token", "there is one token, and a matrix to write it into")
    if backend == "triton" or (backend == "auto" and query.device.type == "cuda"):
        try:
            return _by_kernels(memory, query, f"{asked}{counted(tokens)} tokens")
        except ValueError as error:
            if backend == "triton":
                raise
            asked = f"no kernel serves this ({error}); "
    if backend == "auto" and tokens == 1:
        return Explanation("recurrent", "token by token", f"{asked}there is one token")
    scores = math.prod(torch.broadcast_shapes(query.shape[:-2], keys.shape[:-2])) * tokens**2
    if backend == "auto" and known(scores <= SMALL):
        return Explanation("reference", "full matrices", f"{asked}{counted(scores)} scores fit in cache, where full matrices are fastest")
    return _by_chunks(memory, asked, tokens)


def _by_chunks(memory: Memory, asked: str, tokens: int) -> Explanation:
    """What writing in bounded memory is made of."""
    if isinstance(memory.write, Ridge):
        return Explanation("chunked", "Cholesky factors", f"{asked}one regression is solved per token, {counted(tokens)} of them, and read as a matrix state")
    if constant(memory):
        return Explanation(
            "chunked", "chunks of a matrix state", f"{asked}all is linear in the keys: {counted(tokens)} tokens pass through a state of constant size"
        )
    if memory.slope == 0:
        return Explanation(
            "chunked",
            "blocks of reads",
            f"{asked}{counted(tokens)} tokens are read in blocks, each from all before it; nothing is erased, so nothing is solved",
        )
    return Explanation("chunked", "blocked triangular solve", f"{asked}{counted(tokens)} tokens are written in blocks, each solved against all before it")


def _by_kernels(memory: Memory, query: Tensor, reason: str) -> Explanation:
    """What the kernels make of a memory.

    Raises:
        ValueError: a memory or tensors that they do not serve.
    """
    if memory.slope and not isinstance(memory.predictor.scaling, (Sum, Log)):
        raise ValueError(f"The triton backend predicts with Sum() or Log() scaling, got {memory.predictor}. Use backend='chunked', or another prediction.")
    for energy in {memory.predictor.name: memory.predictor, memory.read.name: memory.read}.values():
        chosen = by_kernels(energy, query, reason)
    engine = "of a matrix state" if constant(memory) else "of a triangular system and of reads"
    solved = "; torch solves the ridge regressions" if isinstance(memory.write, Ridge) else ""
    return Explanation("triton", f"{chosen.engine} {engine}", reason + solved, memory.read.name)
