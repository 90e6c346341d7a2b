"""The outer-product memory ``W = Σ_x q(x) u_f(x) e_xᵀ``: writing it, reading it by argmax, and what it associates (arXiv 2310.02984, section 2).

Conventions: inputs E (..., N, d) hold the embeddings e_x in rows, outputs U (..., M, v) the u_y, and a memory W is (..., v, d), so that the score of
class y at input x is ``u_yᵀ W e_x``. Of equal scores the first class wins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import doors

BLOCK = 2**22  # scores at once


def random_embeddings(inputs: int, classes: int, dim: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """``e_x ~ N(0, I/d)`` and u_y uniform on the unit sphere, as in the experiments of arXiv 2310.02984. -> E (N, d), U (M, d)

    Raises:
        TypeError, ValueError: counts below one.
    """
    for value, name in ((inputs, "inputs"), (classes, "classes"), (dim, "dim")):
        doors.count(value, name)
    embedded = torch.randn(inputs, dim, generator=generator) / dim**0.5
    return embedded, torch.nn.functional.normalize(torch.randn(classes, dim, generator=generator), dim=-1)


def store(inputs: Tensor, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """``W = Σ_x q(x) u_f(x) e_xᵀ``, through the sums ``G_y = Σ_{f(x)=y} q(x) e_x``. -> (..., v, d)

    Args:
        inputs: E, (..., N, d).
        outputs: U, (..., M, v).
        labels: f, (N,), whole numbers below M.
        weights: q, (..., N).

    Raises:
        TypeError, ValueError: what does not fit, is empty or not finite.
    """
    doors.memory(outputs.new_zeros(outputs.shape[-1], inputs.shape[-1]), inputs, outputs)
    doors.problem(inputs, outputs, labels)
    doors.storage(weights, labels)
    return outputs.mT @ class_sums(weights.to(inputs.dtype).unsqueeze(-1) * inputs, labels, outputs.shape[-2])


def class_sums(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sums over the inputs of each class. (..., N, k) -> (..., M, k)"""
    return values.new_zeros(*values.shape[:-2], classes, values.shape[-1]).index_add_(-2, labels, values)


@torch.no_grad()
def recall_error(memory: Tensor, inputs: Tensor, outputs: Tensor, labels: Tensor, *, probability: Tensor) -> Tensor:
    """``𝓔 = Σ_x p(x) 1[argmax_y u_yᵀ W e_x ≠ f(x)]``, in [0, 1]. -> (...), float64

    Args:
        memory: W, (..., v, d).
        inputs: E, (..., N, d).
        outputs: U, (..., M, v).
        labels: f, (N,).
        probability: p, (N,), which sum to one.

    Raises:
        TypeError, ValueError: what does not fit, is empty or not finite; no distribution.
    """
    doors.memory(memory, inputs, outputs)
    doors.problem(inputs, outputs, labels)
    doors.distribution(probability)
    if probability.shape != labels.shape:
        raise ValueError(f"Every input needs one probability and one class: got {tuple(probability.shape)} and {tuple(labels.shape)}.")
    return (decoded(inputs, memory.mT @ outputs.mT) != labels).double() @ probability.double()


def decoded(inputs: Tensor, readout: Tensor) -> Tensor:
    """argmax over classes of ``e_xᵀ · readout``, in blocks of inputs. (..., N, k), (..., k, M) -> (..., N)"""
    rows = max(1, BLOCK // max(1, readout[..., 0, :].numel()))
    return torch.cat([(block @ readout).argmax(-1) for block in inputs.split(rows, -2)], -1)


@torch.no_grad()
def association_map(memory: Tensor, inputs: Tensor, outputs: Tensor, *, softmax: bool = True) -> Tensor:
    """W in the basis of the embeddings, ``u_yᵀ W e_x``; with ``softmax`` what it believes, ``softmax_y``. -> (..., N, M)

    Raises:
        TypeError, ValueError: what does not fit, is empty or not finite.
    """
    doors.memory(memory, inputs, outputs)
    scores = inputs @ memory.mT @ outputs.mT
    return scores.softmax(-1) if softmax else scores


@torch.no_grad()
def memory_recall_probe(memory: Tensor, keys: Tensor, values: Tensor, *, targets: Tensor | None = None) -> float:
    """Share of the keys k whose ``argmax_j v_jᵀ W k`` is the value they should find: how far W is an associative memory of the pairs. In [0, 1].

    The probe of Bietti et al. 2023 ("Birth of a Transformer", arXiv 2306.00802) for the memories inside of a transformer, such as
    ``W_O² : W_V² e_k -> u_k`` over the vocabulary or ``W_K¹ : p_t -> p_(t−1)`` over positions (``targets`` = t − 1).

    Args:
        memory: W, (v, d).
        keys: (n, d).
        values: (m, v).
        targets: (n,), which value each key should find; None pairs them in order.

    Raises:
        TypeError, ValueError: what does not fit, is empty or not finite.
    """
    targets = torch.arange(len(keys)) if targets is None else targets
    doors.memory(memory, keys, values)
    doors.problem(keys, values, targets)
    return float((decoded(keys, memory.mT @ values.mT) == targets.to(keys.device)).double().mean())
