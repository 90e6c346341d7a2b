"""``HopfieldAttention`` against what it is made of, nn.MultiheadAttention and hopfield-layers: time, peak memory, growth with the number of tokens.

    python benchmarks/layers.py               CPU, float32
    python benchmarks/layers.py --quick       small sizes, to see that it runs

All sides have the same weights and are checked to agree before they are timed, in alternation; peaks of memory are taken in fresh processes. Results
go to benchmarks/results/layers.json, .md and .png.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import memory as resident
import torch
from command import asked, fresh
from layers_report import curve, page
from measure import Effort, agreement, ratio, timed
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from hopfield_amem import presets, retrieve
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import HopfieldAttention

SLOWEST = 1.1  # times the same projections around the bare kernel
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """One of ``SIDES`` on tokens (batch, length, dim), with so many extra steps, forward and backward or forward alone."""

    side: str
    length: int
    batch: int = 8
    dim: int = 512
    heads: int = 8
    extra: int = 0
    backward: bool = True


def layer(case: Case) -> HopfieldAttention:
    """Softmax attention whose queries take the extra steps; its weights are those of every other side."""
    torch.manual_seed(0)
    return HopfieldAttention(case.dim, case.heads, None, FixedPoint(steps=case.extra + 1, tolerance=0.0))


class Projected(nn.Module):
    """The projections of the layer around a function of queries, keys and values (batch, heads, t, d)."""

    def __init__(self, case: Case, read: Callable[[Tensor, Tensor, Tensor], Tensor]):
        super().__init__()
        made = layer(case)
        self.query, self.keys, self.values, self.output = made.query, made.keys, made.values, made.output
        self.heads, self.read = case.heads, read

    def forward(self, x: Tensor) -> Tensor:
        query, keys, values = (role(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for role in (self.query, self.keys, self.values))
        return self.output(self.read(query, keys, values).transpose(1, 2).flatten(2))


def bare(case: Case) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """``retrieve`` at a fixed inverse temperature."""
    energy = presets.log_sum_exp((case.dim // case.heads) ** -0.5)
    return lambda query, keys, values: retrieve(energy, query, keys, values, steps=case.extra + 1)


def torch_attention(case: Case) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """torch's own kernel, called once per step."""

    def read(query, keys, values):
        for _ in range(case.extra):
            query = scaled_dot_product_attention(query, keys, keys)
        return scaled_dot_product_attention(query, keys, values)

    return read


def multihead(case: Case) -> nn.Module:
    module = _packed(nn.MultiheadAttention(case.dim, case.heads, batch_first=True), layer(case))
    return _Called(module, lambda x: module(x, x, x, need_weights=False)[0])


