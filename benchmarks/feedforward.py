"""Feed-forward memories against the stock blocks with the same weights: time and peak memory of both passes, and growth with the number of slots.

    python benchmarks/feedforward.py               CPU, float32
    python benchmarks/feedforward.py --quick       small sizes, to see that it runs

Every row checks that both sides agree before it times them, in pairs, and measures the peak of memory in a fresh process. Results go to
benchmarks/results/feedforward.json and .md.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import memory as resident
import torch
from command import asked, fresh
from feedforward_report import page
from measure import Effort, agreement, ratio, timed
from torch import nn
from torch.nn import functional as F

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.layers import feedforward

SLOWEST = 1.1  # times the stock block
HEAVIEST = 1.05  # times its memory: pages and the order of frees move the figure by a few percent
TOLERANCE = 1e-5
ENERGIES: dict[str, tuple[ReadEnergy, Callable[[torch.Tensor], torch.Tensor]]] = {
    "ReLU": (presets.relu_feed_forward(), torch.relu),
    "GELU": (presets.gelu_feed_forward(), F.gelu),
    "SiLU": (presets.silu_feed_forward(), F.silu),
    "squared ReLU": (presets.squared_relu_feed_forward(), lambda s: torch.relu(s).square()),
    "softmax": (presets.log_sum_exp(), lambda s: s.softmax(-1)),
}


@dataclass(frozen=True)
class Case:
    """A block of a kind: one of ``ENERGIES``, gated or not, or the stock block of GPT-2 or Llama."""

    kind: str
    tokens: tuple[int, int]
    dim: int
    slots: int
    gated: bool = False

    def __str__(self) -> str:
        return f"{'gated ' * self.gated}{self.kind}"


class Stock(nn.Module):
    """Linear, activation, linear; gated: times a third."""

    def __init__(self, case: Case):
        super().__init__()
        self.keys, self.values = nn.Linear(case.dim, case.slots), nn.Linear(case.slots, case.dim)
        self.gate = nn.Linear(case.dim, case.slots) if case.gated else None
        self.activation = ENERGIES[case.kind][1]

    def forward(self, x):
        weights = self.activation(self.keys(x))
        return self.values(weights if self.gate is None else weights * self.gate(x))


def built(case: Case, side: str) -> nn.Module:
    """The block of one side; both have the same weights."""
    torch.manual_seed(0)
    if case.kind in ENERGIES:
        stock = Stock(case)
        ours = feedforward.HopfieldFFN(case.dim, case.slots, ENERGIES[case.kind][0], gated=case.gated)
        ours.load_state_dict(stock.state_dict())
        return {"ours": ours, "stock": stock}[side]
    from transformers import GPT2Config, LlamaConfig
    from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
    from transformers.models.llama.modeling_llama import LlamaMLP

    from hopfield_amem.integrations.huggingface import hopfield_, own_activation

    block = {
        "GPT-2": lambda: GPT2MLP(case.slots, GPT2Config(n_embd=case.dim, resid_pdrop=0.0)),
        "Llama": lambda: LlamaMLP(LlamaConfig(hidden_size=case.dim, intermediate_size=case.slots)),
    }[case.kind]()
    model = nn.Sequential(block)
    if side == "ours":
        hopfield_(model, own_activation)
    return model


def work(case: Case, side: str) -> Callable[[], tuple[torch.Tensor, ...]]:
    """One pass: the output, and the gradients of tokens and parameters."""
    block = built(case, side)
    tokens = torch.randn(*case.tokens, case.dim).requires_grad_()
    weight = torch.randn(*case.tokens, case.dim)

    def passed():
        output = block(tokens)
        return output.detach(), *torch.autograd.grad(output, [tokens, *block.parameters()], weight)

    return passed


def compared(case: Case, effort: Effort) -> dict:
    """One row: our time and memory against the stock block's, both passes."""
    ours, stock = work(case, "ours"), work(case, "stock")
    gap = agreement(*(_ordered(run(), case, side) for run, side in ((ours, "ours"), (stock, "stock"))))
    time = timed({"ours": ours, "stock": stock}, effort)
    del ours, stock
    peaks = {side: peak(case, side) for side in ("ours", "stock")}
    ratios = {"time": ratio(time["ours"], time["stock"]), "memory": None}
    if all(peaks.values()):
        ratios["memory"] = resident.ratio(peaks["ours"], peaks["stock"], "extra")
    met = {"time": ratios["time"]["fastest"] <= SLOWEST, "memory": ratios["memory"] is not None and ratios["memory"] <= HEAVIEST}
    agrees = max(gap.values()) <= TOLERANCE
    return {"case": asdict(case), "title": str(case), "agreement": gap, "agrees": agrees, "time": time, "peak": peaks, "ratios": ratios, "met": met}


