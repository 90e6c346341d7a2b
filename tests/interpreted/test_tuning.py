"""The fastest tile is measured once, remembered on disk, and forgotten when the table no longer holds it."""

import json

import pytest
import torch

from hopfield_amem import presets, retrieve


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Tuning on, with made-up times: the tile of 16 queries is the fastest. Counts what is measured."""
    from hopfield_amem.kernels.triton import configs, tuning

    tiles = (configs.Tile(32, 32, 4, 1), configs.Tile(16, 32, 4, 1))
    monkeypatch.setenv("HOPFIELD_AMEM_CACHE", str(tmp_path))
    monkeypatch.setattr(configs, "TABLE", {key: tiles for key in configs.TABLE})
    monkeypatch.setattr(tuning, "_measurable", lambda read: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    counted = []

    def milliseconds(launch, candidate):
        launch(candidate)
        counted.append(candidate.shape.queries)
        return float(candidate.shape.queries)

    monkeypatch.setattr(tuning, "_milliseconds", milliseconds)
    tuning._remembered.cache_clear()
    yield counted
    tuning._remembered.cache_clear()


def test_measured_once_and_remembered(measured, tmp_path):
    from hopfield_amem.kernels.triton import tuning

    query, keys, values = torch.randn(70, 8), torch.randn(40, 8), torch.randn(40, 8, requires_grad=True)
    truth = retrieve(presets.log_sum_exp(0.4), query, keys, values, backend="reference")
    for _ in range(2):
        read = retrieve(presets.log_sum_exp(0.4), query, keys, values, backend="triton")
        torch.testing.assert_close(read, truth, rtol=1e-5, atol=1e-6)
        torch.autograd.grad(read.sum(), values)
    assert measured == [32, 16] * 2  # forward and the slots' sweep; nobody wants the queries' gradient
    kept = json.loads((tmp_path / "tiles.json").read_text())
    assert set(kept.values()) == {"16x32 4 1"} and len(kept) == 2
    tuning._remembered.cache_clear()  # as another process
    retrieve(presets.log_sum_exp(0.4), query, keys, values.detach(), backend="triton")
    assert len(measured) == 4


def test_a_tile_that_left_the_table_is_measured_again(measured, tmp_path):
    query, keys = torch.randn(70, 8), torch.randn(40, 8)
    retrieve(presets.log_sum_exp(0.4), query, keys, backend="triton")
    path = tmp_path / "tiles.json"
    path.write_text(path.read_text().replace("16x32", "512x512"))
    from hopfield_amem.kernels.triton import tuning

    tuning._remembered.cache_clear()
    retrieve(presets.log_sum_exp(0.4), query, keys, backend="triton")
    assert len(measured) == 4
