"""Models trained together against the plain loop over them: rows per second of both, and how far their losses are apart.

    python benchmarks/memorization.py [--quick] [--threads 2]

24 language models of one shape, on data of six sizes, take the same batches either way, the two in turns: small batches, where calls dominate, and larger ones,
where arithmetic does. Adam's steps are timed, too.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from command import asked
from measure import Effort, timed
from results import where
from torch import nn

from hopfield_amem.analysis.memorization import Corpus, Training, UniformTokens, language_model, train, train_together

MODELS, STEPS = 24, 10


@dataclass(frozen=True)
class Case:
    """Models of one width, with one mixer, and the batches they take."""

    memory: str
    width: int
    batch: int
    length: int


CASES = (
    Case("softmax", 8, 8, 8),
    Case("delta", 8, 8, 8),
    Case("deltaformer", 8, 8, 8),
    Case("softmax", 16, 16, 16),
    Case("softmax", 16, 64, 16),
)


def fresh(case: Case) -> tuple[list[nn.Module], list[Corpus]]:
    """Models, and data of six sizes."""
    data = UniformTokens(32, case.length)
    return [language_model(33, case.width, memory=case.memory) for _ in range(MODELS)], [data(16 * (1 + i % 6), i) for i in range(MODELS)]


def measured(case: Case, effort: Effort, steps: int) -> dict:
    """Seconds of both, and the largest difference of a training loss, mean of a tenth of the steps, along the way."""
    models, corpora = fresh(case)
    training = Training(steps=steps, batch=case.batch)
    together = lambda: train_together(copy.deepcopy(models), corpora, training)
    loop = lambda: [train(copy.deepcopy(model), corpus, training, seed=i) for i, (model, corpus) in enumerate(zip(models, corpora, strict=True))]
    apart = max(abs(a[1] - b[1]) for mine, plain in zip(together(), loop(), strict=True) for a, b in zip(mine.curve, plain.curve, strict=True))
    found = timed({"together": together, "loop": loop}, effort)
    rows = MODELS * steps * case.batch
    seconds = {name: run["fastest"] for name, run in found.items()}
    return {
        "case": vars(case), "rows per second": {name: rows / taken for name, taken in seconds.items()}, "times": seconds["loop"] / seconds["together"],
        "difference": apart, "busy": any(flag for run in found.values() for flag in run["busy"]),
    }  # fmt: skip


def page(result: dict) -> str:
    """The numbers as a page."""
    environment = result["environment"]
    lines = [
        "# Models trained together",
        "",
        where(environment),
        f"`{result['command']}`: {MODELS} models on {environment['threads']} threads.",
        "",
        "| mixer | width | batch × length | rows/s, loop | rows/s, together | times as fast | loss differs by |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        case, speed = row["case"], row["rows per second"]
        lines.append(
            f"| {case['memory']} | {case['width']} | {case['batch']} × {case['length']} | {speed['loop']:,.0f} | {speed['together']:,.0f} "
            f"| {row['times']:.1f}{' (others were busy)' if row['busy'] else ''} | {row['difference']:.0e} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    run = asked(__file__, __doc__)
    effort = Effort(3, 0, 0.02) if run.quick else Effort(3, 2, 0.02)
    rows = [measured(case, effort, 5 if run.quick else STEPS) for case in (CASES[:1] if run.quick else CASES)]
    result = run.result(rows=rows)
    print(page(result))
    run.keep(result, page(result))


if __name__ == "__main__":
    main()
