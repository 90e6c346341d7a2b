"""Runs are done once, and kept whole on disks that fail."""

import errno
import json
import math
import os
from functools import partial

import pytest
import torch
from small_work import CALLS, Times, done, refusing, squared

from hopfield_amem.analysis import take
from hopfield_amem.analysis.runs import records, status
from hopfield_amem.analysis.runs.identity import identity, work_name


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
        monkeypatch.setattr(os, "fsync", refusing(number))
        with pytest.raises(OSError, match=rf"(?s){tmp_path}.*{says}.*ask again"):
            take(squared, [{"x": 1}, {"x": 2}], folder=tmp_path)
        assert CALLS == [1] and take(squared, [{"x": 1}], folder=tmp_path)[0]["y"] == 1  # what is there is still given
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_disk_that_fills_up_ends_the_study_at_once(self, tmp_path, monkeypatch):
        CALLS.clear()
        written = os.fsync
        monkeypatch.setattr(os, "fsync", lambda file: refusing(errno.ENOSPC)(file) if len(CALLS) == 3 else written(file))
        with pytest.raises(OSError, match="disk is full"):
            take(squared, [{"x": x} for x in range(6)], folder=tmp_path)
        assert CALLS == [0, 1, 2] and status(tmp_path).counts == {"done": 2, "failed": 0, "claimed": 0, "abandoned": 0, "corrupt": 0}
        monkeypatch.undo()
        CALLS.clear()
        assert len(take(squared, [{"x": x} for x in range(6)], folder=tmp_path)) == 6 and CALLS == [2, 3, 4, 5]

    def test_a_claim_that_the_disk_does_not_take_leaves_nothing(self, tmp_path, monkeypatch):
        with monkeypatch.context() as full, pytest.raises(OSError, match="disk is full"):
            full.setattr(os, "write", lambda file, content: refusing(errno.ENOSPC)(file))
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
