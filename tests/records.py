"""Records of an imagined sweep that obeys a known law, so that what a report must say of them is known."""

import math

VOCABULARY, LENGTH = 32, 16
BITS = LENGTH * math.log2(VOCABULARY)  # of a sequence


def record(width, examples, seed=0, *, alpha=2.0, steps=1000, finished=True, **other):
    """A run that memorised all that can be memorised, up to ``alpha`` bits per parameter, give or take 1 % by seed."""
    attention, feed_forward = 4 * width**2, 8 * width**2 + 5 * width
    parameters = attention + feed_forward + 2 * VOCABULARY * width
    attainable = examples * (BITS - math.log2(examples))
    memorised = min(attainable, alpha * parameters * (1 + 0.01 * seed))
    uniform = math.log(VOCABULARY)
    loss = uniform - memorised * math.log(2) / (examples * LENGTH)
    beyond = alpha * parameters / (examples * BITS)
    validation = uniform * (1 + 2 * min(beyond, 1 / beyond))  # highest where the data are as many bits as the capacity
    fall = [1.0, 0.5, 0.2, 0.05, 0.0, 0.0] if finished else [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    curve = [[steps * place // 5, loss + (uniform - loss) * left, validation] for place, left in enumerate(fall)]
    return {
        "data": "uniform", "memory": "softmax", "feed_forward": "gelu", "layers": 1, "width": width, "heads": 2, "examples": examples, "length": LENGTH,
        "vocabulary": VOCABULARY, "seed": seed, "steps": steps, "parameters": parameters, "parameters attention": attention,
        "parameters feed-forward": feed_forward, "data bits": examples * BITS, "memorised bits": memorised, "training loss": loss,
        "validation loss": validation, "reference loss": uniform, "curve": curve, **other,
    }  # fmt: skip


def sweep(widths=(8, 16, 32), examples=(16, 64, 256, 1024, 4096), seeds=(0, 1), **other):
    """Runs of every width on every number of examples, from every seed."""
    return [record(width, count, seed, **other) for width in widths for count in examples for seed in seeds]
