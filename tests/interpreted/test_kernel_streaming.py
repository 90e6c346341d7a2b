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


def test_pieces_of_other_shapes_are_not_carried_on(device, poisoned):
    query = torch.randn(2, 3, 7, 8, device=device)
    pieces = [(torch.randn(*lead, 40, 8, device=device), torch.randn(*lead, 40, 5, device=device)) for lead in ((2, 1), (3,), (), (2, 3))]
    with torch.no_grad():
        mine, truth = (Streamed(ALL["log_sum_exp"], query, backend=backend) for backend in ("triton", "chunked"))
        for keys, values in pieces:
            mine.add(keys, values)
            truth.add(keys, values)
        torch.testing.assert_close(mine.read(), truth.read(), rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="must have one width"):
            mine.add(pieces[0][0], pieces[0][1][..., :2])
