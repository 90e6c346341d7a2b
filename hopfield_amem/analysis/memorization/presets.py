"""Studies of three sizes: about a minute and eight minutes on two cores; by estimate half an hour of one GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..runs import Record, shard, take
from .corpus import Corpus
from .models import language_model
from .result import Memorization
from .sweeps import asked
from .synthetic import UniformTokens, ZipfFacts
from .text import Text
from .training import Training


@dataclass(frozen=True)
class Part:
    """One sweep of a study.

    Attributes:
        data: ``(examples, seed) -> Corpus``.
        sizes: of ``language_model``.
        examples: rows to train on.
        seeds: how many.
        training: what every run takes.
    """

    data: Callable[[int, int], Corpus]
    sizes: tuple[dict[str, Any], ...]
    examples: tuple[int, ...]
    seeds: int
    training: Training


@dataclass(frozen=True)
class Preset:
    """Sweeps that belong together, and what they take."""

    parts: tuple[Part, ...]
    takes: str


def widths(*numbers: int, **others: Any) -> tuple[dict[str, Any], ...]:
    """Models of several widths."""
    return tuple({"width": width} | others for width in numbers)


SHORT, LONG = Training(steps=600, batch=64, rate=0.02), Training(steps=2500, batch=64, rate=0.03)
RANDOM = UniformTokens(32, 16)
KINDS = ({"memory": "entmax"}, {"memory": "delta"}, {"memory": "deltaformer"}, {"feed_forward": "softmax"})

PRESETS: dict[str, Preset] = {
    "tiny": Preset((Part(RANDOM, widths(8, 12, 16), (12, 24, 48, 96, 192), 1, SHORT),), "about a minute on 2 cores"),
    "default": Preset(
        (
            Part(RANDOM, widths(8, 12, 16, 24), (12, 24, 48, 96, 192, 384, 768), 2, LONG),
            Part(RANDOM, tuple({"width": 12} | kind for kind in KINDS), (48, 96, 384), 1, LONG),
            Part(ZipfFacts(2048, 32, 8, 1.0), widths(12), (64, 256, 1024, 4096), 1, replace(LONG, steps=1200)),
            Part(Text(None, 32), widths(12), (24, 96, 384, 1536), 1, replace(LONG, steps=1200)),
        ),
        "eight minutes on 2 cores",
    ),
    "large": Preset(  # 2·10¹⁶ operations: the data of arXiv 2505.24832
        (Part(UniformTokens(2048, 64), widths(16, 32, 64, 128), (128, 256, 512, 1024, 2048, 4096, 8192), 2, Training(10000, 256, 0.005)),),
        "estimated: at most half an hour of one H200",
    ),
}
"""Studies by name. Their models and data are those of ``sweep``: another grid is one call."""


def study(preset: str, *, folder: str | os.PathLike[str] | None = None, executor: Any = None, seed: int = 0, part: str = "1/1") -> Memorization:
    """Run a study, or what is missing of it.

    Args:
        preset: "tiny", "default" or "large".
        folder: where its records are kept.
        executor: who trains its stacks, as for ``sweep``.
        seed: the first of its seeds.
        part: "i/n", i = 1, …, n: only every n-th of its runs from the i-th on, for arrays of jobs that share a folder. The whole study afterwards finds them.

    Raises:
        ValueError: a preset that there is not, no such part, a part without any run.
        RuntimeError, OSError: as for ``sweep``.
    """
    if preset not in PRESETS:
        raise ValueError(f"Expected one of {', '.join(map(repr, PRESETS))}, got {preset!r}.")
    sweeps = [
        asked(language_model, swept.data, swept.sizes, swept.examples, seeds=range(seed, seed + swept.seeds), training=swept.training)
        for swept in PRESETS[preset].parts
    ]
    runs = [(work, config) for work, configs in sweeps for config in configs]
    mine = shard(runs, part)
    if not mine:
        raise ValueError(f"The part {part} has no run: the study {preset} has {len(runs)} of them.")
    records: list[Record] = []
    failures = []
    for swept, _ in sweeps:
        configs = [config for work, config in mine if work is swept]
        try:
            records += take(swept, configs, folder=folder, executor=executor, title="memorization")
        except RuntimeError as error:  # the other sweeps are done all the same
            failures.append(str(error))
    if failures:
        raise RuntimeError("\n".join(failures))
    return Memorization(tuple(records), f"hopfield-amem memorize --preset {preset}")
