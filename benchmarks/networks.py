"""Networks of energies against gradients written by hand: what a slope costs, and what a step costs that also sees to it that the energy does not rise.

    python benchmarks/networks.py               CPU, float32
    python benchmarks/networks.py --quick       small sizes, to see that it runs

Both sides are checked to agree before they are timed, in alternation. Results go to benchmarks/results/networks.json and .md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from command import asked
from measure import Effort, ratio, timed
from networks_report import page
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from hopfield_amem import presets
from hopfield_amem.descent import NetworkDescent
from hopfield_amem.energies import Attention, Bias, Convolution, Dense, Linear, Network, Neurons
from hopfield_amem.energies.neurons import lagrangians

SLOWEST = 1.3  # times the gradient by hand
TOLERANCE = 1e-4
STEPS, SIZE = 50, 0.02

States = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A network, states, and its ``∂E/∂g`` as one would write it for this network alone."""

    title: str
    network: Network
    states: States
    by_hand: Callable[[States], States]


def random(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape)


def modern(samples: int, size: int, slots: int) -> Case:
    """Linear image neurons, softmax hidden ones (Krotov & Hopfield 2021)."""
    weight, bias = random(size, slots, scale=size**-0.5), random(size)
    neurons = {"image": Neurons(lagrangians.identity(), size), "hidden": Neurons(lagrangians.softmax(2.0), slots)}
    network = Network(neurons, {("image", "hidden"): Linear(weight), "image": Bias(bias)})

    def by_hand(x: States) -> States:
        hidden = (2.0 * x["hidden"]).softmax(-1)
        return {"image": x["image"] - hidden @ weight.T - bias, "hidden": x["hidden"] - x["image"] @ weight}

    return Case(f"image {size} – softmax {slots}", network, {"image": random(samples, size), "hidden": random(samples, slots)}, by_hand)


def deep(samples: int, sizes: tuple[int, int, int]) -> Case:
    """Three layers: sigmoid, ReLU, softmax."""
    first, second = (random(a, b, scale=0.3 / (a**0.5 + b**0.5)) for a, b in pairwise(sizes))
    kinds = {"image": lagrangians.sigmoid(), "parts": lagrangians.relu(), "label": lagrangians.softmax()}
    neurons = {name: Neurons(kind, size) for (name, kind), size in zip(kinds.items(), sizes, strict=True)}
    network = Network(neurons, {("image", "parts"): Linear(first), ("parts", "label"): Linear(second)})

    def by_hand(x: States) -> States:
        image, parts, label = x["image"].sigmoid(), x["parts"].relu(), x["label"].softmax(-1)
        return {"image": x["image"] - parts @ first.T, "parts": x["parts"] - image @ first - label @ second.T, "label": x["label"] - parts @ second}

    title = " – ".join(f"{name} {size}" for name, size in zip(("sigmoid", "ReLU", "softmax"), sizes, strict=True))
    return Case(title, network, {name: random(samples, size) for name, size in zip(kinds, sizes, strict=True)}, by_hand)


def convolved(samples: int, side: int, features: int) -> Case:
    """An image and its feature maps."""
    weight, small = random(features, 1, 5, 5, scale=0.2), side - 4
    neurons = {"image": Neurons(lagrangians.sigmoid(), (1, side, side)), "maps": Neurons(lagrangians.relu(), (features, small, small))}
    network = Network(neurons, {("image", "maps"): Convolution(weight)})

    def by_hand(x: States) -> States:
        image, maps = x["image"].sigmoid(), x["maps"].relu()
        return {"image": x["image"] - conv_transpose2d(maps, weight), "maps": x["maps"] - conv2d(image, weight)}

    return Case(f"sigmoid {side} × {side} – {features} ReLU maps", network, {name: random(samples, *group.shape) for name, group in neurons.items()}, by_hand)


def dense(samples: int, size: int, slots: int) -> Case:
    """A dense memory whose hidden neurons are left out."""
    keys = random(slots, size, scale=size**-0.5)
    network = Network({"x": Neurons(lagrangians.identity(), size)}, {"x": Dense(keys, presets.log_sum_exp(2.0))})
    by_hand = lambda x: {"x": x["x"] - (2.0 * x["x"] @ keys.T).softmax(-1) @ keys}
    return Case(f"dense memory {slots} × {size}", network, {"x": random(samples, size)}, by_hand)


