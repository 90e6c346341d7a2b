"""Semantically correlated memories: patterns linked by a graph, four modes of recall, and what correlation does to capacity.

Burns 2024 (arXiv 2404.07123), Correlated Dense Associative Memory (CDAM): attention whose values mix every pattern with its neighbours on a graph,
x ← x + η(Σ_μ p_μ (a ξ_μ + h Σ_ν M_μν ξ_ν) − x), p = softmax(β x·ξ). Beside it what the word meant before: patterns that overlap, and the memories that bear it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from reproduction import Claim, Paper, Reproduction, Scale, Seeds, captioned, judged, reproduce
from torch import Tensor

from hopfield_amem import presets, retrieve
from hopfield_amem.analysis import take
from hopfield_amem.analysis.capacity import Binary, Correlated, Flips, Search, Task, each_memory, measure, metastable_census
from hopfield_amem.analysis.plots.base import COLOURS, MARKERS
from hopfield_amem.descent import SpinDescent
from hopfield_amem.energies import learning

PAPER = Paper("Semantically-correlated memories in a dense associative model", "2404.07123", "1 minute on 1 core")
NEURONS, PATTERNS, CLIQUE = 400, 30, 6  # n, p, and how many patterns form a community
STEPS, RATE, SHARP = 300, 0.1, 60.0  # of the dynamics, η, and β n
MODES = {  # (a, h): auto- and hetero-association
    "auto-association": (1.0, 0.0), "narrow hetero-association": (1.0, 0.5), "wide hetero-association": (-0.3, 1.0), "neutral quiescence": (0.0, 0.0),
}  # fmt: skip
TRADED = (1.0, 0.75, 0.5, 0.25, 0.0, -0.1, -0.2, -0.3, -0.4, -0.5)  # a at h = 1, anti-Hebbian below 0
SPINS, CORRELATIONS = 32, (0.0, 0.1, 0.2, 0.3, 0.5)
BETAS = tuple(2.0 ** (k / 2) for k in range(-2, 17))


class Recalled(NamedTuple):
    """Where the dynamics end: how much of every pattern is in the state (p,), and its length compared with a pattern's."""

    parts: Tensor
    length: float


def ring() -> Tensor:
    """Every pattern linked to two others. (p, p), symmetric"""
    return torch.eye(PATTERNS).roll(1, 0) + torch.eye(PATTERNS).roll(-1, 0)


