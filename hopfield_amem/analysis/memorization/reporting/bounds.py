"""What a model of known sizes can hold, in bits, beside which a measurement stands."""

from __future__ import annotations

import math

from ...capacity.facts import attention_capacity, linear_memory_capacity, mlp_memory_capacity
from ..laws import attainable_memorization
from .records import Record

ATTENTION, FEED_FORWARD, MATRICES = "attention (H·d_h + d a layer, proved)", "feed-forward (m·d a layer, in order)", "matrices read by argmax"


def bounds_of(record: Record) -> dict[str, float]:
    """What is known of how much the memories of a model hold, in bits, by name; only what the record allows to compute.

    A layer of attention whose heads share the width holds ``H d_h + d`` sequences (``attention_capacity``), a feed-forward block of m units ``m d`` facts
    up to logarithms (``mlp_memory_capacity``), each of ``log₂ V`` bits, one token of V; m is read off the count of parameters, of two maps with biases.
    All weights as matrices that are read by argmax hold the bits per parameter of ``linear_memory_capacity``. The sum over layers is no theorem.
    """
    found = {}
    layers, width, vocabulary = record.get("layers") or 0, record.get("width") or 0, alphabet(record) or 0
    if layers and width and vocabulary > 1:
        fact = math.log2(vocabulary)
        if record.get("parameters attention"):
            found[ATTENTION] = layers * attention_capacity(1, width, width).sequences * fact
        hidden = round((record.get("parameters feed-forward", 0) / layers - width) / (2 * width + 1))
        if hidden >= 1:
            found[FEED_FORWARD] = layers * mlp_memory_capacity(width, hidden) * fact
    if width > 1:
        found[MATRICES] = linear_memory_capacity(width).bits_per_parameter * record["parameters"]
    return found


def alphabet(record: Record) -> int | None:
    """Tokens that there are: the vocabulary of the data, where it was asked for, or the symbols of the model; None where the record does not say."""
    found = record.get("vocabulary") or record.get("symbols") or 0
    return found if found > 1 else None


def attainable(record: Record) -> float:
    """Bits that any model can have memorised of a run's data at most: of uniform sequences, ``attainable_memorization``; of others all of its bits."""
    known = all(name in record for name in ("examples", "length", "vocabulary"))
    if record.get("data") == "uniform" and known:
        return attainable_memorization(record["examples"], record["length"], record["vocabulary"])
    return float(record["data bits"])


def short(number: float) -> str:
    """Three digits and a unit: 20.5k, 3.12M."""
    if not math.isfinite(number):
        return str(number)
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
