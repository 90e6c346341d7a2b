"""A transformer block with one energy: attention between tokens and a memory of its own, descended together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..descent import Descended, GradientDescent
from ..descent.halving import longest
from ..descent.loop import Path, descend
from ..energies import ReadEnergy, checks, presets
from ..kernels import engine, full_precision
from .associative import Associative
from .cell import widths
from .energy_norm import EnergyNorm
from .lookup import HopfieldLookup
from .pairs import Seen, amounts, between, pairwise


class EnergyTransformerBlock(Associative):
    """``E(x) = Σ_i [x_i·g_i − L(x_i)] − Σ_h Σ_i Q[Σ_{j≠i} F(β_h S(W_q g_i, W_k g_j))]/β_h − Σ_i Q[Σ_μ F(β S(g_i, ξ_μ))]/β``, and all tokens descend it.

    The Energy Transformer (Hoover et al. 2023, arXiv 2302.07253): tokens x are seen through a layer norm g = ∂L/∂x; attention is an energy between
    different tokens (eq. 3), the feed-forward block an energy of each token in a learned memory ξ (eq. 5), and ``dx/dτ = −∂E/∂g`` takes the place of
    residual branches. The paper's ``log Σ exp`` and ``½ Σ relu²`` are the defaults; any two read energies stand in for them (their confinements are
    not used, because the norm confines). The norm's own term belongs to E, so a state also leaks, by −x, which its norm does not see.

    E never rises: the step of a sample is halved until its energy does not, six times at most; where that does not help it stays. (An energy of finite
    reach, such as ``epanechnikov``, is +∞ while tokens lie out of each other's reach, and says nothing about steps there.) Eager mode halves no more
    often than some sample needs to; a compiled block computes every halving.

    Two more forms, in which every token i has an energy ``E_i`` of its own and descends that, with what it sees held still during a step, ``−∂E_i/∂g_i``:
    ``causal=True``, where it sees the tokens before it (as in NRGPT, 2026; the tokens before it move on, so E_i falls within a step, not always from step
    to step), and ``context``, where it sees other tokens instead, which never move (E_i never rises).

    A token does not attend to itself: what it is on its own is the memory's part. No scores of all pairs are held, but second derivatives, which
    training needs, take full matrices, of one step at a time (a compiled block in training: of every step).

    Args:
        dim: width of the tokens.
        heads: number of heads h, a divisor of dim.
        energy: spec of the attention; its β is where the learned ones start. None: ``log_sum_exp(1/√head_dim)``.
        memory: spec of the memory. None: ``relu_feed_forward()``, which is ``½ Σ relu(g·ξ)²``.
        slots: number of memories. None: 4 dim.
        descent: size and number of the steps, and the change at which a sample rests.

    Shapes: (..., n, dim) -> (..., n, dim). Parameters: ``norm`` (``EnergyNorm``), ``query`` and ``keys`` (linear), ``log_beta`` (heads,), ``memory``
    (``HopfieldLookup``). States and energies are computed in float32 at least, also under autocast.

    Raises:
        ValueError: sizes that do not fit, energies or a descent of a wrong kind.
    """

    descent: GradientDescent

    def __init__(
        self,
        dim: int,
        heads: int,
        energy: ReadEnergy | None = None,
        memory: ReadEnergy | None = None,
        *,
        slots: int | None = None,
        descent: GradientDescent = GradientDescent(0.1, steps=12, tolerance=0.0),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        width, _ = widths(dim, heads, None)
        if not isinstance(descent, GradientDescent):
            raise ValueError(f"An energy transformer takes steps of dx/dτ = −∂E/∂g: give a GradientDescent, got {descent!r}.")
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(presets.log_sum_exp(width**-0.5) if energy is None else energy, descent, heads, **made)
        self.dim, self.heads = dim, heads
        self.norm = EnergyNorm(dim, **made)
        self.query, self.keys = (nn.Linear(dim, dim, bias=False, **made) for _ in range(2))
        self.memory = HopfieldLookup(dim, 4 * dim if slots is None else slots, presets.relu_feed_forward() if memory is None else memory, **made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections and memories of unit gain, the norm at gain 1, inverse temperatures of the energies given."""
        super().reset_parameters()
        for projection in (self.query, self.keys):
            nn.init.normal_(projection.weight, std=self.dim**-0.5)
        self.norm.reset_parameters()
        self.memory.reset_parameters()

    def forward(self, x: Tensor, context: Tensor | None = None, *, presence: Tensor | None = None, causal: bool = False) -> Tensor:
        """The tokens after their descent. (..., n, dim), (..., m, dim) -> (..., n, dim)

        Args:
            x: tokens.
            context: other tokens, that are seen in the place of x.
            presence: which tokens are there to be seen (True, or an amount in [0, 1] that multiplies F), (..., m), m = n without a context; or which
                pairs, (..., n, m) or (..., heads, n, m), with the leading dimensions of the tokens. A token of x that is not there is not seen, has no
                energy, and is returned as it came.
            causal: see the tokens before alone.
        """
        start, seen = self._shown(x, context, presence, causal)
        with full_precision(x):
            state = self._tokens(self._run(start, seen, record=False).state, x)
        checks.contents(self.given, {"x": start, "context": seen.context}, state)
        return seen.rows(state.to(x.dtype), x)

    def energy(self, x: Tensor, context: Tensor | None = None, *, presence: Tensor | None = None, causal: bool = False) -> Tensor:  # type: ignore[override]
        """``E`` of every sample, at least in float32. (..., n, dim) -> (...); causal or with a context ``E_i`` of every token, (..., n)"""
        start, seen = self._shown(x, context, presence, causal)
        with full_precision(x):
            return self._energy(start, seen)

    def association(self, x: Tensor, context: Tensor | None = None, *, presence: Tensor | None = None, causal: bool = False) -> Tensor:  # type: ignore[override]
        """Attention weights of tokens to what they see. (..., n, dim) -> (..., heads, n, m)"""
        start, seen = self._shown(x, context, presence, causal)
        with full_precision(x):
            g = self.norm(start)
            keys = self._headed(self.keys, g if seen.context is None else seen.context)
            weights = self.spec.weights(self._headed(self.query, g), keys, presence=amounts(seen, x.shape[-2], x.device))
        return weights if seen.there is None else torch.where(seen.there[..., None, :, None], weights, 0.0)

    def descended(self, x: Tensor, context: Tensor | None = None, *, presence: Tensor | None = None, causal: bool = False) -> Descended:  # type: ignore[override]
        """The descent, recorded until all are at rest: states (steps + 1, ..., n, dim) and energies (steps + 1, ...), which never rise; causal or with
        a context (steps + 1, ..., n).

        ``steps``, ``energy`` and ``converged`` are one per energy; ``residual`` is ‖∂E/∂g‖/‖x‖ at the end, compared with the descent's tolerance.
        """
        start, seen = self._shown(x, context, presence, causal)
        with full_precision(x):
            path = self._run(start, seen, record=True)
            with torch.no_grad():
                record = torch.stack([self._tokens(state, x) for state in path.record])
                energies = torch.stack([self._energy(state, seen) for state in record])
                normed = self.norm(record[-1])
                velocity = self._velocity(record[-1], normed, self._still(normed, seen), seen=seen)
                speed = self._rows(velocity, seen).norm(dim=-1)
                residual = speed / path.state.norm(dim=-1).clamp_min(torch.finfo(path.state.dtype).tiny)
        state = seen.rows(self._tokens(path.state, x).to(x.dtype), x)
        arrived = residual <= self.descent.tolerance
        return Descended(state, energies[-1], path.steps, residual, arrived, trajectory=record.to(x.dtype), energies=energies)

    def _run(self, start: Tensor, seen: Seen, record: bool) -> Path:
        """The descent of everything that has an energy, laid out as rows, each at rest or not as a whole."""

        def step(rows: Tensor) -> Tensor:
            state = self._tokens(rows, start)
            normed = self.norm(state)
            still = self._still(normed, seen)
            velocity = self._velocity(state, normed, still, seen=seen)
            return self._rows(state + self._size(state, velocity, still, seen=seen) * velocity, seen)

        return descend(self._rows(start, seen), step, self.descent.steps, self.descent.tolerance, record)

    @staticmethod
    def _rows(state: Tensor, seen: Seen) -> Tensor:
        """What has an energy as rows: samples (..., n · dim), or tokens (..., n, dim)."""
        return state.flatten(-2) if seen.mutual else state

    @staticmethod
    def _tokens(rows: Tensor, like: Tensor) -> Tensor:
        """Rows as tokens again, (..., n, dim)."""
        return rows.unflatten(-1, like.shape[-2:]) if rows.ndim < like.ndim else rows

    @torch.no_grad()
    def _size(self, state: Tensor, velocity: Tensor, still: Tensor | None, *, seen: Seen) -> Tensor:
        """The longest step of every sample (or token) that does not raise its energy, or 0. -> (..., 1 or n, 1)"""
        before = self._energy(state, seen, still)
        whole = torch.full_like(before, self.descent.step_size)
        size = longest(lambda x: self._energy(x, seen, still) <= before, state, velocity, whole)
        return size[(..., *[None] * (2 if seen.mutual else 1))]

    def _energy(self, state: Tensor, seen: Seen, still: Tensor | None = None) -> Tensor:
        """E of every sample (...) or token (..., n), among keys that stand still, or those of the state."""
        g = self.norm(state)
        still = self._still(g, seen) if still is None else still
        tokens = seen.tokens(self.norm.energy(state)) + self._interaction(g, still, seen)
        return tokens.sum(-1) if seen.mutual else tokens

    def _velocity(self, state: Tensor, normed: Tensor, still: Tensor | None, *, seen: Seen) -> Tensor:
        """``dx/dτ = −∂E/∂g`` at g, the normed state; of the norm's own term that is −x. (..., n, dim) -> (..., n, dim)"""
        slope = torch.func.grad(lambda g: self._interaction(g, still, seen).sum())(normed)
        return seen.rows(-(state + slope), 0.0)

    def _still(self, g: Tensor, seen: Seen) -> Tensor | None:
        """Keys of every head that stand still during a step, (..., heads, m, head_dim); None where they are those of the tokens that move."""
        return None if seen.mutual else self._headed(self.keys, g if seen.context is None else seen.context)

    def _interaction(self, g: Tensor, still: Tensor | None, seen: Seen) -> Tensor:
        """Attention energy and memory energy of every token. (..., n, dim) -> (..., n)"""
        query, keys = self._headed(self.query, g), self._headed(self.keys, g) if still is None else still
        found = between(self.spec, query, keys, seen) / self.spec.inverse_temperature(1, g)
        rows, spec = g.reshape(1, -1, self.dim), self.memory.spec
        alone = engine(spec, rows, self.memory.keys.to(g.dtype)).value(rows) / spec.inverse_temperature(1, g)
        return -seen.heads(found).sum(-2) - seen.tokens(alone.reshape(g.shape[:-1]))

    def _headed(self, part: nn.Linear, g: Tensor) -> Tensor:
        """A projection of every head. (..., n, dim) -> (..., heads, n, head_dim)"""
        return linear(g, part.weight.to(g.dtype)).unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _shown(self, x: Tensor, context: Tensor | None, presence: Tensor | None, causal: bool) -> tuple[Tensor, Seen]:
        """The tokens in the dtype of the computation, zeros where there is none, and what they see."""
        for name, tokens in {"tokens": x, "a context of tokens": context}.items():
            if tokens is not None and (tokens.ndim < 2 or tokens.shape[-1] != self.dim or not tokens.is_floating_point()):
                raise ValueError(f"This block takes floating-point {name} (..., n, {self.dim}), got {tokens.dtype} of shape {tuple(tokens.shape)}.")
        if context is not None and (causal or context.shape[:-2] != x.shape[:-2]):
            raise ValueError(
                f"A context has the leading dimensions of its tokens, {tuple(x.shape[:-2])}, and no causal order; got {tuple(context.shape)}, causal={causal}."
            )
        start = x.to(torch.promote_types(x.dtype, torch.float32))
        context = None if context is None else self.norm(context.to(start.dtype))
        pairs = None if presence is None else pairwise(presence, start)
        if pairs is not None:
            query, keys = (t.unsqueeze(-3).expand(*x.shape[:-2], self.heads, *t.shape[-2:]) for t in (start, start if context is None else context))
            checks.inputs(self.spec, query, keys, None, pairs)
        there = presence > 0 if presence is not None and presence.ndim == x.ndim - 1 and context is None else None
        seen = Seen(pairs, there, context, causal)
        return seen.rows(start, 0.0), seen

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, {self.descent}\n{self.given}"
