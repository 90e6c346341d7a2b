"""Runs that are cheaper together: one stack of work, each run a record of its own, whoever dies over it."""

import errno
import json
import os
import signal
import threading
import warnings
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from small_work import CALLS, Pairs, done, refusing, until

from hopfield_amem.analysis import take
from hopfield_amem.analysis.runs import claims, records, status
from hopfield_amem.analysis.runs.executors import _of_future
from hopfield_amem.analysis.runs.identity import identity, work_name
from hopfield_amem.analysis.runs.perform import perform
from hopfield_amem.analysis.runs.tasks import Outcome, Task


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
        monkeypatch.setattr(os, "fsync", lambda file: refusing(errno.ENOSPC)(file) if len(CALLS) == 4 else written(file))
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
