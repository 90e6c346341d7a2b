"""The crosstalk estimate: how many random patterns any factored energy should hold, by a mean-field argument.

A query ``x = a ξ₁ + y`` with y across ξ₁. One step lands on ``Σ p ξ``: its own pattern pulls with p₁, the N − 1 others pull back towards x by
``m x`` with ``m = Σ p_μ (x·ξ_μ)/‖x‖²`` (their self-coupling), and across x with a noise of length² ``Σ p_μ² (‖ξ_μ‖² − (x·ξ_μ)²/‖x‖²)``. How often
each overlap x·ξ occurs among N − 1 random patterns is known, so that weights, pull and noise are sums over groups of overlaps. The noise keeps its direction
from step to step, since it comes of the same patterns; steps repeat until a and ‖y‖ rest.

For polynomial energies on the hypercube this is the signal-to-noise argument of Hopfield (1982) and Krotov & Hopfield (2016, arXiv 1606.01164); for
exponential ones the random-energy argument of Lucibello & Mézard (2024, arXiv 2304.14964), with what no pattern of N reaches left out. A heuristic: overlaps
are taken as if the state did not know the other patterns, and what differs from one memory to the next is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ...descent import Descent
from ...energies import Cosine, Dot, Free, Hypercube, Quadratic, ReadEnergy, Sphere
from ..estimate import Estimate
from .bits import Rivals, turned, without_rivals, wrong_among_rivals
from .crosstalk import crosstalk_capacity
from .ensembles import Gaussian, Overlaps, Spherical
from .position import Position, started, success_rate
from .task import Reading, Task, asked

Pulls = tuple[float, float, float, float, Rivals | None]
STEPS, REST = 50, 1e-6
LARGEST = 690.0  # logarithm of the largest load that is looked at
SAMPLE, ASKING = 1024, 64  # patterns and queries drawn where no closed form is known
VALIDITY = "mean field: overlaps as if the state did not know the other patterns, none nearer than typical; asymptotic in d, best for loads far above 1"


def crosstalk(energy: ReadEnergy, dim: int, task: Task | None = None, *, descent: Descent | None = None) -> Estimate:
    """How many random patterns a memory is expected to hold: a mean-field estimate (see the module) for any energy made of factors.

    Args:
        energy: S, F, Q and C, β included.
        dim: width d of the patterns.
        task: binary, spherical or Gaussian patterns, their damage, and what counts as recalled; None: that of ``measure``.
        descent: as in ``measure``. It matters on the hypercube, where turning one spin at a time leaves out self-coupling.

    Returns:
        An ``Estimate`` of kind "heuristic": the largest load N, as a real number, at which queries are expected to succeed at the task's rate; inf above
        e⁶⁹⁰. Similarities that are no function of x·ξ, ‖x‖² and ‖ξ‖², and reads made of several patterns, are estimated by ``crosstalk_capacity``
        from random patterns drawn for it, for "argmax".

    Raises:
        ValueError, TypeError: something else than a ``ReadEnergy`` or a ``Task``, correlated or given patterns (measure those), a width below 2.
    """
    if not isinstance(energy, ReadEnergy):
        raise TypeError(f"The crosstalk estimate needs the factors of a ReadEnergy, got {type(energy).__name__}. measure(retrieve, dim) takes any function.")
    if not isinstance(dim, int) or dim < 2:
        raise ValueError(f"dim is the width of the patterns, an integer of at least 2, got {dim!r}.")
    if isinstance(energy.beta, Tensor) and energy.beta.numel() != 1:
        raise ValueError(f"The estimate is for one inverse temperature, got {tuple(energy.beta.shape)} of them. Take one: energy.at(float(beta[0])).")
    task = asked(energy, task)
    task.ensemble.overlaps(dim, 1.0)  # refuses ensembles without a closed form
    if not _in_closed_form(energy):
        return _from_a_sample(energy, dim, task)
    log_load = _first_crossing(partial(_recalled, energy, dim, task, Reading(energy, descent)))
    value = math.exp(log_load) if log_load < LARGEST else math.inf
    return Estimate(value, None, f"{task}; {VALIDITY}", "heuristic", task.success, "hopfield_amem.analysis.crosstalk", log_load)


def _in_closed_form(energy: ReadEnergy) -> bool:
    confined = isinstance(energy.confinement, (Quadratic, Free, Sphere, Hypercube))
    one = torch.ones(1, dtype=torch.float64)
    try:
        energy.similarity.invariant(one, one, one)
    except NotImplementedError:
        return False
    return confined and energy.similarity.inner and energy.scaling.patterns(energy.separation) == 1 and not energy.scaling.ordered


def _from_a_sample(energy: ReadEnergy, dim: int, task: Task) -> Estimate:
    generator = torch.Generator().manual_seed(0)
    own, others = task.ensemble.draw(1, ASKING + SAMPLE, dim, generator)[0].split([ASKING, SAMPLE])
    query = own if task.corruption is None else task.corruption(own, generator)
    load = crosstalk_capacity(energy, query, own, others, rate=task.required, largest=100 * SAMPLE)
    words = f"{task.ensemble}; more than half of the weight on the own pattern after one step, from a sample of {SAMPLE} others (crosstalk_capacity)"
    return Estimate(load, None, words, "heuristic", "argmax", "hopfield_amem.analysis.crosstalk_capacity")


def _first_crossing(recalled: Callable[[float], bool]) -> float:
    """The logarithm of the load up to which patterns are recalled; −inf where not even one is."""
    low, high = -math.inf, 0.0
    while recalled(high):
        if high >= LARGEST:
            return math.inf
        low, high = high, min(LARGEST, high + max(0.5, 0.1 * high))
    if low == -math.inf:
        return low
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if recalled(middle) else (low, middle)
    return low


def _recalled(energy: ReadEnergy, dim: int, task: Task, reading: Reading, log_load: float) -> bool:
    """Whether queries at this load succeed at the rate asked for."""
    own, across = started(energy, dim, task)
    position = Position(own, math.sqrt(across), 0.0)
    untouched = reading.by_spins and own == 1 and task.success in ("one pattern", "all patterns")  # whole: the first sweep turned no spin
    for _ in range(1 if untouched else getattr(reading.descent, "steps", STEPS)):
        moved = _step(energy, dim, task, reading.by_spins, log_load, position)
        change = abs(moved.own - position.own) + abs(moved.rest - position.rest)
        position = moved
        if not math.isfinite(change):
            return False
        if change <= REST * (abs(moved.own) + moved.rest):
            break
    return success_rate(task, dim, position, math.exp(log_load)) >= task.required


def _step(energy: ReadEnergy, dim: int, task: Task, by_spins: bool, log_load: float, here: Position) -> Position:
    """One step of the mean field; lengths are in units of ‖ξ‖. A spin that is turned alone sees the overlaps of the d − 1 others; the slope of F there stands
    for the difference of F with the spin up and down, to which it is proportional for squares and exponentials."""
    seen = dim - 1 if by_spins else dim
    own_square = task.ensemble.median_square(seen)
    state_square = torch.tensor(own_square * max(here.own * here.own + here.rest, 1e-300), dtype=torch.float64)
    overlaps, rivals = _overlaps(energy, seen, task, float(state_square)), None
    if by_spins and task.ensemble.signs:
        overlaps, rivals = without_rivals(overlaps, log_load)
    invariant, beta = energy.similarity.invariant, float(energy.beta)
    mine = torch.tensor([own_square], dtype=torch.float64)
    first = beta * invariant(here.own * mine, state_square, mine)
    score = beta * invariant(_answered(overlaps, state_square, here), state_square, overlaps.square)
    count = _counts(score, overlaps.log_probability, log_load, worst=task.success == "all patterns")
    weights = energy.scaling.weights(energy.separation, torch.cat([first, score])[None], torch.cat([torch.ones_like(mine), count])[None])[0]
    others = weights[1:]
    each = torch.where(count > 0, others / count.clamp_min(1e-300), 0.0)
    back = 0.0 if by_spins else float((others * overlaps.product).sum() / state_square)
    across = overlaps.square if by_spins else (overlaps.square - overlaps.product.square() / state_square).clamp_min(0)
    noise = float((others * each * across).sum() / own_square)
    if rivals is not None:
        its = energy.scaling.weights(energy.separation, torch.stack([first[0], score[rivals.index]])[None])[0]
        rivals = rivals._replace(weight=float(its[1] / its[0] * weights[0] if its[0] > 0 else its[1]))
    groups = {"weight": each, "product": overlaps.product, "square": overlaps.square, "count": count}
    return _landed(energy, task, dim, here, (float(weights[0]), back, math.sqrt(noise), float(weights.sum()), rivals), groups)


def _landed(energy: ReadEnergy, task: Task, dim: int, here: Position, pulls: Pulls, groups: dict[str, Tensor]) -> Position:
    """Where the pull (own, back towards x, noise, Σ p, rivals) takes a state under the energy's confinement."""
    own, back, noise, mass, rivals = pulls
    if isinstance(energy.confinement, Hypercube):
        wrong = wrong_among_rivals((own, back, noise), 0.5 * (1 - started(energy, dim, task)[0]), rivals)
        answer = turned(own + back, noise, rivals)
        return Position(1 - 2 * wrong, 0.0, math.sqrt(4 * wrong * (1 - wrong)), wrong, groups | {"weight": answer * groups["weight"]})
    if isinstance(energy.confinement, Free):
        if mass == 0:  # out of every slot's reach a state stays
            return here
        scale = 1 / mass
    else:
        scale = 1 / (1 + mass) if energy.similarity.massive else 1.0
    ahead, across, noisy = scale * (own + back * here.own), scale * back * here.across, scale * (back * here.noise + noise)
    if isinstance(energy.confinement, Sphere):
        length = math.sqrt(task.ensemble.median_square(dim)) * math.hypot(ahead, across, noisy)
        onto = energy.confinement.radius / max(length, 1e-300)
        ahead, across, noisy = onto * ahead, onto * across, onto * noisy
    return Position(ahead, across, noisy, None, groups | {"weight": scale * groups["weight"]})


