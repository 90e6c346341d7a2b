"""One case on a GPU: every contender is checked against the reference in float32, measured for memory, and timed in alternating rounds."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
from gpu_cases import BACKWARD, FORWARD, Case
from gpu_peers import OURS, Variant, variants
from torch import Tensor

from hopfield_amem import ReadEnergy, retrieve
from hopfield_amem.energies import Epanechnikov

TOLERANCE = 0.02  # of ‖a − b‖ / ‖b‖ in bfloat16
LOOSE = 0.06  # where F′ jumps, and rounding moves slots across the jump
FLOOR = 1e-5  # of the cotangent's norm: gradients below it count as zero (those of a mean over the slots within reach are)
SCORES = 2**28  # of the reference's full matrix, at most
ROUNDS = 3
WARMUP, REPEAT = 10, 50  # milliseconds of a round


class Contender:
    """A variant with its inputs: ``timed`` is what the clock sees, ``results`` what is checked."""

    def __init__(self, variant: Variant, case: Case, inputs: tuple[Tensor, ...], cotangent: Tensor):
        self.variant, self.case, self.cotangent = variant, case, cotangent
        self.inputs = inputs if case.phase == FORWARD else tuple(t.detach().requires_grad_() for t in inputs)
        self.output = self._forward() if case.phase == BACKWARD else None
        self.milliseconds: list[float] = []

    def timed(self) -> Any:
        if self.case.phase == FORWARD:
            with torch.no_grad():
                return self._forward()
        output = self._forward() if self.output is None else self.output
        return output, *torch.autograd.grad(output, self.inputs, self.cotangent.to(output.dtype), retain_graph=self.output is not None)

    def results(self) -> tuple[Tensor, ...]:
        """The output, and behind it the gradients of the inputs."""
        found = self.timed()
        return tuple(t.detach() for t in (found if isinstance(found, tuple) else (found,)))

    def _forward(self) -> Tensor:
        return self.variant.forward(*self.inputs)


def measured(case: Case, rounds: int = ROUNDS, device: str = "cuda", clock: Callable[[Contender], float] | None = None) -> dict:
    """All that the page says about a case. A contender that raises is a reason in its place."""
    inputs, cotangent = tensors(case, device)
    truth = cache(lambda energy: reference(energy, case, inputs, cotangent))
    rows: dict[str, dict] = {}
    ready: dict[str, Contender] = {}
    for name in (OURS, *case.peers):
        rows[name], contender = _prepared(name, case, inputs, cotangent, truth)
        if contender is not None:
            ready[name] = contender
    truth.cache_clear()
    _timed(ready, rows, rounds, clock or milliseconds)
    ready.clear()
    _cleared(device)
    return {"case": asdict(case), "flops": case.flops, "bytes": case.bytes, "contenders": rows}


def tensors(case: Case, device: str, seed: int = 0) -> tuple[tuple[Tensor, ...], Tensor]:
    """Standard normal queries, keys, values (unless tied) and cotangent, in bfloat16."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(rows: int) -> Tensor:
        return torch.randn(case.batch, case.heads, rows, case.dim, generator=generator, device=device, dtype=torch.bfloat16)

    memory = (normal(case.slots),) if case.tied else (normal(case.slots), normal(case.slots))
    return (normal(case.queries), *memory), normal(case.queries)


def reference(energy: ReadEnergy, case: Case, inputs: tuple[Tensor, ...], cotangent: Tensor) -> tuple[Tensor, ...]:
    """The last head in float32, its first queries as many as a full matrix of ``SCORES`` holds: output and gradients.

    Gradients of keys and values need every query, so they are only there when all queries fit.
    """
    rows = _rows(case)
    query, *memory = (t[-1:, -1:].detach().float() for t in inputs)
    query = query[:, :, :rows]
    slope = case.phase != FORWARD
    leaves = tuple(t.requires_grad_(slope) for t in (query, *memory))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.set_grad_enabled(slope):
            output = retrieve(energy, *leaves, causal=case.causal, backend="reference")
        if not slope:
            return (output,)
        wanted = leaves if rows == case.queries else leaves[:1]
        return output.detach(), *torch.autograd.grad(output, wanted, cotangent[-1:, -1:, :rows].float())
    finally:
        torch.set_float32_matmul_precision(before)


