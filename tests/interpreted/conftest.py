"""Kernels run here in their own process: interpreted (TRITON_INTERPRET=1, CPU tensors) or compiled on a GPU. Elsewhere nothing is collected."""

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
if INTERPRETED:
    from memoised import memoise

    memoise()
collect_ignore_glob = [] if INTERPRETED or DEVICE == "cuda" else ["test_*.py"]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Interpreted, tiles are cut small, so that every shape has several and the last one is ragged."""
    if INTERPRETED:
        from hopfield_amem.kernels.triton import configs

        monkeypatch.setattr(configs, "TABLE", {key: (configs.Tile(32, 32, 4, 1),) for key in configs.TABLE})
        monkeypatch.setattr(configs, "NARROW", configs.Tile(16, 32, 4, 1))


@pytest.fixture
def device():
    return DEVICE
