"""A layer whose memories are its weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..energies import ReadEnergy, checks
from ..kernels import computation, engine, full_precision, retrieve


class HopfieldLookup(nn.Module):
    """Read a learned memory: ``y = Σ_μ p_μ(x) v_μ`` with keys ``k_μ``, values ``v_μ`` and inverse temperature β as weights.

    With ``log_sum_exp`` this is attention to learned slots, with a feed-forward preset the two-layer feed-forward block,
    with ``distance`` kernel regression.

    Args:
        energy: the spec; its β is where the learned one starts.
        slots: number of memories n.
        dim: width d of the query.
        values: width v of what is read. None: the layer returns the settled state, width d.

    Shapes: (..., d) -> (..., v). ``keys`` (n, d), ``values`` (n, v), ``log_beta`` (1,).
    """

    def __init__(self, energy: ReadEnergy, slots: int, dim: int, values: int | None = None):
        super().__init__()
        if slots < 1 or dim < 1 or (values is not None and values < 1):
            raise ValueError(f"slots, dim and values must be positive, got slots={slots}, dim={dim}, values={values}.")
        if not isinstance(energy, ReadEnergy) or isinstance(energy.beta, Tensor):
            raise ValueError(f"A layer is built from a ReadEnergy whose beta is a number (the layer learns from there), got {energy!r}.")
        self.energy = energy
        self.keys = nn.Parameter(torch.empty(slots, dim))
        self.values = None if values is None else nn.Parameter(torch.empty(slots, values))
        self.log_beta = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    @classmethod
    def store(cls, energy: ReadEnergy, keys: Tensor, values: Tensor | None = None) -> HopfieldLookup:
        """A layer that starts from given patterns (n, d) and values (n, v): a working memory before any training."""
        if keys.ndim != 2 or (values is not None and values.ndim != 2):
            raise ValueError(f"store needs patterns (n, d) and values (n, v), got {tuple(keys.shape)} and {None if values is None else tuple(values.shape)}.")
        checks.inputs(energy, keys, keys, values, None)
        layer = cls(energy, keys.shape[0], keys.shape[1], None if values is None else values.shape[1])
        with torch.no_grad():
            layer.keys.copy_(keys)
            if layer.values is not None and values is not None:
                layer.values.copy_(values)
        return layer.to(keys)

    def reset_parameters(self) -> None:
        """Keys and values of unit mean square norm; β of the spec."""
        nn.init.normal_(self.keys, std=self.keys.shape[-1] ** -0.5)
        if self.values is not None:
            nn.init.normal_(self.values, std=self.values.shape[-1] ** -0.5)
        nn.init.constant_(self.log_beta, math.log(self.energy.beta))

    @property
    def spec(self) -> ReadEnergy:
        """The energy being descended, at the learned inverse temperature ``exp(log_beta)``."""
        return self.energy.at(self.log_beta.exp())

    def forward(self, query: Tensor) -> Tensor:
        """(..., d) -> (..., v), or (..., d) without values"""
        read = retrieve(self.spec, _rows(query), self.keys, self.values)
        return read.reshape(*query.shape[:-1], read.shape[-1])

    def association(self, query: Tensor) -> Tensor:
        """Retrieval weights, (..., d) -> (..., n)"""
        return self.spec.weights(_rows(query), self.keys).reshape(*query.shape[:-1], len(self.keys))

    def energy_of(self, query: Tensor) -> Tensor:
        """``E(x)`` of every query, at least in float32. (..., d) -> (...)"""
        _, (rows, keys) = computation(_rows(query), self.keys)
        with full_precision(rows):
            return engine(self.spec, rows, keys).energy(rows).reshape(query.shape[:-1])

    def extra_repr(self) -> str:
        return f"{self.energy}, slots={self.keys.shape[0]}, dim={self.keys.shape[1]}, values={None if self.values is None else self.values.shape[1]}"


def _rows(query: Tensor) -> Tensor:
    """(..., d) -> (1, rows, d)"""
    return query.reshape(1, math.prod(query.shape[:-1]), query.shape[-1])
