"""Candidates found by faiss, and the exact read among them."""

import sys

import pytest
import torch
from torch.nn.functional import normalize

from hopfield_amem import presets, retrieve
from hopfield_amem.energies import Cosine, Dot, Exp, Log, Manhattan, ReadEnergy
from hopfield_amem.kernels import rows
from hopfield_amem.layers import preselected_memory
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

    @pytest.mark.parametrize("change", ["trained", "replaced"])
    def test_patterns_that_changed_are_indexed_again_or_refused(self, change):
        energy, keys, query = presets.distance(20.0), torch.randn(300, 8, requires_grad=True), torch.randn(5, 8)
        memory = PreselectedMemory(energy, keys, candidates=4)
        memory.retrieve(query)
        if change == "trained":
            with torch.no_grad():
                keys.mul_(-1)
        else:
            memory.keys = torch.randn(20, 8)
        for read in (memory.retrieve, memory.select, memory.compared):
            with pytest.raises(ValueError, match=r"changed since they were indexed.*memory\.rebuild"):
                read(query)
        memory.rebuild()
        assert memory.compared(query).recall == 1.0
        memory.keys = torch.randn(3, 8)
        memory.rebuild()
        torch.testing.assert_close(memory.retrieve(query), retrieve(energy, query, memory.keys))  # fewer patterns than candidates

    @pytest.mark.parametrize("changed", ["keys", "values", "query", "beta"])
    def test_what_is_written_to_before_backward_is_refused_there(self, changed):
        given = {"keys": torch.randn(30, 4), "values": torch.randn(30, 2), "query": torch.randn(5, 4), "beta": torch.tensor(2.0)}
        given = {name: tensor.requires_grad_() for name, tensor in given.items()}
        memory = PreselectedMemory(presets.log_sum_exp().at(given["beta"]), given["keys"], given["values"], candidates=8)
        found = memory.retrieve(given["query"]).square().sum()
        with torch.no_grad():
            given[changed].mul_(-0.5)
        with pytest.raises(RuntimeError, match=f"{changed} was changed in place"):
            found.backward()

    def test_patterns_replaced_before_backward_leave_its_gradient_alone(self):
        query, keys = torch.randn(5, 4), torch.randn(30, 4, requires_grad=True)
        memory = PreselectedMemory(presets.log_sum_exp(2.0), keys, candidates=30)
        found = memory.retrieve(query)
        memory.keys, memory.spec = torch.randn(30, 4), presets.log_sum_exp(9.0)
        memory.rebuild()
        mine, truth = (torch.autograd.grad(y.square().sum(), keys)[0] for y in (found, retrieve(presets.log_sum_exp(2.0), query, keys)))
        torch.testing.assert_close(mine, truth, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
    @pytest.mark.parametrize("width", [7, 8])
    def test_steps_of_fused_optimizers_are_seen(self, optimizer, width):
        query, keys = torch.randn(1, width), torch.randn(300, width, requires_grad=True)
        memory = PreselectedMemory(presets.log_sum_exp(), keys, candidates=1)  # one pattern is trained
        trained = optimizer([keys], lr=1e-3, fused=True)
        memory.retrieve(query).square().sum().backward()
        trained.step()
        with pytest.raises(ValueError, match="changed since they were indexed"):
            memory.retrieve(query)
        memory.rebuild()
        memory.retrieve(query)

    @pytest.mark.parametrize("index", ["PCA16,IVF64,Flat", "PCA16,HNSW8"])
    def test_effort_reaches_an_index_behind_a_transform(self, index):
        keys = torch.randn(4000, 16)
        query = keys[:100] + 0.3 * torch.randn(100, 16)
        least, most = (PreselectedMemory(presets.distance(20.0), keys, candidates=8, index=index, effort=effort).compared(query) for effort in (1, 64))
        assert most.recall > max(least.recall + 0.1, 0.95)

    def test_many_queries_are_read_a_few_at_a_time(self, monkeypatch):
        """What is gathered is seen where candidates are read."""
        monkeypatch.setattr(rows, "BUDGET", 10 * 16 * (8 + 3))
        gathered = []

        def seen(energy, query, keys, *others, **options):
            gathered.append(len(query))
            return retrieve(energy, query, keys, *others, **options)

        monkeypatch.setattr(preselected_memory, "retrieve", seen)
        query, keys, values = (torch.randn(shape, requires_grad=True) for shape in ((3, 25, 8), (16, 8), (16, 3)))
        mine, truth = (
            PreselectedMemory(presets.log_sum_exp(), keys, values, candidates=16).retrieve(query),
            retrieve(presets.log_sum_exp(), query, keys, values),
        )
        torch.testing.assert_close(mine, truth, rtol=1e-5, atol=1e-5)
        for own, whole in zip(*(torch.autograd.grad(t.square().sum(), (query, keys, values)) for t in (mine, truth)), strict=True):
            torch.testing.assert_close(own, whole, rtol=1e-4, atol=1e-4)
        assert max(gathered) == 10 and sum(gathered) == 2 * 75  # once more for the gradient

    def test_no_queries_read_nothing(self):
        assert PreselectedMemory(presets.log_sum_exp(), torch.randn(10, 4)).retrieve(torch.randn(2, 0, 4)).shape == (2, 0, 4)

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
            ((ReadEnergy(Dot(), Exp(), Log()), keys), {"index": "NSG16"}, "cannot set the effort"),
        ):
            with pytest.raises(ValueError, match=message):
                PreselectedMemory(*arguments, **options)
        with pytest.raises(ValueError, match="share their last dimension"):
            PreselectedMemory(presets.log_sum_exp(), keys).retrieve(keys[:, :3])
        with pytest.raises(ValueError, match="query holds NaN"):
            PreselectedMemory(presets.log_sum_exp(), keys).retrieve(keys * float("nan"))
