"""What a sweep says as numbers: capacity in bits per parameter, how recall falls beyond it, and how data balance models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..estimate import Estimate
from ..power_laws import PowerLaw, power_law

RESAMPLES = 2000
FULL = 1.5  # bits of data per bit memorised from which on a plateau can be seen
CHANCE = 0.6  # AUROC of telling members below which single rows are hardly known

Records = Sequence[Mapping[str, Any]]


def capacity_from_sweep(bits_by_size: Mapping[float, Sequence[float]], *, confidence: float = 0.95, reference: str = "") -> Estimate:
    """Bits per parameter: the slope ``Σ N C / Σ N²`` of capacities C over sizes N, through the origin; interval by bootstrap over sizes and their seeds.

    Sizes are drawn with replacement, and for each its seeds: the interval is of another choice of sizes, too, as long as theirs are like these. One size
    from one seed has no interval.

    Args:
        bits_by_size: parameters N -> capacity in bits of every seed, which is the most memorised over data sizes (Morris et al. 2025, arXiv 2505.24832).
        confidence: of the interval, in (0, 1).
        reference: the command that measured it.

    Raises:
        ValueError: no size, a size without a seed, numbers that are not positive.
    """
    sizes = np.array(list(bits_by_size), dtype=float)
    seeds = [np.asarray(list(found), dtype=float) for found in bits_by_size.values()]
    if not len(sizes) or not all(len(found) and (found > 0).all() for found in seeds) or not (sizes > 0).all():
        raise ValueError("A capacity needs positive numbers of parameters, and for each the bits memorised from one seed at least.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies in (0, 1), got {confidence!r}.")
    value = float(_slope(sizes, np.array([found.mean() for found in seeds])))
    low, high = np.percentile(_resampled(sizes, seeds), [50 * (1 - confidence), 50 * (1 + confidence)]).tolist()
    each = [found.mean() / size for size, found in zip(sizes, seeds, strict=True)]
    counts = sorted({len(found) for found in seeds})
    if len(sizes) == 1 and counts == [1]:
        return Estimate(value, None, "one size, one seed", "measured", "argmax", reference)
    told = f"{' or '.join(map(str, counts))} seed{'s' * (counts != [1])} each, {confidence:.0%} over sizes and seeds"
    assumption = f"{len(sizes)} size{'s' * (len(sizes) > 1)} of {min(each):.3g} to {max(each):.3g} bits per parameter, {told}"
    return Estimate(value, (min(low, value), max(high, value)), assumption, "measured", "argmax", reference)


def _slope(sizes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    return (sizes * bits).sum(-1) / (sizes**2).sum(-1)


def _resampled(sizes: np.ndarray, seeds: list[np.ndarray]) -> np.ndarray:
    """Slopes of sizes drawn with replacement, each with seeds drawn with replacement. (RESAMPLES,)"""
    generator, count = np.random.default_rng(0), len(sizes)
    means = np.stack([generator.choice(found, (RESAMPLES, count, len(found))).mean(-1) for found in seeds])
    drawn = generator.integers(count, size=(RESAMPLES, count))
    return _slope(sizes[drawn], means[drawn, np.arange(RESAMPLES)[:, None], np.arange(count)])


def plateaus(records: Records) -> dict[float, list[float]]:
    """Most bits memorised over data sizes, for every seed, by parameters.

    Left out are seeds of a size that were never given 1.5 times the bits they memorised, and those whose most is no memory of single rows (``by_chance``).
    """
    runs: dict[tuple[float, Any], list[Mapping[str, Any]]] = {}
    for record in records:
        runs.setdefault((record["parameters"], record["seed"]), []).append(record)
    found: dict[float, list[float]] = {}
    for (size, _), group in sorted(runs.items(), key=lambda item: (item[0][0], str(item[0][1]))):
        best = max(group, key=lambda record: record["memorised bits"])
        if max(record["data bits"] for record in group) >= FULL * best["memorised bits"] and not by_chance(best):
            found.setdefault(size, []).append(best["memorised bits"])
    return found


def by_chance(record: Mapping[str, Any]) -> bool:
    """Whether memorised bits count chance: a reference model stands for the law, and members are told by AUROC below 0.6.

    The maximum of ``unintended_memorization`` counts rows that are better than the reference and none that is worse; two models of one text, neither of which
    knows single rows, differ by chance and by how much they were trained.
    """
    referred = record.get("reference model", record.get("data") in ("text", "glosses"))
    return bool(referred) and (record.get("membership") or {}).get("AUROC", 1.0) < CHANCE


def recall_law(records: Records, measure: str = "share") -> PowerLaw:
    """How recall falls beyond capacity: ``measure = factor · (data bits/capacity)^exponent``, of the runs with more data than 1.5 times their capacity.

    Args:
        records: runs of a sweep.
        measure: "share" of the data bits that is memorised (a flat plateau has exponent −1), "exact", "argmax" or "extracted".

    Raises:
        ValueError: a measure that there is not, fewer than three data sizes beyond capacity at which anything is recalled.
    """
    if measure not in ("share", "exact", "argmax", "extracted"):
        raise ValueError(f"Recall is measured as 'share', 'exact', 'argmax' or 'extracted', got {measure!r}.")
    capacity = {size: float(np.mean(bits)) for size, bits in plateaus(records).items()}
    value: Callable[[Mapping], float] = lambda r: r["memorised bits"] / r["data bits"] if measure == "share" else r[measure]
    beyond = [r for r in records if r["parameters"] in capacity and r["data bits"] > FULL * capacity[r["parameters"]] and value(r) > 0]
    loads = [r["data bits"] / capacity[r["parameters"]] for r in beyond]
    if len(set(loads)) < 3:
        raise ValueError(f"A law of recall needs three data sizes beyond capacity where something is recalled, got {len(set(loads))}.")
    return power_law(loads, [value(r) for r in beyond])


def best_data(records: Records, threshold: float) -> dict[float, float]:
    """D* of every size, in tokens: the least data size at which ``(training loss − least validation loss)² < σ²`` (Niu et al. 2024, arXiv 2405.08707, §6.3).

    The training loss is the final one of all rows, where the paper averages over batches before the least validation loss; sizes without D* are left out.
    """
    best = {}
    for size in sorted({r["parameters"] for r in records}):
        gaps: dict[float, list[float]] = {}
        for r in records:
            if r["parameters"] == size:
                least = min([r["validation loss"], *(point[2] for point in r["curve"])])
                gaps.setdefault(r["examples"] * r["length"], []).append((r["training loss"] - least) ** 2)
        enough = [tokens for tokens, found in sorted(gaps.items()) if np.mean(found) < threshold]
        if enough:
            best[size] = float(enough[0])
    return best


def curve_of(records: Records, size: float, measure: str) -> list[tuple[float, list[float]]]:
    """A measure of one model size against bits of data, all seeds, by examples: runs of one number of examples share the mean of their bits."""
    groups: dict[int, list[Mapping]] = {}
    for record in records:
        if record["parameters"] == size:
            groups.setdefault(record["examples"], []).append(record)
    return [(float(np.mean([r["data bits"] for r in group])), [float(r[measure]) for r in group]) for _, group in sorted(groups.items())]
