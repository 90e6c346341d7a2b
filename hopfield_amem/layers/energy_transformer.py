"""A transformer block with one energy: attention between tokens and a memory of its own, descended together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..descent import Descended, GradientDescent
from ..descent.loop import Path, descend
from ..energies import ReadEnergy, checks, presets
from ..energies.truth import settled
from ..kernels import engine, full_precision
from .associative import Associative
from .cell import widths
from .energy_norm import EnergyNorm
from .lookup import HopfieldLookup
from .pairs import Seen, elsewhere, others

HALVINGS = 6  # how often a step is halved before a sample stays where it is


class EnergyTransformerBlock(Associative):
    """``E(x) = Σ_i [x_i·g_i − L(x_i)] − Σ_h Σ_i Q[Σ_{j≠i} F(β_h S(W_q g_i, W_k g_j))]/β_h − Σ_i Q[Σ_μ F(β S(g_i, ξ_μ))]/β``, and all tokens descend it.

    The Energy Transformer (Hoover et al. 2023, arXiv 2302.07253): tokens x are seen through a layer norm g = ∂L/∂x; attention is an energy between
    different tokens (eq. 3), the feed-forward block an energy of each token in a learned memory ξ (eq. 5), and ``dx/dτ = −∂E/∂g`` takes the place of
    residual branches. The paper's ``log Σ exp`` and ``½ Σ relu²`` are the defaults; any two read energies stand in for them (their confinements are
    not used, because the norm confines). The norm's own term belongs to E, so a state also leaks, by −x, which its norm does not see.

    E never rises: the step of a sample is halved until its energy does not, six times at most; where that does not help it stays. (An energy of finite
    reach, such as ``epanechnikov``, is +∞ while tokens lie out of each other's reach, and says nothing about steps there.) Eager mode halves no more
    often than some sample needs to; a compiled block computes every halving.

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

    def forward(self, x: Tensor, *, presence: Tensor | None = None) -> Tensor:
        """The tokens after their descent. (..., n, dim) -> (..., n, dim)

        Args:
            x: tokens.
            presence: which tokens are there (True, or an amount in [0, 1] that multiplies F), (..., n); or which pairs, (..., n, n) or (..., heads, n,
                n), with the leading dimensions of the tokens. A token that is not there is not seen, has no energy, and is returned as it came.
        """
        start, seen = self._shown(x, presence)
        with full_precision(x):
            state = self._run(start, seen, record=False).state.unflatten(-1, x.shape[-2:])
        checks.contents(self.given, {"x": start}, state)
        return seen.rows(state.to(x.dtype), x)

    def energy(self, x: Tensor, *, presence: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """``E`` of every sample, at least in float32. (..., n, dim) -> (...)"""
        start, seen = self._shown(x, presence)
        with full_precision(x):
            return self._energy(start, seen)

    def association(self, x: Tensor, *, presence: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Attention weights of tokens to other tokens. (..., n, dim) -> (..., heads, n, n)"""
        start, seen = self._shown(x, presence)
        with full_precision(x):
            query, keys = self._headed(self.norm(start))
            weights = self.spec.weights(query, keys, presence=others(x.shape[-2], seen.pairs, x.device))
        return weights if seen.there is None else torch.where(seen.there[..., None, :, None], weights, 0.0)

    def descended(self, x: Tensor, *, presence: Tensor | None = None) -> Descended:  # type: ignore[override]
        """The descent of every sample, recorded until all are at rest: states (steps + 1, ..., n, dim) and energies (steps + 1, ...), which never rise.

        ``steps``, ``energy`` and ``converged`` are one per sample; ``residual`` is ‖∂E/∂g‖/‖x‖ at the end, compared with the descent's tolerance.
        """
        start, seen = self._shown(x, presence)
        with full_precision(x):
            path = self._run(start, seen, record=True)
            with torch.no_grad():
                record = torch.stack([state.unflatten(-1, x.shape[-2:]) for state in path.record])
                energies = torch.stack([self._energy(state, seen) for state in record])
                speed = self._velocity(record[-1], seen).flatten(-2).norm(dim=-1)
                residual = speed / path.state.norm(dim=-1).clamp_min(torch.finfo(path.state.dtype).tiny)
        state = seen.rows(path.state.unflatten(-1, x.shape[-2:]).to(x.dtype), x)
        arrived = residual <= self.descent.tolerance
        return Descended(state, energies[-1], path.steps, residual, arrived, trajectory=record.to(x.dtype), energies=energies)

    def _run(self, start: Tensor, seen: Seen, record: bool) -> Path:
        """The descent of samples laid out as rows, (..., n · dim), each at rest or not as a whole."""

        def step(rows: Tensor) -> Tensor:
            state = rows.unflatten(-1, start.shape[-2:])
            velocity = self._velocity(state, seen)
            return (state + self._size(state, velocity, seen) * velocity).flatten(-2)

        return descend(start.flatten(-2), step, self.descent.steps, self.descent.tolerance, record)

    @torch.no_grad()
    def _size(self, state: Tensor, velocity: Tensor, seen: Seen) -> Tensor:
        """The largest step of every sample that does not raise its energy, or 0. -> (..., 1, 1)"""
        before = self._energy(state, seen)
        sizes = self.descent.step_size * 0.5 ** torch.arange(HALVINGS + 1, dtype=state.dtype, device=state.device)
        if torch.compiler.is_compiling():  # every halving at once: fewer operations to compile
            fine = self._energy(state + sizes.view(-1, *[1] * state.ndim) * velocity, seen) <= before
        else:
            fine = torch.zeros(0, *before.shape, dtype=torch.bool, device=state.device)
            for size in sizes:
                fine = torch.cat([fine, (self._energy(state + size * velocity, seen) <= before).unsqueeze(0)])
                if settled(fine.any(0)):
                    break
        return torch.where(fine.any(0), sizes[fine.int().argmax(0)], 0.0)[..., None, None]

    def _energy(self, state: Tensor, seen: Seen) -> Tensor:
        return seen.tokens(self.norm.energy(state)).sum(-1) + self._interaction(self.norm(state), seen)

    def _velocity(self, state: Tensor, seen: Seen) -> Tensor:
        """``dx/dτ = −∂E/∂g``; of the norm's own term that is −x. (..., n, dim) -> (..., n, dim)"""
        slope = torch.func.grad(lambda g: self._interaction(g, seen).sum())(self.norm(state))
        return seen.rows(-(state + slope), 0.0)

    def _interaction(self, g: Tensor, seen: Seen) -> Tensor:
        """Attention energy and memory energy of every sample. (..., n, dim) -> (...)"""
        query, keys = self._headed(g)
        between = elsewhere(self.spec, query, keys, seen.pairs) / self.spec.inverse_temperature(1, g)
        rows, spec = g.reshape(1, -1, self.dim), self.memory.spec
        alone = engine(spec, rows, self.memory.keys.to(g.dtype)).value(rows) / spec.inverse_temperature(1, g)
        return -seen.heads(between).sum((-2, -1)) - seen.tokens(alone.reshape(g.shape[:-1])).sum(-1)

    def _headed(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of every head. (..., n, dim) -> (..., heads, n, head_dim) twice"""
        query, keys = (linear(g, part.weight.to(g.dtype)).unflatten(-1, (self.heads, -1)).transpose(-3, -2) for part in (self.query, self.keys))
        return query, keys

    def _shown(self, x: Tensor, presence: Tensor | None) -> tuple[Tensor, Seen]:
        """The tokens in the dtype of the computation, zeros where there is none, and what they see."""
        if x.ndim < 2 or x.shape[-1] != self.dim or not x.is_floating_point():
            raise ValueError(f"This block takes floating-point tokens (..., n, {self.dim}), got {x.dtype} of shape {tuple(x.shape)}.")
        start = x.to(torch.promote_types(x.dtype, torch.float32))
        if presence is None:
            return start, Seen(None, None)
        extra = presence.ndim - (x.ndim - 2)
        if extra not in (1, 2, 3):
            raise ValueError(
                f"presence has one entry per token (..., n), per pair (..., n, n) or per head and pair (..., heads, n, n), with the leading dimensions "
                f"of tokens {tuple(x.shape)}; got {tuple(presence.shape)}."
            )
        pairs = presence[..., None, None, :] if extra == 1 else presence.unsqueeze(-3) if extra == 2 else presence
        heads = start.unsqueeze(-3).expand(*x.shape[:-2], self.heads, *x.shape[-2:])
        checks.inputs(self.spec, heads, heads, None, pairs)
        seen = Seen(pairs, presence > 0 if extra == 1 else None)
        return seen.rows(start, 0.0), seen

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, {self.descent}\n{self.given}"
