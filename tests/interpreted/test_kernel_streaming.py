"""Kernels carry sums in and out: pieces, appended slots and shards read like the whole memory."""

import pytest
import torch
from comparison import ALL

from hopfield_amem import retrieve
from hopfield_amem.kernels import Streamed

PIECES = [(0, 30), (30, 31), (31, 70), (70, 99), (99, 100)]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "softmax1", "epanechnikov", "squared_relu_feed_forward", "own similarity", "power under log"])
def test_pieces_make_the_whole(name, grad, device, poisoned):
    query, keys, values = (torch.randn(2, n, d, device=device) * 0.4 for n, d in ((9, 5), (100, 5), (100, 3)))
    whole = retrieve(ALL[name], query, keys, values)
    with torch.set_grad_enabled(grad):
        streamed, shard = (Streamed(ALL[name], query, backend="triton") for _ in range(2))
        for first, last in PIECES[:3]:
            streamed.add(keys[:, first:last], values[:, first:last])
        for first, last in PIECES[3:]:
            shard.add(keys[:, first:last], values[:, first:last])
        torch.testing.assert_close(streamed.merge(shard).read(), whole, rtol=2e-5, atol=2e-6)
