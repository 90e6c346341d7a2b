"""A folder shared by processes and machines: what is claimed, left behind, killed and taken up."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from small_work import CALLS, Pairs, deadly, done, squared, until

from hopfield_amem.analysis import take
from hopfield_amem.analysis.runs import claims, records, status
from hopfield_amem.analysis.runs.identity import identity, work_name
from hopfield_amem.analysis.runs.perform import perform
from hopfield_amem.analysis.runs.tasks import Outcome, Task


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
