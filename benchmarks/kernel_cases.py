"""Which reads and written memories ``kernels.py`` compiles."""

from __future__ import annotations

from typing import Any

import torch

from hopfield_amem import ReadEnergy
from hopfield_amem.energies import Cosine, Exp, Invariant, Log, Manhattan

SUBSET = ("log_sum_exp", "epanechnikov", "entmax", "squared_relu_feed_forward")
OTHERS = {
    "cosine": ReadEnergy(Cosine(), Exp(), Log(), beta=4.0),
    "manhattan": ReadEnergy(Manhattan(), Exp(), Log(), beta=0.3),
    "log_distance": ReadEnergy(Invariant(lambda product, x, k: -torch.log1p(x + k - 2 * product)), Exp(), Log(), beta=3.0),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "width 16": dict(width=16),
    "width 20, values 9": dict(width=20, columns=9),
    "width 256": dict(width=256),
    "float32": dict(dtype=torch.float32),
    "float32, width 128": dict(dtype=torch.float32, width=128),
    "float32, width 256": dict(dtype=torch.float32, width=256),
    "tied": dict(tied=True),
    "tied, width 128": dict(tied=True, width=128),
    "few queries": dict(queries=32, slots=2**20, batch=1, heads=1),
    "causal": dict(causal=True),
    "mask": dict(presence="mask"),
    "soft presence per query": dict(presence="soft per query"),
    "dropout": dict(dropout=True),
    "bias": dict(bias=True),
    "dropout, width 128": dict(dropout=True, width=128),
    "soft presence per query, width 128": dict(presence="soft per query", width=128),
    "Q and Σ p": dict(value=True, mass=True),
}
WRITTEN = ("log_sum_exp", "linear_attention", "relu_feed_forward", "epanechnikov")  # what memories write with
WRITTEN_VARIANTS: dict[str, dict[str, Any]] = {
    "written, decay": dict(decay=True),
    "written, decay, width 128": dict(decay=True, width=128),
    "written, cache and mask": dict(cache=64, presence=True),
    "written, width 256": dict(width=256),
    "written, float32": dict(dtype=torch.float32),
    "written, float32, width 128": dict(dtype=torch.float32, width=128),
}
LINEAR: dict[str, dict[str, Any]] = {  # memories with a state of constant size
    "linear attention": dict(decay="", erases=False, rated=False),
    "gated linear attention": dict(decay="channel", erases=False, rated=False),
    "gated delta rule": {},
    "Kimi delta attention": dict(decay="channel"),
    "erase keys apart": dict(tied=False, group=2),
}
