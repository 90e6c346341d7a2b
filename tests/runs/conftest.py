"""A study in a module of its own, as a user has one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hopfield_amem.analysis import runs as engine

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
