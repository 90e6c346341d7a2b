"""How sharply cross-entropy curves in an associative memory W: its Hessian and the largest eigenvalue (arXiv 2402.18724)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import doors

DENSE = 64  # entries of W up to which the Hessian is made in full


@torch.no_grad()
def hessian(memory: Tensor, inputs: Tensor, outputs: Tensor, *, probability: Tensor) -> Tensor:
    """``Σ_x p(x) Uᵀ(diag π_x − π_x π_xᵀ)U ⊗ e_x e_xᵀ``, π the softmax of the scores: second derivatives of L in the entries of W, row by row. -> (v·d, v·d)

    Raises:
        TypeError, ValueError: what does not fit, is empty or not finite; no distribution.
    """
    curvature = _curvature(memory, inputs, outputs, probability)
    return torch.einsum("xab,xi,xj->aibj", curvature, inputs, inputs).reshape(memory.numel(), memory.numel())


@torch.no_grad()
def sharpness(memory: Tensor, inputs: Tensor, outputs: Tensor, *, probability: Tensor) -> float:
    """λ_max, the largest eigenvalue of ``hessian``; of large memories by Lanczos iterations on products with it (scipy), never the matrix.

    Raises:
        TypeError, ValueError: as ``hessian``.
    """
    if memory.numel() <= DENSE:
        return float(torch.linalg.eigvalsh(hessian(memory, inputs, outputs, probability=probability).double())[-1])
    from scipy.sparse.linalg import LinearOperator, eigsh

    curvature, embedded = _curvature(memory, inputs, outputs, probability).double(), inputs.double()

    def product(direction: np.ndarray) -> np.ndarray:
        turned = embedded @ torch.from_numpy(np.ascontiguousarray(direction)).view(memory.shape).mT
        return torch.einsum("xab,xb,xi->ai", curvature, turned, embedded).reshape(-1).numpy()

    start = np.random.default_rng(0).standard_normal(memory.numel())
    size = float(np.abs(product(start)).max())
    if size == 0:  # every answer is certain to rounding: the loss is flat
        return 0.0
    operator = LinearOperator((memory.numel(), memory.numel()), matvec=lambda direction: product(direction) / size, dtype=np.float64)  # type: ignore[call-arg]
    return size * float(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])


def _curvature(memory: Tensor, inputs: Tensor, outputs: Tensor, probability: Tensor) -> Tensor:
    """``p(x) Uᵀ(diag π_x − π_x π_xᵀ)U``, (N, v, v)."""
    doors.memory(memory, inputs, outputs)
    doors.distribution(probability)
    if len(probability) != len(inputs):
        raise ValueError(f"Every input needs one probability, got {len(inputs)} inputs and {len(probability)} probabilities.")
    belief = (inputs @ memory.mT @ outputs.mT).softmax(-1)
    mean = belief @ outputs
    second = torch.einsum("xy,ya,yb->xab", belief, outputs, outputs)
    return probability.to(inputs.dtype).view(-1, 1, 1) * (second - mean.unsqueeze(-1) * mean.unsqueeze(-2))
