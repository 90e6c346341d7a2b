"""Memories that are written token by token: against the plain recurrence, growth with the number of tokens, and time per generated token.

    python benchmarks/associate.py                 CPU; on a GPU also against flash-linear-attention where that is installed
    python benchmarks/associate.py --quick         small sizes, to see that it runs

Every row checks that both sides agree before it times them, in pairs, and measures the peak of memory in a fresh process. Results go to
benchmarks/results/associate.json and .md.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator

import memory as resident
import torch
from associate_peers import PEERS
from associate_report import page
from command import asked, fresh
from measure import Effort, agreement, ratio, timed

from hopfield_amem import MEMORIES, Memory, associate, presets
from hopfield_amem.energies import UnstableWrite

HEADS, WIDTH = 4, 64
BARS = {"delta_net": 20.0, "delta_former": 10.0}  # times as fast as the recurrence
STEEPEST = {"delta_net": 1.05, "delta_former": 2.05}  # exponents of time in tokens
GPU_BARS = {"delta_net": 1.0, "gated_delta_net": 1.0, "delta_former, q·k": 2.0}  # times as fast as flash-linear-attention
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}

warnings.simplefilter("ignore", UnstableWrite)


def inputs(name: str, tokens: int, heads: int = HEADS, width: int = WIDTH, device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Unit keys and rates below one, so that writing contracts."""
    torch.manual_seed(0)
    shape = (1, heads, tokens, width)
    given = {n: torch.randn(shape, device=device) for n in ("query", "keys", "values")}
    given["keys"] = torch.nn.functional.normalize(given["keys"], dim=-1)
    given = {n: t.to(dtype) for n, t in given.items()} | {"rate": torch.rand(shape[:-1], device=device)}
    if name == "gated_delta_net":
        given["decay"] = 0.9 + 0.1 * torch.rand(shape[:-1], device=device)
    return {n: t.requires_grad_() for n, t in given.items()}


def written(name: str, **given: torch.Tensor) -> tuple[Memory, dict]:
    """The memory of a name and what ``associate`` takes. "q·k" is DeltaFormer as flash-linear-attention has it: the write asks with the queries."""
    if name != "delta_former, q·k":
        return MEMORIES[name], given
    rate = given.pop("rate")
    return presets.delta_former(given["query"].shape[-1] ** -0.5), given | {"rate": (torch.ones_like(rate), rate), "erase": given["query"]}


def work(name: str, backend: str, tokens: int, backward: bool = True, **where) -> Callable[[], tuple[torch.Tensor, ...]]:
    """One pass: the output, and the gradients of everything given."""
    given = inputs(name, tokens, **where)
    run = PEERS.get(backend)
    memory, arguments = written(name, **given)
    weight = torch.randn(given["values"].shape, generator=torch.Generator().manual_seed(1)).to(given["values"])

    def passed():
        output = run(name, **given) if run else associate(memory, **arguments, backend=backend)[0]
        grads = torch.autograd.grad((output * weight).sum(), list(given.values())) if backward else ()
        if output.is_cuda:
            torch.cuda.synchronize()
        return output.detach(), *grads

    return passed


def compared(name: str, peer: str, tokens: int, bar: float, effort: Effort, **where) -> dict:
    """One row: our time against a peer's, both passes, with the peak of memory of each."""
    backend = "triton" if where.get("device") == "cuda" else "chunked"
    ours, theirs = work(name, backend, tokens, **where), work(name, peer, tokens, **where)
    gap = agreement(ours(), theirs())
    time = timed({"ours": ours, "peer": theirs}, effort)
    faster = 1 / ratio(time["ours"], time["peer"])["fastest"]
    del ours, theirs
    peaks = {side: peak(name, chosen, tokens, **where) for side, chosen in (("ours", backend), ("peer", peer))}
    agrees = max(gap.values()) <= TOLERANCE[where.get("dtype", torch.float32)]
    return {
        "memory": name,
        "peer": peer,
        "tokens": tokens,
        "faster": faster,
        "bar": bar,
        "met": agrees and faster >= bar,
        "agreement": gap,
        "time": time,
        "peak": peaks,
    } | {n: str(v) for n, v in where.items()}


