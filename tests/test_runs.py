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
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from hopfield_amem.analysis import runs as engine
from hopfield_amem.analysis import take
from hopfield_amem.analysis.plots import save
from hopfield_amem.analysis.runs import Processes, Submitit, claims, collect, records, shard, slurm, status
from hopfield_amem.analysis.runs.executors import _of_future, executor_of
from hopfield_amem.analysis.runs.identity import identity, work_name
from hopfield_amem.analysis.runs.perform import perform
from hopfield_amem.analysis.runs.tasks import Outcome, Task
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

class Threes:
    run_name = "Threes"

    def __call__(self, config):
        return work(config)

    def stacks(self, configs):
        return [[*range(len(configs))][first : first + 3] for first in range(0, len(configs), 3)]

    def together(self, configs):
        return [self(config) for config in configs]

if __name__ == "__main__":
    log, count, seconds, folder, processes, name = sys.argv[1:]
    take({"work": work, "threes": Threes()}[name], configs(log, int(count), float(seconds)), folder=folder, processes=int(processes))
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

    def start(count, seconds, processes, name="work"):
        paths = os.pathsep.join([str(Path(engine.__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, tmp_path / "study.py", log, str(count), str(seconds), tmp_path / "runs", str(processes), name]
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


@dataclass(frozen=True)
class Pairs:
    """Work that does two runs at once."""

    def __call__(self, config):
        return squared(config)

    def stacks(self, configs):
        return [[*range(first, min(first + 2, len(configs)))] for first in range(0, len(configs), 2)]

    def together(self, configs):
        found = []
        for config in configs:
            try:
                found.append(squared(config) | {"together": len(configs)})
            except ArithmeticError as error:
                if config["fail"] == "all":
                    raise
                found.append(error)
        return found


def mortal(tasks):
    """An executor whose worker dies over every stack that has the run 1 in it."""
    for task in tasks:
        if any(config["x"] == 1 for config in task.runs.values()):
            yield from (Outcome(run, "lost", reason="its worker died") for run in task.runs)
        else:
            yield from perform(task)


class Death(BaseException):
    pass


@dataclass(frozen=True)
class Dying(Pairs):
    """Work over which its worker dies; what the worker claimed is left."""

    left: dict

    def together(self, configs):
        raise Death(self.left.update({path: path.read_text() for path in self.left}))

    __call__ = together


def far_away(tries, monkeypatch, deaths):
    """The mortal worker on another machine, where nobody here can see that it died: its claims stay. Stacks are begun so often before they are lost."""

    def begun(task):
        left = {task.folder / f"{run}.claim": "" for run in task.runs}
        try:
            return perform(replace(task, work=Dying(left)))
        except Death:
            deaths.append(len(task.runs))
            assert len(deaths) < 20, "it dies for ever"
            for path, said in left.items():
                path.write_text(said)
            return [Outcome(run, "lost", reason="its worker died") for run in task.runs]

    def execute(tasks):
        for task in tasks:
            if all(config["x"] != 1 for config in task.runs.values()):
                yield from perform(task)
                continue
            with monkeypatch.context() as there:
                there.setattr(claims, "_machine", lambda: f"elsewhere {len(deaths)}")
                outcomes = [begun(task) for _ in range(tries)]
            yield from outcomes[-1]

    return execute


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


class TestTogether:
    """Runs that a work does at once are runs all the same."""

    asked = tuple({"x": x} for x in range(5))

    def test_each_has_a_record_of_its_own(self, tmp_path):
        CALLS.clear()
        first = take(Pairs(), self.asked, folder=tmp_path)
        assert [(r["x"], r["y"], r.get("together")) for r in first] == [(0, 0, 2), (1, 1, 2), (2, 4, 2), (3, 9, 2), (4, 16, None)]
        assert CALLS == [0, 1, 2, 3, 4] and len(done(tmp_path)) == 5 and first == take(Pairs(), self.asked, folder=tmp_path)
        assert len(CALLS) == 5 and {path.stem for path in tmp_path.iterdir()} == {identity(work_name(Pairs()), config) for config in self.asked}
        assert [(r["x"], r["y"]) for r in take(Pairs(), self.asked)] == [(x, x * x) for x in range(5)]  # without a folder

    def test_what_fails_among_others_fails_alone(self, tmp_path):
        asked = [*self.asked[:3], {"x": 3, "fail": "alone"}]
        for _ in range(2):
            CALLS.clear()
            with pytest.raises(RuntimeError, match=r"1 of 4 runs failed.*too large"):
                take(Pairs(), asked, folder=tmp_path)
        assert CALLS == [3] and status(tmp_path).counts["done"] == 3

    def test_what_raises_together_is_tried_one_by_one(self, tmp_path):
        asked = [{"x": 1}, {"x": 2, "fail": "all"}, {"x": 3}, {"x": 4}]
        together = pytest.warns(RuntimeWarning, match="2 runs are done one by one, because together they raise ArithmeticError: too large")
        with together, pytest.raises(RuntimeError, match="1 of 4 runs failed"):
            take(Pairs(), asked, folder=tmp_path)
        assert sorted(record["x"] for record in records(tmp_path)) == [1, 3, 4]
        (why,) = tmp_path.glob("*.failed.json")
        assert json.loads(why.read_text())["provenance"]["config"] == asked[1] and "in squared" in json.loads(why.read_text())["traceback"]
        CALLS.clear()
        with pytest.raises(RuntimeError, match="1 of 4 runs failed"):
            take(Pairs(), asked, folder=tmp_path)
        assert CALLS == [2]

    def test_all_of_them_are_claimed_while_they_are_done(self, tmp_path):
        """Somebody else who asks for all takes other stacks, waits for this one, and is given everything."""
        CALLS.clear()
        begun, go_on = threading.Event(), threading.Event()

        class Waiting(Pairs):
            def together(self, configs):
                begun.set()
                go_on.wait(60)
                return super().together(configs)

        class Ending(Pairs):
            def together(self, configs):
                counts.append(status(tmp_path).counts["claimed"])
                threading.Timer(0.3, go_on.set).start()
                return super().together(configs)

        counts: list[int] = []
        Waiting.run_name = Ending.run_name = "the same"
        first = threading.Thread(target=take, args=(Waiting(), self.asked[:2]), kwargs={"folder": tmp_path})
        first.start()
        assert begun.wait(60)
        found = take(Ending(), self.asked[:4], folder=tmp_path)
        first.join()
        assert [r["y"] for r in found] == [0, 1, 4, 9] and sorted(CALLS) == [0, 1, 2, 3] and counts == [4] and len(done(tmp_path)) == 4

    def test_a_full_disk_ends_the_study(self, tmp_path, monkeypatch):
        CALLS.clear()
        written = os.fsync
        monkeypatch.setattr(os, "fsync", lambda file: _refusing(errno.ENOSPC)(file) if len(CALLS) == 4 else written(file))
        with pytest.raises(OSError, match="disk is full"):
            take(Pairs(), [{"x": x} for x in range(6)], folder=tmp_path)
        assert CALLS == [0, 1, 2, 3] and status(tmp_path).counts == {"done": 2, "failed": 0, "claimed": 0, "abandoned": 0, "corrupt": 0}

    @pytest.mark.parametrize("stacks", [[[0, 1], [3]], [[0, 1], [1, 2, 3]], []])
    def test_stacks_hold_every_run_once(self, stacks, monkeypatch):
        monkeypatch.setattr(Pairs, "stacks", lambda self, configs: stacks)
        with pytest.raises(ValueError, match="every one of 4 runs into one stack"):
            take(Pairs(), self.asked[:4])

    def test_a_run_that_kills_its_worker_takes_no_other_with_it(self, tmp_path):
        CALLS.clear()
        with pytest.raises(RuntimeError, match=r"1 of 5 runs failed.*'x': 1.*its worker died"):
            take(Pairs(), self.asked, folder=tmp_path, executor=mortal)
        assert CALLS == [2, 3, 4, 0] and len(done(tmp_path)) == 4 and status(tmp_path).counts["failed"] == 1

    @pytest.mark.parametrize("tries", [1, 2])
    def test_a_worker_that_dies_on_another_machine_holds_nobody_up(self, tries, tmp_path, monkeypatch):
        """Its claims are known for those of the same ``take``, by the runs tried alone as by a worker that is given the same stack again."""
        monkeypatch.setattr(claims, "LEASE", 0.2)
        deaths = []
        with pytest.raises(RuntimeError, match=r"1 of 5 runs failed.*'x': 1.*its worker died"):
            take(Pairs(), self.asked, folder=tmp_path, executor=far_away(tries, monkeypatch, deaths))
        assert deaths == [*[2] * 2 * tries, *[1] * tries]
        assert status(tmp_path).counts == {"done": 4, "failed": 1, "claimed": 0, "abandoned": 0, "corrupt": 0}

    def test_runs_of_a_lost_stack_stay_alone(self, tmp_path):
        """Somebody else was at them when they were to be tried alone, and left them."""
        handed = []

        def execute(tasks):
            for task in tasks:
                handed.append(len(task.runs))
                assert len(handed) < 9, "it goes on for ever"
                if len(task.runs) == 1:
                    yield from perform(task)
                    continue
                for run in task.runs:
                    path = tmp_path / f"{run}.claim"
                    path.write_text(json.dumps({"machine": "elsewhere"}))
                    threading.Timer(0.3, path.unlink, kwargs={"missing_ok": True}).start()
                yield from (Outcome(run, "lost", reason="its worker died") for run in task.runs)

        assert [r["y"] for r in take(Pairs(), self.asked[:2], folder=tmp_path, executor=execute)] == [0, 1]
        assert handed[:3] == [2, 1, 1] and set(handed[3:]) == {1}

    def test_a_warning_that_is_an_error_loses_no_run(self, tmp_path):
        asked = [{"x": 1}, {"x": 2, "fail": "all"}, {"x": 3}]
        with warnings.catch_warnings(), pytest.raises(RuntimeError, match="1 of 3 runs failed") as raised:
            warnings.simplefilter("error")
            take(Pairs(), asked, folder=tmp_path)
        assert isinstance(raised.value.__context__, RuntimeWarning) and status(tmp_path).counts["done"] == 2 and status(tmp_path).counts["failed"] == 1

    @pytest.mark.parametrize(("runs", "becomes"), [(("a" * 20, "b" * 20), "lost"), (("a" * 20,), "fatal")])
    def test_of_a_stack_over_which_workers_died_the_runs_are_tried_again(self, runs, becomes, tmp_path):
        class KilledWorker(Exception):
            pass

        for run in runs:
            (tmp_path / f"{run}.claim").touch()
        task = Task(Pairs(), "pairs", {run: {} for run in runs}, tmp_path)
        future = SimpleNamespace(status="error", exception=KilledWorker)
        assert [(outcome.run, outcome.state) for outcome in _of_future(future, task)] == [(run, becomes) for run in runs]

    def test_a_kill_loses_the_stack_under_way_at_most(self, study):
        killed = study.start(15, 0.15, 1, "threes")
        until(lambda: len(done(study.folder)) >= 3 if study.folder.exists() else False)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        kept = {record["x"] for record in records(study.folder)}
        begun = {int(x) for x in study.log.read_text().split()}
        assert 3 <= len(kept) < 15 and kept <= begun and len(begun - kept) <= 3
        study.log.write_text("")
        found = take(study.Threes(), study.configs(study.log, 15, 0.15), folder=study.folder)
        assert [r["y"] for r in found] == [x * x for x in range(15)]
        assert sorted(map(int, study.log.read_text().split())) == [x for x in range(15) if x not in kept]


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

    def test_a_run_that_is_lost_once_is_tried_alone(self, tmp_path):
        path = self.claimed(tmp_path, {"machine": "elsewhere", "pid": 1})
        lost = []

        def execute(tasks):
            for task in tasks:
                outcomes = perform(task)
                if [config["x"] for config in task.runs.values()] == [2] and not lost:
                    lost.append(task)
                    (tmp_path / f"{outcomes[0].run}.json").unlink()
                    outcomes = [Outcome(outcomes[0].run, "lost", reason="preempted")]
                yield from outcomes

        threading.Timer(0.3, path.unlink).start()
        assert [r["y"] for r in take(squared, [{"x": 1}, {"x": 2}], folder=tmp_path, executor=execute)] == [1, 4] and lost

    def test_claims_have_one_heart_and_are_given_back_without_it(self, tmp_path, monkeypatch):
        hearts = []

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", lambda thread: hearts.append(thread.name))
        monkeypatch.setattr(threading.Thread, "join", lambda thread, timeout: None)
        task = Task(Pairs(), "pairs", {run * 20: {"x": 1} for run in "abc"}, tmp_path)
        assert [outcome.state for outcome in perform(task)] == ["done"] * 3 and len(hearts) == 1
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            perform(Task(Pairs(), "pairs", {"d" * 20: {"x": 1}}, tmp_path))
        assert not list(tmp_path.glob("*.claim"))

    def test_a_long_run_stays_claimed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(claims, "HEARTBEAT", 0.05)
        path = tmp_path / "run.claim"
        with claims.claim([path]) as held:
            os.utime(path, (0, 0))
            until(lambda: path.stat().st_mtime > 0, 10)
            with claims.claim([path]) as second:
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

    def test_runs_below_a_folder_are_its_runs(self, folder, tmp_path):
        assert len(records(folder)) == 2 and records(tmp_path) == records(folder) and status(tmp_path) == status(folder)
        assert collect(tmp_path, tmp_path / "above.csv").read_text() == collect(folder, tmp_path / "t.csv").read_text()

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
