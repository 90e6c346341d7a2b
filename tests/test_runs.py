"""Studies of many runs: done once, kept whole, divided among processes, machines and clusters, and never lost."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hopfield_amem.analysis import runs as engine
from hopfield_amem.analysis import take
from hopfield_amem.analysis.plots import save
from hopfield_amem.analysis.runs import Processes, Submitit, claims, collect, records, shard, slurm, status
from hopfield_amem.analysis.runs.executors import executor_of
from hopfield_amem.analysis.runs.identity import identity, work_name
from hopfield_amem.cli import app

CALLS = []
STUDY = """
import os, signal, sys, time
from hopfield_amem.analysis import take

def work(config):
    with open(config["log"], "a") as log:
        log.write(f"{config['x']}\\n")
    time.sleep(config["seconds"])
    return {"y": config["x"] ** 2}

def configs(log, count, seconds):
    return [{"x": x, "log": str(log), "seconds": seconds} for x in range(count)]

if __name__ == "__main__":
    log, count, seconds, folder, processes = sys.argv[1:]
    take(work, configs(log, int(count), float(seconds)), folder=folder, processes=int(processes))
"""


def squared(config):
    CALLS.append(config["x"])
    if config.get("fail"):
        raise ArithmeticError("too large\nby far")
    return {"y": config["x"] ** 2, "nothing": math.nan, "tensor": torch.arange(2), "deep": {"a": {"b": 1.5}}}


def threads(config):
    return {"threads": torch.get_num_threads(), "devices": os.environ.get("CUDA_VISIBLE_DEVICES"), "process": os.getpid()}


def deadly(config):
    if config["x"] == 1:
        until(lambda: done(Path(config["where"])))  # the other run
        os.kill(os.getpid(), signal.SIGKILL)
    return {"y": config["x"]}


def slow(config):
    (Path(config["where"]) / f"{os.getpid()}.{config['x']}.begun").touch()
    time.sleep(0.6)
    return {"process": os.getpid()}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A module of its own, and a process that takes its runs."""
    (tmp_path / "study.py").write_text(STUDY)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("study", None)
    import study

    log = tmp_path / "log"
    log.touch()

    def start(count, seconds, processes):
        paths = os.pathsep.join([str(Path(engine.__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, tmp_path / "study.py", log, str(count), str(seconds), tmp_path / "runs", str(processes)]
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, start_new_session=True)

    study.start, study.log, study.folder = start, log, tmp_path / "runs"
    yield study
    sys.modules.pop("study", None)


def until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)


def done(folder):
    return [path for path in folder.glob("*.json") if "failed" not in path.name]


@dataclass(frozen=True)
class Times:
    factor: int

    def __call__(self, config):
        return {"y": self.factor * config["x"]}


class TestOnce:
    def test_finished_runs_are_not_done_again(self, tmp_path):
        CALLS.clear()
        asked = [{"x": x} for x in (3, 1, 2)]
        with pytest.raises(RuntimeError, match=r"1 of 4 runs failed.*too large"):
            take(squared, [*asked, {"x": 9, "fail": True}], folder=tmp_path)
        again = take(squared, asked, folder=tmp_path)
        assert CALLS == [3, 1, 2, 9]
        assert [(r["x"], r["y"], r["nothing"], r["tensor"]) for r in again] == [(x, x * x, None, [0, 1]) for x in (3, 1, 2)]

    def test_a_record_says_what_it_is(self, tmp_path):
        (fresh,) = take(squared, [{"x": 3, "seed": 7}], folder=tmp_path)
        (path,) = tmp_path.iterdir()
        kept = json.loads(path.read_text())
        assert path.stem == kept["provenance"]["id"] == identity(work_name(squared), {"seed": 7, "x": 3})
        assert kept["provenance"]["config"] == {"x": 3, "seed": 7} and kept["x"] == 3 and kept["y"] == 9 and kept["seconds"] >= 0
        assert {"torch", "numpy", "python", "hopfield_amem", "machine", "device", "threads", "finished"} <= set(kept["environment"])
        assert records(tmp_path) == take(squared, [{"x": 3, "seed": 7}], folder=tmp_path) == [fresh]

    def test_findings_may_say_their_own_seconds_and_environment(self, tmp_path):
        (found,) = take(lambda config: {"seconds": 5.0, "environment": {"device": "abacus"}}, [{"x": 1}], folder=tmp_path)
        assert found["seconds"] == 5.0 and found["environment"]["device"] == "abacus" and found["environment"]["torch"] == torch.__version__

    def test_failures_are_written_and_tried_again(self, tmp_path):
        asked = [{"x": 4, "fail": True}]
        for _ in range(2):
            CALLS.clear()
            with pytest.raises(RuntimeError, match="too large"):
                take(squared, asked, folder=tmp_path)
            assert CALLS == [4]
        (path,) = tmp_path.iterdir()
        said = json.loads(path.read_text())
        assert (
            path.name == f"{said['provenance']['id']}.failed.json"
            and said["provenance"]["config"] == asked[0]
            and "ArithmeticError" in said["reason"]
            and "squared" in said["traceback"]
        )

    def test_a_failure_is_forgotten_when_its_run_is_done(self, tmp_path):
        fails = [True]

        def work(config):
            if fails:
                raise OSError("no network")
            return {"y": 1}

        with pytest.raises(RuntimeError, match="no network"):  # an OSError of the work's own is no word about the folder
            take(work, [{"x": 1}], folder=tmp_path)
        fails.clear()
        take(work, [{"x": 1}], folder=tmp_path)
        assert status(tmp_path).counts == {"done": 1, "failed": 0, "claimed": 0, "abandoned": 0, "corrupt": 0}

    @pytest.mark.parametrize("wrong", [[1], {"y": object()}, None, {"provenance": 1}])
    def test_findings_are_what_json_holds(self, wrong, tmp_path):
        with pytest.raises(RuntimeError, match=r"dict|JSON|provenance"):
            take(lambda config: wrong, [{"x": 1}], folder=tmp_path)
        assert not done(tmp_path)

    @pytest.mark.parametrize(
        ("asked", "processes"), [([{"x": 1}, {"x": 1}], 1), ([{"x": 1}], 0), ([{"x": object()}], 1), ([{"x": math.nan}], 1), ([{"x": (1,)}, {"x": [1]}], 1)]
    )
    def test_it_refuses_what_cannot_be_kept_apart(self, asked, processes):
        with pytest.raises(ValueError, match=r"got|same"):
            take(squared, asked, processes=processes)

    def test_objects_are_known_by_what_they_hold(self, tmp_path):
        asked = [{"x": 2}]
        assert [take(Times(factor), asked, folder=tmp_path)[0]["y"] for factor in (1, 10, 1)] == [2, 20, 2]
        nameless = torch.nn.Identity()
        with pytest.raises(ValueError, match="two objects of Identity"):
            take(nameless, asked, folder=tmp_path)
        assert take(nameless, asked)[0]["x"] == 2  # nothing is kept

    def test_what_is_bound_to_a_work_is_part_of_what_it_is(self):
        bound = [work_name(partial(squared, rate=rate)) for rate in (0.1, 0.2)]
        assert bound[0] != bound[1] and bound[0].endswith("squared(rate=0.1)")
        with pytest.raises(ValueError, match="config"):
            work_name(partial(squared, model=object()))


class TestDisks:
    def test_a_torn_record_is_moved_aside_and_done_again(self, tmp_path):
        take(squared, [{"x": 5}, {"x": 6}], folder=tmp_path)
        first, second = sorted(tmp_path.iterdir())
        whole = first.read_text()
        first.write_text(whole[: len(whole) // 2])
        second.write_text(whole)  # of another run
        with pytest.warns(UserWarning, match="corrupt.*done again") as warned:
            again = take(squared, [{"x": 5}, {"x": 6}], folder=tmp_path)
        assert len(warned) == 2 and [r["y"] for r in again] == [25, 36]
        assert sorted(path.name for path in tmp_path.glob("*.corrupt")) == [f"{first.stem}.corrupt", f"{second.stem}.corrupt"]
        assert status(tmp_path).counts["done"] == 2

    def test_readers_name_corrupt_records_and_leave_them(self, tmp_path):
        take(squared, [{"x": 5}, {"x": 6}], folder=tmp_path)
        torn = sorted(tmp_path.iterdir())[0]
        torn.write_bytes(b"\xff\x00")
        with pytest.warns(UserWarning, match=torn.name):
            assert len(records(tmp_path)) == 1
        assert status(tmp_path).others[torn.stem][0] == "corrupt" and torn.exists()

    @pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "write permission")])
    def test_a_folder_that_takes_nothing_is_said_before_any_run(self, number, says, tmp_path, monkeypatch):
        CALLS.clear()
        take(squared, [{"x": 1}], folder=tmp_path)
        monkeypatch.setattr(os, "fsync", _refusing(number))
        with pytest.raises(OSError, match=rf"(?s){tmp_path}.*{says}.*ask again"):
            take(squared, [{"x": 1}, {"x": 2}], folder=tmp_path)
        assert CALLS == [1] and take(squared, [{"x": 1}], folder=tmp_path)[0]["y"] == 1  # what is there is still given
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_disk_that_fills_up_ends_the_study_at_once(self, tmp_path, monkeypatch):
        CALLS.clear()
        written = os.fsync
        monkeypatch.setattr(os, "fsync", lambda file: _refusing(errno.ENOSPC)(file) if len(CALLS) == 3 else written(file))
        with pytest.raises(OSError, match="disk is full"):
            take(squared, [{"x": x} for x in range(6)], folder=tmp_path)
        assert CALLS == [0, 1, 2] and status(tmp_path).counts == {"done": 2, "failed": 0, "claimed": 0, "abandoned": 0, "corrupt": 0}
        monkeypatch.undo()
        CALLS.clear()
        assert len(take(squared, [{"x": x} for x in range(6)], folder=tmp_path)) == 6 and CALLS == [2, 3, 4, 5]

    def test_a_claim_that_the_disk_does_not_take_leaves_nothing(self, tmp_path, monkeypatch):
        with monkeypatch.context() as full, pytest.raises(OSError, match="disk is full"):
            full.setattr(os, "write", lambda file, content: _refusing(errno.ENOSPC)(file))
            take(squared, [{"x": 1}], folder=tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="cannot be kept in"):
            take(squared, [{"x": 1}], folder=tmp_path / "file")
        with pytest.raises(ValueError, match="no folder"):
            status(tmp_path / "none")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(OSError, match="write permission"):
            take(squared, [{"x": 1}], folder=tmp_path)
        tmp_path.chmod(0o700)


