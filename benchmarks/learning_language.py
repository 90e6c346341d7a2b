"""The language model of examples/language_model.py, with more mixers and more seeds."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import memory
import torch
from results import MEBIBYTE
from studies import Job, slug
from torch import Tensor, nn

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.energies import Euclidean, Log

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import language_model
from language_model import BETA, attention


def biweight(score: Tensor) -> Tensor:
    """``max(1 + s, 0)²``, whose slope, the weight of a slot, is Epanechnikov's kernel; the slope of Epanechnikov's own energy is flat."""
    return torch.relu(1 + score) ** 2


def _tempered(steps: int, learned: bool) -> nn.Module:
    layer = attention(presets.log_sum_exp(BETA), steps)
    layer.log_beta.requires_grad_(learned)
    return layer


MIXERS = language_model.MIXERS | {"biweight": lambda: attention(ReadEnergy(Euclidean(), biweight, Log(), beta=BETA**2 / 2))}
ITERATED = {f"{steps} steps, {beta} β": partial(_tempered, steps, learned) for steps in (1, 2, 3, 5) for beta, learned in (("learned", True), ("fixed", False))}


@dataclass(frozen=True)
class Text:
    """One mixer in the model, from one seed, for so many batches."""

    mixer: str
    seed: int = 0
    batches: int = 200


def train(run: Text) -> dict:
    """What the example's loop finds, with the growth of peak memory in a process that has loaded everything it needs (Linux; elsewhere None)."""
    mixers, found = MIXERS | ITERATED, []
    language_model.train(run.mixer, 1, mixers=mixers)
    work = lambda: found.append(language_model.train(run.mixer, run.batches, run.seed, mixers))
    peak = memory.growth(work) / MEBIBYTE if sys.platform == "linux" else work()
    return found[0] | {"peak": peak}


def job(run: Text) -> Job:
    """The run as one of a study, with the text it is given."""
    text = {name: language_model.windows(held_out) for name, held_out in (("training", False), ("held out", True))}
    given = {name: [len(part), hashlib.sha256(bytes(part.flatten().tolist())).hexdigest()[:16]] for name, part in text.items()}
    return Job(slug(f"{run.mixer} seed {run.seed}"), asdict(run) | {"windows": given}, partial(train, run))
