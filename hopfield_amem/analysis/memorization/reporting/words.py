"""The verdict in plain words: which bound binds at which scale, with the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ..laws import LITERATURE
from .bounds import short
from .rules import BINDINGS, Rules, suffices
from .sizes import DataSize, ModelSize, Study


def summary(study: Study) -> list[str]:
    """What the study found, in a few sentences."""
    return [*_switch(study), *_capacity(study), *_beside(study), *_onset(study), *_tally(study)]


def sentence(size: ModelSize, rules: Rules) -> str:
    """Which bound binds a model size from data size to data size, in one sentence."""
    stretches = [(binds, list(points)) for binds, points in groupby(size.points, key=lambda point: point.binds)]
    told = [_stretch(size, binds, points, rules) for binds, points in stretches]
    return f"{size.name}: {'; '.join(told)}."


def plateau(size: ModelSize) -> str:
    """Whether the plateau of a model size was seen."""
    if size.plateau > 1:
        return f"visible, at {size.plateau} data sizes" + (", of this training" if _unfinished([size]) else "")
    if any(point.binds != "data" for point in size.points):
        return "touched at one data size" if size.plateau else "not seen: undertrained or generalising beyond its data"
    return "not reached: all of the data was memorised"


def _switch(study: Study) -> Iterator[str]:
    """Up to which data per parameter the data bind, and from where on the capacity does."""
    loads = {binds: [point.data_bits / size.parameters for size in study.sizes for point in size.points if point.binds == binds] for binds in BINDINGS}
    told = [f"the data bind up to {max(loads['data']):.3g}"] if loads["data"] else []
    told += [f"the capacity binds from {min(loads['capacity']):.3g} to {max(loads['capacity']):.3g}"] if loads["capacity"] else []
    told += [f"models generalise instead from {min(loads['structure']):.3g} to {max(loads['structure']):.3g}"] if loads["structure"] else []
    told += [f"training was too short from {min(loads['training']):.3g} to {max(loads['training']):.3g}"] if loads["training"] else []
    yield f"In bits of data per parameter: {'; '.join(told)}."


def _capacity(study: Study) -> Iterator[str]:
    if study.capacity is None:
        yield f"No capacity was reached. {study.missing['capacity']}"
        return
    value, interval = study.capacity.value, study.capacity.interval
    per = [size.bits_per_parameter for size in study.sizes]
    within = f", {interval[0]:.2f} to {interval[1]:.2f} ({study.capacity.assumption})" if interval else ", from one size and one seed, which gives no interval"
    if not study.settled:
        yield f"No plateau is visible: {value:.2f} bits per parameter{within}, are the most that was memorised, and no more than a lower bound of the capacity."
        return
    yield f"Measured capacity: {value:.2f} bits per parameter{within}."
    if pairs := _unfinished(study.settled):
        filled = sum(size.plateau for size in study.settled)
        yield f"It is a capacity of this training, and a lower bound: at {pairs} of {filled} pairs on the plateau the loss was still falling."
    place = "within" if LITERATURE[0] <= value <= LITERATURE[1] else f"{value / LITERATURE[1]:.0%} of the upper end of"
    yield f"That is {place} the {LITERATURE[0]}–{LITERATURE[1]} bits per parameter of the literature (GPT-2 models trained for a million steps)."
    if min(per) > 0 and max(per) > 1.5 * min(per):
        yield f"Model sizes differ, from {min(per):.2f} to {max(per):.2f} bits per parameter: one number does not describe them all."


def _unfinished(sizes: Sequence[ModelSize]) -> int:
    """At how many of the data sizes that fill a model its training loss was still falling."""
    return sum(point.full and point.binds == "training" for size in sizes for point in size.points)


def _onset(study: Study) -> Iterator[str]:
    if study.onset is not None:
        low, high = study.onset.interval or (study.onset.value,) * 2
        yield f"Double descent: the loss on other data is highest at {study.onset.value:.2f} times the capacity, {low:.2f} to {high:.2f}, and falls beyond."
    else:
        yield f"No onset of double descent was located. {study.missing['onset']}"


def _tally(study: Study) -> Iterator[str]:
    points = [point for size in study.sizes for point in size.points]
    counts = {name: sum(point.binds == binds for point in points) for binds, name in BINDINGS.items()}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    yield f"Of {len(points)} pairs of model size and data size, {told}."
    if counts[BINDINGS["training"]] * 2 > len(points):
        yield "Most are undertrained, so that what is measured is a lower bound: train longer before calling it a capacity."


def _beside(study: Study) -> Iterator[str]:
    """The measured capacity beside what is known of the parts, at the largest model whose plateau is visible."""
    if study.settled and study.settled[-1].bounds:
        size = study.settled[-1]
        told = ", ".join(f"{ratio(size.capacity, bits)} the {short(bits)} bits of {name}" for name, bits in size.bounds.items())
        yield f"The largest model with a visible plateau, of {size.name}, holds {short(size.capacity)} bits: {told}."


def _stretch(size: ModelSize, binds: str, points: list[DataSize], rules: Rules) -> str:
    first, last = points[0], points[-1]
    where = f"from {short(first.data_bits)} to {short(last.data_bits)} bits of data" if len(points) > 1 else f"at {short(first.data_bits)} bits of data"
    if binds == "data":
        least = min(point.share for point in points)
        return f"data-limited {where}, holding {least:.0%}{' at least' if len(points) > 1 else ''} of what can be memorised of them"
    held = _span([point.memorised for point in points])
    if binds == "capacity":
        return f"capacity-limited {where}, holding {held} bits, {_span([point.memorised / size.parameters for point in points])} per parameter"
    if binds == "structure":
        return f"generalising {where}, holding {held} bits while it learns what is common"
    if all(point.falling is not None and point.falling > rules.falling for point in points):
        why = "its training loss was still falling" + (", so that this plateau is one of its training" if all(point.full for point in points) else "")
    elif all(point.chance for point in points):
        why = "members are told from others hardly better than by chance"
    elif not suffices(size.points, rules):
        why = "it memorised no amount of data whole, so that its training is not known to suffice"
    else:
        why = f"less than {rules.plateau:.0%} of what it held of other data, or its loss was still falling"
    return f"undertrained {where}, holding {held} bits of {short(size.capacity)} ({why})"


def ratio(found: float, bound: float) -> str:
    """``3.1×``, ``0.42×``."""
    return f"{found / bound:.3g}×"


def _span(numbers: list[float]) -> str:
    low, high = short(min(numbers)), short(max(numbers))
    return low if low == high else f"{low} to {high}"
