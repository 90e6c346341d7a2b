"""Embeddings drawn at random."""

import math

import torch

from hopfield_amem.analysis import scaling

close = torch.testing.assert_close
INF = math.inf


def drawn(count, classes, dim, seed=0, dtype=torch.float64):
    inputs, outputs = scaling.random_embeddings(count, classes, dim, generator=torch.Generator().manual_seed(seed))
    return inputs.to(dtype), outputs.to(dtype)
