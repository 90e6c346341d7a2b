"""Candidates found by faiss, and the exact read among them."""

import sys

import pytest
import torch
from torch.nn.functional import normalize

from hopfield_amem import presets, retrieve
from hopfield_amem.energies import Cosine, Dot, Exp, Log, Manhattan, ReadEnergy
from hopfield_amem.layers.preselected_memory import PreselectedMemory


def test_without_faiss_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"hopfield_amem\[ann\]"):
        PreselectedMemory(presets.log_sum_exp(), torch.randn(10, 4))


class TestWithFaiss:
    @pytest.fixture(autouse=True)
    def faiss(self):
        return pytest.importorskip("faiss")

    @pytest.mark.parametrize("energy", [presets.log_sum_exp(2.0), presets.distance(1.0), presets.entmax(), ReadEnergy(Cosine(), Exp(), Log(), beta=9.0)])
    def test_all_slots_as_candidates_are_the_exact_read(self, energy):
        query, keys, values = torch.randn(2, 7, 8, requires_grad=True), torch.randn(100, 8, requires_grad=True), torch.randn(100, 3, requires_grad=True)
        for steps in (1, 2):
            memory = PreselectedMemory(energy, keys, values, candidates=999)
            mine, truth = memory.retrieve(query, steps=steps), retrieve(energy, query, keys, values, steps=steps)
            torch.testing.assert_close(mine, truth, rtol=1e-5, atol=1e-5)
            for own, whole in zip(*(torch.autograd.grad(t.square().sum(), (query, keys, values)) for t in (mine, truth)), strict=True):
                torch.testing.assert_close(own, whole, rtol=1e-3, atol=1e-3)  # two steps of a sharp energy amplify rounding

    def test_sparse_weights_need_no_more_than_their_support(self):
        keys = normalize(torch.randn(5000, 16), dim=-1)
        query = keys[:50] + 0.1 * torch.randn(50, 16)
        memory = PreselectedMemory(presets.entmax(2.0, 20.0), keys, candidates=200, index="Flat")
        found = memory.compared(query)
        assert found.recall == 1.0 and found.error < 1e-5

    def test_more_effort_finds_more_and_loses_less(self):
        keys = torch.randn(20000, 16)
        query = keys[:100] + 0.3 * torch.randn(100, 16)
        found = [PreselectedMemory(presets.distance(20.0), keys, candidates=16, effort=effort).compared(query) for effort in (1, 8, 600)]
        assert found[0].recall < found[1].recall < found[2].recall and found[2].recall > 0.999
        assert found[2].error < 1e-3 and "of the nearest slots" in str(found[2])
        assert PreselectedMemory(presets.distance(20.0), keys, candidates=16, index="HNSW32", effort=128).compared(query).recall > 0.95

    def test_an_index_that_finds_fewer_leaves_the_rest_out(self):
        keys = torch.randn(5000, 8)
        memory = PreselectedMemory(presets.log_sum_exp(), keys, candidates=4000, effort=1)
        assert bool((memory.select(keys[:3]) == -1).any()) and bool(memory.retrieve(keys[:3]).isfinite().all())

    def test_errors_teach(self):
        keys = torch.randn(10, 4)
        for arguments, options, message in (
            ((ReadEnergy(Manhattan(), Exp(), Log()), keys), {}, "Dot\\(\\), Euclidean\\(\\) or Cosine"),
            ((ReadEnergy(Dot(), Exp(), Log()), keys.double()), {}, "float32"),
            ((ReadEnergy(Dot(), Exp(), Log()), keys[:0]), {}, "at least one"),
            ((ReadEnergy(Dot(), Exp(), Log()), keys), {"index": "Nothing"}, "knows no index"),
            ((ReadEnergy(Dot(), Exp(), Log()), keys), {"candidates": 0}, "At least one candidate"),
            ((ReadEnergy(Dot(), Exp(), Log()), keys * float("nan")), {}, "NaN"),
        ):
            with pytest.raises(ValueError, match=message):
                PreselectedMemory(*arguments, **options)
        with pytest.raises(ValueError, match="share their last dimension"):
            PreselectedMemory(presets.log_sum_exp(), keys).retrieve(keys[:, :3])