def hopfield_layers(case: Case) -> nn.Module:
    """``Hopfield`` without its norms, every step taken."""
    from difflayers import Hopfield

    off = {f"normalize_{part}{affine}": False for part in ("stored_pattern", "state_pattern", "pattern_projection") for affine in ("", "_affine")}
    module = Hopfield(case.dim, case.dim // case.heads, num_heads=case.heads, update_steps_max=case.extra, update_steps_eps=1e-12, **off)
    _packed(module.association_core, layer(case))
    return _Called(module, module)


class _Called(nn.Module):
    """A module called in its own way."""

    def __init__(self, module: nn.Module, call: Callable[[Tensor], Tensor]):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


@torch.no_grad()
def _packed(module: nn.Module, made: HopfieldAttention) -> nn.Module:
    """The weights of the layer in a module that packs its projections."""
    roles = made.query, made.keys, made.values
    for packed, parts in ((module.in_proj_weight, [role.weight for role in roles]), (module.in_proj_bias, [role.bias for role in roles])):
        packed.copy_(torch.cat(parts))
    module.out_proj.load_state_dict(made.output.state_dict())
    return module


SIDES: dict[str, Callable[[Case], nn.Module]] = {
    "HopfieldAttention": layer,
    "retrieve": lambda case: Projected(case, bare(case)),
    "SDPA": lambda case: Projected(case, torch_attention(case)),
    "nn.MultiheadAttention": multihead,
    "hopfield-layers": hopfield_layers,
}


def work(case: Case) -> Callable[[], tuple[Tensor, ...]]:
    """One pass: the output, and the gradients of the tokens and of every parameter; "kernel" is ``retrieve`` among prepared heads alone."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(case.batch, case.length, case.dim, generator=generator)
    cotangent = torch.randn(tokens.shape, generator=generator)
    if case.side == "kernel":
        heads = tokens.unflatten(-1, (case.heads, -1)).transpose(1, 2)
        inputs, cotangent = [heads.clone().requires_grad_(case.backward) for _ in range(3)], torch.randn_like(heads)
        run, moving = lambda: bare(case)(*inputs), inputs
    else:
        module, tokens = SIDES[case.side](case), tokens.requires_grad_(case.backward)
        run, moving = lambda: module(tokens), [tokens, *module.parameters()]

    def passed() -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(case.backward):
            output = run()
        return (output.detach(), *torch.autograd.grad(output, moving, cotangent)) if case.backward else (output,)

    return passed


def compared(case: Case, peers: tuple[str, ...], effort: Effort) -> dict:
    """One row: every side's time and peak, and the layer's over theirs."""
    sides = {name: work(replace(case, side=name)) for name in ("HopfieldAttention", *peers)}
    truth = sides["HopfieldAttention"]()[:2]
    gaps = {name: agreement(truth, sides[name]()[:2]) for name in peers if name != "kernel"}  # output and, where there is one, gradient of the tokens
    time = timed(sides, effort)
    del sides, truth
    peaks = {name: peak(replace(case, side=name)) for name in time}
    ratios = {name: {"time": ratio(time["HopfieldAttention"], time[name]), "memory": _over(peaks, name)} for name in peers}
    agrees = all(gap <= TOLERANCE for found in gaps.values() for gap in found.values())
    return {"case": asdict(case), "agreement": gaps, "agrees": agrees, "time": time, "peak": peaks, "ratios": ratios}


def _over(peaks: dict[str, dict | None], name: str) -> float | None:
    ours, theirs = peaks["HopfieldAttention"], peaks[name]
    return None if ours is None or theirs is None else resident.ratio(ours, theirs, "extra")


def peak(case: Case) -> dict | None:
    """Bytes of a pass over its inputs, in a fresh process: all of them (``extra``), and those beyond the results; None where it did not finish."""
    return fresh(__file__, asdict(case))


def _peak_here(case: dict) -> dict:
    chosen = Case(**case)
    work(replace(chosen, batch=1, length=256))()  # loads every library
    run = work(chosen)
    results = sum(part.nbytes for part in run())
    extra = resident.growth(run)
    return {"extra": extra, "beyond": extra - results}


def tables(quick: bool) -> Iterator[tuple[str, dict]]:
    effort = Effort(rounds=3, retries=2, shortest=0.05) if quick else Effort()
    small = {"batch": 2, "dim": 64, "heads": 4} if quick else {}
    longest = 64 if quick else 1024
    for backward in (False, True):
        for length in (16, longest // 8, longest):
            case = Case("HopfieldAttention", length, backward=backward, **small)
            yield "overhead", compared(case, ("retrieve", "SDPA", "kernel"), effort)
    for extra in (0, 3):
        peers = ("nn.MultiheadAttention", "hopfield-layers") if extra == 0 else ("SDPA", "hopfield-layers")
        yield "peers", compared(Case("HopfieldAttention", longest, extra=extra, **small), peers, effort)
    for length in (32, 64, 128) if quick else (256, 512, 1024, 2048, 4096, 8192):
        peers = ("nn.MultiheadAttention", "hopfield-layers") if length <= 2048 else ("nn.MultiheadAttention",)
        yield "growth", compared(Case("HopfieldAttention", length, **small | {"batch": 1}), peers, effort)


def main() -> None:
    run = asked(__file__, __doc__, _peak_here)
    result = run.result(bar=SLOWEST)
    for table, row in run.tables(result, tables(run.quick), page):
        medians = {name: round(found["time"]["median"], 3) for name, found in row["ratios"].items()}
        print(table, {k: row["case"][k] for k in ("length", "extra", "backward")}, medians, "agrees" if row["agrees"] else row["agreement"], flush=True)
    curve(result["tables"]["growth"], run.out / "layers.png")


if __name__ == "__main__":
    main()