def growth(name: str, lengths: list[int], effort: Effort) -> dict:
    """Time and memory of both passes against the number of tokens, and the exponent over the upper half of the lengths."""
    from scipy.stats import linregress

    points = []
    for tokens in lengths:
        time = timed({"ours": work(name, "chunked", tokens)}, effort)["ours"]["fastest"]
        points.append({"tokens": tokens, "seconds": time, "peak": peak(name, "chunked", tokens)})
    logs = torch.tensor([[p["tokens"], p["seconds"]] for p in points], dtype=torch.float64).log().numpy()
    exponent = float(linregress(logs[:, 0], logs[:, 1]).slope)
    return {"memory": name, "points": points, "exponent": exponent, "bar": STEEPEST[name], "met": exponent <= STEEPEST[name]}


def generation(name: str, contexts: list[int], effort: Effort) -> dict:
    """Seconds per token and numbers in the state, after contexts of several lengths."""
    points = []
    for context in contexts:
        given = {n: t.detach() for n, t in inputs(name, context + 1).items()}
        cut = {n: (t[..., :context] if t.ndim == 3 else t[..., :context, :], t[..., -1:] if t.ndim == 3 else t[..., -1:, :]) for n, t in given.items()}
        _, state = associate(MEMORIES[name], **{n: t[0] for n, t in cut.items()}, backend="chunked")
        token = {n: t[1] for n, t in cut.items()}
        time = timed({"token": lambda token=token, state=state: associate(MEMORIES[name], **token, state=state)}, effort)["token"]["fastest"]
        points.append({"context": context, "seconds": time, "numbers": sum(t.numel() for t in state if t is not None)})
    return {"memory": name, "points": points}


def peak(name: str, backend: str, tokens: int, **where) -> dict | None:
    """Bytes of a pass over its inputs, in a fresh process; on a GPU, of the allocator."""
    if where.get("device") == "cuda":
        run = work(name, backend, tokens, **where)
        run()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return {"extra": torch.cuda.max_memory_allocated() - before}
    return fresh(__file__, name, backend, tokens)


def _peak_here(name: str, backend: str, tokens: int) -> dict:
    work(name, backend, 256)()
    run = work(name, backend, tokens)
    gc.collect()
    resident._give_back_free_memory()
    before = resident._restart_peak()
    results = run()
    extra = resident._status("VmHWM") - before
    return {"extra": extra, "beyond": extra - sum(t.nbytes for t in results)}


def tables(quick: bool) -> Iterator[tuple[str, dict]]:
    effort = Effort(rounds=3, retries=2, shortest=0.05) if quick else Effort(rounds=5)
    length, lengths = (512, [128, 256]) if quick else (4096, [1024, 2048, 4096, 8192, 16384, 32768])
    for name, bar in BARS.items():
        yield "recurrence", compared(name, "recurrent", length, bar, effort)
    for name in STEEPEST:
        yield "growth", growth(name, lengths, effort)
    for name in ("delta_net", "gated_delta_net", "mesa_net", "delta_former"):
        yield "generation", generation(name, lengths[:4], effort)
    if torch.cuda.is_available():
        for name, bar in GPU_BARS.items():
            for tokens in (2048, 8192, 32768):
                for width in (64, 128):
                    where = dict(device="cuda", dtype=torch.bfloat16, heads=2048 // width, width=width)
                    yield "flash-linear-attention", compared(name, "flash-linear-attention", tokens, bar, effort, **where)


def main() -> None:
    run = asked(__file__, __doc__, _peak_here)
    for table, row in run.tables(run.result(), tables(run.quick), page):
        print(table, {k: v for k, v in row.items() if k not in ("time", "points", "peak", "agreement")}, flush=True)


if __name__ == "__main__":
    main()