def transformer(samples: int, tokens: int, width: int) -> Case:
    """The energy transformer: layer norm, attention to the other tokens, ½ Σ relu² in a memory."""
    heads, beta, apart = 4, (width // 4) ** -0.5, ~torch.eye(tokens, dtype=torch.bool)
    query, keys = (random(heads, width // heads, width, scale=width**-0.5) for _ in range(2))
    memory = random(4 * width, width, scale=width**-0.5)
    synapses = {("x", "x"): Attention(query, keys, presets.log_sum_exp(beta), apart), "x": Dense(memory, presets.relu_feed_forward())}
    network = Network({"x": Neurons(lagrangians.layer_norm(), (tokens, width))}, synapses)

    def by_hand(states: States) -> States:
        x = states["x"]
        g = torch.nn.functional.layer_norm(x, (width,))
        q, k = ((g @ w.flatten(0, 1).T).unflatten(-1, (heads, -1)).transpose(1, 2) for w in (query, keys))
        p = (beta * q @ k.mT).masked_fill(~apart, -torch.inf).softmax(-1)
        pulls = [(pull.transpose(1, 2).flatten(2) @ w.flatten(0, 1)) for pull, w in ((p @ k, query), (p.mT @ q, keys))]
        return {"x": x - pulls[0] - pulls[1] - (g @ memory.T).relu() @ memory}

    return Case(f"energy transformer, {tokens} tokens × {width}", network, {"x": random(samples, tokens, width)}, by_hand)


def cases(quick: bool) -> list[Case]:
    torch.manual_seed(0)
    if quick:
        return [modern(4, 64, 32), deep(4, (64, 32, 10)), convolved(2, 12, 4), dense(4, 64, 32), transformer(2, 8, 32)]
    return [modern(128, 784, 1024), deep(128, (784, 512, 256)), convolved(32, 28, 16), dense(256, 512, 1024), transformer(16, 64, 128)]


def runs(case: Case) -> dict[str, Callable[[], States]]:
    """A slope and fifty steps, of the network and by hand; and the slope by autograd of the energy, as one gets it without closed forms."""
    descent = NetworkDescent(SIZE, steps=STEPS, tolerance=0.0)

    def walked() -> States:
        x = case.states
        for _ in range(STEPS):
            slope = case.by_hand(x)
            x = {name: state - SIZE * slope[name] for name, state in x.items()}
        return case.network.activations(x)

    def derived() -> States:
        says = case.network.activations(case.states)
        energy = lambda g: sum(synapse(*(g[name] for name in connected)).sum() for connected, synapse in case.network.synapses.items())
        slope = torch.func.grad(energy)(says)
        return {name: state + slope[name] for name, state in case.states.items()}

    return {
        "slope": lambda: case.network.slope(case.states),
        "slope, by hand": lambda: case.by_hand(case.states),
        "slope, autograd": derived,
        "steps": lambda: descent.activations(case.network, case.states),
        "steps, by hand": walked,
    }


@torch.no_grad()
def compared(case: Case, effort: Effort) -> dict:
    """One row: the network's times over those by hand."""
    all_runs = runs(case)
    found = {name: run() for name, run in all_runs.items()}
    gaps = {}
    for kind in ("slope", "steps"):
        mine, truth = found[kind], found[f"{kind}, by hand"]
        gaps[kind] = max(float((mine[n] - truth[n]).abs().amax() / truth[n].abs().amax().clamp_min(1.0)) for n in truth)
    time = timed(all_runs, effort)
    ratios = {
        "slope": ratio(time["slope"], time["slope, by hand"]),
        "autograd": ratio(time["slope, autograd"], time["slope, by hand"]),
        "steps": ratio(time["steps"], time["steps, by hand"]),
    }
    samples = len(next(iter(case.states.values())))
    return {"title": case.title, "samples": samples, "agreement": gaps, "agrees": max(gaps.values()) <= TOLERANCE, "time": time, "ratios": ratios}


def main() -> None:
    run = asked(__file__, __doc__)
    effort = Effort(rounds=3, retries=2, shortest=0.05) if run.quick else Effort()
    for row in run.rows(run.result(bar=SLOWEST, steps=STEPS), (compared(case, effort) for case in cases(run.quick)), page):
        medians = {name: round(found["median"], 2) for name, found in row["ratios"].items()}
        print(row["title"], medians, "agrees" if row["agrees"] else row["agreement"], flush=True)


if __name__ == "__main__":
    main()
