"""Who does the runs: processes, Dask, Slurm."""

import os
import signal
import sys
import threading
from functools import partial

import pytest
from small_work import deadly, done, slow, squared, threads, until

from hopfield_amem.analysis import take
from hopfield_amem.analysis.runs import Processes, Submitit, slurm, status
from hopfield_amem.analysis.runs.executors import executor_of


class TestExecutors:
    def test_processes_find_the_same_on_one_thread_each(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
        asked = [{"x": x} for x in range(3)]
        assert [r["y"] for r in take(squared, asked, folder=tmp_path, processes=2)] == [0, 1, 4]
        assert len(done(tmp_path)) == 3
        found = take(threads, asked, executor=Processes(2))
        assert {r["threads"] for r in found} == {1} and os.getpid() not in {r["process"] for r in found}

    @pytest.mark.parametrize("wrong", [Processes, partial(Submitit, None)])
    def test_somebody_must_work(self, wrong):
        with pytest.raises(ValueError, match="At least one"):
            wrong(0)

    def test_it_refuses_what_is_no_executor(self):
        with pytest.raises(TypeError, match="Dask"):
            executor_of(object(), 1)

    @pytest.mark.parametrize(
        ("missing", "made"), [("submitit", lambda: slurm("logs")), ("distributed", lambda: take(squared, [{"x": 1}], executor="tcp://there:1"))]
    )
    def test_libraries_are_asked_for(self, missing, made, monkeypatch):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ImportError, match=rf"{missing}.*cluster"):
            made()

    def test_dask_survives_a_killed_worker(self, tmp_path):
        distributed = pytest.importorskip("distributed", reason="dask is in the extra cluster")
        asked = [{"x": x, "where": str(tmp_path)} for x in range(5)]
        begun = lambda: [path.name.split(".") for path in tmp_path.glob("*.begun")]

        def kill():
            until(begun)
            os.kill(int(begun()[0][0]), signal.SIGKILL)

        with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as client:
            killer = threading.Thread(target=kill)
            killer.start()
            found = take(slow, asked, folder=tmp_path / "runs", executor=client)
            killer.join()
        assert [r["x"] for r in found] == list(range(5)) and status(tmp_path / "runs").counts["done"] == 5
        assert len(begun()) == 6  # the killed one twice, and every other one once
        assert {r["environment"]["threads"] for r in found} == {1}

    def test_dask_workers_of_several_threads_are_refused(self):
        distributed = pytest.importorskip("distributed", reason="dask is in the extra cluster")
        with (
            distributed.Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as client,
            pytest.raises(ValueError, match="one thread"),
        ):
            take(squared, [{"x": 1}], executor=client)

    def test_submitit_shares_runs_among_jobs(self, tmp_path, monkeypatch):
        submitit = pytest.importorskip("submitit", reason="submitit is in the extra cluster")
        monkeypatch.setattr(submitit.core.core.Job, "_results_timeout_s", 0)  # how long it looks for what a killed job did not write
        jobs = slurm(tmp_path / "logs", 2, cluster="local", timeout_min=2)
        with pytest.raises(RuntimeError, match=r"1 of 2 runs failed.*'x': 1.*died"):
            take(deadly, [{"x": x, "where": str(tmp_path / "runs")} for x in (1, 2)], folder=tmp_path / "runs", executor=Submitit(jobs.executor, 2, every=0.1))
        assert status(tmp_path / "runs").counts == {"done": 1, "failed": 1, "claimed": 0, "abandoned": 0, "corrupt": 0}
