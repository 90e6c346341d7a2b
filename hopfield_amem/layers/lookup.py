"""A layer whose memories are its weights."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from ..descent import Descended, Descent, FixedPoint
from ..energies import ReadEnergy, checks, presets
from .associative import Association, Associative


class HopfieldLookup(Associative):
    """Read a learned memory: ``y = Σ_μ p_μ(x) v_μ`` with keys ``k_μ``, values ``v_μ`` and inverse temperature β as weights.

    With ``log_sum_exp`` this is attention to learned slots, with a feed-forward preset the two-layer feed-forward block,
    with ``distance`` kernel regression. ``layer.values.requires_grad_(False)`` keeps the targets as they are.

    Args:
        dim: width d of the query.
        slots: number of memories n.
        energy: the spec; its β is where the learned one starts. None: ``log_sum_exp()``, since fresh keys have norm 1.
        descent: how the query moves among the keys.
        values: width v of what is read. None: the layer returns the settled state, width d.

    Shapes: (..., d) -> (..., v). Parameters: ``keys`` (n, d), ``values`` (n, v), ``log_beta`` (1,).

    Raises:
        ValueError: sizes below 1, an energy or a descent of a wrong kind.
    """

    def __init__(
        self,
        dim: int,
        slots: int,
        energy: ReadEnergy | None = None,
        descent: Descent = FixedPoint(steps=1),
        *,
        values: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if slots < 1 or dim < 1 or (values is not None and values < 1):
            raise ValueError(f"dim, slots and values must be positive, got dim={dim}, slots={slots}, values={values}.")
        super().__init__(presets.log_sum_exp() if energy is None else energy, descent, 1, device=device, dtype=dtype)
        self.keys = nn.Parameter(torch.empty(slots, dim, device=device, dtype=dtype))
        self.values = None if values is None else nn.Parameter(torch.empty(slots, values, device=device, dtype=dtype))
        self.reset_parameters()

    @classmethod
    def store(cls, energy: ReadEnergy, keys: Tensor, values: Tensor | None = None, descent: Descent = FixedPoint(steps=1)) -> HopfieldLookup:
        """A layer that starts from given patterns (n, d) and values (n, v): a working memory before any training."""
        if keys.ndim != 2 or (values is not None and values.ndim != 2):
            raise ValueError(f"store needs patterns (n, d) and values (n, v), got {tuple(keys.shape)} and {None if values is None else tuple(values.shape)}.")
        checks.inputs(energy, keys, keys, values, None)
        width = None if values is None else values.shape[1]
        layer = cls(keys.shape[1], keys.shape[0], energy, descent, values=width, device=keys.device, dtype=keys.dtype)
        with torch.no_grad():
            layer.keys.copy_(keys)
            if layer.values is not None and values is not None:
                layer.values.copy_(values)
        return layer

    def reset_parameters(self) -> None:
        """Keys and values of unit mean square norm; β of the energy given."""
        super().reset_parameters()
        nn.init.normal_(self.keys, std=self.keys.shape[-1] ** -0.5)
        if self.values is not None:
            nn.init.normal_(self.values, std=self.values.shape[-1] ** -0.5)

    def forward(self, query: Tensor) -> Tensor:
        """(..., d) -> (..., v), or (..., d) without values"""
        return self._placed(self.read(self.associate(query)), query)

    def associate(self, query: Tensor, *, presence: Tensor | None = None, causal: bool | int = False) -> Association:
        """Every token is a query among the same keys. (..., d) -> (1, rows, d)"""
        if query.ndim == 0 or query.shape[-1] != self.keys.shape[-1]:
            raise ValueError(f"This lookup takes queries (..., {self.keys.shape[-1]}), got {tuple(query.shape)}.")
        rows = query.reshape(1, math.prod(query.shape[:-1]), query.shape[-1])
        return Association(rows, self.keys, self.values, presence, causal)

    def energy(self, query: Tensor) -> Tensor:  # type: ignore[override]
        """``E(x)`` of every query where its descent starts, at least in float32. (..., d) -> (...)"""
        return super().energy(query).reshape(query.shape[:-1])

    def association(self, query: Tensor) -> Tensor:  # type: ignore[override]
        """Retrieval weights. (..., d) -> (..., n)"""
        return self._placed(super().association(query), query)

    def descended(self, query: Tensor) -> Descended:  # type: ignore[override]
        """The whole descent of every query, with its certificate: state (..., d), everything else (...)."""
        found = super().descended(query)
        parts = {field.name: getattr(found, field.name) for field in fields(found)}
        trailing = {name: int(name in ("state", "trajectory")) for name in parts}

        def placed(part: Tensor, width: int) -> Tensor:
            before, after = part.shape[: part.ndim - 2 - width], part.shape[part.ndim - width :]
            return part.reshape((*before, *query.shape[:-1], *after))

        return replace(found, **{name: placed(part, trailing[name]) for name, part in parts.items() if part is not None})

    @staticmethod
    def _placed(rows: Tensor, query: Tensor) -> Tensor:
        return rows.reshape(*query.shape[:-1], rows.shape[-1])

    def extra_repr(self) -> str:
        slots, dim = self.keys.shape
        return f"dim={dim}, slots={slots}, values={None if self.values is None else self.values.shape[1]}, {self.descent}\n{self.given}"
