"""A similarity that is learned from the memories: U-Hop's kernel, and the loss that spreads them apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from ..descent import Descended, Descent, FixedPoint, read
from ..energies import ReadEnergy, checks, presets


class LearnedKernel(nn.Module):
    """``Φ(x) = W x`` and the kernel ``K(x, ξ) = Φ(x)·Φ(ξ)`` in the place of the inner product (U-Hop, Wu et al. 2024, arXiv 2404.03827).

    Stage one learns W on what is stored: ``spread(kernel, patterns)``. Stage two recalls: ``x ← Ξ softmax(β (WΞ)ᵀ W x)``. Since Φ is linear this is a descent
    of the energy of the mapped patterns from the mapped query, ``½‖Φ(x)‖² − log Σ exp(β Φ(x)·Φ(ξ_μ))/β``, whose last step reads the patterns themselves: so
    that any energy and any descent serve. For a map of another kind see ``energies.Mapped``.

    Args:
        dim: width d of the patterns.
        features: width D of the feature space. None: d.
        energy: the read energy between mapped vectors. None: ``log_sum_exp()``.
        descent: how queries move before patterns are read. ``FixedPoint(steps=1)`` is attention with keys WΞ and values Ξ.

    Shapes: (..., d) -> (..., D). Parameter: ``weight`` (D, d), which starts orthogonal: for D ≥ d the kernel starts as the plain inner product.

    Raises:
        ValueError: sizes below 1, an energy or a descent of a wrong kind.
    """

    def __init__(
        self,
        dim: int,
        features: int | None = None,
        energy: ReadEnergy | None = None,
        descent: Descent = FixedPoint(steps=1),
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        features = dim if features is None else features
        if dim < 1 or features < 1:
            raise ValueError(f"dim and features must be positive, got dim={dim}, features={features}.")
        if not isinstance(energy, ReadEnergy | None) or not isinstance(descent, Descent):
            raise ValueError(f"energy is a ReadEnergy such as presets.log_sum_exp(), descent one such as FixedPoint(); got {energy!r}, {descent!r}.")
        self.spec, self.descent = presets.log_sum_exp() if energy is None else energy, descent
        self.weight = nn.Parameter(torch.empty(features, dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthonormal rows or columns."""
        nn.init.orthogonal_(self.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """``Φ`` of every row. (..., d) -> (..., D)"""
        return linear(rows, self.weight)

    def recall(self, query: Tensor, patterns: Tensor) -> Tensor:
        """``Σ p ξ`` where the descent of the mapped queries ends. (..., q, d), (..., n, d) -> (..., q, d)

        Raises:
            ValueError, TypeError: tensors that do not fit.
        """
        return read(self.spec, self._fitting("query", query), self._fitting("patterns", patterns), patterns, self.descent)

    def descended(self, query: Tensor, patterns: Tensor) -> Descended:
        """The whole descent in the feature space, with its certificate: its state is (..., q, D)."""
        return self.descent(self.spec, self._fitting("query", query), self._fitting("patterns", patterns))

    def energy(self, query: Tensor, patterns: Tensor) -> Tensor:
        """E of the mapped queries. (..., q, d), (..., n, d) -> (..., q)"""
        return self.spec(self._fitting("query", query), self._fitting("patterns", patterns))

    def _fitting(self, name: str, rows: Tensor) -> Tensor:
        checks.floating(name, rows)
        if rows.shape[-1] != self.weight.shape[1]:
            raise ValueError(f"This kernel maps rows of width {self.weight.shape[1]}, got {name} {tuple(rows.shape)}.")
        return self(rows)

    def extra_repr(self) -> str:
        features, dim = self.weight.shape
        return f"dim={dim}, features={features}, {self.descent}\n{self.spec}"


def separation_loss(mapped: Tensor, temperature: float = 0.1) -> Tensor:
    """``log mean_{i<j} exp(⟨Φ̂_i, Φ̂_j⟩/τ)`` of directions Φ̂ = Φ/‖Φ‖: how close the closest memories are (U-Hop+, Hu et al. 2024, arXiv 2410.23126).

    U-Hop's ``log mean exp(−2‖Φ̂_i − Φ̂_j‖²)`` (arXiv 2404.03827) is ``separation_loss(mapped, 1/4) − 4``. For τ → 0, τ times the loss is the largest cosine,
    ``1 − Δ_min``: then its minimiser is an optimal spherical code.

    (..., n, D) -> (...)

    Raises:
        ValueError, TypeError: fewer than two rows, a temperature that is not positive.
    """
    checks.floating("mapped", mapped)
    count = mapped.shape[-2]
    if count < 2 or not 0 < temperature < math.inf:
        raise ValueError(f"Separation needs at least two rows and a positive temperature, got {tuple(mapped.shape)} and {temperature!r}.")
    unit = normalize(mapped, dim=-1)
    first, second = torch.triu_indices(count, count, 1, device=mapped.device)
    cosine = (unit @ unit.mT)[..., first, second]
    return (cosine / temperature).logsumexp(-1) - math.log(len(first))


def spread(kernel: nn.Module, patterns: Tensor, optimizer: torch.optim.Optimizer | None = None, *, steps: int = 10, temperature: float = 0.1) -> Tensor:
    """Learn a map that moves patterns apart: steps down ``separation_loss(kernel(patterns))``, stage one of U-Hop. -> the losses, (steps + 1,)

    The separation keeps growing for hundreds of steps, and what damages a query grows with it, most along directions in which the patterns hardly differ: so
    the default is a few. Measure on damaged patterns before taking more.

    Args:
        kernel: the map, any module (n, d) -> (n, D), changed in place.
        patterns: what it shall tell apart, (n, d).
        optimizer: over the kernel's parameters. None: Adam at rate 0.01.
        steps: how many.
        temperature: τ of the loss.

    Raises:
        ValueError: a number of steps below 1, fewer than two patterns, two equal ones (no map could tell them apart), a loss that is not finite, gradients
            that are switched off, a kernel without parameters to learn.
    """
    checks.floating("patterns", patterns)
    if steps < 1 or patterns.ndim != 2 or len(patterns) < 2 or len(patterns.unique(dim=0)) < len(patterns):
        raise ValueError(f"spread takes at least one step on at least two different patterns (n, d), got steps={steps}, patterns {tuple(patterns.shape)}.")
    if not torch.is_grad_enabled() or not any(parameter.requires_grad for parameter in kernel.parameters()):
        raise ValueError(
            "spread learns by gradients, and here are none: call it outside of torch.no_grad() and torch.inference_mode(), with a kernel that has parameters "
            "with requires_grad=True."
        )
    optimizer = torch.optim.Adam(kernel.parameters(), lr=0.01) if optimizer is None else optimizer
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = separation_loss(kernel(patterns), temperature)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    with torch.no_grad():
        losses.append(separation_loss(kernel(patterns), temperature))
    found = torch.stack(losses)
    if not bool(found.isfinite().all()):
        raise ValueError("The separation loss became NaN or Inf: look for NaN in the patterns, or give an optimizer with a smaller rate.")
    return found
