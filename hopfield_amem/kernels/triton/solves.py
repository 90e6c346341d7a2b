"""What the kernels of written memories launch: row normalisers, the triangular solve, and its transpose with what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...energies.scalings.scaling import normal
from ..compiler import Compiled
from ..gates import EVERYTHING
from . import configs, gradients, launch
from .gradients import PerQuery
from .operands import LOG2E, RATIO, SOFTMAX, SUM, Operands
from .spec import Give, Want
from .templates.written_backward import written_backward as _transposed
from .templates.written_forward import written_forward as _solved
from .tuning import launched
from .views import view

PATIENCE = 2**26  # looks at a counter, about a minute; only a fault elsewhere makes a program wait that long
NOTHING = dict(tied=False, shifted=False, offset=False, based=False, curved=False, norms=False, twist=False, turn=False)


@dataclass
class Written:
    """``u_t = a_t v_t − b_t Σ_{j < c + t} p_tj u_j``: erase w (b, h, t, d), keys (b, h, c + t, d), values (b, h, t, v), rates (b, h, t),
    cached u (b, h, c, v), levels and presence of all slots (b, h, c + t), β (b, h)."""

    compiled: Compiled
    divides: bool
    erase: Tensor
    keys: Tensor
    values: Tensor
    write_rate: Tensor | None
    erase_rate: Tensor | None
    cached: Tensor | None
    level: Tensor | None
    presence: Tensor | None
    beta: Tensor

    @property
    def cache(self) -> int:
        return self.keys.shape[2] - self.erase.shape[2]

    @property
    def empty(self) -> bool:
        return not self.values.numel()

    def reading(self, values: Tensor) -> Operands:
        """Reads of the slots before each row; the solves are given the values of the rows, their gradients u of all slots."""
        presence = None if self.presence is None else self.presence.unsqueeze(2)
        tensors = self.erase, self.keys, values, presence, self.beta
        return Operands(self.compiled, *tensors, bias=None, seed=None, reach=EVERYTHING, rate=0.0, level=self.level, offset=self.cache - 1)

    def rate(self, given: Tensor | None) -> Tensor:
        """Rates of all rows, contiguous float32."""
        return self.beta.new_ones(self.erase.shape[:3], dtype=torch.float32) if given is None else given.float().contiguous()


def normaliser(written: Written) -> Tensor:
    """What tells how the weights of a row are divided (b, h, t): ``log Σ F`` of ``Log``, Σ F′ where Σ p divides; empty where nothing divides."""
    read = written.reading(written.values)
    if read.kind == SUM and not written.divides:
        return read.beta.new_empty(0, dtype=torch.float32)
    massed = written.divides and read.kind != SOFTMAX
    kind = SUM if massed else read.kind
    value = torch.empty(written.erase.shape[:3], dtype=torch.float32, device=read.state.device)
    mass = torch.empty_like(value)
    null = read.compiled.null and not written.divides
    want = Want(False, not massed, massed, shifted=False, gained=read.gained, null=null, reads=False)
    arguments = (*read.views(), *read.vectors(), None, None, read.flat(read.gain))

    def swept(config: configs.Config) -> None:
        launch.swept(read, kind, want, arguments, (None, value, mass, None), value, config, 1, carry=False)

    launched("forward", read, swept)
    return mass if massed else value


def forward(written: Written) -> tuple[Tensor, Tensor]:
    """u (b, h, t, v) and the normalisers."""
    u = torch.empty_like(written.values, memory_format=torch.contiguous_format)
    if written.empty:
        return u, written.beta.new_empty(0 if _plain(written) else written.erase.shape[:3], dtype=torch.float32)
    with launch.on(u):
        statistic = normaliser(written)
        read = written.reading(written.values)
        rows = _rows(read, written, statistic, None)
        known = None if written.cached is None or not written.cache else view(written.cached)
        state, keys, values, gate = read.views()
        vectors = (*read.vectors(), read.flat(rows.level), read.flat(rows.inverse), written.rate(written.write_rate), written.rate(written.erase_rate))

        def solved(config: configs.Config) -> None:
            constants = dict(**_constants(read, rows), SHAPE=config.shape, CACHED=known is not None, PATIENCE=PATIENCE)
            arguments = (state, keys, values, known, gate, *vectors, view(u), _counters(read))
            configs.run(_solved, _grid(read, config), config, *arguments, _sizes(read), read.options(), **constants)

        launched("solve", read, solved)
    return u, statistic


def transposed(written: Written, grad: Tensor, statistic: Tensor) -> Tensor:
    """``g = (I + b P)⁻ᵀ du``: (b, h, t, v)"""
    g = torch.empty_like(written.values, memory_format=torch.contiguous_format)
    read = written.reading(written.values)
    rows = _rows(read, written, statistic, None)
    state, keys, _, gate = read.views()
    vectors = (*read.vectors(), read.flat(rows.level), read.flat(rows.inverse), written.rate(written.erase_rate))

    def solved(config: configs.Config) -> None:
        constants = dict(**_constants(read, rows), SHAPE=config.shape, PATIENCE=PATIENCE)
        arguments = (state, keys, view(grad), gate, *vectors, view(g), _counters(read))
        configs.run(_transposed, _grid(read, config), config, *arguments, _sizes(read), read.options(), **constants)

    launched("transposed", read, solved)
    return g


def backward(written: Written, grad: Tensor, u: Tensor, statistic: Tensor, wanted: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Gradients of erase, keys, values, write rate, erase rate, cached u, levels and β.

    With g solved, what is left is the gradient of a read R_t = Σ p_tj u_j whose own gradient is −b g: the kernels of reads give it.
    """
    erase, keys, _, _, erase_rate, cached, level, beta = wanted
    with launch.on(u):
        g = transposed(written, grad, statistic)
        d_values = g if written.write_rate is None else (g * written.write_rate.unsqueeze(-1)).to(g.dtype)
        d_write = (g.float() * written.values.float()).sum(-1)
        pulled = -g if written.erase_rate is None else (-g * written.erase_rate.unsqueeze(-1)).to(g.dtype)
        read = written.reading(torch.cat([written.cached, u], 2) if written.cached is not None and written.cache else u)
        sums = _read(written, read) if erase_rate or not _plain(written) else None
        d_erase_rate = None if sums is None else -(g.float() * sums).sum(-1)
        d_state = d_keys = d_slots = d_level = d_beta = None
        if erase or keys or level or beta or (cached and written.cache):
            rows = _rows(read, written, statistic, None if sums is None else (pulled.float() * sums).sum(-1))
            wants = (erase, keys, cached and written.cache > 0, False, beta, False, level)
            d_state, d_keys, d_slots, _, d_beta, _, d_level = gradients.swept(read, pulled, rows, wants)
    d_cached = None if d_slots is None else d_slots[:, :, : written.cache].contiguous()
    return d_state, d_keys, d_values, d_write, d_erase_rate, d_cached, d_level, d_beta


