"""The tables: which cases each compares, and the bars that it sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product

from cases import Case, reading
from measure import Effort

from hopfield_amem import ENERGIES

EDGE = 15e9  # bytes that a peer may need before its case is left out


@dataclass(frozen=True)
class Bar:
    """A limit on our figure over the peer's: ``figure`` is "time", "memory" (over the inputs) or "beyond" (their gradients too).

    Or on ours alone: "megabytes" (beyond inputs and results).
    """

    text: str
    figure: str
    limit: float


@dataclass(frozen=True)
class Match:
    """One row: our case, the peer's, and the bars. ``truth`` is what our numbers are compared with where the peer computes others."""

    labels: tuple[str, ...]
    ours: Case
    peer: Case
    bars: tuple[Bar, ...]
    skipped: str = ""
    truth: Case | None = None


@dataclass(frozen=True)
class Sizes:
    """Sizes of a full or of a quick run."""

    slots: tuple[int, ...] = (16384, 131072)
    heads: tuple[int, ...] = (1, 8)
    growth: tuple[int, ...] = (16384, 65536, 262144, 1048576)
    queries: int = 256
    many_queries: int = 1024
    effort: Effort = field(default_factory=Effort)


FULL = Sizes()
QUICK = Sizes(slots=(4096,), heads=(1,), growth=(1024, 2048, 4096), queries=64, many_queries=128, effort=Effort(rounds=2, retries=0, shortest=0.05))


@dataclass(frozen=True)
class Comparison:
    """A table of matches. ``labels`` head the columns that tell its rows apart."""

    title: str
    note: str
    labels: tuple[str, ...]
    matches: list[Match] = field(default_factory=list)
    results: str = "gradients"  # what a pass returns


def attention(sizes: Sizes) -> Comparison:
    bars = (Bar("≤ 1.1x its time", "time", 1.1), Bar("≤ 1.5x its memory", "memory", 1.5))
    title = "Softmax (log_sum_exp), chunked, against torch's scaled_dot_product_attention called once per step"
    note = "Auto-association: keys and values are the patterns, the next query is the output."
    return Comparison(title, note, LABELS, [Match(labels, ours, replace(ours, engine="torch SDPA"), bars) for labels, ours in _repeated(sizes)])


def hopfield_layers(sizes: Sizes) -> Comparison:
    title = "Softmax (log_sum_exp), chunked, against the association of hopfield-layers (difflayers)"
    note = "Its association alone: all patterns static, no normalisation, no output projection, heads in the batch, every update step taken."
    return Comparison(title, note, LABELS, [_layers_match(*row) for row in _repeated(sizes)])


def presets(sizes: Sizes) -> Comparison:
    bars = (Bar("no slower", "time", 1.0), Bar("≤ 1/10 its memory", "memory", 0.1))
    title = f"Every other preset, chunked, against its own reference (full matrices) at {sizes.slots[-1]:,} slots"
    note = "One step. Where the settled state is a sign, whose gradient is zero, the patterns are read as values instead."
    matches = []
    for name in ENERGIES:
        if name == "log_sum_exp":
            continue
        beta = _beta(name)
        ours = Case("chunked", name, sizes.slots[-1], queries=sizes.queries, beta=beta, reads=reading(name))
        matches.append(Match((name, f"{beta:g}", "patterns as values" if ours.reads == "patterns" else "state"), ours, replace(ours, engine="reference"), bars))
    return Comparison(title, note, ("energy", "β", "reads"), matches)


def forward(sizes: Sizes) -> Comparison:
    queries, slots = sizes.many_queries, sizes.slots[-1]
    title = f"Every preset reading values, chunked, {queries:,} queries x {slots:,} slots, forward alone, against torch's scaled_dot_product_attention"
    note = "SDPA on the same tensors is the yardstick, whatever the energy; numbers are compared with the reference. Keys and values differ."
    peer = Case("torch SDPA", "log_sum_exp", slots, queries=queries, reads="values", backward=False)
    matches = []
    for name in ENERGIES:
        limit = FORWARD_LIMITS.get(name, 2.0)
        bars = (Bar(f"≤ {limit:g}x its time", "time", limit), Bar("≤ 64 MB beyond inputs and output", "megabytes", 64.0))
        ours = replace(peer, engine="chunked", energy=name, beta=_beta(name))
        matches.append(Match((name, f"{ours.beta:g}"), ours, peer, bars, truth=replace(ours, engine="reference")))
    return Comparison(title, note, ("energy", "β"), matches, "output")


def sparse(sizes: Sizes) -> Comparison:
    title = f"1.5-entmax and sparsemax against the entmax package (exact) on {min(64, sizes.queries)} x {sizes.slots[-1]:,} scores"
    note = "Map: standard normal scores to weights. Retrieval: one chunked step against entmax(β Q Kᵀ) V, d = 64, β = 1/8, with values."
    matches = []
    for reads, energy in product(("map", "values"), ("entmax", "sparsemax")):
        engine = "weights" if reads == "map" else "chunked"
        ours = Case(engine, energy, sizes.slots[-1], queries=min(64, sizes.queries), reads=reads)
        labels = ("map alone" if reads == "map" else "retrieval", "1.5-entmax" if energy == "entmax" else energy)
        matches.append(Match(labels, ours, replace(ours, engine="entmax"), (Bar("≤ 0.2x its time", "time", 0.2),)))
    return Comparison(title, note, ("what", "weights"), matches)


LABELS = ("slots", "heads", "extra steps k")
COMPARISONS = {"attention": attention, "hopfield_layers": hopfield_layers, "presets": presets, "forward": forward, "sparse": sparse}
FORWARD_LIMITS = {"log_sum_exp": 1.0, **dict.fromkeys(("dense", "relu_feed_forward", "squared_relu_feed_forward"), 1.05)}  # of SDPA's time; 2 for the others
GROWTH_ENERGIES = ("log_sum_exp", "relu_feed_forward", "entmax")


def growth(energy: str, sizes: Sizes) -> list[Case]:
    return [Case("chunked", energy, slots, queries=sizes.queries) for slots in sizes.growth]


def _beta(energy: str) -> float:
    """1/√d; for a kernel of finite reach one at which about half of the slots are within it."""
    return 1 / 64 if energy == "epanechnikov" else 1 / 8


def _repeated(sizes: Sizes) -> Iterator[tuple[tuple[str, ...], Case]]:
    for slots, heads, extra in product(sizes.slots, sizes.heads, (0, 3)):
        yield (f"{slots:,}", str(heads), str(extra)), Case("chunked", "log_sum_exp", slots, heads, extra + 1, sizes.queries)


def _layers_match(labels: tuple[str, ...], ours: Case) -> Match:
    memory = Bar("≥ 10x less memory", "memory", 0.1)
    bars = (Bar("≥ 3x faster", "time", 1 / 3), memory) if ours.steps == 4 else (memory,)
    needs = 16 * ours.steps * ours.scores  # its scores and weights of every step, and their gradients, in float32
    return Match(labels, ours, replace(ours, engine="hopfield-layers"), bars, f"needs > {EDGE / 1e9:.0f} GB" if needs > EDGE else "")