class TestKilled:
    def test_a_rerun_does_exactly_the_missing_runs(self, study):
        killed = study.start(30, 0.25, 2)
        until(lambda: len(done(study.folder)) >= 4 if study.folder.exists() else False)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        kept = {record["x"] for record in records(study.folder)}  # none is corrupt: a warning would be an error
        begun = {int(x) for x in study.log.read_text().split()}
        assert 4 <= len(kept) < 30 and len(begun - kept) <= 2 and kept <= begun
        study.log.write_text("")
        asked = study.configs(study.log, 30, 0.25)
        asked_again = [config for config in asked if config["x"] in kept or config["x"] < 12]
        found = take(study.work, asked_again, folder=study.folder)
        assert [r["y"] for r in found] == [config["x"] ** 2 for config in asked_again]
        assert sorted(map(int, study.log.read_text().split())) == [config["x"] for config in asked_again if config["x"] not in kept]
        assert status(study.folder).counts["claimed"] == 0

    def test_a_process_that_dies_loses_no_other_run(self, tmp_path):
        with pytest.raises(RuntimeError, match=r"1 of 2 runs failed.*'x': 1.*a process died"):
            take(deadly, [{"x": x, "where": str(tmp_path)} for x in (1, 0)], folder=tmp_path, processes=2)
        found = status(tmp_path)
        assert found.counts == {"done": 1, "failed": 1, "claimed": 0, "abandoned": 0, "corrupt": 0}