def _answered(overlaps: Overlaps, state_square: Tensor, here: Position) -> Tensor:
    """x·ξ, with what each pattern put into the state in the step before."""
    if here.groups is None:
        return overlaps.product
    most = (state_square * overlaps.square).sqrt()
    return (overlaps.product + here.groups["weight"] * overlaps.square).clamp(-most, most)


def _overlaps(energy: ReadEnergy, dim: int, task: Task, square: float) -> Overlaps:
    """Groups of overlaps; a cosine sees only directions, and an inner product is blind to how lengths vary."""
    ensemble = task.ensemble
    if isinstance(ensemble, Gaussian) and isinstance(energy.similarity, Cosine):
        ensemble = Spherical(math.sqrt(ensemble.square(dim)))
    return ensemble.overlaps(dim, square, lengths=not isinstance(energy.similarity, Dot))


def _counts(score: Tensor, log_probability: Tensor, log_load: float, worst: bool) -> Tensor:
    """How many of the other patterns fall into each group. Beyond the score that the largest, or smallest, of so many typically has, there are none: those
    expected there stand at that score. For the ``worst`` of all patterns one stands at the score that the largest of all pairs has."""
    others = math.expm1(log_load)
    if others <= 0:
        return torch.zeros_like(score)
    order = score.argsort()
    expected = others * log_probability[order].exp()
    above = expected.flip(0).cumsum(0).flip(0)
    last = int((above >= math.log(2) * (math.exp(-log_load) if worst else 1)).sum()) - 1
    first = int((expected.cumsum(0) < math.log(2)).sum())
    if first > last:  # so few that one place must do
        first = last = int((expected.cumsum(0) < 0.5 * expected.sum()).sum())
    held = expected[first : last + 1].clone()
    held[0] += expected[:first].sum()
    held[-1] = max(float(above[last]), 1.0) if worst else above[last]
    return torch.zeros_like(score).scatter(0, order[first : last + 1], held)
