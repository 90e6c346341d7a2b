"""Read energies: ``E(x; ξ) = C(x) − Q[Σ_μ F(β S(x, ξ_μ))]/β``. Reading moves the state downhill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import checks
from .confinement import Confinement, Free, Quadratic
from .registry import Factors, register
from .scalings.scaling import Log, Scaling
from .separations.elementwise import as_separation
from .separations.separation import Separation
from .similarities.functional import Custom
from .similarities.similarity import Dot, Euclidean, Similarity
from .spec import scaled


@dataclass(frozen=True, eq=False, init=False)
class ReadEnergy:
    """``E(x; ξ) = C(x) − Q[Σ_μ F(β S(x, ξ_μ))]/β``  (the letters of Hoover et al. 2025, arXiv 2506.10801).

    Args:
        similarity: S, or a plain function ``S(state, keys)`` of shapes (..., q, d), (..., n, d) -> (..., q, n).
        separation: F, or a plain elementwise torch function of the scores.
        scaling: Q: ``Sum``, ``Log``, ``Simplex``, ``Level``, ``TopK`` or ``SequentialSubsets``.
        confinement: C. Default: that of the similarity, ``Quadratic`` for ``Dot`` and custom similarities, ``Sphere`` for ``Cosine``,
            ``Hypercube`` for ``Simplicial``, ``Free`` for distances, ``Probability`` for divergences of distributions.
        beta: inverse temperature β > 0: a number, or a tensor whose shape broadcasts against the leading dimensions
            of the scores (``[heads]`` for one per head), whose gradient flows.

    The weights are ``p = ∂Q/∂score``. At fixed weights the energy is minimised in closed form: that step, ``settle``,
    never raises an energy whose Q∘F is convex, and with ``Dot`` and ``Quadratic`` it is ``Σ p ξ``, attention.

    Keys that differ from values are the same statement about a pair (``joint``): store ``(k_μ, v_μ)``, hold the first
    half at the query, and let the second half settle: ``Σ p v``, divided by ``Σ p`` where the state averages.

    Raises:
        ValueError: β ≤ 0, a separation that is not elementwise, a scaling that is undefined for F, or a confinement
            that cannot hold the state.
    """

    similarity: Similarity
    separation: Separation
    scaling: Scaling
    confinement: Confinement
    beta: float | Tensor
    name: str = field(init=False, repr=False)

    def __init__(
        self,
        similarity: Similarity | Callable[[Tensor, Tensor], Tensor],
        separation: Separation | Callable[[Tensor], Tensor],
        scaling: Scaling = Log(),
        confinement: Confinement | None = None,
        beta: float | Tensor = 1.0,
    ):
        similarity = similarity if isinstance(similarity, Similarity) else Custom(similarity)
        confinement = similarity.confinement if confinement is None else confinement
        self._set(similarity=similarity, separation=as_separation(separation), scaling=scaling, confinement=confinement, beta=beta)
        checks.factors(self)
        self._register()

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _register(self):
        self._set(name=register(Factors(self.similarity, self.separation, self.scaling)))

    def __setstate__(self, fields):
        self.__dict__.update(fields)
        self._register()

    def __call__(self, state: Tensor, keys: Tensor, *, presence: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """``E`` of every query. (..., q, d), (..., n, d) -> (..., q)"""
        checks.inputs(self, state, keys, None, presence, bias)
        value = self.scaling.value(self.separation, self.scores(state, keys, bias), as_amount(presence, state))
        return self.confinement(state) - value / self.inverse_temperature(1, state)

    def scores(self, state: Tensor, keys: Tensor, bias: Tensor | None = None) -> Tensor:
        """``β S(x, ξ) + b``, with a bias per slot. (..., q, d), (..., n, d), (..., n) -> (..., q, n)"""
        score = self.inverse_temperature(2, state) * self.similarity(state, keys)
        return score if bias is None else score + bias.to(score.dtype).unsqueeze(-2)

    def weights(self, state: Tensor, keys: Tensor, *, presence: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Retrieval weights ``p = ∂Q/∂score``. (..., q, d), (..., n, d) -> (..., q, n)"""
        checks.inputs(self, state, keys, None, presence, bias)
        return self.scaling.weights(self.separation, self.scores(state, keys, bias), as_amount(presence, state))

    def settle(self, state: Tensor, keys: Tensor, *, presence: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The minimiser of the energy at fixed weights, one step of every fixed-point descent. -> (..., q, d)

        ``Dot``: ``Σ p ξ`` (on a sphere its direction, in a hypercube its sign). ``Euclidean``: ``Σ p ξ / Σ p``, mean
        shift. ``Manhattan``: the weighted median. A state that no slot acts on stays where it is.
        """
        checks.step(self)
        return self.settled(self.weights(state, keys, presence=presence, bias=bias), state, keys)

    def settled(self, weights: Tensor, state: Tensor, keys: Tensor) -> Tensor:
        """Where a state settles at these weights (..., q, n)."""
        if self.similarity.rests:
            return self.similarity.rest(weights, state, keys)
        return self.confinement.minimise(*self.similarity.pull(weights, keys), state)

    def read(self, state: Tensor, keys: Tensor, values: Tensor, *, presence: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """``Σ p v``, divided by ``Σ p`` when the state is ``Free``; 0 where nothing is read. -> (..., q, v)"""
        checks.inputs(self, state, keys, values, presence)
        weights = self.weights(state, keys, presence=presence, bias=bias)
        return self.averaged(weights @ values, weights.sum(-1, keepdim=True))

    def averaged(self, total: Tensor, mass: Tensor) -> Tensor:
        """The value half of the pair from ``Σ p v`` and ``Σ p``."""
        return Free().minimise(total, mass, torch.zeros_like(total)) if self.divides else total

    @property
    def divides(self) -> bool:
        """Whether reading values divides by ``Σ p``: when the state is where its patterns average to, and the weights do not sum to one anyway."""
        return self.confinement.averages and not self.scaling.normalised(self.separation)

    @property
    def streams(self) -> bool:
        """Whether tiles of scores know this scaling; if not, reads go by full rows of a few queries."""
        return self.scaling.streams(self.separation)

    @property
    def monotone(self) -> bool:
        """Whether theory guarantees that settling never raises the energy (majorization–minimization).

        F must be convex, and increasing unless S is linear in the state. Then ``Σ F`` lies above its linearisation in the
        scores, which settling optimises. Every scaling of the library inherits this, but ``Log`` only with ``Exp``, or where the scale of the weights is
        irrelevant, that is, without ``Quadratic``. F is examined on [−30, 30], or up to S's upper bound.
        """
        probe = torch.linspace(-30, min(30.0, self.similarity.highest), 6001, dtype=torch.float64)
        slope = self.separation.slope(probe)
        convex = bool((slope.diff() >= -1e-12 * slope.abs().max().clamp(max=1e6)).all())
        increasing = isinstance(self.similarity, Dot) or bool((slope >= 0).all())
        scale_free = not isinstance(self.confinement, Quadratic)
        return convex and increasing and self.scaling.inherits(self.separation, scale_free)

    @property
    def isotropic(self) -> bool:
        """Whether what settling minimises is a parabola of one curvature in all directions: ``Dot`` with ``Quadratic``, ``Euclidean`` with ``Free``."""
        pairs = ((Dot, Quadratic), (Euclidean, Free))
        return any(isinstance(self.similarity, similarity) and isinstance(self.confinement, confinement) for similarity, confinement in pairs)

    @property
    def second_half(self) -> tuple[Confinement, Similarity]:
        """Confinement and similarity of the value half of a pair: those of a distance when the state is free."""
        return (Free(), Euclidean()) if self.confinement.averages else (Quadratic(), Dot())

    def joint(self, pair: tuple[Tensor, Tensor], keys: Tensor, values: Tensor, *, presence: Tensor | None = None) -> Tensor:
        """Energy of a pair ``(x, y)`` among stored pairs ``(k, v)``; reading values is its step in y. -> (..., q)

        ``C(x) + C'(y) − Q[Σ F(β(S(x, k) + S'(y, v)))]/β`` with ``C' = ½‖y‖², S' = y·v``, or, for a ``Free`` state,
        ``C' = 0, S' = −½‖y − v‖²``.
        """
        state, half = pair
        checks.inputs(self, state, keys, values, presence)
        confinement, similarity = self.second_half
        score = self.inverse_temperature(2, state) * (self.similarity(state, keys) + similarity(half, values))
        value = self.scaling.value(self.separation, score, as_amount(presence, state))
        return self.confinement(state) + confinement(half) - value / self.inverse_temperature(1, state)

    def inverse_temperature(self, trailing: int, like: Tensor) -> float | Tensor:
        """β; a tensor in the dtype of ``like``, with ``trailing`` dimensions appended so that it broadcasts from the left."""
        return self.beta.to(like.dtype)[(..., *[None] * trailing)] if isinstance(self.beta, Tensor) else self.beta

    def at(self, beta: float | Tensor) -> ReadEnergy:
        """The same energy at another inverse temperature."""
        checks.inverse_temperature(beta)
        twin = object.__new__(ReadEnergy)
        twin._set(similarity=self.similarity, separation=self.separation, scaling=self.scaling, confinement=self.confinement)
        twin._set(beta=beta, name=self.name)  # the factors have been checked and named already
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ReadEnergy) or self._factors() != other._factors():
            return NotImplemented if not isinstance(other, ReadEnergy) else False
        if isinstance(self.beta, Tensor) or isinstance(other.beta, Tensor):
            return self.beta is other.beta
        return self.beta == other.beta

    def __hash__(self) -> int:
        return hash((self._factors(), self.beta))

    def _factors(self):
        return self.similarity, self.separation, self.scaling, self.confinement

    def __str__(self) -> str:
        scale, over = scaled(self.beta)
        value = self.scaling.formula(self.separation.formula, self.similarity.formula(scale))
        confinement = str(self.confinement)
        if confinement.startswith("["):  # a set, not a term
            return f"E(x) = −{value}{over},  {confinement[1:-1]}"
        return f"E(x) = {confinement} − {value}{over}" if confinement else f"E(x) = −{value}{over}"


def as_amount(presence: Tensor | None, like: Tensor) -> Tensor | None:
    """A presence in [0, 1] in the dtype of the computation, at least float32; a boolean one as it is."""
    return presence.to(torch.promote_types(like.dtype, torch.float32)) if presence is not None and presence.is_floating_point() else presence