class TestShared:
    def test_two_processes_divide_the_runs(self, study):
        other = study.start(16, 0.2, 1)
        until(lambda: study.folder.exists() and len(done(study.folder)) >= 1)
        found = take(study.work, study.configs(study.log, 16, 0.2), folder=study.folder)
        assert other.wait(60) == 0 and [r["y"] for r in found] == [x * x for x in range(16)]
        assert sorted(map(int, study.log.read_text().split())) == list(range(16))

    def test_the_claim_of_a_dead_process_holds_nobody_up(self, tmp_path):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        path = self.claimed(tmp_path, {"machine": claims._machine(), "pid": gone.pid})
        begun = time.monotonic()
        take(squared, [{"x": 1}], folder=tmp_path)
        assert time.monotonic() - begun < 5 and not path.exists()

    @pytest.mark.parametrize("said", [{"machine": "elsewhere", "pid": 1}, {}])
    def test_a_claim_without_a_heartbeat_is_dead(self, said, tmp_path):
        path = self.claimed(tmp_path, said)
        os.utime(path, (time.time() - 2 * claims.LEASE,) * 2)
        assert status(tmp_path).counts["abandoned"] == 1
        assert take(squared, [{"x": 1}], folder=tmp_path)[0]["y"] == 1

    def test_a_run_elsewhere_is_waited_for_after_all_others(self, tmp_path):
        path = self.claimed(tmp_path, {"machine": "elsewhere", "pid": 1})
        CALLS.clear()
        assert status(tmp_path).counts["claimed"] == 1
        freed = threading.Timer(0.5, path.unlink)
        freed.start()
        assert [r["y"] for r in take(squared, [{"x": x} for x in (1, 2, 3)], folder=tmp_path)] == [1, 4, 9]
        assert CALLS == [2, 3, 1]

    def test_a_long_run_stays_claimed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(claims, "HEARTBEAT", 0.05)
        path = tmp_path / "run.claim"
        with claims.claim(path) as held:
            os.utime(path, (0, 0))
            until(lambda: path.stat().st_mtime > 0, 10)
            with claims.claim(path) as second:
                assert held and not second
        assert not path.exists()

    def claimed(self, folder, said):
        path = folder / f"{identity(work_name(squared), {'x': 1})}.claim"
        path.write_text(json.dumps(said))
        return path


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

        with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as client:
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
            distributed.Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client,
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