def _ordered(results: tuple[torch.Tensor, ...], case: Case, side: str) -> tuple[torch.Tensor, ...]:
    """Gradients by the names of parameters, which both sides share."""
    names = [name for name, _ in built(case, side).named_parameters()]
    return *results[:2], *(grad for _, grad in sorted(zip(names, results[2:], strict=True), key=lambda pair: pair[0]))


def growth(kind: str, slots: list[int], effort: Effort) -> dict:
    """Time and memory of both passes, of both sides, against the number of slots."""
    from scipy.stats import linregress

    points = []
    for count in slots:
        case = Case(kind, (1, 1024), 128, count)
        time = timed({side: work(case, side) for side in ("ours", "stock")}, effort)
        points.append({"slots": count, "seconds": {s: t["fastest"] for s, t in time.items()}, "peak": {s: peak(case, s) for s in time}})
    logs = torch.tensor([[p["slots"], p["seconds"]["ours"]] for p in points], dtype=torch.float64).log().numpy()
    return {"kind": kind, "points": points, "exponent": float(linregress(logs[:, 0], logs[:, 1]).slope)}


def peak(case: Case, side: str) -> dict | None:
    """Bytes of a pass over its inputs, in a fresh process: all of them, and those beyond the results."""
    return fresh(__file__, asdict(case), side)


def _peak_here(case: dict, side: str) -> dict:
    chosen = Case(**(case | {"tokens": tuple(case["tokens"])}))
    work(replace(chosen, tokens=(1, 256), slots=512), side)()  # loads every library, and takes the path that large sizes take
    run = work(chosen, side)
    gc.collect()
    resident._give_back_free_memory()
    before = resident._restart_peak()
    results = run()
    extra = resident._status("VmHWM") - before
    return {"extra": extra, "beyond": extra - sum(t.nbytes for t in results)}


def tables(quick: bool) -> Iterator[tuple[str, dict]]:
    effort = Effort(rounds=3, retries=2, shortest=0.05) if quick else Effort(rounds=7, retries=7)
    main = Case("ReLU", (1, 64) if quick else (8, 1024), 64 if quick else 512, 128 if quick else 2048)
    for kind in ENERGIES:
        yield "stock", compared(replace(main, kind=kind), effort)
    for kind in ("SiLU", "GELU"):
        yield "stock", compared(replace(main, kind=kind, gated=True), effort)
    for case in (Case("GPT-2", (4, 512), 768, 3072), Case("Llama", (1, 2048), 512, 1376)):
        yield "stock", compared(replace(case, tokens=(1, 64), dim=64, slots=128) if quick else case, effort)
    for kind in ("GELU", "softmax"):
        yield "growth", growth(kind, [128, 256] if quick else [1024, 2048, 4096, 8192, 16384, 32768], effort)


def main() -> None:
    run = asked(__file__, __doc__, _peak_here)
    for table, row in run.tables(run.result(bars={"time": SLOWEST, "memory": HEAVIEST}), tables(run.quick), page):
        print(table, {k: row[k] for k in ("title", "agrees", "ratios", "met", "kind", "exponent") if k in row}, flush=True)


if __name__ == "__main__":
    main()
