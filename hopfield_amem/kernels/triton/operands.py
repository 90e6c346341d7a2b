"""The operands of a read as the templates want them: views, the vectors that folding takes out of the loop, compile-time arguments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..compiler import Compiled, generated
from .machine import EMULATED, precision
from .spec import Fold, Leaf, Mode, Sight
from .views import rowwise, view

LOG2E = 1.4426950408889634
SOFTMAX, SUM, RATIO, THRESHOLD, BASELINE = range(5)  # as in ``templates.parts``
KINDS = {generated.SOFTMAX: SOFTMAX, generated.SUM: SUM, generated.RATIO: RATIO, generated.THRESHOLD: THRESHOLD}


@dataclass
class Operands:
    """Tensors of a read: state (b, h, q, d), keys and values (b, h/group, n, ·), presence (b, h, q or 1, n or 1), β (b, h), bias (b, h, n).

    ``values=None`` reads the keys. ``reach`` 0 sees every slot, r > 0 the r latest up to slot ``offset`` + query. ``seed`` and ``rate`` belong
    to dropout. ``level`` (b, h, n) is how far every slot has decayed: query i, at the level of slot n − q + i, has exp(Gᵢ − Gⱼ) of slot j left.
    """

    compiled: Compiled
    state: Tensor
    keys: Tensor
    values: Tensor | None
    presence: Tensor | None
    beta: Tensor
    bias: Tensor | None
    seed: Tensor | None
    reach: int
    rate: float
    level: Tensor | None = None
    offset: int = 0

    def __post_init__(self):
        self.state, self.keys = rowwise(self.state), rowwise(self.keys)
        self.values = None if self.values is None else rowwise(self.values)
        if self.presence is not None and self.presence.dtype == torch.bool:
            self.presence = self.presence.view(torch.uint8)

    @property
    def batch(self) -> int:
        return self.state.shape[0]

    @property
    def heads(self) -> int:
        return self.state.shape[1]

    @property
    def members(self) -> int:
        return self.batch * self.heads

    @property
    def memories(self) -> int:
        return self.keys.shape[1]

    @property
    def group(self) -> int:
        return self.heads // self.memories

    @property
    def queries(self) -> int:
        return self.state.shape[2]

    @property
    def slots(self) -> int:
        return self.keys.shape[2]

    @property
    def width(self) -> int:
        return self.state.shape[3]

    @property
    def columns(self) -> int:
        return self.width if self.values is None else self.values.shape[3]

    @property
    def empty(self) -> bool:
        return not (self.members and self.queries and self.slots)

    @property
    def kind(self) -> int:
        return KINDS[self.compiled.kind]

    @property
    def unit(self) -> float:
        """What natural scores are multiplied by inside: exponentials are powers of two."""
        return LOG2E if self.kind == SOFTMAX else 1.0

    @property
    def gained(self) -> bool:
        """Whether the scale leaves the loop: ``F(λs) = λⁿ F(s)``, and the score is the product alone."""
        return self.compiled.degree is not None and self.kind != SOFTMAX and self.compiled.scores.plain and self.bias is None

    @cached_property
    def fold(self) -> Fold:
        scores = self.compiled.scores
        term = self.bias is not None or (scores.affine and scores.slot_term != 0)
        if not scores.affine:
            return Fold(False, True, True, term, False, False)
        row_term = scores.row_term != 0 and not self.compiled.drops_row_term
        capped = scores.capped and self.bias is None and not self.compiled.drops_row_term
        return Fold(True, not self.gained, scores.slot_scale != 1, term, row_term, capped)

    @cached_property
    def sight(self) -> Sight:
        presence = self.presence
        soft = presence is not None and presence.is_floating_point()
        soft = soft or (self.level is not None and self.kind != SOFTMAX)
        return Sight(self.reach > 0, presence is not None, presence is not None and presence.shape[2] > 1, soft, self.seed is not None, self.level is not None)

    @cached_property
    def leaf(self) -> Leaf:
        leaves = self.compiled.triton_leaves
        score, score_back = getattr(leaves, "score", None), getattr(leaves, "score_back", None)
        return Leaf(leaves.jet, score, score_back, "".join(getattr(f, "cache_key", "") for f in (leaves.jet, score, score_back)))

    @cached_property
    def mode(self) -> Mode:
        half = self.keys.dtype != torch.float32
        unbounded = self.keys.dtype == torch.float16 and self.kind in (SUM, RATIO)  # weights that nothing keeps below 65,504
        return Mode(self.compiled.scores.pairing, precision(self.keys.dtype), EMULATED and half, unbounded)

    @cached_property
    def _state_square(self) -> Tensor | None:
        return self.state.float().square().sum(-1) if self.compiled.scores.needs_norms else None

    @cached_property
    def _key_square(self) -> Tensor | None:
        if not self.compiled.scores.needs_norms:
            return None
        square = self.keys.float().square().sum(-1)
        return square.repeat_interleave(self.group, 1) if self.group > 1 else square

    @cached_property
    def warmth(self) -> Tensor:
        """β of every row, (b, h, 1)"""
        return self.beta.float().unsqueeze(-1)

    @cached_property
    def row_scale(self) -> Tensor:
        """β a(‖x‖²) of every row, (b, h, q), natural units."""
        scores, leaves = self.compiled.scores, self.compiled.torch_leaves
        scale = self.warmth.expand(-1, -1, self.queries)
        return scale if not scores.affine or scores.row_scale == 1 else scale * leaves.row_scale(self._state_square)

    @cached_property
    def row_term(self) -> Tensor | None:
        """β r(‖x‖²), or ‖x‖² itself for scores that are not affine."""
        scores = self.compiled.scores
        if not scores.affine:
            return self._state_square
        return None if scores.row_term == 0 else self.warmth * self.compiled.torch_leaves.row_term(self._state_square)

    @property
    def dropped(self) -> Tensor | None:
        """The row term where it was left out of the scores, to be added to Q."""
        return self.row_term if self.compiled.drops_row_term else None

    @cached_property
    def slot_factor(self) -> Tensor | None:
        scores = self.compiled.scores
        if not scores.affine:
            return self._key_square
        return None if scores.slot_scale == 1 else self.compiled.torch_leaves.slot_scale(self._key_square)

    @cached_property
    def own_slot_term(self) -> Tensor | None:
        """β c(‖ξ‖²), the similarity's own part of the slot terms."""
        scores = self.compiled.scores
        return None if not scores.affine or scores.slot_term == 0 else self.warmth * self.compiled.torch_leaves.slot_term(self._key_square)

    @cached_property
    def slot_term(self) -> Tensor | None:
        own, bias = self.own_slot_term, None if self.bias is None else self.bias.float()
        return bias if own is None else own if bias is None else own + bias

    @cached_property
    def gain(self) -> Tensor | None:
        """(β a)^(n − 1), what the weights of a homogeneous F were scaled by."""
        if not self.gained or self.compiled.degree is None:
            return None
        return self.row_scale ** (self.compiled.degree - 1)

    def bends(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """How Σ ds t and Σ ds bend a gradient along its own vector: (row twist, row turn, slot twist, slot turn); None without norms."""
        scores, leaves = self.compiled.scores, self.compiled.torch_leaves
        states, keys = self._state_square, self._key_square
        if states is None or keys is None:
            return None
        if not scores.affine:
            return torch.zeros_like(states), (2 * self.warmth).expand_as(states), torch.full_like(keys, 2.0), torch.zeros_like(keys)
        return leaves.row_twist(states), self.warmth * leaves.row_turn(states), leaves.slot_twist(keys), self.warmth * leaves.slot_turn(keys)

    def views(self) -> tuple:
        """State, keys, values and presence as (pointer, strides…); None where there is none."""
        presence = self.presence
        if presence is not None:
            strides = [0 if size == 1 else stride for size, stride in zip(presence.shape, presence.stride(), strict=True)]
            gate = (presence, *strides)
        else:
            gate = None
        return view(self.state), view(self.keys), None if self.values is None else view(self.values), gate

    def flat(self, vector: Tensor | None, unit: float = 1.0) -> Tensor | None:
        """A (b, h, ·) vector as contiguous float32."""
        if vector is None:
            return None
        return (vector if unit == 1.0 else vector * unit).float().contiguous()

    def vectors(self) -> tuple:
        """Row scale, row term, slot factor, slot term in the units of the kernels."""
        term_unit = self.unit if self.compiled.scores.affine else 1.0
        return (
            self.flat(self.row_scale, self.unit),
            self.flat(self.row_term, term_unit) if self.fold.row_term or not self.fold.affine else None,
            self.flat(self.slot_factor),
            self.flat(self.slot_term, self.unit),
        )

    def options(self) -> tuple:
        """Reach (all slots when nothing is causal), offset, seed, rate, and levels."""
        return (self.reach or max(self.slots, self.queries), self.offset, self.seed, self.rate if self.seed is not None else None, self.ages)

    @cached_property
    def ages(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """Levels of queries (b, h, q) and slots (b, h, n), each as the sum of a float and of what it leaves, in the units of the scores."""
        if self.level is None:
            return None
        level = self.level.double() * self.unit
        high = level.float()
        low = (level - high.double()).float()
        rows = slice(self.slots - self.queries, None)
        return high[..., rows].contiguous(), low[..., rows].contiguous(), high.contiguous(), low.contiguous()