class TestTables:
    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_shards_are_a_partition(self, count):
        parts = [shard(range(7), f"{i}/{count}") for i in range(1, count + 1)]
        assert sorted(x for part in parts for x in part) == list(range(7)) and max(map(len, parts)) - min(map(len, parts)) <= 1

    @pytest.mark.parametrize("wrong", ["0/3", "4/3", "1", "a/b", "-1/3", "1/0"])
    def test_other_shards_are_refused(self, wrong):
        with pytest.raises(ValueError, match="i/n"):
            shard([1], wrong)

    @pytest.fixture
    def folder(self, tmp_path):
        with pytest.raises(RuntimeError):
            take(squared, [{"x": 1}, {"x": 2}, {"x": 9, "fail": True}], folder=tmp_path / "runs")
        (tmp_path / "runs" / "notes.json").write_text("{}")  # somebody's own file
        return tmp_path / "runs"

    def test_status_says_how_it_stands(self, folder, tmp_path):
        found = status(folder)
        assert str(found).startswith("2 done, 1 failed\n") and "too large" in str(found) and "by far" not in found.table()
        assert [(row["state"], row["runs"]) for row in found.rows()] == [("done", 2), ("failed", 1)]
        assert [bar.get_width() for bar in found.plot().axes[0].patches] == [2, 1, 0, 0, 0]
        assert save(found.plot(), tmp_path / "picture.png").stat().st_size > 5000

    def test_tables_have_columns_with_dots(self, folder, tmp_path):
        import csv

        rows = list(csv.DictReader(collect(folder, tmp_path / "t.csv").read_text().splitlines()))
        assert sorted((row["x"], row["y"], row["deep.a.b"], row["tensor"], row["nothing"]) for row in rows) == [
            ("1", "1", "1.5", "[0, 1]", ""),
            ("2", "4", "1.5", "[0, 1]", ""),
        ]
        lines = [json.loads(line) for line in collect(folder, tmp_path / "t.jsonl").read_text().splitlines()]
        assert sorted(line["x"] for line in lines) == [1, 2] and lines[0]["tensor"] == [0, 1] and lines[0]["environment.torch"] == torch.__version__
        with pytest.raises(ValueError, match="parquet"):
            collect(folder, tmp_path / "t.xlsx")

    def test_parquet_keeps_kinds(self, tmp_path):
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is in the extra analysis")
        take(
            lambda config: {"z": [None, 1.5, 2][config["x"]], "big": 2**62 + config["x"], "mixed": [1, "a", [2]][config["x"]]},
            [{"x": x} for x in range(3)],
            folder=tmp_path,
        )
        found = sorted(parquet.read_table(collect(tmp_path, tmp_path / "t.parquet")).to_pylist(), key=lambda row: row["x"])
        assert [(row["z"], row["big"], row["mixed"]) for row in found] == [(None, 2**62, "1"), (1.5, 2**62 + 1, "a"), (2.0, 2**62 + 2, "[2]")]

    def test_parquet_is_asked_for(self, folder, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ImportError, match=r"analysis.*csv"):
            collect(folder, tmp_path / "t.parquet")


class TestCommands:
    def run(self, *words):
        return CliRunner().invoke(app, ["runs", *map(str, words)])

    def test_a_study_from_the_shell(self, study, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "asked.jsonl").write_text("\n".join(json.dumps(config) for config in study.configs(study.log, 5, 0.0)))
        for part in ("1/2", "2/2"):
            assert "runs are done" in self.run("take", "study:work", "asked.jsonl", study.folder, "--shard", part).output
        assert "5 done, 0 failed" in self.run("status", study.folder).output
        assert json.loads(self.run("status", study.folder, "--json").output)["rows"][0]["runs"] == 5
        assert self.run("collect", study.folder, "--out", "t.csv").exit_code == 0 and (tmp_path / "t.csv").read_text().count("\n") == 6

    def test_bad_words_and_failed_runs_are_lines(self, study, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "asked.json").write_text('[{"x": 1}]')
        assert self.run("take", "study:nothing", "asked.json", "runs").exit_code == 2 == self.run("status", "nowhere").exit_code
        assert self.run("take", "study:work", "study.py", "runs").exit_code == 2
        failed = self.run("take", "study:work", "asked.json", "runs")
        assert failed.exit_code == 1 and "1 of 1 runs failed" in failed.output


def _refusing(number):
    def refuse(file):
        raise OSError(number, os.strerror(number))

    return refuse