def error(results: tuple[Tensor, ...], truth: tuple[Tensor, ...], cotangent: Tensor) -> float:
    """The largest ‖a − b‖ / ‖b‖ of output and gradients, over what the reference holds; NaN stays NaN."""
    least = FLOOR * cotangent[-1:, -1:].float().norm()
    gaps = []
    for ours, theirs in zip(results, truth, strict=False):
        part = ours[-1:, -1:, : theirs.shape[-2]].float()
        gaps.append((part - theirs).norm() / theirs.norm().clamp_min(least))
    return float(torch.stack(gaps).amax())


def tolerance(energy: ReadEnergy) -> float:
    return LOOSE if isinstance(energy.separation, Epanechnikov) else TOLERANCE


def milliseconds(contender: Contender) -> float:
    """Median of one round by CUDA events, the L2 cache cleared before each run; as a CUDA graph where memory bandwidth is the question."""
    from triton.testing import do_bench, do_bench_cudagraph

    torch.cuda.synchronize()
    if contender.case.limited_by_memory:
        try:
            return do_bench_cudagraph(contender.timed, rep=REPEAT, return_mode="median")
        except RuntimeError:  # an operation that cannot be captured is timed with its launches
            torch.cuda.synchronize()
    return do_bench(contender.timed, warmup=WARMUP, rep=REPEAT, return_mode="median")


def reason(problem: BaseException) -> str:
    """Why a contender failed, in one short line."""
    if isinstance(problem, torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(problem, ModuleNotFoundError):
        return f"{problem.name} is not installed"
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0] if lines else 'no message'}"[:160].replace("|", "/")


def _prepared(name: str, case: Case, inputs, cotangent, truth) -> tuple[dict, Contender | None]:
    """The first variant that is right: its row so far, and the contender to time; the last one where none is."""
    row: dict = {"failed": "nothing to run"}
    contender = None
    try:
        choices = variants(name, case)
    except Exception as problem:
        return {"failed": reason(problem)}, None
    for variant in choices:
        contender = None
        try:
            contender = Contender(variant, case, inputs, cotangent)
            row = {"variant": variant.label, **_checked(contender, truth), "peak": peak(contender)}
        except Exception as problem:
            row, contender = {"failed": reason(problem)}, None
        if row.get("agrees"):
            break
        _cleared(cotangent.device.type)
    return row, contender


def _checked(contender: Contender, truth) -> dict:
    energy = contender.variant.energy
    if energy is None:
        contender.timed()
        return {"error": None, "agrees": True}
    gap = error(contender.results(), truth(energy), contender.cotangent)
    return {"error": gap, "agrees": gap <= tolerance(energy)}


def peak(contender: Contender) -> int | None:
    """Bytes that a run needs at its peak beyond what was there before it; None without a GPU."""
    if contender.inputs[0].device.type != "cuda":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = contender.timed()
    torch.cuda.synchronize()
    del found
    return torch.cuda.max_memory_allocated() - before


def _timed(ready: dict[str, Contender], rows: dict[str, dict], rounds: int, clock: Callable[[Contender], float]) -> None:
    """Alternating rounds, in an order that turns around; the median of the rounds' medians."""
    for i in range(rounds):
        for name in list(ready) if i % 2 == 0 else list(reversed(ready)):
            try:
                ready[name].milliseconds.append(clock(ready[name]))
            except Exception as problem:
                rows[name] = {"failed": reason(problem)}
                del ready[name]
    for name, contender in ready.items():
        rows[name] |= {"ms": statistics.median(contender.milliseconds), "rounds": contender.milliseconds}


def _rows(case: Case) -> int:
    return min(case.queries, max(1, SCORES // case.slots))


def _cleared(device: str) -> None:
    gc.collect()
    if device == "cuda":
        with suppress(RuntimeError):  # after an illegal access nothing works any more; the results so far are still worth keeping
            torch.cuda.empty_cache()