def _read(written: Written, read: Operands) -> Tensor:
    """``Σ p_tj u_j`` of every row, float32."""
    results = launch.forward(read, False, written.divides, False, torch.float32)
    if not written.divides:
        return results.output
    mass = normal(results.mass).unsqueeze(-1)
    return torch.where(mass == 0, 0.0, results.output / torch.where(mass == 0, 1.0, mass))


def _rows(read: Operands, written: Written, statistic: Tensor, through: Tensor | None) -> PerQuery:
    """Per row what weights and, with ``through`` = ⟨dR, R⟩, their gradients need: as ``gradients.per_query``."""
    trivial = torch.zeros_like(read.row_scale) if through is None else torch.zeros_like(through)
    rows = PerQuery(trivial, trivial, read.gain, trivial, False, None)
    if read.kind == SOFTMAX:
        rows.level = torch.where(statistic == -math.inf, 0.0, statistic) * LOG2E
    elif written.divides:
        mass = normal(statistic)
        rows.inverse = torch.where(mass == 0, 0.0, 1 / mass)
    elif read.kind == RATIO:
        rows.inverse = torch.where(statistic == -math.inf, 0.0, torch.exp(-statistic))
        rows.offset = through if through is None or read.gain is None else through * read.row_scale
    if statistic.numel() and read.gain is not None and rows.inverse is not None:
        rows.inverse = rows.inverse * read.gain
    if through is not None and (read.kind == SOFTMAX or written.divides):
        rows.base, rows.based = through, True
    return rows


def _plain(written: Written) -> bool:
    """Whether nothing divides the weights."""
    return written.compiled.kind == "sum" and not written.divides


def _constants(read: Operands, rows: PerQuery) -> dict[str, Any]:
    give = Give(**NOTHING, massed=rows.inverse is not None, warm=False, terms=False, presence=False, age=False, values=False)
    return dict(KIND=read.kind, LEAF=read.leaf, FOLD=read.fold, SIGHT=read.sight, GIVE=give, MODE=read.mode)


def _grid(read: Operands, config: configs.Config) -> tuple[int]:
    return (read.members * -(-read.queries // config.shape.queries),)


def _sizes(read: Operands) -> tuple[int, ...]:
    return read.queries, read.slots, read.width, read.columns, read.heads, read.members


def _counters(read: Operands) -> Tensor:
    """Finished tiles of every member, and the ticket."""
    return read.state.new_zeros(read.members + 1, dtype=torch.int32)
