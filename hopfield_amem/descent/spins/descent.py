"""Descents of spins: states of ±1, one spin at a time or all at once, at temperature 0 or above it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...energies import Bidirectional, Couplings, Dot, Hypercube, Log, ReadEnergy, Sum
from ...energies.binary.couplings import are_spins, spins
from ...energies.scalings.scaling import is_exponential
from ...kernels.rows import fitting
from ..certificate import Descended
from ..loop import Descent, Energy, Landscape, Path
from .flips import ComparedFlips, CoupledFlips, Flips
from .overlaps import COLDEST, OverlapFlips, Slots, SoftmaxFlips
from .sweeps import Orders, Walk, joined

SCORES = 2**21  # overlaps of queries and patterns that are kept at once


@dataclass(frozen=True, eq=False)
class SpinDescent(Descent):
    """Spins turn where that lowers the energy, ``ΔE_i = E(x with spin i turned) − E(x) < 0``, until a whole sweep turns none; a tie stays.

    At a temperature T > 0 a spin turns with probability ``σ(−ΔE_i/T)`` (Glauber 1963): asynchronous sweeps then keep the Boltzmann distribution
    ``exp(−E/T)/Z``. ΔE is compared exactly, for any energy on the hypercube: F with the spin up and down (Krotov & Hopfield 2016, arXiv 1606.01164), and not
    the sign of a field. For ``learning.hebbian`` and ``presets.hopfield`` it is the field of the other spins (Hopfield 1982).

    Call it as ``descent(energy, state, patterns)`` with a ``ReadEnergy`` on a ``Hypercube``, as ``descent(couplings, state)``, or with any function
    ``E(state, memories)``. States are ±1, (..., q, d); patterns (n, d), of ±1 for ``Dot`` under ``Sum`` or ``Log`` to be fast: overlaps are kept
    and updated flip by flip, for so many queries at a time as memory allows. Everything else is evaluated d times per sweep. No gradient passes a sign.

    Args:
        order: "asynchronous": one spin after another, in an order drawn anew for every sweep, the same for all queries. At T = 0 the energy never rises.
            "synchronous": all at once (Little 1974); the energy may rise, and a state may alternate between two: ``period`` in the result says 2.
        temperature: T ≥ 0, in units of E.
        sweeps: at most this many; at T > 0 exactly as many, since nothing comes to rest there.
        clamped: spins that never turn, boolean, broadcastable to (..., q, d): known ones.
        generator: source of all randomness; None is torch's global one.
        record: keep the state and its energy after every sweep.
    """

    order: str = "asynchronous"
    temperature: float = 0.0
    sweeps: int = 100
    clamped: Tensor | None = field(default=None, kw_only=True)
    generator: torch.Generator | None = field(default=None, kw_only=True)
    record: bool = field(default=False, kw_only=True)

    tolerance = 0.0  # a query rests when nothing turns

    def __post_init__(self):
        if self.order not in ("asynchronous", "synchronous"):
            raise ValueError(f"The order of spins is 'asynchronous' or 'synchronous', got {self.order!r}.")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"The temperature must be finite and at least 0, got {self.temperature!r}.")
        if not isinstance(self.sweeps, int) or self.sweeps < 1:
            raise ValueError(f"sweeps must be an integer of at least 1, got {self.sweeps!r}.")
        if self.clamped is not None and (not isinstance(self.clamped, Tensor) or self.clamped.dtype != torch.bool):
            raise TypeError("clamped must be a boolean tensor, True where a spin never turns.")

    def __call__(self, energy: Energy, state: Tensor, keys: Tensor | None = None, **options) -> Descended:  # type: ignore[override]
        """Descend from ``state`` (..., q, d) of ±1. Options for a ``ReadEnergy`` as in ``retrieve``: presence, bias, causal.

        Raises:
            ValueError, TypeError: states that are not ±1, an energy that is not on the hypercube, couplings without an energy or with patterns beside them,
                one memory per batch member, F(β S) that overflows.
        """
        if isinstance(energy, ReadEnergy) and keys is None:
            raise TypeError("A ReadEnergy is descended among its patterns: SpinDescent()(energy, state, patterns).")
        if isinstance(energy, (Couplings, Bidirectional)) and keys is not None:
            raise ValueError("Couplings hold what they learned already: SpinDescent()(couplings, state), without patterns.")
        spins("state", state)
        return super().__call__(energy, state, state[..., :0, :] if keys is None else keys, **options)

    @torch.no_grad()
    def run(self, landscape: Landscape) -> Path:
        shape = spins("state", landscape.start).shape
        held, made, orders = self._held(landscape.start).reshape(-1, shape[-1]), flips_of(landscape), Orders(shape[-1], self.generator)
        at_once = fitting(max(landscape.keys.shape[-2], shape[-1]), SCORES)
        blocks = [slice(first, first + at_once) for first in range(0, max(1, len(held)), at_once)]
        state, taken, residual, record, period = joined([Walk(self, made(rows), held[rows]).to_the_end(orders) for rows in blocks])
        period = None if period is None else period.reshape(shape[:-1])
        return Path(state.reshape(shape), taken.reshape(shape[:-1]), residual.reshape(shape[:-1]), [x.reshape(shape) for x in record], period)

    def _held(self, state: Tensor) -> Tensor:
        if self.clamped is None:
            return torch.zeros_like(state, dtype=torch.bool)
        try:
            return self.clamped.expand(state.shape)
        except RuntimeError:
            raise ValueError(f"clamped of shape {tuple(self.clamped.shape)} does not broadcast to the states {tuple(state.shape)}.") from None


def flips_of(landscape: Landscape) -> Callable[[slice], Flips]:
    """The flips of some of the queries, by the fastest way that is exact for the energy."""
    spec, state = landscape.spec, landscape.start.reshape(-1, landscape.start.shape[-1])
    if isinstance(spec, (Couplings, Bidirectional)):
        couplings = spec.couplings if isinstance(spec, Bidirectional) else spec
        couplings(state[:0])  # refuses what has no energy, and states of another width
        return lambda queries: CoupledFlips(couplings, state[queries])
    if not isinstance(spec, ReadEnergy):
        return lambda queries: ComparedFlips(lambda x, rows: landscape.energy(x), state[queries])
    slots = _slots(landscape)
    if isinstance(spec.similarity, Dot) and isinstance(spec.scaling, (Sum, Log)) and bool(are_spins(slots.keys)):
        softmax = is_exponential(spec.separation) and isinstance(spec.scaling, Log)
        if softmax and float(spec.beta) > COLDEST:
            raise ValueError(f"β = {float(spec.beta):g} is too cold to compare energies. Use β ≤ {COLDEST:g}: a colder memory only decides ties otherwise.")
        kind = SoftmaxFlips if softmax else OverlapFlips
        return lambda queries: kind(spec, state[queries], slots, slots.present(queries))
    return lambda queries: ComparedFlips(_evaluated(spec, slots, slots.present(queries)), state[queries])


def _evaluated(spec: ReadEnergy, slots: Slots, presence: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """E of turned states (r, b, d) that belong to queries (r,)."""

    def evaluated(x: Tensor, rows: Tensor) -> Tensor:
        seen = presence if presence is None or presence.ndim == 1 else presence[rows].unsqueeze(1)
        return spec(x, slots.keys, presence=seen, bias=slots.bias)

    return evaluated


def _slots(landscape: Landscape) -> Slots:
    spec, keys, start, gates = landscape.spec, landscape.keys, landscape.start, landscape.gates.detached()
    assert isinstance(spec, ReadEnergy)
    if not isinstance(spec.confinement, Hypercube):
        raise ValueError(f"States of ±1 belong to an energy on the hypercube, got {spec}. Give it the confinement Hypercube().")
    lead = keys.shape[:-2].numel() * (1 if gates.bias is None else gates.bias.shape[:-1].numel())
    if lead != 1 or (isinstance(spec.beta, Tensor) and spec.beta.numel() != 1):
        raise ValueError(f"SpinDescent serves one memory (n, d) at one β, got keys {tuple(keys.shape)}. Call it once per memory.")
    keys, bias = keys.reshape(keys.shape[-2:]).detach(), gates.bias
    presence = gates.amounts(start.shape[-2], len(keys), start.device)
    if presence is not None and presence.shape[:-1].numel() == 1:
        presence = presence.reshape(-1).expand(len(keys))
    elif presence is not None:
        presence = presence.expand(*start.shape[:-1], len(keys)).reshape(-1, len(keys))
    return Slots(keys, None if presence is None else presence.to(start.dtype), None if bias is None else bias.reshape(bias.shape[-1:]))