def communities() -> Tensor:
    """A ring of cliques, one link between neighbouring ones. (p, p), symmetric"""
    links = torch.block_diag(*[torch.ones(CLIQUE, CLIQUE) - torch.eye(CLIQUE)] * (PATTERNS // CLIQUE))
    for last in range(CLIQUE - 1, PATTERNS, CLIQUE):
        links[last, (last + 1) % PATTERNS] = links[(last + 1) % PATTERNS, last] = 1
    return links


def hops(links: Tensor) -> Tensor:
    """Distance on the graph from the first pattern. (p,)"""
    reached, distance = torch.zeros(PATTERNS), torch.full((PATTERNS,), -1.0)
    reached[0] = 1
    for step in range(PATTERNS):
        distance[(reached > 0) & (distance < 0)] = step
        reached = reached + links @ reached
    return distance


def recalled(links: Tensor, strengths: tuple[float, float], seed: int) -> Recalled:
    """CDAM from the first pattern as trigger: one ``retrieve`` a step, its values the patterns mixed by the graph (M: rows of the links, normalised)."""
    auto, hetero = strengths
    patterns = Binary().draw(1, PATTERNS, NEURONS, torch.Generator().manual_seed(seed))[0]
    values = auto * patterns + hetero * (links / links.sum(-1, keepdim=True)) @ patterns
    energy, state = presets.log_sum_exp(SHARP / NEURONS), patterns[:1].clone()
    for _ in range(STEPS):
        state = state + RATE * (retrieve(energy, state, patterns, values) - patterns.mean(0) / NEURONS - state)
    parts = torch.linalg.lstsq(patterns.T, state.T).solution.squeeze(-1)
    return Recalled(parts, float(state.norm() / NEURONS**0.5))


def spread(config: dict[str, Any]) -> dict[str, Any]:
    """One end of the dynamics: parts by distance on the graph, how far they reach in the mean, and the share of them in the trigger's community."""
    links = {"ring": ring, "communities": communities}[config["graph"]]()
    found, distance = recalled(links, (config["auto"], config["hetero"]), config["seed"]), hops(links)
    positive = found.parts.clamp_min(0)
    total = float(positive.sum()) + 1e-12
    by_distance = [float(found.parts[distance == step].sum()) for step in range(8)]
    return {"length": found.length, "parts": by_distance, "reach": float((positive * distance).sum()) / total, "home": float(positive[:CLIQUE].sum()) / total}


def pseudo_inverse(query: Tensor, patterns: Tensor) -> Tensor:
    """The couplings that project onto the patterns, descended spin by spin. (q, d), (n, d) -> (q, d)"""
    return SpinDescent()(learning.pseudo_inverse(patterns), query).state


def held(config: dict[str, Any]) -> dict[str, Any]:
    """The measured capacity of a memory for patterns of one correlation: a tenth of the spins flipped, recalled whole by half of the queries."""
    task = Task(Correlated(config["correlation"]), Flips(0.1), "one pattern")
    found = measure(MEMORIES[config["memory"]], SPINS, task, search=Search(precision=0.25, queries=2**11, largest=config["largest"]))
    return {"capacity": found.estimate.value, "interval": list(found.estimate.interval or ())}


MEMORIES = {
    "squares (Hebb)": presets.hopfield(), "pseudo-inverse": each_memory(pseudo_inverse), "cubes": presets.dense(3), "fifth powers": presets.dense(5),
}  # fmt: skip


def classes(correlation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Unit patterns around the centres of their classes, overlaps of ``correlation`` within a class. -> (p, d), centres (p, d)"""
    draw = torch.Generator().manual_seed(seed)
    centre = torch.nn.functional.normalize(torch.randn(PATTERNS // CLIQUE, 64, generator=draw), dim=-1).repeat_interleave(CLIQUE, 0)
    own = torch.nn.functional.normalize(torch.randn(PATTERNS, 64, generator=draw), dim=-1)
    patterns = torch.nn.functional.normalize(correlation**0.5 * centre + (1 - correlation) ** 0.5 * own, dim=-1)
    return patterns, patterns.unflatten(0, (-1, CLIQUE)).mean(1).repeat_interleave(CLIQUE, 0)


def merged(correlation: float, seeds: int) -> list[dict[str, float]]:
    """What descents that start at the patterns rest on, for every β: how many patterns are mixed, and how near the centre of the own class is."""
    found = []
    for beta in BETAS:
        censuses = [(metastable_census(presets.log_sum_exp(beta), classes(correlation, seed)[0]), classes(correlation, seed)[1]) for seed in range(seeds)]
        sizes = torch.cat([census.sizes for census, _ in censuses]).float()
        away = torch.cat([(census.states - centre).norm(dim=-1) / centre.norm(dim=-1) for census, centre in censuses])
        found.append({"beta": beta, "mixed": float(sizes.median()), "centroid": float((away < 0.1).float().mean()), "own": float((sizes == 1).float().mean())})
    return found


def work(scale: Scale) -> Reproduction:
    seeds, correlations = scale.pick(1, 5), scale.pick((0.0, 0.3), CORRELATIONS)
    memories, traded = scale.pick(("pseudo-inverse",), tuple(MEMORIES)), scale.pick((1.0, 0.0, -0.5), TRADED)
    strengths = {
        **{name: ("ring", *pair) for name, pair in MODES.items()},
        **{(graph, a): (graph, a, 1.0) for graph in ("ring", "communities") for a in traded},
    }
    asked = {key: [{"graph": graph, "auto": a, "hetero": h, "seed": seed} for seed in range(seeds)] for key, (graph, a, h) in strengths.items()}
    ends = {key: take(spread, configs, folder=scale.runs, title=None) for key, configs in asked.items()}
    loads = [{"memory": memory, "correlation": correlation, "largest": scale.pick(40, 4000)} for memory in memories for correlation in correlations]
    records = take(held, loads, folder=scale.runs)
    capacity = {memory: records[len(correlations) * k : len(correlations) * (k + 1)] for k, memory in enumerate(memories)}
    rests = {correlation: merged(correlation, seeds) for correlation in (0.0, 0.5, 0.8)}
    numbers = {"ends": [{"of": key, "found": found} for key, found in ends.items()], "capacity": capacity, "rests": rests}
    return Reproduction(tuple(claims(ends, traded, capacity, rests)), drawn(ends, traded, capacity, rests), numbers)


def claims(ends, traded, capacity, rests):
    """What the paper says beside what is found, and what correlation does to energies."""
    auto, narrow, wide = (Seeds.of(ends[name], "reach") for name in tuple(MODES)[:3])
    quiet = Seeds.of(ends["neutral quiescence"], "length")
    ours = f"mean distance from the trigger {auto}, {narrow}, {wide}; length of the quiescent state {quiet}"
    apart = auto.high < 0.1 < narrow.low and narrow.high < wide.low and quiet.high < 0.05
    yield Claim("four modes: auto-, narrow and wide hetero-association, quiescence", "four modes", ours, judged(False, apart))  # (a, h) are ours
    lines = [Seeds.of(ends["ring", a], "reach") for a in traded]
    rising = all(early.mean < late.mean for early, late in pairwise(lines))
    ours = f"from {lines[0]} at a = {traded[0]:g} to {lines[-1]} at a = {traded[-1]:g}"
    verdict = judged(rising and lines[-1].low > lines[0].high, lines[-1].mean > lines[0].mean)
    yield Claim("anti-Hebbian auto-association (a < 0) widens the range (h = 1, ring)", "controls the range", ours, verdict)
    middle, last = (Seeds.of(ends["communities", a], "home") for a in (0.0, traded[-1]))
    ours = f"in the trigger's clique {middle} at a = 0, {last} at a = {traded[-1]:g}"
    yield Claim(
        "communities are recalled, and coarser as a falls", "several scales", ours, judged(middle.low > 0.8 and last.high < middle.low, middle.low > 0.8)
    )
    for memory, found in capacity.items():
        first, late = found[0]["capacity"], found[-1]["capacity"]
        bears = memory == "pseudo-inverse"
        ours = f"{first:.3g} → {late:.3g} at correlation {found[-1]['correlation']:g}"
        verdict = judged(late > 0.7 * first if bears else late < 0.5 * first, not bears and late < 0.9 * first)
        yield Claim(f"capacity of {memory}, {SPINS} spins", f"classical: {'bears' if bears else 'falls with'} correlation", ours, verdict, own=True)
    window = [row["beta"] for row in rests[0.8] if row["centroid"] > 0.9]
    none = [row["beta"] for row in rests[0.0] if row["centroid"] > 0.1]
    ours = f"β = {min(window, default=0):.1f} to {max(window, default=0):.1f} at an overlap of 0.8; without classes at {len(none)} values of β"
    what = "metastable states: in a window of β log-sum-exp rests at the centres of classes"
    yield Claim(what, "Ramsauer et al. 2020: means of similar patterns", ours, judged(bool(window) and not none, bool(window)), own=True)


def drawn(ends, traded, capacity, rests) -> Figure:
    """Modes by distance, range by a, capacity by correlation, rest states by β."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    modes, ranges, loads, states = figure.subplots(2, 2).flatten()
    for k, name in enumerate(MODES):
        parts = [sum(run["parts"][step] for run in ends[name]) / len(ends[name]) for step in range(8)]
        modes.plot(range(8), parts, color=COLOURS[k], marker=MARKERS[k], label=f"{name} {MODES[name]}")
    curves = (("ring", "reach", "ring: distance"), ("communities", "reach", "communities: distance"), ("communities", "home", "communities: share in own"))
    for k, (graph, what, label) in enumerate(curves):
        found = [Seeds.of(ends[graph, a], what) for a in traded]
        ranges.plot(traded, [one.mean for one in found], color=COLOURS[k], marker=MARKERS[k], label=label)
        ranges.fill_between(traded, [one.low for one in found], [one.high for one in found], color=COLOURS[k], alpha=0.2)
    for k, (memory, found) in enumerate(capacity.items()):
        loads.semilogy([run["correlation"] for run in found], [run["capacity"] for run in found], color=COLOURS[k], marker=MARKERS[k], label=memory)
    for k, (correlation, rows) in enumerate(rests.items()):
        label = f"overlap {correlation:g} within classes"
        states.semilogx([row["beta"] for row in rows], [row["mixed"] for row in rows], color=COLOURS[k], marker=MARKERS[k], label=label)
    states.axhline(CLIQUE, color="grey", linestyle=":", label="a class")
    ranges.invert_xaxis()
    captioned(
        (modes, "CDAM on a ring, (a, h)", "distance from the trigger", "parts of the patterns there, added up"),
        (ranges, "CDAM, h = 1", "a", "mean distance, or share"),
        (loads, f"capacity, {SPINS} spins, a tenth flipped", "correlation of the patterns", "patterns recalled"),
        (states, "log-sum-exp, descents from the patterns", "β", "patterns mixed at rest (median)"),
    )
    return figure


if __name__ == "__main__":
    reproduce(__file__, PAPER, work)
